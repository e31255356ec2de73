"""A label map that somebody corrected: one truth in every table and on every page."""

import csv
import json
import shutil

import nibabel as nib
import numpy as np
import pytest

import mrigmm
from mrigmm.errors import InputError

from ...conftest import oblique_affine, save_nifti
from ..cases import place_in

KIND = "label map corrected by hand"
CHECK = "the class ids of the label map now, and their digest in the side file and in tables made from it"

EDITED = "the label map was changed after predict"


@pytest.fixture(scope="module")
def predicted(tmp_path_factory):
    """Two studies with probabilities, evaluated (copied, never changed)."""
    here = place_in(tmp_path_factory.mktemp("predicted"))
    mrigmm.predict(here.manifest(), here.out, method="map-em", save_probabilities=True)
    mrigmm.evaluate(here.out, here.folder / "manifest.json")
    return here


@pytest.fixture
def manifest(predicted):
    return predicted.folder / "manifest.json"


@pytest.fixture
def out(predicted, tmp_path):
    return shutil.copytree(predicted.out, tmp_path / "out")


def labels_of(out, study="bad"):
    return np.asarray(nib.load(out / f"{study}_labels.nii.gz").dataobj)


def erase_scar(out):
    """As ITK-SNAP saves it: another type, another order of the axes."""
    labels = labels_of(out).astype(np.int16)
    labels[labels == 4] = 2
    save_turned(out, labels)


def save_turned(out, labels):
    affine = oblique_affine()[:, [2, 0, 1, 3]]
    affine[:3, 3] += (labels.shape[0] - 1) * affine[:3, 1]
    affine[:3, 1] *= -1
    save_nifti(out / "bad_labels.nii.gz", np.moveaxis(labels, -1, 0)[:, ::-1], affine)


def content(file):
    return json.loads(file.read_text())


def rows(file):
    return list(csv.DictReader(file.read_text().splitlines()))


def edited_notes(result):
    return [p.study for p in result.problems if p.what == EDITED and p.severity == "note"]


def test_saved_anew(predicted, out):
    """label map saved as float with turned axes, nothing changed -> no change anywhere"""
    save_turned(out, labels_of(out).astype(np.float32))
    assert edited_notes(mrigmm.quantify(out)) == []
    for name in ("quantities.json", "quantities.csv", "segments.csv"):
        assert (out / name).read_bytes() == (predicted.out / name).read_bytes()
    assert mrigmm.report(out).problems == ()


def test_report_alone(out):
    """scar erased, then `report` -> volumes of the map now; old figures left out, with what to run"""
    before = content(out / "metrics.json")["studies"]["bad"]
    erase_scar(out)
    result = mrigmm.report(out)
    assert edited_notes(result) == ["bad"]
    told = [p.what for p in result.problems if p.severity == "warning"]
    assert [("evaluate again" in text, "quantify again" in text) for text in told] == [
        (True, False),
        (False, True),
    ]
    page = (out / "report.html").read_text()
    study = page[page.index("<h3>bad</h3>") :].split("</details>")[0]
    assert "infarct 0.0 g, 0.0 % of LV mass" in study
    assert EDITED in study
    assert "map-em, corrected by hand" in study
    assert f"{before['myocardium']['dice']:.3f}" not in study
    assert "infarct mass (g)</th><td>0.0</td>" in study
    other = page[page.index("<h3>good</h3>") :].split("</details>")[0]
    assert "infarct mass" in other  # of the study that nobody changed
    assert 'id="agreement"' not in page


def test_measured_and_evaluated_anew(manifest, out):
    """scar erased, then `quantify` and `evaluate` -> numbers of the map now, no interval; marked edited"""
    erase_scar(out)
    voxels = int((labels_of(out) == 2).sum())
    assert edited_notes(mrigmm.quantify(out, manifest=manifest)) == ["bad"]
    study = content(out / "quantities.json")["studies"]["bad"]
    assert study["volumes"]["infarct_mass_g"] == 0
    assert (study["intervals"], study["crps"]) == ({}, {})
    assert not any(name.startswith("expected_") for name in study["volumes"])
    assert {row["study"]: row["edited"] for row in rows(out / "quantities.csv")} == {
        "good": "no",
        "bad": "yes",
    }
    assert edited_notes(mrigmm.evaluate(out, manifest)) == ["bad"]
    metrics = content(out / "metrics.json")
    assert metrics["edited"] == ["bad"]
    assert [*metrics["calibration"]["studies"]] == ["good"]
    found = metrics["studies"]["bad"]
    assert (found["scar"]["dice"], found["scar"]["predicted_ml"]) == (0, 0)
    assert found["myocardium"]["predicted_ml"] == pytest.approx(voxels * 0.0144)
    assert {row["edited"] for row in rows(out / "metrics.csv") if row["study"] == "bad"} == {"yes"}
    result = mrigmm.report(out)
    assert [p.severity for p in result.problems] == ["note"]
    page = (out / "report.html").read_text()
    study = page[page.index("<h3>bad</h3>") :].split("</details>")[0]
    assert "infarct 0.0 g, 0.0 % of LV mass" in study
    assert f"{found['myocardium']['dice']:.3f}" in study


def test_no_volume_changed(out):
    """two voxels exchange their classes, all volumes stay -> noticed, interval dropped"""
    labels = labels_of(out).copy()
    first, second = (tuple(np.argwhere(labels == i)[0]) for i in (4, 2))
    labels[first], labels[second] = 2, 4
    save_nifti(out / "bad_labels.nii.gz", labels, oblique_affine())
    assert edited_notes(mrigmm.quantify(out)) == ["bad"]
    assert content(out / "quantities.json")["studies"]["bad"]["intervals"] == {}


def test_two_folders(predicted, manifest, out, tmp_path):
    """an edited folder beside the one before -> compared, and shown by `--beside`, as it is now"""
    erase_scar(out)
    assert edited_notes(mrigmm.compare(out, predicted.out, manifest, out=tmp_path / "c")) == ["bad"]
    assert content(tmp_path / "c" / "comparison.json")["edited"] == {
        str(out): ["bad"],
        str(predicted.out): [],
    }
    agreed = mrigmm.agreement([out, predicted.out], tmp_path / "agreement")
    assert edited_notes(agreed) == ["bad"]
    assert agreed.studies["bad"].mean_dice("scar") == 0
    assert agreed.studies["good"].mean_dice("scar") == 1
    shown = mrigmm.report(predicted.out, out=tmp_path / "page.html", beside=[out])
    assert ["evaluate again" in p.what for p in shown.problems] == [True]


def test_exported(out, tmp_path):
    """scar erased, then `export` -> the map now, on the grid of the images; BIDS says Manual"""
    erase_scar(out)
    done = mrigmm.export_predictions(out, tmp_path / "bids", format="bids")
    assert edited_notes(done) == ["bad"]
    (file,) = (tmp_path / "bids").rglob("sub-bad*dseg.nii.gz")
    image = nib.load(file)
    np.testing.assert_allclose(image.affine, oblique_affine(), atol=1e-5)
    expected = labels_of(tmp_path / "out").astype(int)  # in the order that the viewer saved
    np.testing.assert_array_equal(np.asarray(image.dataobj), np.moveaxis(expected[:, ::-1], 0, -1))
    side = content(file.with_name(file.name.replace(".nii.gz", ".json")))
    assert (side["Manual"], side["Method"]) == (True, "map-em, corrected by hand")


def test_predicted_once_more(predicted, manifest, out):
    """`predict --resume` -> keeps the edited map and says so; `--overwrite` -> refused"""
    erase_scar(out)
    (out / "good.json").unlink()
    before = (out / "bad_labels.nii.gz").read_bytes()
    how = {"method": "map-em", "save_probabilities": True}
    result = mrigmm.predict(manifest, out, **how, resume=True)
    assert (set(result.done), edited_notes(result)) == ({"good", "bad"}, ["bad"])
    assert (out / "bad_labels.nii.gz").read_bytes() == before
    table = {row["study"]: row for row in rows(out / "quantities.csv")}
    assert (table["bad"]["infarct_mass_g"], table["bad"]["edited"]) == ("0", "yes")
    assert {row["study"] for row in rows(out / "quantities_intervals.csv")} == {"good"}
    with pytest.raises(InputError, match="changed after predict would be replaced") as caught:
        mrigmm.predict(manifest, out, **how, overwrite=True)
    assert [p.study for p in caught.value.problems] == ["bad"]
    assert (out / "bad_labels.nii.gz").read_bytes() == before
    (out / "bad_labels.nii.gz").unlink()
    assert edited_notes(mrigmm.predict(manifest, out, **how, resume=True)) == []  # made again
    np.testing.assert_array_equal(labels_of(out), labels_of(predicted.out))


def test_an_older_side_file(out):
    """side file of a version without digest, scar erased -> noticed by the volumes"""
    side = content(out / "bad.json")
    del side["label_map"]
    (out / "bad.json").write_text(json.dumps(side))
    metrics = content(out / "metrics.json")
    del metrics["label_maps"]
    (out / "metrics.json").write_text(json.dumps(metrics))
    assert mrigmm.report(out).problems == ()
    labels = labels_of(out).copy()
    labels[labels == 4] = 2
    save_nifti(out / "bad_labels.nii.gz", labels, oblique_affine())
    assert [p.severity for p in mrigmm.report(out).problems] == ["warning", "note", "warning"]


@pytest.mark.parametrize("command", ["quantify", "report"])
def test_the_header_got_lost(out, command):
    """label map saved with voxels of 1 mm -> refused: volumes would be wrong by the factor"""
    save_nifti(out / "bad_labels.nii.gz", labels_of(out), np.eye(4))
    result = getattr(mrigmm, command)(out)
    (problem,) = [p for p in result.problems if p.severity == "error"]
    assert (problem.study, problem.what) == (
        "bad",
        "the predicted label map is not on the grid of the reference sequence",
    )


def test_edema_that_nobody_looked_for(workshop, tmp_path):
    """scar of a method without edema corrected -> edema and salvage stay unknown, unless some is drawn"""
    out = tmp_path / "out"
    mrigmm.predict(workshop.manifest([workshop.study(region="cavity-wall")]), out, method="otsu")
    labels = np.asarray(nib.load(out / "s1_labels.nii.gz").dataobj).copy()
    scar = np.argwhere(labels == 4)
    for change, mass in ((2, None), (3, 1.05 * 0.0144)):
        labels[tuple(scar[0])] = change
        save_nifti(out / "s1_labels.nii.gz", labels, oblique_affine())
        volumes = mrigmm.quantify(out).studies["s1"]
        assert volumes["edema_mass_g"] == (mass if mass is None else pytest.approx(mass, rel=1e-5))
        assert (volumes["salvage_percent_of_area_at_risk"] is None) == (mass is None)
