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
        (None, "no reference label for 1 of the studies: nolabel"),
        ("none", "the study has no prediction"),
        ("grid", "the label map is not on the grid of the reference sequence"),
        ("ids", "the predicted label map has an unknown class id"),
    ]
    assert [p.severity for p in result.problems] == ["warning", "error", "error", "error"]
    assert json.loads(result.output.read_text())["not_evaluated"] == ["none", "grid", "ids", "nolabel"]


def test_nothing_to_compare(workshop, out, tmp_path):
    with pytest.raises(InputError, match="there are no label maps in the folder"):
        mrigmm.evaluate(out, workshop.manifest())
    with pytest.raises(InputError, match="the folder of predictions does not exist"):
        mrigmm.evaluate(tmp_path / "no", workshop.manifest())
    prediction(out, "s1", ventricle())
    with pytest.raises(InputError, match="no class in common"):
        mrigmm.evaluate(out, workshop.manifest(labels={"grey": 1, "white": [2, 3, 4]}))
    assert sorted(p.name for p in out.iterdir()) == ["s1.json", "s1_labels.nii.gz"]


def test_a_study_without_a_reference_is_no_failure(cli, workshop, out):
    entries = [workshop.study(name) for name in ("good", "nolabel")]
    del entries[1]["label"]
    for name in ("good", "nolabel"):
        prediction(out, name, ventricle())
    result = cli("evaluate", out, workshop.manifest(entries))
    assert (result.code, result.err) == (0, "warning: no reference label for 1 of the studies: nolabel\n")
    assert json.loads((out / "metrics.json").read_text())["not_evaluated"] == ["nolabel"]


def test_no_study_has_a_reference(cli, workshop, out):
    entries = [workshop.study(name) for name in ("a", "b")]
    for entry in entries:
        del entry["label"]
        prediction(out, entry["id"], ventricle())
    result = cli("evaluate", out, workshop.manifest(entries))
    assert result.code == 2
    assert result.err.startswith("error: the study has no reference label\n  study: a, b\n")
    assert not (out / "metrics.json").exists()


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
    ("study", "sure", "perhaps"), [("myops_training_101", 1, 0), ("Case_101", 0, 1), ("s1", 0, 0)]
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


def probabilities(folder, study, values):
    """Beside a prediction, the probabilities of blood, myocardium, edema and scar (4, X, Y, Z)."""
    save_nifti(folder / f"{study}_probabilities.nii.gz", np.moveaxis(values, 0, -1), oblique_affine())


def one_hot(labels, sure=0.7):
    """`sure` for the class of the label, the rest for the other three; 0 outside."""
    rest = (1 - sure) / 3
    values = np.stack([np.where(labels == i, sure, rest) for i in (1, 2, 3, 4)])
    return (values * (labels > 0)).astype(np.float32)


@pytest.mark.parametrize("order", [(0, 1, 2), (2, 0, 1), (1, 2, 0)])
def test_boundaries_in_mm_whatever_the_order_of_the_axes(workshop, out, order):
    """Scar drawn one pixel along the first in-plane axis: 1.2 mm in the slices, of 10 mm thickness."""
    truth = ventricle()
    moved = np.where(np.roll(truth, 1, axis=0) == 4, 4, np.where(truth == 4, 2, truth)).astype(np.uint8)
    moved[..., 2] = np.where(moved[..., 2] == 4, 2, moved[..., 2])  # missed in the last slice
    affine = oblique_affine(np.array([1.2, 1.2, 10.0])[list(order)], order=order)
    entry = workshop.study(affine=affine)
    workshop.volume(entry["label"], truth.transpose(order), affine)
    prediction(out, "s1", moved.transpose(order), affine)
    found = mrigmm.evaluate(out, workshop.manifest([entry])).studies["s1"]["scar"]
    assert found.hd95_mm == pytest.approx(1.2, rel=1e-5)
    assert found.one_sided_slices == 1
    assert found.hd95_3d_mm == pytest.approx(math.hypot(10, 1.2), rel=1e-5)
    assert 0.5 < found.nsd_2mm < 1
    rows = list(csv.DictReader((out / "metrics.csv").read_text().splitlines()))
    row = next(row for row in rows if row["class"] == "scar")
    assert list(row)[:6] == ["study", "class", "dice", "iou", "predicted_ml", "reference_ml"]
    assert float(row["hd95_mm"]) == pytest.approx(1.2, rel=1e-4)


def test_a_cohort_in_numbers(workshop, out):
    """Three studies with scar and one without; in one of the three no scar is found."""
    truth = ventricle()
    healthy = np.where(truth > 2, 2, truth).astype(np.uint8)
    entries = [workshop.study(name) for name in "abcd"]
    workshop.volume(entries[3]["label"], healthy)
    for name, labels in zip("abcd", (truth, truth, healthy, healthy), strict=True):
        prediction(out, name, labels)
    result = mrigmm.evaluate(out, workshop.manifest(entries))
    content = json.loads(result.output.read_text())
    ml = (truth == 4).sum() * 0.0144
    scar = content["summary"]["scar"]["estimates"]
    assert scar["dice"]["mean"] == content["summary"]["scar"]["dice_mean"] == pytest.approx(2 / 3)
    assert (scar["dice"]["n"], scar["dice"]["n_undefined"]) == (3, 1)
    assert 0 <= scar["dice"]["low"] < 2 / 3 < scar["dice"]["high"] <= 1
    assert (scar["hd95_mm"]["mean"], scar["hd95_mm"]["n"], scar["hd95_mm"]["n_undefined"]) == (0, 2, 2)
    volumes = content["volume_agreement"]["scar"]
    assert volumes["n"] == 4
    assert volumes["bias_ml"]["value"] == pytest.approx(-ml / 4, rel=1e-5)
    assert volumes["absolute_error_ml"]["mean"] == pytest.approx(ml / 4, rel=1e-5)
    # Volumes (v, v), (v, v), (0, v), (0, 0).
    # Means v, v, v/2, 0 and v/2, 3v/4: MSR = 11/24, MSC = MSE = 1/8 v^2, so (MSR - MSE) / (MSR + MSE) = 4/7.
    assert volumes["icc"]["value"] == pytest.approx(4 / 7)
    case = content["case_level"]["scar"]
    assert [case[key] for key in ("true_positive", "false_negative", "false_positive", "true_negative")] == [
        2, 1, 0, 1,
    ]  # fmt: skip
    assert (case["minimum_ml"], case["specificity"]["value"]) == (0, 1)
    assert list(content["case_level"]) == ["edema", "scar", "pathology"]
    assert content["calibration"] is None
    strict = mrigmm.evaluate(out, workshop.manifest(entries), minimum_ml=2 * ml)
    assert strict.cases["scar"].true_positive == 0
    assert strict.summary["scar"].dice_mean == result.summary["scar"].dice_mean
    for wrong in (-1, math.nan):
        with pytest.raises(InputError, match="the minimum volume is no volume"):
            mrigmm.evaluate(out, workshop.manifest(entries), minimum_ml=wrong)


def test_calibration_of_saved_probabilities(workshop, out):
    """All voxels are said to be right with 70 %; in `a` all are, in `b` those of the scar are not."""
    truth = ventricle()
    wrong = np.where(truth == 4, 3, truth).astype(np.uint8)
    for name, labels in {"a": truth, "b": wrong, "c": truth}.items():
        prediction(out, name, labels)
        if name != "c":
            probabilities(out, name, one_hot(labels))
    result = mrigmm.evaluate(out, workshop.manifest([workshop.study(name) for name in "abc"]))
    found = json.loads(result.output.read_text())["calibration"]
    right = 1 - (truth == 4).sum() / (truth > 0).sum()
    assert found["studies"] == {"a": pytest.approx(0.3), "b": pytest.approx(abs(0.7 - right))}
    assert found["error"] == pytest.approx(abs(0.7 - (1 + right) / 2))
    used = [row for row in found["bins"] if row["count"]]
    assert len(found["bins"]) == 15
    assert [row["count"] for row in used] == [2 * (truth > 0).sum()]
    assert used[0]["frequency"] == pytest.approx((1 + right) / 2)


def test_no_calibration_where_the_reference_does_not_know_a_class(workshop, out):
    prediction(out, "s1", ventricle())
    probabilities(out, "s1", one_hot(ventricle()))
    labels = {"background": [0, 1], "blood": [], "myocardium": [2, 3], "edema": [], "scar": 4}
    assert mrigmm.evaluate(out, workshop.manifest(labels=labels)).calibration == {}


def test_edema_counts_as_myocardium_where_the_reference_does_not_tell_it_apart(cli, workshop, out):
    """Voxels of 70 % are right, in myocardium and edema together of 80 %."""
    prediction(out, "s1", ventricle())
    probabilities(out, "s1", one_hot(ventricle()))
    labels = {"background": 0, "blood": 1, "myocardium": [2, 3], "scar": 4}
    manifest = workshop.manifest(labels=labels)
    done = cli("evaluate", out, manifest)
    assert "myocardium (with edema)" in " ".join(done.out.split())
    found = json.loads((out / "metrics.json").read_text())
    assert found["counted_as"]["myocardium"] == {
        "predicted": ["myocardium", "edema"],
        "reference": ["myocardium"],
    }
    assert {name: scores["dice"] for name, scores in found["studies"]["s1"].items()} == {
        "blood": 1,
        "myocardium": 1,
        "scar": 1,
        "wall": 1,
    }
    inside = ventricle()[ventricle() > 0]
    assert found["calibration"]["error"] == pytest.approx(0.3 - 0.1 * np.isin(inside, (2, 3)).mean())


def test_two_predictions_are_compared_in_the_classes_that_both_tell_apart(workshop, out, tmp_path):
    """Scar without edema beside both: edema of the other and of the reference count as myocardium."""
    prediction(out, "s1", ventricle())
    other = tmp_path / "other"
    other.mkdir()
    three = np.where(ventricle() == 3, 2, ventricle())
    prediction(other, "s1", three, classes={"blood": 1, "myocardium": 2, "scar": 4})
    dice = mrigmm.compare(out, other, workshop.manifest()).metrics["dice"]
    means = {name: (c.first_mean, c.second_mean) for name, c in dice.items()}
    assert means == dict.fromkeys(("blood", "myocardium", "scar", "wall"), (1, 1))


@pytest.mark.parametrize(
    ("values", "what"),
    [
        (one_hot(ventricle())[:3], "the probability map has another number of classes"),
        (2 * one_hot(ventricle()), "the probability map holds values that are no probabilities"),
        (-one_hot(ventricle()), "the probability map holds values that are no probabilities"),
        (one_hot(ventricle()) * np.nan, "the probability map holds values that are no probabilities"),
        (one_hot(ventricle())[..., :2], "the probability map is not on the grid of the reference sequence"),
    ],
)
def test_damaged_probabilities_are_told_and_left_out(workshop, out, values, what):
    for study in "ab":
        prediction(out, study, ventricle())
        probabilities(out, study, one_hot(ventricle()))
    probabilities(out, "a", values)
    result = mrigmm.evaluate(out, workshop.manifest([workshop.study(study) for study in "ab"]))
    assert [(p.study, p.what, p.severity) for p in result.problems] == [("a", what, "warning")]
    assert list(result.studies) == ["a", "b"]
    assert list(result.calibration) == ["b"]
    assert json.loads(result.output.read_text())["not_evaluated"] == []
