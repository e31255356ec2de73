import json

import nibabel as nib
import numpy as np
import pytest

from mrigmm.errors import InputError
from mrigmm.jobs.evaluate import evaluate
from mrigmm.jobs.predict import predict, predict_study

from ..conftest import SPACING_MM, oblique_affine

VOXEL_ML = float(np.prod(SPACING_MM)) / 1000
SHAPE = (40, 38, 2)


def entry(workshop, *, core=True):
    """A wide wall with a bright infarct and a dark core at the cavity; ids of EMIDEC in the label."""
    x, y = np.meshgrid(*(np.arange(n) - (n - 1) / 2 for n in SHAPE[:2]), indexing="ij")
    radius, angle = np.hypot(x, y), np.arctan2(y, x)
    plane = np.select([radius <= 8, radius <= 17], [1, 2], 0)
    plane[(plane == 2) & (abs(angle) < 1.2)] = 3
    if core:
        plane[(plane == 3) & (radius < 13.5) & (abs(angle) < 0.6)] = 4
    label = np.repeat(plane[..., None], SHAPE[2], axis=2).astype(np.uint8)
    lge = np.array([40, 160, 30, 240, 25])[label] + np.random.default_rng(0).normal(0, 3, SHAPE)
    files = {"LGE": lge.astype(np.float32), "label": label,
             "region": np.where(label == 1, 1, np.where(label > 1, 2, 0)).astype(np.uint8)}  # fmt: skip
    for name, data in files.items():
        workshop.volume(f"s1_{name}.nii.gz", data, oblique_affine())
    study = {"id": "s1", "image": {"LGE": "s1_LGE.nii.gz"}, "region": "s1_region.nii.gz",
             "label": "s1_label.nii.gz"}  # fmt: skip
    return workshop.manifest([study], labels="emidec", modality={"0": "LGE"}), label == 4


def test_predict_writes_the_mask_and_evaluate_compares_it(cli, workshop, tmp_path):
    manifest, core = entry(workshop)
    out = tmp_path / "out"
    done = cli("predict", manifest, "-o", out, "--method", "otsu")
    assert done.code == 0, done.err
    image = nib.load(out / "s1_mvo.nii.gz")
    assert image.get_data_dtype() == np.uint8
    np.testing.assert_allclose(image.affine, oblique_affine(), atol=1e-5)
    np.testing.assert_array_equal(np.asarray(image.dataobj), core)
    labels = np.asarray(nib.load(out / "s1_labels.nii.gz").dataobj)
    assert (labels[core] == 4).all()
    side = json.loads((out / "s1.json").read_text())
    assert side["volume_ml"]["mvo"] == pytest.approx(core.sum() * VOXEL_ML)
    assert side["volume_ml"]["scar"] == pytest.approx((labels == 4).sum() * VOXEL_ML)
    assert cli("evaluate", out, manifest).code == 0
    found = json.loads((out / "metrics.json").read_text())["studies"]["s1"]
    assert found["mvo"]["dice"] == found["mvo"]["iou"] == 1
    assert found["scar"]["dice"] > 0.99
    assert cli("report", out).code == 0


def test_a_study_without_a_core_counts_as_a_correct_negative(workshop, tmp_path):
    manifest, _ = entry(workshop, core=False)
    predict(manifest, tmp_path / "out", method="otsu")
    assert evaluate(tmp_path / "out", manifest).summary["mvo"].correct_negative_studies == 1


def test_a_mask_of_an_earlier_run_does_not_stay(workshop, tmp_path):
    manifest, _ = entry(workshop)
    out = tmp_path / "out"
    predict(manifest, out, method="otsu")
    predict(manifest, out, method="otsu", mvo=False, overwrite=True)
    assert not (out / "s1_mvo.nii.gz").exists()
    assert "mvo" not in json.loads((out / "s1.json").read_text())["volume_ml"]
    assert "mvo" not in evaluate(out, manifest).studies["s1"]


def test_a_single_study_and_a_file_in_the_way(workshop, tmp_path):
    entry(workshop)
    files = {"LGE": workshop.folder / "s1_LGE.nii.gz"}, workshop.folder / "s1_region.nii.gz"
    out = tmp_path / "out"
    out.mkdir()
    (out / "s1_mvo.nii.gz").touch()
    with pytest.raises(InputError, match="already there"):
        predict_study(*files, out, study_id="s1", method="otsu")
    predict_study(*files, out, study_id="s1", method="otsu", overwrite=True)
    assert np.asarray(nib.load(out / "s1_mvo.nii.gz").dataobj).any()


def test_classes_without_scar_have_none(workshop, tmp_path):
    predict(workshop.manifest(), tmp_path / "out", method="map-em", classes=["blood", "myocardium", "edema"])
    assert not [*(tmp_path / "out").glob("*_mvo.nii.gz")]
