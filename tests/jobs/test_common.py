from pathlib import Path

import numpy as np
import pytest
import torch

import mrigmm
from mrigmm.errors import InputError, Problem
from mrigmm.jobs.common import MAX_ERRORS, Outcome, select_device
from mrigmm.jobs.demo import DemoResult
from mrigmm.jobs.evaluate import Evaluation
from mrigmm.jobs.manifest import Written

from ..conftest import ventricle
from .test_evaluate import prediction


def test_an_outcome_prints_as_a_summary():
    names = "abcdef"[: MAX_ERRORS + 1]
    errors = tuple(Problem(f"no region {name}", f"p{n}", remedy="draw one") for n, name in enumerate(names))
    outcome = Outcome(Path("out"), ("a",), (*errors, Problem("constant", "a", severity="warning")))
    lines = repr(outcome).splitlines()
    assert lines[:2] == ["Outcome: out", "1 study, 6 errors (.problems), 1 warning (.problems)"]
    assert lines[2:5] == ["error: no region a", "  study: p0", "  remedy: draw one"]
    assert lines[-1] == "... and 1 more error"
    assert repr(Outcome(Path("cohort.json"), ())) == "Outcome: cohort.json"


def test_a_gpu_that_torch_cannot_have(monkeypatch):
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 0)
    monkeypatch.setattr(torch.version, "cuda", None)
    monkeypatch.setattr(torch.version, "hip", None)
    with pytest.raises(InputError, match="'cuda' is not there") as caught:
        select_device("cuda")
    (problem,) = caught.value.problems
    assert problem.got == f"PyTorch {torch.__version__}, which is built without CUDA"
    assert problem.remedy == "use --device cpu"
    monkeypatch.setattr(torch.version, "cuda", "12.8")
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    with pytest.raises(InputError, match="'cuda:1' is not there") as caught:
        select_device("cuda:1")
    assert caught.value.problems[0].got == "1 GPU"


def test_a_notebook_runs_nothing_that_stands_in_a_file():
    outcome = Outcome(Path("<i>"), (), (Problem("<script>", "<b>"),))
    html = outcome._repr_html_()
    assert "<p>Outcome: &lt;i&gt;</p>" in html
    assert "<pre>error: &lt;script&gt;\n  study: &lt;b&gt;</pre>" in html


@pytest.fixture(name="predicted")
def two_folders(tmp_path):
    """`right` is the reference, `wrong` takes scar for edema in one of three studies."""
    truth = ventricle()
    for name in ("right", "wrong"):
        (tmp_path / name).mkdir()
        for study in "abc":
            missed = name == "wrong" and study == "a"
            prediction(
                tmp_path / name, study, np.where(truth == 4, 3, truth).astype(np.uint8) if missed else truth
            )
    return tmp_path


def row_of(shown, name):
    (line,) = [line for line in shown.splitlines() if line.startswith(name)]
    return line.split()


def test_what_jobs_return_shows_its_figures(workshop, predicted):
    manifest = workshop.manifest([workshop.study(study) for study in "abc"])
    found = mrigmm.evaluate(predicted / "wrong", manifest)
    assert row_of(repr(found), "class")[:2] == ["class", "Dice"]
    # Dice 0, 1, 1; the boundary of the scar that is missing has no distance.
    assert row_of(repr(found), "scar") == ["scar", "0.667", "0.000", "to", "1.000", "0.667", "3", "0.0", "2"]
    assert "<td>scar</td><td>0.667</td>" in found._repr_html_()

    compared = mrigmm.compare(predicted / "right", predicted / "wrong", manifest)
    shown = repr(compared).split("HD95")[0]
    assert row_of(shown, "scar")[:4] == ["scar", "1.000", "0.667", "+0.333"]

    agreed = mrigmm.agreement([predicted / "right", predicted / "wrong"], predicted / "agreement")
    assert row_of(repr(agreed), "scar")[:2] == ["scar", "0.667"]

    measured = mrigmm.quantify(predicted / "wrong")
    truth_g = (ventricle() == 4).sum() * 0.0144 * 1.05
    assert measured.studies["a"]["infarct_mass_g"] == 0
    assert measured.studies["b"]["infarct_mass_g"] == pytest.approx(truth_g, rel=1e-5)
    assert row_of(repr(measured), "b")[3] == f"{truth_g:.1f}"


def test_files_are_listed():
    cohort, folder = Path("all.json"), Path("demo")
    written = Written(cohort, ("a",), manifests=(cohort,), priors=(Path("prior.json"),), data_root=Path("d"))
    assert repr(written).splitlines()[2:] == [
        "file             path",
        "manifest     all.json",
        "prior      prior.json",
        "data root           d",
    ]
    evaluations = {"em-gmm": Evaluation(Path("metrics.json"), ("a",))}
    shown = DemoResult(folder, cohort, Path("r.html"), evaluations)
    assert repr(shown).splitlines()[:2] == ["DemoResult: r.html", "Evaluation: metrics.json"]
