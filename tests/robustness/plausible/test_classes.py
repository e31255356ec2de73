"""Classes are what the sequences show, whatever the reference labels name."""

import json

import numpy as np
import pytest

import mrigmm
from mrigmm.phantom import simulate_cohort

KIND = "classes"
CHECK = "the classes of the reference labels are compared with those that prior and sequences support"

THREE = {"background": 0, "blood": 1, "myocardium": [2, 3], "scar": 4}


@pytest.fixture(scope="module")
def cohort(tmp_path_factory):
    """Two studies with cavity and wall given; more.json names edema, fewer.json calls it myocardium."""
    folder = tmp_path_factory.mktemp("classes") / "cohort"
    simulate_cohort(folder, n_studies=2, seed=5, preset="small", region="cavity-wall")
    content = json.loads((folder / "manifest.json").read_text())
    (folder / "fewer.json").write_text(json.dumps({**content, "labels": THREE}))
    lge = [{**study, "image": {"LGE": study["image"]["LGE"]}} for study in content["test"]]
    alone = {"modality": {"0": "LGE"}, "labels": THREE, "test": lge}
    (folder / "lge.json").write_text(json.dumps(alone))
    cine = [{**study, "image": {"bSSFP": study["image"]["bSSFP"]}} for study in content["test"]]
    (folder / "cine.json").write_text(json.dumps({**alone, "modality": {"0": "bSSFP"}, "test": cine}))
    return folder


def infarct_g(folder):
    """Infarct mass of each study."""
    rows = mrigmm.quantify(folder).studies
    return [row["infarct_mass_g"] for row in rows.values()]


def test_labels_without_edema(cohort, tmp_path, cli):
    """labels of cavity, wall and scar beside T2 -> edema is segmented as well, infarct mass as with it"""
    predicted = tmp_path / "all", tmp_path / "fewer"
    mrigmm.predict(cohort / "manifest.json", predicted[0], method="map-em", split="all")
    done = cli("predict", cohort / "fewer.json", "-o", predicted[1], "--method", "map-em", "--split", "all")
    assert "segmented is edema, too" in " ".join(done.err.split())
    assert infarct_g(predicted[1]) == infarct_g(predicted[0])
    scores = mrigmm.evaluate(predicted[1], cohort / "fewer.json", split="all")
    assert "myocardium (with edema)" in str(scores)
    whole = mrigmm.evaluate(predicted[0], cohort / "manifest.json", split="all")
    for study, found in scores.studies.items():
        assert found["scar"] == whole.studies[study]["scar"]
        assert "edema" not in found
    mrigmm.report(predicted[1])
    assert "myocardium (with edema)" in (predicted[1] / "report.html").read_text()


def test_classes_asked_for(cohort, tmp_path, cli):
    """--classes blood,myocardium,scar -> those three, and more infarct, for edema has no other place"""
    asked = ["--classes", "blood, myocardium,scar", "--split", "all", "--method", "map-em"]
    assert cli("predict", cohort / "manifest.json", "-o", tmp_path / "three", *asked).code == 0
    side = json.loads((tmp_path / "three" / "study_000.json").read_text())
    assert side["classes"] == {"blood": 1, "myocardium": 2, "scar": 4}
    mrigmm.predict(cohort / "manifest.json", tmp_path / "four", method="map-em", split="all")
    assert np.sum(infarct_g(tmp_path / "three")) > np.sum(infarct_g(tmp_path / "four"))


def test_lge_alone(cohort, tmp_path, cli):
    """LGE alone -> edema has a class, so that it is not called infarct, and is said to be uncertain, once"""
    done = cli("predict", cohort / "lge.json", "-o", tmp_path / "four", "--method", "map-em-2step")
    assert " ".join(done.err.split()).count("edema cannot be told reliably without T2") == 1
    three = ("blood", "myocardium", "scar")
    mrigmm.predict(cohort / "lge.json", tmp_path / "three", method="map-em-2step", classes=three)
    assert infarct_g(tmp_path / "three")[0] > 1.2 * infarct_g(tmp_path / "four")[0]


def test_a_cine_alone(cohort, tmp_path, cli):
    """bSSFP alone, which shows neither scar nor edema -> cavity and wall only, and told so"""
    done = cli("predict", cohort / "cine.json", "-o", tmp_path / "out", "--method", "map-em")
    side = json.loads(next((tmp_path / "out").glob("study_00?.json")).read_text())
    assert side["classes"] == {"blood": 1, "myocardium": 2}
    assert "no scar among the segmented classes: blood, myocardium" in " ".join(done.err.split())
