import json
import os
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from mrigmm.errors import InputError
from mrigmm.phantom import PRESETS, simulate_cohort
from mrigmm.phantom.semi_real import read_hearts, simulate_semi_real
from mrigmm.phantom.shape import Tissue

DATA = Path(os.environ.get("MRIGMM_REAL_DATA", Path(__file__).parents[3] / "shared" / "data"))
SIZE, SPACING = 96, 1.4


def _write_patient(folder, *, apex_first):
    """A round heart with a bright right ventricle at negative x; slices shrink to the apex."""
    x, y = np.meshgrid(np.arange(SIZE), np.arange(SIZE), indexing="ij")
    label = np.zeros((SIZE, SIZE, 5), dtype=np.uint8)
    frame = np.full(label.shape, 10, dtype=np.int16)
    for z, cavity in enumerate((16, 15, 13, 10)):
        radius = np.hypot(x - 52, y - 44)
        rv = np.hypot(x - 24, y - 44) < 16
        frame[rv, z] = 190
        label[radius < cavity + 8, z], frame[radius < cavity + 8, z] = 2, 80
        label[radius < cavity, z], frame[radius < cavity, z] = 1, 200
    label[..., 4][label[..., 3] == 1] = 1  # no epicardium: not usable
    if apex_first:
        label, frame = label[..., ::-1], frame[..., ::-1]
    affine = np.diag([-SPACING, -SPACING, 9.0, 1.0])
    nib.save(nib.Nifti1Image(frame, affine), folder / "P1_ED.nii.gz")
    nib.save(nib.Nifti1Image(label, affine), folder / "P1_ED_label.nii.gz")


@pytest.fixture(params=[False, True], ids=["base-first", "apex-first"])
def patients(tmp_path, request):
    _write_patient(tmp_path, apex_first=request.param)
    return tmp_path


def test_heart_takes_contours_orientation_and_usable_slices(patients):
    (heart,) = read_hearts(patients)
    assert heart.tissue.shape == (SIZE, SIZE, 4)
    heights, area = np.array(heart.grid.heights_mm), (heart.tissue == Tissue.BLOOD).sum(axis=(0, 1))
    assert area[heights.argmin()] > area[heights.argmax()]  # base above apex
    assert sorted(heights) == [0.0, 9.0, 18.0, 27.0]
    # the right ventricle lies at angle pi, and the wall runs from depth 0 to 1
    assert np.cos(heart.angle[30, 44]).max() < -0.95
    wall = heart.tissue == Tissue.MYOCARDIUM
    assert heart.depth[wall].min() < 0.15
    assert heart.depth[wall].max() > 0.85
    assert (heart.tissue[20, 44] == Tissue.RV_BLOOD).all()


def test_first_used_slice_keeps_its_place_in_the_world(patients):
    (heart,) = read_hearts(patients)
    file = nib.load(patients / "P1_ED.nii.gz")
    data = file.get_fdata()
    index = np.linalg.inv(file.affine) @ heart.affine @ [0, 0, 0, 1]
    np.testing.assert_array_equal(heart.frame[..., 0], data[..., round(index[2])])


def test_study_keeps_the_real_frame_and_contours(patients):
    (heart,) = read_hearts(patients)
    study = simulate_semi_real(heart, PRESETS["myops-like"], seed=1, index=0)
    assert set(study.sequences) == {"LGE", "T2", "bSSFP"}
    np.testing.assert_array_equal(study.sequences["bSSFP"], heart.frame)
    np.testing.assert_array_equal(study.label == 1, heart.tissue == Tissue.BLOOD)
    np.testing.assert_array_equal(study.label > 1, heart.tissue == Tissue.MYOCARDIUM)
    assert (study.label == 4).any()
    assert study.mixture.sequences == ("LGE", "T2")
    assert study.mixture.covariances.shape == (4, 2, 2)
    lge = study.sequences["LGE"]
    assert lge[study.label == 4].mean() > 1.3 * lge[study.label == 2].mean()


def test_cohort_uses_the_hearts_in_turn(patients, tmp_path):
    path = simulate_cohort(
        tmp_path / "cohort", n_studies=2, seed=1, preset="myops-like", anatomy_dir=patients
    )
    labels = [np.asarray(nib.load(p).dataobj) for p in sorted((path.parent / "labels").iterdir())]
    np.testing.assert_array_equal(labels[0] > 0, labels[1] > 0)
    assert (labels[0] != labels[1]).any()
    assert json.loads((path.parent / "truth/cohort.json").read_text())["anatomy"] == "real"


def test_refuses_a_folder_without_patients_or_contours(tmp_path):
    with pytest.raises(InputError, match="no real anatomy"):
        read_hearts(tmp_path)
    _write_patient(tmp_path, apex_first=False)
    (tmp_path / "P1_ED_label.nii.gz").unlink()
    with pytest.raises(InputError, match="P1_ED_label"):
        read_hearts(tmp_path)


@pytest.mark.real
def test_sunnybrook_hearts_make_studies():
    folder = DATA / "sunnybrook_hfi_cc0"
    if not folder.is_dir():
        pytest.skip(f"real data are not at {folder}; set MRIGMM_REAL_DATA")
    for index, heart in enumerate(read_hearts(folder)):
        study = simulate_semi_real(heart, PRESETS["myops-like"], seed=1, index=index)
        assert set(np.unique(study.label)) == {0, 1, 2, 3, 4}
        blood, wall = (study.sequences["bSSFP"][study.label == k].mean() for k in (1, 2))
        assert blood > 1.3 * wall
