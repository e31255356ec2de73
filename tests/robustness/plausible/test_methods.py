"""What a method cannot do with what it was given is decided in one place for all methods."""

import json

import pytest

import mrigmm
from mrigmm.methods.registry import METHODS
from mrigmm.phantom import simulate_cohort

KIND = "methods"
CHECK = "what a method needs is compared with the region map, the sequences and the classes of the study"

QUICK = ("map-em", "map-em-2step", "em-gmm", "kmeans")
NEED_WALL = [name for name, entry in METHODS.items() if entry.needs.wall]


@pytest.fixture(scope="module")
def cohort(tmp_path_factory):
    """Two studies; lge.json has LGE and the undivided ventricle."""
    folder = tmp_path_factory.mktemp("methods") / "cohort"
    simulate_cohort(folder, n_studies=2, seed=6, preset="small")
    content = json.loads((folder / "manifest.json").read_text())
    lge = [{**study, "image": {"LGE": study["image"]["LGE"]}} for study in content["test"]]
    lge_only = {**content, "modality": {"0": "LGE"}, "training": [], "test": lge}
    (folder / "lge.json").write_text(json.dumps(lge_only))
    return folder


@pytest.mark.parametrize("method", QUICK)
def test_lge_alone_in_an_undivided_ventricle(cohort, tmp_path, method):
    """LGE and an undivided ventricle -> a method by intensities says that scar may look like blood"""
    problems = mrigmm.predict(cohort / "lge.json", tmp_path, method=method).problems
    told = [problem.what for problem in problems]
    assert sum("LGE alone cannot tell scar at the endocardium from blood" in text for text in told) == 1


def test_with_more_sequences_nothing_is_said(cohort, tmp_path):
    """LGE, T2 and bSSFP -> no such warning"""
    told = [
        problem.what
        for problem in mrigmm.predict(cohort / "manifest.json", tmp_path, method="map-em").problems
    ]
    assert not any("LGE alone" in text for text in told)


@pytest.mark.parametrize("method", NEED_WALL)
def test_a_method_that_needs_the_wall(cohort, tmp_path, method):
    """thresholds in an undivided ventricle -> the study is refused, and what to do is named"""
    (problem,) = (
        p
        for p in mrigmm.predict(cohort / "lge.json", tmp_path, method=method).problems
        if p.severity == "error"
    )
    assert problem.what == f"{method} needs to know the wall"
    assert "map-em-2step" in problem.remedy
    assert not [*tmp_path.glob("*_labels.nii.gz")]
