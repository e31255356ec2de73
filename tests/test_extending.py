"""Methods and layouts of other packages: the package of docs/extending.md, made here, and broken ones."""

import json
import re
import sys
import tomllib
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from benchmark_quality import parse_arguments

import mrigmm
from mrigmm.cli.completion import complete_kinds, complete_methods
from mrigmm.data.manifest_file import read_manifest
from mrigmm.data.sources.base import list_folder
from mrigmm.data.sources.table import KINDS, marked
from mrigmm.errors import InputError
from mrigmm.methods.registry import METHODS
from mrigmm.phantom import simulate_cohort

from .conftest import SEQUENCES, intensities, ventricle

PAGE = (Path(__file__).parent.parent / "docs" / "extending.md").read_text()
MM = (4.5, 4.5, 10.0)
ONE = {"LGE": intensities(ventricle(), "LGE")}
WALL = np.where(ventricle() == 1, 1, np.where(ventricle() > 1, 2, 0)).astype(np.uint8)


def blocks(language):
    return re.findall(rf"^```{language}\n(.*?)^```", PAGE, flags=re.MULTILINE | re.DOTALL)


@pytest.fixture
def installed(tmp_path, monkeypatch):
    """Makes an installed package: `installed("name", files, points)` with points by group and name."""
    made = []

    def forget():
        for known in (METHODS, KINDS):
            known.__dict__.pop("_added", None)

    def install(name, files, points, version="1.0"):
        site = tmp_path / f"site_{name}"
        for file, text in files.items():
            (site / file).parent.mkdir(parents=True, exist_ok=True)
            (site / file).write_text(text)
            made.append(file.split("/")[0].removesuffix(".py"))
        info = site / f"{name}-{version}.dist-info"
        info.mkdir(parents=True)
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n")
        sections = [
            f"[{group}]\n" + "".join(f"{key} = {where}\n" for key, where in names.items())
            for group, names in points.items()
        ]
        (info / "entry_points.txt").write_text("\n".join(sections))
        monkeypatch.syspath_prepend(str(site))
        forget()

    yield install
    forget()
    for module in [m for m in sys.modules if m.split(".")[0] in made]:
        del sys.modules[module]


@pytest.fixture
def my_lab(installed):
    """The package of the page, with the entry points of its pyproject.toml."""
    (project,) = blocks("toml")
    described = tomllib.loads(project)["project"]
    files = {
        match[1]: code
        for code in blocks("python")
        if (match := re.match(r"# (my_lab/\w+\.py)\n", code)) is not None
    }
    assert len(files) == 4
    files["my_lab/__init__.py"] = ""
    installed(described["name"].replace("-", "_"), files, described["entry-points"], described["version"])


@pytest.fixture
def cohort(tmp_path, monkeypatch):
    """The cohort of the page's commands, in the folder where they are run."""
    monkeypatch.chdir(tmp_path)
    return simulate_cohort(tmp_path / "cohort", n_studies=2, seed=1, preset="small")


def commands():
    return [line.split()[1:] for block in blocks("console") for line in block.splitlines()]


@pytest.mark.gate
def test_the_package_of_the_page_is_listed_and_runs(my_lab, cohort, tmp_path, cli):
    content = json.loads(cli("info", "--json").out)
    assert content["methods"]["brightest"] == "scar is the brightest part of the wall on LGE"
    assert content["method_settings"]["brightest"] == ["percentile [80]"]
    assert content["added_by"] == {"brightest": "my_lab 1.0", "own-network": "my_lab 1.0"}
    assert content["warnings"] == []
    assert "brightest" in parse_arguments(["-o", "benchmark"]).methods

    predict, recognise, manifest = commands()
    manifest_of_walls(cohort)
    result = cli(*predict, "--split", "all")
    assert result.code == 0, result.err
    side = json.loads((tmp_path / "predictions" / "study_000.json").read_text())
    assert (side["method"], side["settings"]) == ("brightest", {"percentile": 90.0})
    labels = np.asarray(nib.load(tmp_path / "predictions" / "study_000_labels.nii.gz").dataobj)
    assert (labels == 4).sum() / (labels > 1).sum() == pytest.approx(0.1, abs=0.01)
    assert cli("predict", str(cohort), "-o", "x", "--method", "brightest", "--set", "percentil=9").code == 2

    (tmp_path / "scans").mkdir()
    for number, study in enumerate(read_manifest(cohort).split("all"), start=1):
        roles = {"delayed": study.images["LGE"], "t2w": study.images["T2"], "contours": study.label}
        for role, file in roles.items():
            file.rename(tmp_path / "scans" / f"subject{number:02d}_{role}.nii.gz")
    result = cli(*recognise)
    assert result.code == 0, result.err
    assert "a folder as My lab has them" in result.out + result.err
    result = cli(*manifest)
    assert result.code == 0, result.err
    studies = read_manifest(tmp_path / "scans" / "manifest.json").split("all")
    assert [(study.id, [*study.images]) for study in studies] == [
        ("subject01", ["LGE", "T2"]),
        ("subject02", ["LGE", "T2"]),
    ]
    assert complete_kinds("my") == ["myops", "myosaiq", "my-lab"]
    assert [name for name, _ in complete_methods("b")] == ["brightest"]


def manifest_of_walls(path):
    """Give the cohort region maps that tell the wall from the cavity."""
    content = json.loads(path.read_text())
    for split in ("training", "validation", "test"):
        for study in content.get(split, []):
            study["region"] = {"rule": "cavity-wall"}
    path.write_text(json.dumps(content))


def test_a_network_in_the_place_of_the_shipped_ones(my_lab):
    found = mrigmm.segment(ONE, WALL, spacing_mm=MM, method="own-network")
    scar, wall = found.labels == 4, ventricle() > 1
    assert (scar == (ventricle() == 4))[wall].mean() > 0.9
    assert found.solved.side.settings["network"] == "my_lab 1.0"
    assert "infarct" not in found.details


def test_a_prior_of_ones_own_as_the_page_says(cohort, capsys):
    shown = blocks("text")
    names = {}
    for code in blocks("python")[-2:]:
        exec(compile(code, "extending.md", "exec"), names)
    assert capsys.readouterr().out == shown[-1]
    assert names["found"].solved.side.prior["source"] == "12 studies of our scanner, 2025"


ENTRY = """
from mrigmm.methods.entry import MethodEntry
GOOD = MethodEntry("broken.method:Good", "does what em-gmm does", uses_prior=False)
LATE = MethodEntry("broken.nowhere:Good", "its class is missing")
NAMED = MethodEntry("broken.method:Named", "has another name")
FAILS = MethodEntry("broken.method:Fails", "fails at a study")
WRONG = MethodEntry("broken.method:Wrong", "labels outside of the region")
SHAPE = MethodEntry("broken.method:Shape", "returns something else")
NUMBER = 3
"""
METHOD = """
from dataclasses import replace
from mrigmm.methods.em_gmm import EMGMM

class Good(EMGMM):
    name = "good"

class Named(EMGMM):
    name = "another"

class Fails(EMGMM):
    name = "fails"
    def segment(self, study):
        raise RuntimeError("no\\nway")

class Wrong(EMGMM):
    name = "wrong"
    def segment(self, study):
        found = super().segment(study)
        return replace(found, labels=found.labels + 1)

class Shape(EMGMM):
    name = "shape"
    def segment(self, study):
        return super().segment(study).labels
"""


LAYOUTS = """
from mrigmm.data.sources.base import Kind
FAILS = Kind(None, lambda folder, options: folder.files, mark=".*only_here.*")
MARK = Kind(None, None, mark="(")
"""


@pytest.fixture
def broken(installed):
    points = {
        "good": "broken.entries:GOOD",
        "late": "broken.entries:LATE",
        "named": "broken.entries:NAMED",
        "fails": "broken.entries:FAILS",
        "wrong": "broken.entries:WRONG",
        "shape": "broken.entries:SHAPE",
        "number": "broken.entries:NUMBER",
        "absent": "broken.entries:NONE",
        "no-module": "broken.none:GOOD",
        "syntax": "broken.syntax:GOOD",
        "stops": "broken.stops:GOOD",
        "em-gmm": "broken.entries:GOOD",
        "deepg": "broken.entries:GOOD",
        "a/b": "broken.entries:GOOD",
    }
    files = {
        "broken/__init__.py": "",
        "broken/entries.py": ENTRY,
        "broken/method.py": METHOD,
        "broken/layouts.py": LAYOUTS,
        "broken/syntax.py": "def",
        "broken/stops.py": "raise RuntimeError('not here')",
    }
    layouts = {"lab": "broken.none:KIND", "fails": "broken.layouts:FAILS", "mark": "broken.layouts:MARK"}
    installed("broken", files, {"mrigmm.methods": points, "mrigmm.layouts": layouts}, "2.1")


def test_broken_packages_are_named_and_break_nothing(broken, installed, workshop, tmp_path, cli):
    installed("second", {"second.py": ENTRY}, {"mrigmm.methods": {"good": "second:GOOD"}})
    content = json.loads(cli("info", "--json").out)
    assert content["methods"]["em-gmm"].startswith("EM for a Gaussian mixture")
    assert content["added_by"]["good"] == "second 1.0"  # the first on the path
    told = {re.match("'(.*?)' of the package (.*?) cannot", text)[1]: text for text in content["warnings"]}
    expected = {
        "number": "TypeError: it is int",
        "absent": "AttributeError",
        "no-module": "ModuleNotFoundError",
        "syntax": "SyntaxError",
        "stops": "RuntimeError: not here",
        "em-gmm": "the name is that of mrigmm itself",
        "deepg": "the name is that of mrigmm itself",
        "a/b": "letters, digits",
        "good": "the name is that of second 1.0",
    }
    assert {*told} == {*expected}
    for name, text in expected.items():
        assert text in told[name]
        assert "package broken 2.1" in told[name]
    assert "warning: 'syntax' of the package broken 2.1" in cli("info").err
    for method in ("em-gmm", "good"):
        result = cli("predict", workshop.manifest(), "-o", tmp_path / method, "--method", method)
        assert result.code == 0, result.err
    unusable = {
        "syntax": ("broken 2.1", "SyntaxError"),
        "late": ("broken 2.1", "ModuleNotFoundError"),
        "named": ("broken 2.1", "its name is 'another'"),
    }
    for method, texts in unusable.items():
        result = cli("predict", workshop.manifest(), "-o", tmp_path / "out", "--method", method)
        assert result.code == 2
        assert all(text in result.err for text in texts)
        assert "Traceback" not in result.err
    for layout, text in {
        "lab": "ModuleNotFound",
        "mark": "error: missing )",
        "fails": "it gave tuple",
    }.items():
        result = cli("manifest", layout, workshop.folder, "-o", tmp_path / "m.json")
        assert (result.code, f"'{layout}' of the package broken 2.1" in result.err) == (2, True)
        assert text in result.err
    assert marked(list_folder(workshop.folder)) == []


@pytest.mark.parametrize(
    ("method", "told"),
    [
        ("fails", "method.py, line 14)"),
        ("fails", "got: RuntimeError: no ("),
        ("wrong", "labels"),
        ("shape", "got: Tensor"),
    ],
)
def test_a_study_that_a_foreign_method_cannot_do_is_told_in_its_name(broken, method, told):
    images = {name: intensities(ventricle(), name) for name in SEQUENCES}
    with pytest.raises(InputError, match=f"'{method}' of the package broken 2.1") as caught:
        mrigmm.segment(images, WALL, spacing_mm=MM, method=method)
    assert told in str(caught.value)
    assert caught.value.problems[0].study == "study"


def test_metadata_that_cannot_be_read_adds_nothing(monkeypatch):
    def damaged(**_):
        raise UnicodeDecodeError("utf-8", b"", 0, 1, "damaged")

    monkeypatch.setattr("mrigmm.plugins.entry_points", damaged)
    METHODS.__dict__.pop("_added", None)
    assert [*METHODS] == [*METHODS.built_in]
    assert len(METHODS) == len(METHODS.built_in)
    METHODS.__dict__.pop("_added", None)
