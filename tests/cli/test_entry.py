"""How the program ends: exit codes, interrupts, full disks, terminals."""

import json
import os
import subprocess
import sys

import pytest

import mrigmm


def test_the_package_can_be_run_as_a_module():
    result = subprocess.run(
        [sys.executable, "-m", "mrigmm", "info", "--json"],
        capture_output=True,
        text=True,
        timeout=600,
        check=True,
    )
    assert json.loads(result.stdout)["versions"]["mrigmm"] == mrigmm.__version__


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


def test_matplotlib_does_not_tell_where_it_keeps_its_files(tmp_path):
    """Without a home that can be written to, it takes a temporary folder."""
    (tmp_path / "home").write_text("no folder")
    code = "from mrigmm.cli.entry import main\ntry: main()\nexcept SystemExit: import matplotlib.figure"
    own = ("MPLCONFIGDIR", "XDG_CONFIG_HOME", "XDG_CACHE_HOME")
    environment = {name: value for name, value in os.environ.items() if name not in own}
    result = subprocess.run(
        [sys.executable, "-c", code, "--version"],
        env={**environment, "HOME": str(tmp_path / "home"), "TMPDIR": str(tmp_path)},
        capture_output=True,
        text=True,
        timeout=600,
        check=True,
    )
    assert (result.stdout.split()[0], result.stderr) == ("mrigmm", "")
    assert [path.name for path in tmp_path.iterdir()] == ["home"]  # it is removed in the end


@pytest.mark.gate
def test_terminals_without_unicode_and_names_without_text(workshop, tmp_path):
    """An ASCII terminal, and a folder whose name is no UTF-8."""
    folder = os.fsencode(tmp_path) + b"/caf\xe9"
    os.mkdir(folder)  # noqa: PTH102 - Path cannot be made of bytes
    manifest = os.fsencode(workshop.manifest())
    environment = {**os.environ, "PYTHONIOENCODING": "ascii", "LC_ALL": "C", "PYTHONUTF8": "0"}
    for arguments in (
        [b"predict", manifest, b"-o", folder + b"/out", b"--method", b"em-gmm"],
        [b"evaluate", folder + b"/out", manifest],
    ):
        command = [os.fsencode(sys.executable), b"-m", b"mrigmm", *arguments]
        result = subprocess.run(command, capture_output=True, env=environment, timeout=600, check=False)
        assert (result.returncode, b"Traceback" in result.stderr) == (0, False), result.stderr
    assert b"s1_labels.nii.gz" in os.listdir(folder + b"/out")  # noqa: PTH208
