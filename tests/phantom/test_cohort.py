import json
from dataclasses import replace

import nibabel as nib
import numpy as np
import pytest
import SimpleITK

from mrigmm.errors import InputError
from mrigmm.phantom import simulate_cohort, simulate_study
from mrigmm.phantom.config import PRESETS


@pytest.fixture(scope="module")
def cohort(tmp_path_factory):
    folder = tmp_path_factory.mktemp("cohort") / "new"
    return simulate_cohort(folder, n_studies=4, seed=3, preset="small")


def _files(folder):
    return {str(p.relative_to(folder)): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


def test_manifest_names_existing_files_and_splits_by_study(cohort):
    manifest = json.loads(cohort.read_text())
    assert manifest["modality"] == {"0": "LGE", "1": "T2", "2": "bSSFP"}
    assert manifest["labels"] == {"background": 0, "blood": 1, "myocardium": 2, "edema": 3, "scar": 4}
    assert len(manifest["training"]) == 3
    assert len(manifest["test"]) == 1
    entries = manifest["training"] + manifest["test"]
    assert len({entry["id"] for entry in entries}) == 4
    for entry in entries:
        for relative in (*entry["image"].values(), entry["region"], entry["label"]):
            assert (cohort.parent / relative).is_file()


def test_files_hold_the_simulated_study(cohort):
    study = simulate_study(PRESETS["small"], seed=3, index=2)
    image = nib.load(cohort.parent / "images/study_002_T2.nii.gz")
    assert image.get_data_dtype() == np.int16
    np.testing.assert_allclose(image.get_fdata(), study.sequences["T2"], atol=0.5)
    np.testing.assert_allclose(image.affine, study.affines["T2"], atol=1e-4)
    assert image.header["qform_code"] == image.header["sform_code"] == 1
    label = nib.load(cohort.parent / "labels/study_002.nii.gz")
    np.testing.assert_array_equal(np.asarray(label.dataobj), study.label)


def test_simple_itk_reads_the_same_geometry(cohort):
    path = cohort.parent / "images/study_000_LGE.nii.gz"
    itk, affine = SimpleITK.ReadImage(str(path)), nib.load(path).affine
    assert itk.GetSpacing() == pytest.approx((1.5, 1.5, 10.0), abs=1e-4)
    corner = np.array(itk.TransformIndexToPhysicalPoint((5, 9, 1))) * (-1, -1, 1)  # LPS to RAS
    np.testing.assert_allclose(corner, (affine @ [5, 9, 1, 1])[:3], atol=1e-3)


def test_truth_lies_beside_the_images(cohort):
    truth = json.loads((cohort.parent / "truth/study_001.json").read_text())
    assert truth["infarct"]["kind"] in {"none", "acute", "chronic"}
    assert np.shape(truth["motion_mm"]["T2"]) == (3, 2)
    assert np.shape(truth["mixture"]["means"]) == (4, 3)
    assert (cohort.parent / "truth/study_001_rv_blood.nii.gz").is_file()
    origin = json.loads((cohort.parent / "truth/cohort.json").read_text())
    assert origin["seed"] == 3


def test_same_seed_same_bytes(cohort, tmp_path):
    again = simulate_cohort(tmp_path / "again", n_studies=4, seed=3, preset="small")
    assert _files(again.parent) == _files(cohort.parent)
    other = simulate_cohort(tmp_path / "other", n_studies=4, seed=4, preset="small")
    assert (
        _files(other.parent)["images/study_000_LGE.nii.gz"]
        != _files(cohort.parent)["images/study_000_LGE.nii.gz"]
    )


def test_two_studies_give_one_test_study_and_one_study_none(tmp_path):
    for count, expected in ((2, 1), (1, 0)):
        path = simulate_cohort(tmp_path / str(count), n_studies=count, seed=0, preset="small", test_share=0.1)
        manifest = json.loads(path.read_text())
        assert (len(manifest["training"]), len(manifest["test"])) == (count - expected, expected)


def test_missing_sequences_are_absent_from_the_manifest(tmp_path, monkeypatch):

    monkeypatch.setitem(PRESETS, "gaps", replace(PRESETS["small"], missing_probability=1.0))
    path = simulate_cohort(tmp_path / "gaps", n_studies=2, seed=0, preset="gaps")
    manifest = json.loads(path.read_text())
    assert [list(entry["image"]) for entry in manifest["training"]] == [["LGE"]]
    assert not list(path.parent.glob("images/*_T2.nii.gz"))


def test_progress_is_reported_once_per_study(tmp_path):
    seen = []

    def track(iterable, description, total):
        for item in iterable:
            seen.append((item, description, total))
            yield item

    simulate_cohort(tmp_path / "tracked", n_studies=2, seed=0, preset="small", track=track)
    assert [item for item, _, _ in seen] == [0, 1]
    assert seen[0][2] == 2


def test_region_kind_reaches_the_files(tmp_path):
    path = simulate_cohort(tmp_path / "split", n_studies=1, seed=0, preset="small", region="cavity-wall")
    region = np.asarray(nib.load(path.parent / "regions/study_000.nii.gz").dataobj)
    assert set(np.unique(region)) == {0, 1, 2}


def test_refuses_a_folder_that_is_not_empty(tmp_path):
    (tmp_path / "mine.txt").write_text("keep")
    with pytest.raises(InputError, match="empty folder"):
        simulate_cohort(tmp_path, n_studies=1, seed=0, preset="small")
    assert [path.name for path in tmp_path.iterdir()] == ["mine.txt"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"preset": "smal"}, "did you mean small"),
        ({"n_studies": 0}, "1 study or more"),
        ({"test_share": 1.0}, "test share"),
    ],
)
def test_refuses_what_it_cannot_simulate(tmp_path, arguments, message):
    with pytest.raises(InputError, match=message):
        simulate_cohort(tmp_path / "x", **({"n_studies": 1, "seed": 0, "preset": "small"} | arguments))
    assert not (tmp_path / "x").exists()
