import csv
import json
import math

import numpy as np
import pytest

import mrigmm
from mrigmm.errors import InputError

from ..conftest import SHAPE, oblique_affine, save_nifti, ventricle

CLASSES = {"blood": 1, "myocardium": 2, "edema": 3, "scar": 4}


def prediction(folder, study, labels, affine=None, classes=CLASSES):
    """A prediction as `predict` leaves it, made by hand."""
    save_nifti(folder / f"{study}_labels.nii.gz", labels, oblique_affine() if affine is None else affine)
    (folder / f"{study}.json").write_text(json.dumps({"classes": classes}))


@pytest.fixture
def out(tmp_path):
    (tmp_path / "out").mkdir()
    return tmp_path / "out"


def test_hand_computed(workshop, out):
    """The scar is called edema: 0 for scar, 2e/(2e + s) for edema, nothing lost in the nested regions."""
    truth = ventricle()
    e, s = int((truth == 3).sum()), int((truth == 4).sum())
    prediction(out, "s1", np.where(truth == 4, 3, truth).astype(np.uint8))
    result = mrigmm.evaluate(out, workshop.manifest())
    dice = {name: o.dice for name, o in result.studies["s1"].items()}
    assert dice == {
        "blood": 1,
        "myocardium": 1,
        "edema": pytest.approx(2 * e / (2 * e + s)),
        "scar": 0,
        "wall": 1,
        "pathology": 1,
    }
    assert result.studies["s1"]["edema"].iou == pytest.approx(e / (e + s))
    assert result.studies["s1"]["scar"].reference_ml == pytest.approx(s * 0.0144, rel=1e-5)
    assert result.studies["s1"]["scar"].predicted_ml == 0
    assert result.summary["scar"].missed_studies == 1


def test_files(workshop, out):
    healthy = np.where(ventricle() > 2, 2, ventricle()).astype(np.uint8)
    entries = [workshop.study("a"), workshop.study("b")]
    workshop.volume(entries[1]["label"], healthy)
    prediction(out, "a", ventricle())
    prediction(out, "b", healthy)
    result = mrigmm.evaluate(out, workshop.manifest(entries))
    assert result.output == out / "metrics.json"
    content = json.loads((out / "metrics.json").read_text())
    assert content["studies"]["b"]["scar"]["dice"] is None  # both empty
    assert content["summary"]["scar"]["n"] == 1
    assert content["summary"]["scar"]["specificity"] == 1
    assert content["summary"]["scar"]["sensitivity"] == 1
    assert content["not_evaluated"] == []
    rows = list(csv.DictReader((out / "metrics.csv").read_text().splitlines()))
    assert [(row["study"], row["class"]) for row in rows[:2]] == [("a", "blood"), ("a", "myocardium")]
    scar = next(row for row in rows if (row["study"], row["class"]) == ("b", "scar"))
    assert (scar["dice"], scar["predicted_ml"]) == ("", "0")
    assert float(rows[0]["dice"]) == 1


def test_ids_are_matched_by_name(workshop, out):
    """Reference ids are the manifest's, predicted ids the side file's; neither need be ours."""
    entry = workshop.study()
    myops = np.array([0, 500, 200, 1220, 2221], np.int16)[ventricle()]
    myops[0] = 600  # right ventricle: background
    workshop.volume(entry["label"], myops)
    shifted = np.where(ventricle() > 0, ventricle() + 10, 0).astype(np.uint8)
    prediction(out, "s1", shifted, classes={name: i + 10 for name, i in CLASSES.items()})
    result = mrigmm.evaluate(out, workshop.manifest([entry], labels="myops"))
    assert {o.dice for o in result.studies["s1"].values()} == {1.0}


def test_classes_without_reference_are_left_out(workshop, out):
    entry = workshop.study()
    workshop.volume(entry["label"], np.where(ventricle() == 3, 2, ventricle()).astype(np.uint8))
    prediction(out, "s1", ventricle())
    labels = {"background": 0, "blood": 1, "myocardium": 2, "edema": [], "scar": 4}
    result = mrigmm.evaluate(out, workshop.manifest([entry], labels=labels))
    assert list(result.summary) == ["blood", "myocardium", "scar", "wall"]


def test_studies_that_cannot_be_compared_do_not_stop_the_others(workshop, out):
    entries = [workshop.study(name) for name in ("good", "none", "grid", "ids", "nolabel")]
    for name in ("good", "grid", "ids", "nolabel"):
        prediction(out, name, ventricle())
    prediction(out, "grid", ventricle(), oblique_affine(origin_mm=(0, 0, 0)))
    prediction(out, "ids", ventricle() * 2)
    del entries[4]["label"]
    result = mrigmm.evaluate(out, workshop.manifest(entries))
    assert result.done == ("good",)
    assert [(p.study, p.what) for p in result.problems] == [
        ("none", "the study has no prediction"),
        ("grid", "the label map is not on the grid of the reference sequence"),
        ("ids", "the predicted label map has an unknown class id"),
        ("nolabel", "the study has no reference label"),
    ]
    assert json.loads(result.output.read_text())["not_evaluated"] == ["none", "grid", "ids", "nolabel"]


def test_nothing_to_compare(workshop, out, tmp_path):
    with pytest.raises(InputError, match="the study has no prediction"):
        mrigmm.evaluate(out, workshop.manifest())
    with pytest.raises(InputError, match="the folder of predictions does not exist"):
        mrigmm.evaluate(tmp_path / "no", workshop.manifest())
    prediction(out, "s1", ventricle())
    with pytest.raises(InputError, match="no class in common"):
        mrigmm.evaluate(out, workshop.manifest(labels={"grey": 1, "white": [2, 3, 4]}))
    assert sorted(p.name for p in out.iterdir()) == ["s1.json", "s1_labels.nii.gz"]


@pytest.mark.parametrize(
    "content", ["", "[]", "{}", '{"classes": ["a"]}', '{"classes": {"a": null}}', "[" * 99999]
)
def test_a_damaged_side_file(workshop, out, content):
    prediction(out, "s1", ventricle())
    (out / "s1.json").write_text(content)
    with pytest.raises(InputError, match="the side file of the prediction is damaged"):
        mrigmm.evaluate(out, workshop.manifest())


def test_where_to_write(workshop, out, tmp_path):
    prediction(out, "s1", ventricle())
    manifest = workshop.manifest()
    result = mrigmm.evaluate(out, manifest, out=tmp_path / "new" / "m.json")
    assert sorted(p.name for p in (tmp_path / "new").iterdir()) == ["m.csv", "m.json"]
    assert result.output == tmp_path / "new" / "m.json"
    with pytest.raises(InputError, match="written as JSON"):  # or the table would replace it
        mrigmm.evaluate(out, manifest, out=tmp_path / "m.csv")
    before = manifest.read_text()
    with pytest.raises(InputError, match="would replace an input"):
        mrigmm.evaluate(out, manifest, out=manifest)
    assert manifest.read_text() == before


def test_splits(workshop, out):
    prediction(out, "a", ventricle())
    prediction(out, "b", ventricle() * 0)
    manifest = workshop.manifest([workshop.study("a")], training=[workshop.study("b")])
    assert mrigmm.evaluate(out, manifest).done == ("a",)
    assert mrigmm.evaluate(out, manifest, split="training").summary["scar"].dice_mean == 0
    both = mrigmm.evaluate(out, manifest, split="all")
    assert both.summary["scar"].dice_mean == pytest.approx(0.5)
    assert math.isclose(both.summary["scar"].dice_sd, 0.5**0.5)


def test_a_single_slice(workshop, out):
    shape = (*SHAPE[:2], 1)
    prediction(out, "s1", ventricle(shape))
    assert (
        mrigmm.evaluate(out, workshop.manifest([workshop.study(shape=shape)])).summary["scar"].dice_mean == 1
    )


@pytest.mark.parametrize(
    ("study", "sure", "perhaps"),
    [("myops_training_101", 1, 0), ("Case_101", 0, 1), ("s1", 0, 0)],
)
def test_a_prior_that_knows_the_study(workshop, out, study, sure, perhaps):
    prediction(out, study, ventricle())
    side = json.loads((out / f"{study}.json").read_text())
    prior = {"source": "s", "dataset": "MyoPS 2020", "study_ids": ["myops_training_101"]}
    (out / f"{study}.json").write_text(json.dumps({**side, "prior": prior}))
    result = mrigmm.evaluate(out, workshop.manifest([workshop.study(study)]))
    content = json.loads((out / "metrics.json").read_text())["seen_by_prior"]
    assert {name: len(ids) for name, ids in content.items()} == {"sure": sure, "perhaps": perhaps}
    assert not result.failed
    assert len(result.problems) == sure + perhaps
    assert all(("if they are the same patients" in p.what) == bool(perhaps) for p in result.problems)
