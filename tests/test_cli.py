"""The commands as a user gives them: exit codes, what is printed, what is left behind."""

import json
import re
import subprocess
import sys

import pytest

import mrigmm
from mrigmm.methods.registry import METHODS

from .conftest import ventricle

COMMANDS = (
    "demo",
    "simulate",
    "manifest",
    "check",
    "train",
    "predict",
    "segment-image",
    "evaluate",
    "compare",
    "agreement",
    "report",
    "export",
    "prior",
    "info",
)
# Options of the contract; none is ever renamed.
OPTIONS = {
    "demo": ("-o",),
    "simulate": ("-o", "--studies", "--seed"),
    "manifest": (
        "-o",
        "--split",
        "--seed",
        "--region",
        "--region-from-labels",
        "--image",
        "--label",
        "--labels",
        "--rename",
        "--overwrite",
    ),
    "check": ("--data-root", "--json", "--num-workers"),
    "train": ("-o", "--preset", "--set", "--resume", "--data-root"),
    "predict": (
        "-o",
        "--run",
        "--method",
        "--split",
        "--prior",
        "--device",
        "--runtime",
        "--save-probabilities",
        "--overwrite",
        "--image",
        "--region",
        "--frame",
        "--data-root",
    ),
    "segment-image": ("-o", "--method", "-k", "--mask", "--overlay", "--set", "--device", "--overwrite"),
    "evaluate": ("-o", "--split", "--data-root", "--minimum-ml"),
    "compare": ("-o", "--split", "--data-root"),
    "agreement": ("-o", "--overwrite"),
    "report": ("-o",),
    "export": ("-o", "--format"),
    "prior": ("-o", "--data-root", "--overwrite"),
    "info": ("--json",),
}


@pytest.mark.parametrize("command", COMMANDS)
def test_help_names_the_options_of_the_contract(cli, command):
    result = cli(command, "--help")
    assert (result.code, result.err) == (0, "")
    for option in OPTIONS[command]:
        assert re.search(rf"(?<![\w-]){option}\b", result.out), option


def test_help_lists_the_commands_and_the_disclaimer(cli):
    result = cli("--help")
    assert result.code == 0
    assert all(re.search(rf"^\s+{command}\b", result.out, re.MULTILINE) for command in COMMANDS)
    assert "not for clinical use" in result.out


def test_info(cli):
    content = json.loads(cli("info", "--json").out)
    assert set(content["methods"]) == set(METHODS)
    assert {"deepg", "deepsvg", "tiny", "default"} <= set(content["presets"])
    assert content["classes"] == {"blood": 1, "myocardium": 2, "edema": 3, "scar": 4}
    assert content["versions"]["mrigmm"] == mrigmm.__version__
    table = cli("info").out
    assert all(name in table for name in (*content["methods"], *content["presets"]))


def test_info_lists_what_can_be_set_for_a_method(cli):
    settings = json.loads(cli("info", "--json").out)["method_settings"]
    assert set(settings) == set(METHODS) - {"otsu", "two-gaussians"}
    assert "scope [slice]" in settings["em-gmm"]
    assert "prior_strength [0.1]" in settings["map-em"]
    assert "smoothing_mm [2.25]" in settings["map-em-2step"]
    assert re.search(r"map-em-2step .*smoothing_mm \[2\.25\]", cli("info").out)


def test_version(cli):
    result = cli("--version")
    assert (result.code, result.out) == (0, f"mrigmm {mrigmm.__version__}\n")


@pytest.mark.parametrize(
    "arguments", [["info"], ["info", "--json"], ["--help"], ["--version"], ["predict", "--help"]]
)
def test_no_torch_is_loaded_before_it_is_needed(arguments):
    heavy = ("torch", "monai", "lightning", "numpy", "nibabel", "SimpleITK", "matplotlib")
    code = (
        "import sys\n"
        f"sys.argv = ['mrigmm', *{arguments!r}]\n"
        "from mrigmm.cli import main\n"
        "try:\n    main()\n"
        "except SystemExit as stop:\n    assert not stop.code, stop.code\n"
        f"print('loaded:', [name for name in {heavy!r} if name in sys.modules])\n"
    )
    result = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True
    )
    assert result.stdout.splitlines()[-1] == "loaded: []"


def test_the_package_can_be_run_as_a_module():
    result = subprocess.run(
        [sys.executable, "-m", "mrigmm", "info", "--json"],
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    assert json.loads(result.stdout)["versions"]["mrigmm"] == mrigmm.__version__


def test_from_simulation_to_report(cli, tmp_path):
    """The way of the README without training."""
    manifest, out = tmp_path / "c" / "manifest.json", tmp_path / "out"
    result = cli("simulate", "-o", tmp_path / "c", "--studies", 3, "--seed", 1, "--preset", "small")
    assert (result.code, result.out) == (0, f"manifest: {manifest}\n")
    result = cli("check", manifest)
    assert (result.code, result.out) == (0, "3 studies without errors\n")
    result = cli("prior", manifest, "-o", tmp_path / "prior.json")
    assert (result.code, result.out) == (0, f"prior of 2 studies: {tmp_path / 'prior.json'}\n")
    result = cli(
        "predict", manifest, "-o", out, "--method", "map-em", "--set", "max_iter=50",
        "--prior", tmp_path / "prior.json", "--device", "cpu", "--save-probabilities",
    )  # fmt: skip
    assert (result.code, result.out) == (0, f"segmented 1 study; label maps: {out}\n")
    assert len(list(out.glob("*_probabilities.nii.gz"))) == 1
    result = cli("evaluate", out, manifest)
    assert result.code == 0
    assert all(name in result.out for name in ("blood", "myocardium", "edema", "scar", "wall", "pathology"))
    assert result.out.endswith(f"metrics: {out / 'metrics.json'}\n")
    result = cli("report", out)
    assert (result.code, result.out) == (0, f"report: {out / 'report.html'}\n")


def test_the_metrics_table_shows_the_numbers_of_the_file(cli, workshop, tmp_path):
    manifest = workshop.manifest()
    cli("predict", manifest, "-o", tmp_path / "out", "--method", "map-em")
    table = cli("evaluate", tmp_path / "out", manifest).out
    summary = json.loads((tmp_path / "out" / "metrics.json").read_text())["summary"]
    for name, figures in summary.items():
        cells = [cell.strip() for cell in re.findall(rf"│ {name} .*", table)[0].strip("│").split("│")]
        assert cells[:4] == [name, f"{figures['dice_mean']:.3f}", f"{figures['iou_mean']:.3f}", "1"]


def test_a_class_that_nobody_has_is_not_a_number(cli, workshop, tmp_path):
    entry = workshop.study()
    workshop.volume(entry["label"], (ventricle() == 1) * 1.0)
    labels = {"background": 0, "muscle": 1, "fat": 9}
    manifest = workshop.manifest([entry], labels=labels)
    out = tmp_path / "out"
    cli("predict", manifest, "-o", out, "--method", "em-gmm")
    side = json.loads((out / "s1.json").read_text())
    (out / "s1.json").write_text(json.dumps({**side, "classes": {"muscle": 1, "other": 2, "fat": 3}}))
    row = re.findall(r"│ fat .*", cli("evaluate", out, manifest).out)[0]
    assert row.split("│")[2].strip() == "nan"


def test_one_study_by_its_files(cli, workshop, tmp_path):
    arguments = workshop.single(workshop.study())
    result = cli("predict", *arguments, "-o", tmp_path / "out", "--method", "em-gmm", "--id", "patient 7")
    assert result.code == 0, result.err
    assert (tmp_path / "out" / "patient 7_labels.nii.gz").exists()


def test_data_root(cli, workshop, tmp_path):
    manifest = workshop.manifest().rename(tmp_path / "elsewhere.json")
    root = ("--data-root", workshop.folder)
    assert cli("check", manifest).code == 1
    assert cli("check", manifest, *root).code == 0
    assert cli("predict", manifest, *root, "-o", tmp_path / "out", "--method", "em-gmm").code == 0
    assert cli("evaluate", tmp_path / "out", manifest, *root).code == 0
    assert cli("prior", manifest, *root, "-o", tmp_path / "p.json", "--split", "test").code == 0


def test_quiet_says_nothing_but_the_result(cli, workshop, tmp_path):
    entry = workshop.study(sequences=("LGE", "bSSFP"))
    workshop.volume("s1_bSSFP.nii.gz", ventricle() * 0.0)
    manifest = workshop.manifest([entry])
    loud = cli("predict", manifest, "-o", tmp_path / "a", "--method", "em-gmm")
    assert "note (s1): bSSFP is constant inside the region and is left out" in loud.err
    quiet = cli("predict", manifest, "-o", tmp_path / "b", "--method", "em-gmm", "--quiet")
    assert quiet.err == ""
    assert quiet.out == f"segmented 1 study; label maps: {tmp_path / 'b'}\n"


def test_one_bad_study_of_three(cli, workshop, tmp_path):
    manifest = workshop.manifest([workshop.study(name) for name in ("a", "b", "c")])
    (workshop.folder / "b_LGE.nii.gz").write_bytes(b"broken")
    out = tmp_path / "out"
    result = cli("predict", manifest, "-o", out, "--method", "map-em")
    assert result.code == 2
    assert "segmented 2 studies" in result.out
    assert "study: b" in result.err
    assert "1 study could not be processed" in result.err
    assert sorted(path.name for path in out.glob("*.nii.gz")) == ["a_labels.nii.gz", "c_labels.nii.gz"]
    # The next steps go on with the two, and say again which one is missing.
    result = cli("evaluate", out, manifest)
    assert result.code == 2
    assert "the study has no prediction" in result.err
    assert json.loads((out / "metrics.json").read_text())["not_evaluated"] == ["b"]
    assert cli("report", out).code == 0


def test_check_prints_one_table_of_everything(cli, workshop):
    entries = [workshop.study(name) for name in ("a", "b", "c")]
    (workshop.folder / "a_T2.nii.gz").unlink()
    workshop.volume("b_region.nii.gz", ventricle() * 9)
    del entries[2]["image"]["T2"]
    result = cli("check", workshop.manifest(entries))
    assert result.code == 1
    assert result.out.count("┏") == 1
    words = re.sub(r"[│\s]+", " ", result.out)
    assert "the T2 file does" in words
    assert "unknown class" in words
    assert "no T2" in words
    assert result.out.endswith("1 study without errors\n")


def test_check_of_a_manifest_that_is_none(cli, tmp_path):
    (tmp_path / "m.json").write_text("{")
    assert cli("check", tmp_path / "m.json").code == 1
    assert cli("check", tmp_path / "no.json").code == 2


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


def test_an_interrupt_ends_with_its_own_code(cli, workshop, tmp_path, monkeypatch):
    def interrupt(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr("mrigmm.methods.anatomy.load_study", interrupt)
    result = cli("predict", workshop.manifest(), "-o", tmp_path / "out", "--method", "em-gmm")
    assert result.code == 130
    assert not (tmp_path / "out").exists()


def test_a_full_disk_is_no_traceback(cli, workshop, tmp_path, monkeypatch):
    def full(*_, **__):
        raise OSError(28, "No space left on device", "/somewhere")

    monkeypatch.setattr("mrigmm.methods.anatomy.load_study", full)
    result = cli("predict", workshop.manifest(), "-o", tmp_path / "out", "--method", "em-gmm")
    assert result.code == 2
    assert "file: /somewhere\n  got: No space left on device" in result.err


def test_terminals_without_unicode_and_names_without_text(workshop, tmp_path):
    """An ASCII terminal, and a folder whose name is no UTF-8."""
    import os

    folder = os.fsencode(tmp_path) + b"/caf\xe9"
    os.mkdir(folder)  # noqa: PTH102 - Path cannot be made of bytes
    manifest = os.fsencode(workshop.manifest())
    environment = {**os.environ, "PYTHONIOENCODING": "ascii", "LC_ALL": "C", "PYTHONUTF8": "0"}
    for arguments in (
        [b"predict", manifest, b"-o", folder + b"/out", b"--method", b"em-gmm"],
        [b"evaluate", folder + b"/out", manifest],
    ):
        command = [os.fsencode(sys.executable), b"-m", b"mrigmm", *arguments]
        result = subprocess.run(command, capture_output=True, env=environment, timeout=120, check=False)
        assert (result.returncode, b"Traceback" in result.stderr) == (0, False), result.stderr
    assert b"s1_labels.nii.gz" in os.listdir(folder + b"/out")  # noqa: PTH208


def test_an_interrupted_training_says_how_to_go_on(cli, workshop, tmp_path, monkeypatch):
    def interrupted(*_args, **_options):
        raise KeyboardInterrupt

    monkeypatch.setattr("mrigmm.jobs.train.train", interrupted)
    result = cli("train", workshop.manifest(), "-o", tmp_path / "run")
    assert result.code == 130
    assert "--resume" in result.err
