import json
import tempfile
from dataclasses import dataclass
from typing import Any

import matplotlib.figure
import nibabel as nib
import numpy as np
import pytest
import SimpleITK as sitk  # noqa: N813 - its own name
import torch

import mrigmm
import mrigmm.pretrained.networks as networks
from mrigmm.errors import InputError
from mrigmm.methods.em_gmm import EMGMM
from mrigmm.phantom import PRESETS, simulate_study

from ..conftest import PATIENT, SEQUENCES, SHAPE, Workshop, intensities, oblique_affine, ventricle

LV = (ventricle() > 0).astype(np.uint8)
ARRAYS = {name: intensities(ventricle(), name) for name in SEQUENCES}
MM = (4.5, 4.5, 10.0)


@dataclass(frozen=True)
class Predicted:
    """One study as files, and what `predict` makes of it with probabilities."""

    images: dict[str, str]
    region: str
    out: Any

    def data(self, kind):
        return np.asarray(nib.load(self.out / f"s1_{kind}.nii.gz").dataobj)

    def quantities(self):
        return mrigmm.quantify(self.out).studies["s1"]


@pytest.fixture(scope="module")
def predicted(tmp_path_factory):
    folder = tmp_path_factory.mktemp("predicted")
    workshop = Workshop(folder)
    entry = workshop.study(affine=PATIENT)
    mrigmm.predict(workshop.manifest([entry]), folder / "out", method="map-em", save_probabilities=True)
    images = {name: str(folder / file) for name, file in entry["image"].items()}
    return Predicted(images, str(folder / entry["region"]), folder / "out")


def array(image):
    if isinstance(image, sitk.Image):
        return sitk.GetArrayFromImage(image).T
    return np.asarray(image.dataobj) if isinstance(image, nib.Nifti1Image) else np.asarray(image)


HOLDERS = {
    "path": lambda file: file,
    "nibabel": nib.load,
    "nibabel in memory": lambda file: nib.Nifti1Image(array(nib.load(file)), nib.load(file).affine),
    "SimpleITK": sitk.ReadImage,
    "array": lambda file: array(nib.load(file)),
    "tensor": lambda file: torch.from_numpy(array(nib.load(file)).copy()),
}
KINDS = {"SimpleITK": sitk.Image, "array": np.ndarray, "tensor": torch.Tensor}


@pytest.mark.parametrize("holder", HOLDERS)
def test_whatever_holds_the_images_the_result_is_that_of_predict_and_held_alike(predicted, holder):
    images = {name: HOLDERS[holder](file) for name, file in predicted.images.items()}
    place = {"affine": PATIENT} if holder in ("array", "tensor") else {}
    found = mrigmm.segment(images, HOLDERS[holder](predicted.region), method="map-em", **place)
    for held in (found.labels, found.probabilities["scar"], found.region):
        assert isinstance(held, KINDS.get(holder, nib.Nifti1Image))
    np.testing.assert_array_equal(array(found.labels), predicted.data("labels"))
    assert array(found.labels).dtype == np.uint8
    probabilities = np.stack([array(p) for p in found.probabilities.values()], axis=-1)
    np.testing.assert_allclose(probabilities, predicted.data("probabilities"), atol=1e-6)
    np.testing.assert_array_equal(array(found.region), LV)
    expected = predicted.quantities()
    assert {name for name, value in expected.items() if value is not None} <= {*found.quantities}
    for name, value in expected.items():
        assert found.quantities[name] == (None if value is None else pytest.approx(value, rel=1e-4)), name
    if holder == "SimpleITK":
        read = sitk.ReadImage(str(predicted.out / "s1_labels.nii.gz"))
        assert found.labels.GetOrigin() == pytest.approx(read.GetOrigin(), abs=1e-4)
        assert found.labels.GetDirection() == pytest.approx(read.GetDirection(), abs=1e-6)
    elif holder not in KINDS:
        np.testing.assert_allclose(found.labels.affine, PATIENT, atol=1e-5)


def test_arrays_come_back_in_the_axes_of_the_caller():
    """Slices first, as SimpleITK and most networks have them; and a single slice."""
    straight = mrigmm.segment(ARRAYS, LV, spacing_mm=MM, method="map-em")
    turned = {name: image.transpose(2, 1, 0) for name, image in ARRAYS.items()}
    found = mrigmm.segment(turned, LV.transpose(2, 1, 0), spacing_mm=MM[::-1], method="map-em")
    assert found.labels.shape == SHAPE[::-1]
    np.testing.assert_array_equal(found.labels.transpose(2, 1, 0), straight.labels)
    assert (straight.labels == ventricle()).mean() > 0.99
    # 3 slices of one anatomy: each class has a third of the volume in one of them.
    plane = {name: image[..., 0] for name, image in ARRAYS.items()}
    one = mrigmm.segment(plane, LV[..., 0], spacing_mm=MM, method="map-em")
    assert one.labels.shape == one.probabilities["blood"].shape == SHAPE[:2]
    assert one.quantities["lv_cavity_ml"] == pytest.approx((one.labels == 1).sum() * 4.5 * 4.5 * 10 / 1000)


def test_what_is_known_of_a_study():
    found = mrigmm.segment({**ARRAYS, "bSSFP": None}, LV, spacing_mm=MM, method="map-em", study_id="p&1")
    assert found.classes == {"blood": 1, "myocardium": 2, "edema": 3, "scar": 4}
    assert found.mixture.sequences == ("LGE", "T2")
    assert found.mixture.means.shape == (1, 4, 2)
    assert found.mixture.covariances.shape == (1, 4, 2, 2)
    assert found.mixture.weights.sum() == pytest.approx(1)
    assert found.details["converged"]
    assert "no bSSFP" in found.notes
    scar_ml = (found.labels == 4).sum() * 4.5 * 4.5 * 10 / 1000
    assert found.quantities["infarct_mass_g"] == pytest.approx(1.05 * scar_ml)
    assert set(np.unique(found.mvo)) <= {0, 1}
    assert f"{1.05 * scar_ml:.1f}" in repr(found)
    html = found._repr_html_()
    assert f"{1.05 * scar_ml:.1f}" in html
    assert "p&amp;1" in html
    assert html.count("<img src=") == 3  # LGE, T2, labels
    assert "Not for clinical use" in html
    figure = found.plot()
    assert isinstance(figure, matplotlib.figure.Figure)
    assert f"infarct_mass_g {1.05 * scar_ml:.1f}" in figure.get_suptitle()
    assert [axis.get_title() for axis in figure.axes] == ["LGE", "T2", "label map on LGE"]
    with pytest.raises(AttributeError):
        found.id = "another"
    found.labels[:] = 0  # the caller's own; the result stays what it is
    assert found.solved.labels.any()


def test_nothing_is_written(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    found = mrigmm.segment(ARRAYS, LV, spacing_mm=MM, method="map-em")
    assert found.labels.any()
    assert found._repr_html_()
    assert not [*tmp_path.iterdir()]


def test_saved_files_are_those_of_predict(predicted, tmp_path):
    images = {name: nib.load(file) for name, file in predicted.images.items()}
    found = mrigmm.segment(images, nib.load(predicted.region), method="map-em", study_id="s1")
    result = found.save(tmp_path / "out", probabilities=True)
    assert (result.done, result.failed) == (("s1",), False)
    names = [{file.name for file in folder.iterdir()} for folder in (tmp_path / "out", predicted.out)]
    assert names[0] == names[1] | {"s1_region.nii.gz"}
    for name in ("s1_labels.nii.gz", "s1_probabilities.nii.gz", "quantities.csv"):
        before, after = (folder / name for folder in (predicted.out, tmp_path / "out"))
        assert before.stat().st_size == after.stat().st_size
    ours, theirs = (
        json.loads((folder / "s1.json").read_text()) for folder in (tmp_path / "out", predicted.out)
    )
    assert ours["quantities"] == theirs["quantities"]
    assert (ours["inputs"], ours["reference_grid"]) == ({}, None)
    assert ours["made_with"]["probabilities"] is True
    with pytest.raises(InputError, match="already there"):
        found.save(tmp_path / "out")
    found.save(tmp_path / "out", overwrite=True)
    assert not (tmp_path / "out" / "s1_probabilities.nii.gz").exists()
    mrigmm.segment(images, LV, method="map-em", study_id="s2").save(tmp_path / "out")
    assert [*mrigmm.quantify(tmp_path / "out").studies] == ["s1", "s2"]
    assert mrigmm.report(tmp_path / "out").done == ("s1", "s2")


def test_a_corrected_label_map_is_not_replaced(tmp_path):
    found = mrigmm.segment(ARRAYS, LV, spacing_mm=MM, method="map-em")
    found.save(tmp_path)
    image = nib.load(tmp_path / "study_labels.nii.gz")
    corrected = np.where(np.asarray(image.dataobj) == 3, 2, np.asarray(image.dataobj)).astype(np.uint8)
    nib.save(nib.Nifti1Image(corrected, image.affine, image.header), tmp_path / "study_labels.nii.gz")
    with pytest.raises(InputError, match="changed after predict"):
        found.save(tmp_path, overwrite=True)


def test_several_studies_and_all_their_problems_at_once():
    images = [ARRAYS, {"LGE": ARRAYS["LGE"]}]
    found = mrigmm.segment(images, [LV, LV], spacing_mm=MM, method="map-em", study_id=["a", "b"])
    assert [one.id for one in found] == ["a", "b"]
    assert [one.mixture.sequences for one in found] == [SEQUENCES, ("LGE",)]
    assert mrigmm.segment([]) == []
    with pytest.raises(InputError) as caught:
        mrigmm.segment([{"LGE": 3}, {"LGE": np.full(SHAPE, np.nan)}, ARRAYS], spacing_mm=MM)
    assert [(p.study, p.what) for p in caught.value.problems] == [
        ("study_1", "LGE is no image"),
        ("study_2", "LGE has NaN or infinite voxels"),
    ]
    with pytest.raises(InputError, match="two studies have one name"):
        mrigmm.segment(images, [LV, LV], spacing_mm=MM, study_id=["a", "A"])
    with pytest.raises(InputError, match="region of several studies is a list"):
        mrigmm.segment([ARRAYS, ARRAYS], LV, spacing_mm=MM)


def test_a_method_that_learns_from_the_cohort_sees_all_studies():
    images = [{name: intensities(ventricle(), name, seed) for name in SEQUENCES} for seed in (0, 1)]
    found = mrigmm.segment(images, [LV, LV], spacing_mm=MM, method="em-gmm", overrides={"scope": "cohort"})
    np.testing.assert_allclose(found[0].mixture.means, found[1].mixture.means)


ONE = {"LGE": ARRAYS["LGE"]}
BAD = {
    "does not say how large": (ONE, {}),
    "three numbers above 0": (ONE, {"spacing_mm": (4.5, 4.5)}),
    "got: \\(4.5, 0, 10\\)": (ONE, {"spacing_mm": (4.5, 0, 10)}),
    "no matrix from voxel to mm": (ONE, {"affine": np.eye(3)}),
    "both say where": (ONE, {"affine": np.eye(4), "spacing_mm": MM}),
    "singular|independent": (ONE, {"affine": np.zeros((4, 4))}),
    "voxels of a size that no scanner gives": (ONE, {"spacing_mm": (0.0045, 0.0045, 0.01)}),
    "different shapes": ({**ONE, "T2": ARRAYS["T2"][:-1]}, {"spacing_mm": MM}),
    "LGE \\(16, 14, 3\\), region \\(16, 14, 2\\)": (ONE, {"region": LV[..., :2], "spacing_mm": MM}),
    "unknown class id": (ONE, {"region": LV * 7, "spacing_mm": MM}),
    "the region is empty": (ONE, {"region": LV * 0, "spacing_mm": MM}),
    "no whole numbers": (ONE, {"region": LV * 0.5, "spacing_mm": MM}),
    "remedy: name it LGE": ({"lge": ARRAYS["LGE"]}, {"spacing_mm": MM}),
    "not one volume of real numbers": ({"LGE": ARRAYS["LGE"] * 1j}, {"spacing_mm": MM}),
    "got: shape \\(1, 1, 16, 14, 3\\)": (
        {"LGE": ARRAYS["LGE"][None, None]},
        {"spacing_mm": MM, "region": None},
    ),
    "1 of 672 voxels are not finite": (
        {"LGE": np.where(np.arange(672).reshape(SHAPE) == 9, np.inf, 1.0)},
        {"spacing_mm": MM},
    ),
    "no sequence varies inside the region": ({"LGE": np.ones(SHAPE)}, {"spacing_mm": MM}),
    "672 masked": ({"LGE": np.ma.masked_array(ARRAYS["LGE"], True)}, {"spacing_mm": MM}),
    "a nibabel image with an affine": ({"LGE": nib.Nifti1Image(ARRAYS["LGE"], None)}, {}),
    "got: NoneType": (None, {}),
    "got: list": ({"LGE": [1, 2]}, {"spacing_mm": MM}),
    "no image was given": ({"LGE": None}, {}),
    "have no names": (ARRAYS["LGE"], {"spacing_mm": MM}),
    "there are none": ({"LGE": nib.Nifti1Image(ARRAYS["LGE"], PATIENT)}, {"spacing_mm": MM, "region": None}),
    "not on the grid of the reference": (
        {"LGE": nib.Nifti1Image(ARRAYS["LGE"], PATIENT)},
        {"region": LV[:-1]},
    ),
    "2 components": ({"LGE": sitk.GetImageFromArray(np.zeros((3, 4, 5, 2), np.float32), isVector=True)}, {}),
    "no leading dot": (ONE, {"spacing_mm": MM, "study_id": "../up"}),
    "a frame of 'T2' is named": (ONE, {"spacing_mm": MM, "frames": {"T2": 0}}),
    "frames=": ({"LGE": np.stack([ARRAYS["LGE"]] * 2, axis=-1)}, {"spacing_mm": MM}),
    "file does not exist": ({"LGE": "none.nii.gz"}, {}),
}


@pytest.mark.parametrize("told", BAD)
def test_bad_input_is_told_with_what_to_do(told):
    images, options = BAD[told]
    images = [images] if told == "have no names" else images
    with pytest.raises(InputError, match=told):
        mrigmm.segment(images, **({"region": LV, "method": "map-em"} | options))


def test_of_a_cine_the_frame_in_end_diastole_or_the_one_named():
    """Three frames; the second has the most blood in the region."""
    label = ventricle()
    contracted = np.where((label == 1) & (intensities(label, "T2", 3) > 30), 2, label)
    frames = [intensities(contracted, "bSSFP"), intensities(label, "bSSFP"), intensities(contracted, "bSSFP")]
    cine = np.stack(frames, axis=-1)
    found = mrigmm.segment({"bSSFP": cine}, LV, spacing_mm=MM, method="map-em")
    alone = mrigmm.segment({"bSSFP": frames[1]}, LV, spacing_mm=MM, method="map-em")
    np.testing.assert_array_equal(found.labels, alone.labels)
    assert found.labels.shape == SHAPE
    named = mrigmm.segment({"bSSFP": cine}, LV, spacing_mm=MM, method="map-em", frames={"bSSFP": 2})
    assert (named.labels == 1).sum() < (found.labels == 1).sum()


def test_a_second_call_does_not_read_the_networks_again(monkeypatch):
    read, real = [], networks.read_networks
    monkeypatch.setattr(networks, "read_networks", lambda *a: read.append(a) or real(*a))
    networks.shipped_networks.cache_clear()
    plane = {name: image[..., :1] for name, image in ARRAYS.items()}
    first, second = (mrigmm.segment(plane, LV[..., :1], spacing_mm=MM) for _ in range(2))
    assert len(read) == 1
    np.testing.assert_array_equal(first.labels, second.labels)
    assert {"probability", "threshold"} <= set(first.details["infarct"])
    assert 0 <= first.details["expected_dice"]["wall"] <= 1


@pytest.mark.gate
def test_the_ventricle_is_found_where_no_region_is_given():
    study = simulate_study(PRESETS["small"], seed=1, index=0)
    found = mrigmm.segment(study.sequences, affine=study.affines["LGE"])
    inside, truth = found.region > 0, study.label > 0
    assert 2 * (inside & truth).sum() / (inside.sum() + truth.sum()) > 0.8


def test_an_unforeseen_error_of_a_method_is_an_input_error(monkeypatch):
    def broken(self, study):
        raise RuntimeError("<b>no</b>")

    monkeypatch.setattr(EMGMM, "segment", broken)
    with pytest.raises(InputError, match="unexpected error"):
        mrigmm.segment(ARRAYS, LV, affine=oblique_affine(MM), method="em-gmm")
