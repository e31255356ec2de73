"""What is said where, and what --quiet, --verbose and --json make of it."""

import ctypes
import json
import os
import pty
import re
import subprocess
import sys
from contextlib import suppress

import numpy as np
import pytest

from mrigmm.cli.console import Voice
from mrigmm.errors import InputError

from ..conftest import PATIENT, ventricle

ESCAPE = "\x1b["


@pytest.fixture
def clock(monkeypatch):
    """Seconds that go by when a test says so."""
    now = [0.0]
    monkeypatch.setattr("mrigmm.cli.console.time.monotonic", lambda: now[0])
    return now


def on_a_terminal(*arguments, **environment):
    """What a command writes to a terminal of 80 columns, stdout and stderr in one."""
    main, terminal = pty.openpty()
    process = subprocess.Popen(
        [sys.executable, "-m", "mrigmm", *map(str, arguments)],
        stdout=terminal,
        stderr=terminal,
        stdin=subprocess.DEVNULL,
        env={**os.environ, "TERM": "xterm-256color", "COLUMNS": "80", **environment},
    )
    os.close(terminal)
    written = b""
    with suppress(OSError):  # Linux says so when the other end is closed
        while piece := os.read(main, 65536):
            written += piece
    os.close(main)
    return process.wait(timeout=600), written.decode()


def test_quiet_says_nothing_but_the_result(cli, workshop, tmp_path):
    entry = workshop.study(sequences=("LGE", "bSSFP"))
    workshop.volume("s1_bSSFP.nii.gz", ventricle() * 0.0)
    manifest = workshop.manifest([entry])
    loud = cli("predict", manifest, "-o", tmp_path / "a", "--method", "em-gmm")
    assert "warning (s1): bSSFP is constant inside the region and is left out" in loud.err
    quiet = cli("predict", manifest, "-o", tmp_path / "b", "--method", "em-gmm", "--quiet")
    assert quiet.err == ""
    assert quiet.out == f"segmented 1 study; label maps: {tmp_path / 'b'}\n"


def test_one_bad_study_of_three(cli, workshop, tmp_path):
    manifest = workshop.manifest([workshop.study(name, affine=PATIENT) for name in ("a", "b", "c")])
    (workshop.folder / "b_LGE.nii.gz").write_bytes(b"broken")
    out = tmp_path / "out"
    result = cli("predict", manifest, "-o", out, "--method", "map-em")
    assert result.code == 2
    assert "segmented 2 studies" in result.out
    assert "study: b" in result.err
    assert "1 study could not be processed" in result.err
    assert sorted(path.name for path in out.glob("*_labels.nii.gz")) == ["a_labels.nii.gz", "c_labels.nii.gz"]
    # The next steps go on with the two, and say again which one is missing.
    result = cli("evaluate", out, manifest)
    assert result.code == 2
    assert "the study has no prediction" in result.err
    assert json.loads((out / "metrics.json").read_text())["not_evaluated"] == ["b"]
    assert cli("report", out).code == 0


def test_texts_from_files_are_not_markup(cli, workshop, tmp_path):
    """`[red]` and `:cat:` are parts of names, not instructions to the terminal."""
    (workshop.folder / ":cat:").mkdir()
    entry = {**workshop.study("[red]a"), "label": ":cat:/[bold]no.nii"}
    manifest = workshop.manifest([entry])
    assert "[red]a" in cli("check", manifest).out
    cli("predict", manifest, "-o", tmp_path / "out", "--method", "em-gmm")
    result = cli("evaluate", tmp_path / "out", manifest)
    assert result.code == 2
    assert "study: [red]a" in result.err
    assert f"file: {workshop.folder}/:cat:/[bold]no.nii" in result.err


def test_verbose_says_how_long_each_study_took_and_all_about_notes(cli, workshop, tmp_path):
    entries = [workshop.study(name, affine=PATIENT) for name in ("a", "b")]
    manifest = workshop.manifest(entries)
    arguments = ("predict", manifest, "-o", tmp_path / "out", "--method", "em-gmm", "--save-probabilities")
    result = cli(*arguments, "--verbose")
    assert [line.rpartition(":")[0] for line in result.err.splitlines()] == [
        "Segmenting 1 of 2 (a)",
        "Segmenting 2 of 2 (b)",
    ]
    (tmp_path / "out" / "b_probabilities.nii.gz").write_bytes(b"broken")
    short, whole = (cli("evaluate", tmp_path / "out", manifest, *more).err for more in ([], ["--verbose"]))
    assert short.startswith("warning (b): the probability file is not a NIfTI file: ")
    assert short.count("\n") == 1
    assert "warning (b): the probability file is not a NIfTI file\n  study: b\n  file: " in whole


def test_quiet_and_verbose_exclude_each_other(cli, workshop, tmp_path):
    result = cli("check", workshop.manifest(), "--quiet", "--verbose")
    assert (result.code, result.out) == (2, "")
    assert "quiet or verbose, not both" in result.err
    with pytest.raises(InputError):
        Voice(quiet=True, verbose=True)


@pytest.mark.usefixtures("clock")
def test_a_short_loop_leaves_nothing_in_a_log(capsys):
    assert list(Voice().track([1, 2, 3], "Counting")) == [1, 2, 3]
    assert capsys.readouterr() == ("", "")


def test_a_long_loop_is_told_in_lines(capsys, clock):
    for _ in Voice().track(range(100), "Counting"):
        clock[0] += 1.0
    lines = capsys.readouterr().err.splitlines()
    assert lines[0] == "Counting: 10 of 100, about 1 min 30 s left"
    assert lines[-1] == "Counting: 100 of 100 in 1 min 40 s"
    assert len(lines) == 10
    assert "" not in lines


def test_a_slow_loop_is_told_item_by_item(capsys, clock):
    for _ in Voice().track(["a", "b"], "Counting"):
        clock[0] += 4000.0
    told = capsys.readouterr().err
    assert told == "Counting: 1 of 2, about 1 h 6 min left\nCounting: 2 of 2 in 2 h 13 min\n"


def test_time_that_the_items_themselves_take_counts(capsys, clock):
    """`check` does its work while the next item is made."""

    def slow():
        for item in "ab":
            clock[0] += 3.0
            yield item

    assert list(Voice(verbose=True).track(slow(), "Checking")) == ["a", "b"]
    assert capsys.readouterr().err == "Checking 1: 3.0 s\nChecking 2: 3.0 s\n"


@pytest.mark.gate
def test_training_is_told_by_epochs(cli, cohort, tmp_path, monkeypatch):
    monkeypatch.setattr("mrigmm.cli.console._LINE_S", 0.0)
    for command, options in (
        ("train", ("--preset", "tiny", "--set", "epochs=3")),
        (
            "train-anatomy",
            ("--set", "epochs=3", "--set", "view_mm=120", "--set", "levels=2", "--labelled", "1"),
        ),
    ):
        result = cli(command, cohort, "-o", tmp_path / command, *options, "--device", "cpu")
        assert result.code == 0, result.err
        told = [line for line in result.err.splitlines() if line.startswith("Training: ")]
        assert [line.split(",")[0].split(" in ")[0] for line in told] == [
            f"Training: {n} of 3" for n in (1, 2, 3)
        ]
        assert "" not in result.err.splitlines()
    assert result.out.startswith("trained on 3 studies, 1 of them with their anatomy; anatomy run: ")


@pytest.mark.gate
def test_a_terminal_has_a_bar_and_colours_and_no_color_is_heard(workshop, tmp_path):
    manifest = workshop.manifest([workshop.study(name) for name in "abc"])
    arguments = ("evaluate", tmp_path / "no", manifest)
    code, written = on_a_terminal(*arguments)
    assert code == 2
    assert "\x1b[31merror: the folder of predictions does not exist" in written
    code, written = on_a_terminal(*arguments, NO_COLOR="1")
    assert code == 2
    assert "error: the folder of predictions does not exist" in written
    assert ESCAPE not in written
    code, written = on_a_terminal("check", manifest, NO_COLOR="1")
    assert "Checking" in written
    assert re.findall(r"\x1b\[[0-9;]*m", written) == []  # it moves the cursor, and has no colours


@pytest.mark.gate
def test_a_log_has_no_escape_codes(workshop, tmp_path):
    manifest = workshop.manifest()
    for arguments in (
        ("check", manifest),
        ("info",),
        ("--help",),
        ("predict", manifest),
        ("evaluate", "no", "no"),
    ):
        command = [sys.executable, "-m", "mrigmm", *map(str, arguments)]
        result = subprocess.run(
            command, capture_output=True, text=True, timeout=600, check=False, cwd=tmp_path
        )
        assert ESCAPE not in result.stdout + result.stderr, arguments


@pytest.mark.parametrize(
    "arguments",
    [("no-such-command",), ("predict",), ("simulate", "-o", "x", "--studies", "many", "--seed", 1)],
)
def test_wrong_arguments_are_told_on_stderr(cli, arguments):
    result = cli(*arguments)
    assert (result.code, result.out) == (2, "")
    assert "Error: " in result.err


def test_json_is_all_that_stdout_has(cli, workshop, tmp_path):
    manifest = workshop.manifest([workshop.study(name, affine=PATIENT) for name in ("a", "b", "c")])
    (workshop.folder / "b_LGE.nii.gz").write_bytes(b"broken")
    one, two = tmp_path / "one", tmp_path / "two"
    result = cli("predict", manifest, "-o", one, "--method", "map-em", "--json")
    content = json.loads(result.out)
    assert result.code == 2
    assert content["label_maps"] == {name: str(one / f"{name}_labels.nii.gz") for name in ("a", "c")}
    assert [(p["study"], p["severity"]) for p in content["problems"]] == [("b", "error")]
    assert "study: b" in result.err
    cli("predict", manifest, "-o", two, "--method", "em-gmm")
    for command, output in (
        (("evaluate", one, manifest), one / "metrics.json"),
        (("compare", one, two, manifest), one / "comparison.json"),
        (("agreement", one, two, "-o", tmp_path / "agreement"), tmp_path / "agreement" / "agreement.json"),
        (("quantify", one), one / "quantities.json"),
    ):
        content = json.loads(cli(*command, "--json").out)
        assert content["output"] == str(output)
        assert content["studies"] == ["a", "c"]
        assert content["result"] == json.loads(output.read_text())
    single = workshop.single(workshop.study("s1"))
    content = json.loads(cli("predict", *single, "-o", tmp_path / "s", "--method", "em-gmm", "--json").out)
    assert list(content) == ["output", "studies", "problems", "label_maps"]


def test_what_is_the_same_of_several_studies_is_said_once(cli, workshop, tmp_path):
    """Warnings and errors; --verbose and the JSON keep each."""
    names = [f"p{number}" for number in range(7)]
    entries = [workshop.study(name, sequences=("LGE", "bSSFP")) for name in names]
    for entry in entries[5:]:  # noise, in which no ventricle is found
        del entry["region"]
        for file in entry["image"].values():
            workshop.volume(file, np.random.default_rng(0).normal(100, 10, (64, 64, 3)))
    manifest = workshop.manifest(entries)
    arguments = ("predict", manifest, "-o", tmp_path / "out", "--method", "map-em", "--overwrite")
    short = cli(*arguments)
    assert "note (p0, p1, p2, p3, p4): no T2" in short.err.splitlines()
    assert short.err.count("no left ventricle was found") == 1
    assert "  study: p5, p6" in short.err.splitlines()
    assert "2 studies could not be processed" in short.err
    assert cli(*arguments, "--verbose").err.count("no left ventricle was found") == 2
    said = json.loads(cli(*arguments, "--json").out)["problems"]
    assert [p["study"] for p in said if "no left ventricle was found" in p["what"]] == ["p5", "p6"]


@pytest.mark.skipif(not hasattr(ctypes.CDLL(None), "malloc_trim"), reason="not glibc")
@pytest.mark.parametrize(("variables", "kept"), [({}, True), ({"MALLOC_ARENA_MAX": "1"}, False)])
def test_freed_memory_is_kept(variables, kept):
    """16 blocks of 1 MiB, freed: as many pages stay, or none."""
    program = """
from mrigmm.cli.console import keep_freed_memory
pages = lambda: int(open("/proc/self/statm").read().split()[1])
keep_freed_memory()
before = pages()
blocks = [b"x" * 2**20 for _ in range(16)]
most = pages() - before
del blocks
print(most, pages() - before)
"""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("MALLOC_")}
    answer = subprocess.run(
        [sys.executable, "-c", program], env={**environment, **variables}, capture_output=True, check=True
    )
    most, left = map(int, answer.stdout.split())
    assert left > 0.9 * most if kept else left < 0.1 * most
