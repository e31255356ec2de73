"""Killed, interrupted and doubled commands. `scripts/torture.py` is the long version."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from filelock import FileLock, Timeout

import mrigmm
from mrigmm.data.files import atomic, sole_writer, write_text
from mrigmm.data.run_folder import RunFolder
from mrigmm.errors import InputError
from mrigmm.training.checkpoints import WholeCheckpoints

from ..conftest import hear_interrupts
from .cases import contents

SCRIPT = Path(__file__).parents[2] / "scripts" / "torture.py"
QUICK = ("filters=2", "levels=1", "spacing_mm=3", "epochs=2")


def started(*arguments):
    """A command in a process of its own."""
    command = [sys.executable, "-m", "mrigmm", *map(str, arguments)]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    return subprocess.Popen(command, **pipes, preexec_fn=hear_interrupts)


def wait_for(path, process, patience_s=600):
    deadline = time.monotonic() + patience_s
    while not path.exists():
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.002)


def wait_until_held(lock, process):
    """A lock's file is there a moment before it is held."""
    wait_for(lock, process)
    while True:
        try:
            with FileLock(lock, timeout=0):
                pass
        except Timeout:
            return
        assert process.poll() is None, process.communicate()
        time.sleep(0.002)


def stamp(path):
    return path.stat().st_ino, path.stat().st_mtime_ns


@pytest.fixture
def several(workshop):
    """A manifest of four small studies."""
    return workshop.manifest([workshop.study(f"s{i}", seed=i) for i in range(4)])


# One writer per folder


def test_a_folder_has_one_writer(tmp_path):
    refused = pytest.raises(InputError, match="another process is writing")
    with sole_writer(tmp_path), refused, sole_writer(tmp_path):
        pass
    with sole_writer(tmp_path):  # free again
        pass
    assert list(tmp_path.iterdir()) == []


def test_the_lock_of_a_killed_process_is_free_and_its_litter_goes(tmp_path):
    code = (
        "import sys, time, pathlib; from mrigmm.data.files import atomic, sole_writer\n"
        "folder = pathlib.Path(sys.argv[1])\n"
        "with sole_writer(folder), atomic(folder / 'a.nii.gz') as partial:\n"
        "    partial.write_text('half'); (folder / 'ready').touch(); time.sleep(600)"
    )
    process = subprocess.Popen([sys.executable, "-c", code, str(tmp_path)])
    wait_for(tmp_path / "ready", process)
    with pytest.raises(InputError, match="another process is writing"), sole_writer(tmp_path):
        pass
    process.kill()
    process.wait()
    assert len([path for path in tmp_path.iterdir() if path.name.startswith(".partial-")]) == 1
    with sole_writer(tmp_path):
        pass
    assert [path.name for path in tmp_path.iterdir()] == ["ready"]


def test_a_folder_made_for_nothing_goes(tmp_path):
    with sole_writer(tmp_path / "new"):
        assert (tmp_path / "new").exists()
    assert not (tmp_path / "new").exists()


def test_an_interrupt_while_a_temporary_file_is_made_leaves_none(tmp_path, monkeypatch):
    def interrupted(path, mode="r", *rest, **more):
        os.close(os.open(path, os.O_CREAT))
        raise KeyboardInterrupt

    monkeypatch.setattr(Path, "open", interrupted)
    with pytest.raises(KeyboardInterrupt), atomic(tmp_path / "a.txt") as temporary:
        temporary.open("w")
    monkeypatch.undo()
    assert list(tmp_path.iterdir()) == []


@pytest.mark.gate
def test_two_predictions_into_one_folder(several, tmp_path):
    """The second is refused while the first is at it, also where it may overwrite."""
    first = started("predict", several, "-o", tmp_path / "out", "--method", "map-em", "--quiet")
    wait_until_held(tmp_path / "out" / ".lock", first)
    os.kill(first.pid, signal.SIGSTOP)  # keeps the folder while the other one tries
    try:
        with pytest.raises(InputError, match="another process is writing"):
            mrigmm.predict(several, tmp_path / "out", method="em-gmm", overwrite=True)
    finally:
        os.kill(first.pid, signal.SIGCONT)
    assert (first.communicate()[1], first.returncode) == ("", 0)
    mrigmm.predict(several, tmp_path / "alone", method="map-em")
    assert contents(tmp_path / "out") == contents(tmp_path / "alone")


# predict --resume


@pytest.mark.gate
def test_a_killed_prediction_resumes_to_the_same_files(several, tmp_path):
    out = tmp_path / "out"
    process = started("predict", several, "-o", out, "--method", "map-em-2step", "--quiet")
    wait_for(out / "s0.json", process)
    process.kill()
    process.communicate()
    finished = {file: stamp(file) for file in out.glob("s0*")}
    assert not (out / "s3.json").exists(), "the prediction ended before it could be killed"
    result = mrigmm.predict(several, out, method="map-em-2step", resume=True)
    assert sorted(result.done) == ["s0", "s1", "s2", "s3"]
    assert {file: stamp(file) for file in out.glob("s0*")} == finished
    mrigmm.predict(several, tmp_path / "whole", method="map-em-2step")
    assert contents(out) == contents(tmp_path / "whole")


def test_a_label_map_without_side_file_is_made_anew(several, tmp_path):
    out = tmp_path / "out"
    mrigmm.predict(several, out, method="map-em")
    whole = contents(out)
    (out / "s1.json").unlink()
    (out / "s1_labels.nii.gz").write_text("half")
    kept = stamp(out / "s0_labels.nii.gz")
    with pytest.raises(InputError, match="already has results"):
        mrigmm.predict(several, out, method="map-em")
    mrigmm.predict(several, out, method="map-em", resume=True)
    assert contents(out) == whole
    assert stamp(out / "s0_labels.nii.gz") == kept


def test_resuming_what_is_finished_changes_nothing(several, tmp_path):
    out = tmp_path / "out"
    mrigmm.predict(several, out, method="map-em")
    (out / "metrics.json").write_text("{}")
    before = {path: stamp(path) for path in out.iterdir()}
    assert len(mrigmm.predict(several, out, method="map-em", resume=True).done) == 4
    assert {path: stamp(path) for path in out.iterdir()} == before


def test_resuming_starts_where_nothing_is(several, tmp_path):
    assert len(mrigmm.predict(several, tmp_path / "out", method="map-em", resume=True).done) == 4


@pytest.mark.parametrize(
    ("options", "difference"),
    [
        ({"method": "em-gmm"}, "method=map-em"),
        ({"overrides": ["prior_strength=0.2"]}, "settings.prior_strength=0.1"),
        ({"save_probabilities": True}, "made_with.probabilities=False"),
        ({"mvo": False}, "made_with.mvo=True"),
    ],
    ids=lambda value: str(value),
)
def test_resuming_otherwise_names_the_difference(several, tmp_path, options, difference):
    out = tmp_path / "out"
    mrigmm.predict(several, out, method="map-em")
    (out / "s3.json").unlink()
    before = contents(out)
    with pytest.raises(InputError) as caught:
        mrigmm.predict(several, out, **{"method": "map-em", **options}, resume=True)
    assert [problem.study for problem in caught.value.problems] == ["s0", "s1", "s2"]
    assert difference in caught.value.problems[0].expected
    assert contents(out) == before


@pytest.mark.parametrize("role", ["LGE", "region"])
def test_resuming_with_another_input_names_it(workshop, tmp_path, role):
    entries = [workshop.study(f"s{i}", seed=i) for i in range(2)]
    manifest, out = workshop.manifest(entries), tmp_path / "out"
    mrigmm.predict(manifest, out, method="map-em")
    file = workshop.folder / (entries[1]["region"] if role == "region" else entries[1]["image"][role])
    file.write_bytes((workshop.folder / f"s0_{role}.nii.gz").read_bytes() + b"\0")
    with pytest.raises(InputError) as caught:
        mrigmm.predict(manifest, out, method="map-em", resume=True)
    (problem,) = caught.value.problems
    assert problem.study == "s1"
    assert f"{role}=" in problem.expected


def test_resuming_with_another_method_is_told_once(workshop, tmp_path, cli):
    entries = [workshop.study(f"s{i}", seed=i) for i in range(6)]
    manifest, out = workshop.manifest(entries), tmp_path / "out"
    mrigmm.predict(manifest, out, method="map-em")
    result = cli("predict", manifest, "-o", out, "--method", "kmeans", "--resume")
    assert (result.code, result.err.count("error:")) == (2, 1)
    assert "study: s0, s1, s2, s3, s4, ... (6 in all)" in result.err
    assert "expected: method=map-em, " in result.err
    assert "got: method=kmeans, " in result.err


def test_resuming_with_another_run_of_the_same_settings_is_refused(cohort, tmp_path):
    runs = [tmp_path / "a", tmp_path / "b"]
    for run in runs:
        mrigmm.train(cohort, run, preset="tiny", overrides=QUICK, device="cpu")
    weights = RunFolder(runs[1]).weights
    content = bytearray(weights.read_bytes())
    content[-1] ^= 1
    weights.write_bytes(content)
    record = json.loads((runs[1] / "run.json").read_text())
    changed = {**record, "weights_sha256": RunFolder(runs[1]).weights_sha256()}
    (runs[1] / "run.json").write_text(json.dumps(changed))
    mrigmm.predict(cohort, tmp_path / "out", run=runs[0])
    with pytest.raises(InputError) as caught:
        mrigmm.predict(cohort, tmp_path / "out", run=runs[1], resume=True)
    assert "made_with.weights=" in caught.value.problems[0].expected


@pytest.mark.parametrize("text", ["", "[]", '{"method": "map-em"}'])
def test_resuming_over_a_side_file_of_something_else_is_refused(several, tmp_path, text):
    out = tmp_path / "out"
    write_text(out / "s1.json", text)
    with pytest.raises(InputError, match="does not say how it was made"):
        mrigmm.predict(several, out, method="map-em", resume=True)
    assert (out / "s1.json").read_text() == text


def test_what_learns_from_the_cohort_wants_the_same_cohort(workshop, tmp_path):
    entries = [workshop.study(f"s{i}", seed=i) for i in range(3)]
    options = {"method": "kmeans", "overrides": ["scope=cohort"]}
    mrigmm.predict(workshop.manifest(entries[:2]), tmp_path / "out", **options)
    with pytest.raises(InputError, match="made otherwise"):
        mrigmm.predict(workshop.manifest(entries), tmp_path / "out", **options, resume=True)


def test_contradictions_of_resume(cli, workshop, several, tmp_path):
    both = cli("predict", several, "-o", tmp_path / "o", "--method", "map-em", "--resume", "--overwrite")
    assert (both.code, "kept or replaced, not both" in both.err) == (2, True)
    single = workshop.single(workshop.study())
    alone = cli("predict", *single, "-o", tmp_path / "o", "--method", "map-em", "--resume")
    assert (alone.code, "--resume belongs to a manifest" in alone.err) == (2, True)
    assert not (tmp_path / "o").exists()


# train


def test_a_training_killed_before_its_first_checkpoint_resumes(cohort, tmp_path, monkeypatch):
    mrigmm.train(cohort, tmp_path / "whole", preset="tiny", overrides=QUICK, device="cpu")
    with monkeypatch.context() as patched:

        def killed(*_, **__):
            raise KeyboardInterrupt

        patched.setattr("mrigmm.jobs.train.fit", killed)
        with pytest.raises(KeyboardInterrupt):
            mrigmm.train(cohort, tmp_path / "cut", preset="tiny", overrides=QUICK, device="cpu")
    assert (tmp_path / "cut" / "config.yaml").exists()
    mrigmm.train(cohort, tmp_path / "cut", device="cpu", resume=True)
    whole, cut = (RunFolder(tmp_path / name).weights.read_bytes() for name in ("whole", "cut"))
    assert whole == cut


def test_a_run_killed_before_its_model_card_gets_it(cohort, tmp_path):
    run = RunFolder(tmp_path / "run")
    mrigmm.train(cohort, run.path, preset="tiny", overrides=QUICK, device="cpu")
    before, weights = run.model_card.read_text(), stamp(run.weights)
    run.model_card.unlink()
    mrigmm.train(cohort, run.path, device="cpu", resume=True)
    assert (run.model_card.read_text(), stamp(run.weights)) == (before, weights)


def test_the_configuration_of_a_run_is_written_last(cohort, tmp_path, monkeypatch):
    """Without it a run is not begun, and may be started again."""
    run = RunFolder(tmp_path / "run")
    with monkeypatch.context() as patched:

        def full(*_):
            raise InputError("the disk is full")

        patched.setattr("mrigmm.data.run_folder.save_prior", full)
        with pytest.raises(InputError, match="full"):
            mrigmm.train(cohort, run.path, preset="tiny", overrides=QUICK, device="cpu")
    assert not run.config.exists()
    mrigmm.train(cohort, run.path, preset="tiny", overrides=QUICK, device="cpu")


def test_two_trainings_into_one_folder(cohort, tmp_path):
    with sole_writer(tmp_path), pytest.raises(InputError, match="another process is writing"):
        mrigmm.train(cohort, tmp_path, preset="tiny", overrides=QUICK, device="cpu")


def test_a_checkpoint_never_lies_elsewhere_and_is_never_half(tmp_path, monkeypatch):
    """Lightning's own way is over the temporary folder, which may be on another disk."""
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "nowhere"))
    path = tmp_path / "last.ckpt"
    WholeCheckpoints().save_checkpoint({"a": torch.ones(3)}, path)
    before = path.read_bytes()
    assert torch.load(path, weights_only=True)["a"].tolist() == [1.0, 1.0, 1.0]

    def full(_, content):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "write_bytes", full)
    with pytest.raises(InputError, match="cannot be written"):
        WholeCheckpoints().save_checkpoint({"a": torch.zeros(3)}, path)
    assert path.read_bytes() == before
    assert [file.name for file in tmp_path.iterdir()] == ["last.ckpt"]


# Signals


@pytest.mark.gate
@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_a_signal_ends_a_prediction_with_its_code(workshop, tmp_path, number, code):
    many = workshop.manifest([workshop.study(f"s{i}") for i in range(24)])  # not done when the signal comes
    out = tmp_path / "out"
    process = started("predict", many, "-o", out, "--method", "map-em-2step", "--quiet")
    wait_for(out / "s0_labels.nii.gz", process)
    process.send_signal(number)
    _, errors = process.communicate(timeout=600)
    assert (process.returncode, "Traceback" in errors) == (code, False), errors
    assert "--resume" in errors
    left = {path.name for path in out.iterdir()} if out.exists() else set()  # with nothing in it, it goes
    assert not any(name.startswith(".") for name in left)
    assert {name.removesuffix(".json") for name in left if name.endswith(".json")} == {
        name.removesuffix("_labels.nii.gz") for name in left if name.endswith("_labels.nii.gz")
    }


@pytest.mark.slow
def test_a_signal_ends_a_training_with_its_code(cohort, tmp_path):
    options = [text for setting in (*QUICK[:-1], "epochs=500") for text in ("--set", setting)]
    for number, code in ((signal.SIGTERM, 143), (signal.SIGINT, 130)):
        run = RunFolder(tmp_path / f"run_{code}")
        process = started(
            "train", cohort, "-o", run.path, "--preset", "tiny", "--device", "cpu", "--quiet", *options
        )
        wait_for(run.checkpoint, process)
        process.send_signal(number)
        _, errors = process.communicate(timeout=600)
        assert (process.returncode, "Traceback" in errors) == (code, False), errors
        assert "--resume" in errors
        assert not list(run.path.rglob(".*"))


@pytest.mark.slow
def test_a_short_torture_loses_nothing(tmp_path):
    """Kills, signals, two writers, full disks and little memory, a few of each."""
    parts = ["kills", "signals", "writers", "full-disk", "little-memory"]
    few = ["--kills", "4", "--signals", "4", "--writers", "3", "--commands", "train", "predict"]
    command = [sys.executable, str(SCRIPT), str(tmp_path / "t"), "--parts", *parts, *few]
    result = subprocess.run(command, capture_output=True, text=True, timeout=1200, check=False)
    assert result.returncode == 0, result.stderr
    found = json.loads((tmp_path / "t" / "results.json").read_text())
    assert set(found) == set(parts)
    assert sum(tally["faults"] for part in found.values() for tally in part.values()) >= 20
