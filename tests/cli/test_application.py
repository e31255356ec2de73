"""The application as a whole: help, options of the contract, cold start, from one command to the next."""

import re
import subprocess
import sys

import pytest

import mrigmm

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
    "review",
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
    "review": ("--by", "--port", "--no-browser"),
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
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=600, check=True
    )
    assert result.stdout.splitlines()[-1] == "loaded: []"


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


def test_data_root(cli, workshop, tmp_path):
    manifest = workshop.manifest().rename(tmp_path / "elsewhere.json")
    root = ("--data-root", workshop.folder)
    assert cli("check", manifest).code == 1
    assert cli("check", manifest, *root).code == 0
    assert cli("predict", manifest, *root, "-o", tmp_path / "out", "--method", "em-gmm").code == 0
    assert cli("evaluate", tmp_path / "out", manifest, *root).code == 0
    assert cli("prior", manifest, *root, "-o", tmp_path / "p.json", "--split", "test").code == 0
