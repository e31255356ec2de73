"""No network, no code from files, and no output but in the output folder (docs/reliability.md)."""

import re
import socket
import subprocess
import sys
from pathlib import Path

import pytest

import mrigmm

from .cases import assert_clean

PACKAGE = Path(mrigmm.__file__).parent


@pytest.fixture
def no_network(monkeypatch):
    """Connections to other computers fail the test, and so do look-ups of their names."""
    tried = []

    def connect(self, address):
        if self.family in (socket.AF_INET, socket.AF_INET6) and address[0] not in ("127.0.0.1", "::1"):
            tried.append(address)
            raise AssertionError(f"connection to {address}")
        return original(self, address)

    def look_up(host, *arguments, **options):
        if host not in (None, "", "localhost", "127.0.0.1", "::1", socket.gethostname()):
            tried.append(host)
            raise AssertionError(f"look-up of {host}")
        return original_look_up(host, *arguments, **options)

    original, original_look_up = socket.socket.connect, socket.getaddrinfo
    monkeypatch.setattr(socket.socket, "connect", connect)
    monkeypatch.setattr(socket, "getaddrinfo", look_up)
    return tried


def test_the_block_works(no_network):
    with pytest.raises(AssertionError):
        socket.create_connection(("192.0.2.1", 9), timeout=1)
    assert no_network


def test_no_network_from_simulation_to_report(cli, place, run, no_network):
    manifest = place.manifest()
    out = place.out
    for arguments in (
        ("simulate", "-o", out.parent / "c", "--studies", "1", "--seed", "1", "--preset", "small"),
        ("check", manifest),
        ("prior", manifest, "-o", out.parent / "prior.json", "--split", "test"),
        ("predict", manifest, "-o", out, "--run", run),
        ("evaluate", out, manifest),
        ("report", out),
        ("info",),
    ):
        assert_clean(cli(*arguments), 0)
    page = (out / "report.html").read_text(encoding="utf-8")
    assert not re.search(r"""(?:src|href)\s*=\s*["']?(?:https?:)?//""", page)
    assert no_network == []


@pytest.mark.parametrize(
    "pattern",
    [
        r"\bimport pickle\b|\bpickle\.load",
        r"torch\.load\((?![^)]*weights_only=True)",
        r"np\.load\((?![^)]*allow_pickle=False)",
        r"allow_pickle=True",
        r"yaml\.(?:load|unsafe_load|full_load)\((?!text, _PlainLoader\))",
        r"\beval\(|\bexec\(|os\.system|shell=True",
        r"urllib\.request|\brequests\.|http\.client|import socket",
        r"joblib\.load|torch\.hub|load_state_dict_from_url",
    ],
)
def test_the_package_has_no_way_to_run_what_a_file_says(pattern):
    found = [
        f"{path.relative_to(PACKAGE)}:{number}"
        for path in PACKAGE.rglob("*.py")
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1)
        if re.search(pattern, line) and ".eval()" not in line
    ]
    assert found == []


def test_yaml_tags_are_not_obeyed(cli, place, tmp_path):
    sign = tmp_path / "sprung"
    tag = f"!!python/object/apply:os.system ['touch {sign}']"
    for arguments in (
        ("train", place.manifest("training"), "-o", place.out, "--set", f"epochs={tag}"),
        ("predict", place.manifest(), "-o", place.out, "--method", "map-em", "--set", f"max_iter={tag}"),
    ):
        assert_clean(cli(*arguments), 2)
    assert not sign.exists()


@pytest.mark.slow
def test_outputs_stay_in_the_output_folder(cli, place, run):
    """Every command, and nothing new anywhere else."""
    manifest = place.manifest()
    here = place.out.parent
    (here / "made").mkdir()
    before = set(here.rglob("*"))
    for arguments in (
        ("predict", manifest, "-o", here / "made" / "p", "--run", run, "--save-probabilities", "--register"),
        ("evaluate", here / "made" / "p", manifest),
        ("report", here / "made" / "p"),
        ("prior", manifest, "-o", here / "made" / "prior.json", "--split", "test"),
        ("export", run, "-o", here / "made" / "n.onnx", "--format", "onnx"),
    ):
        assert cli(*arguments).code == 0
    new = set(here.rglob("*")) - before
    assert new
    assert all(path.is_relative_to(here / "made") for path in new)


@pytest.mark.slow
def test_no_known_vulnerability_in_what_is_pinned():
    """pip-audit, where it is installed and reaches its data base."""
    root = PACKAGE.parent
    result = subprocess.run(
        [
            sys.executable,
            "-m",
            "pip_audit",
            "--no-deps",
            "--disable-pip",
            "-r",
            str(root / "constraints.txt"),
        ],
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )
    if "No module named" in result.stderr:
        pytest.skip("pip-audit is not installed: pip install pip-audit")
    if re.search(r"ConnectionError|Max retries|Timeout|ServiceError|Name or service", result.stderr):
        pytest.skip("pip-audit does not reach its data base")
    if result.stdout.count("could not be audited") > 20:
        pytest.skip("pip-audit reaches an index that does not know the packages")
    assert result.returncode == 0, result.stdout
