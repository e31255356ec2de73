"""Which voxel size counts where a header names two; what ITK opens."""

import nibabel as nib
import numpy as np
import pytest
import SimpleITK as sitk  # noqa: N813 - its own name

from mrigmm.data.nifti_place import add_qform, itk_opens, placed
from mrigmm.errors import InputError, StudyFile

from ..conftest import oblique_affine

SHAPE = (20, 24, 3)
ONE_MM = (1.0, 1.0, 1.0)
SIZE = (1.2, 1.2, 10.0)
ML = 0.0144  # of a voxel of that size
FILE = StudyFile("s", "LGE")


def header(sform=None, qform=None, pixdim=None, unit=2, shape=SHAPE):
    """A header of forms with these voxel sizes (None: without); without a qform, pixdim is free."""
    found = nib.Nifti1Header()
    found.set_data_shape(shape)
    if qform is not None:
        found.set_qform(oblique_affine(qform), 1)
    if sform is not None:
        found.set_sform(oblique_affine(sform), 1)
    if pixdim is not None:
        found["pixdim"][1:4] = pixdim
    found["xyzt_units"] = unit
    return found


def place(**options):
    return placed(header(**options), FILE)


def refusal(**options):
    with pytest.raises(InputError) as error:
        place(**options)
    return error.value.problems[0]


@pytest.mark.parametrize(
    ("options", "taken"),
    [
        ({"sform": ONE_MM, "qform": SIZE}, "pixdim"),
        ({"sform": ONE_MM, "pixdim": SIZE}, "pixdim"),
        ({"sform": SIZE, "pixdim": ONE_MM}, "sform"),
        ({"sform": (1.5, 1.5, 8.0), "qform": SIZE}, "pixdim"),
        # One axis alone.
        ({"sform": (1.2, 1.2, 1.0), "pixdim": SIZE}, "pixdim"),
        ({"sform": SIZE, "pixdim": (1.2, 1.2, 1.0)}, "sform"),
        # One of them in another unit: the one counts that is a heart's, whatever agrees with it.
        ({"sform": SIZE, "qform": (0.12, 0.12, 1.0)}, "sform"),
        ({"sform": SIZE, "qform": (0.0012, 0.0012, 0.01)}, "sform"),
        ({"sform": (1200.0, 1200.0, 10000.0), "qform": SIZE}, "pixdim"),
        ({"sform": (0.12, 0.12, 1.0), "pixdim": SIZE}, "pixdim"),
    ],
)
def test_two_sizes_of_which_one_is_told(options, taken):
    found = place(**options)
    assert found.grid.voxel_volume_ml == pytest.approx(ML, rel=1e-5)
    np.testing.assert_allclose(found.grid.affine, oblique_affine(SIZE), rtol=1e-4, atol=1e-4)
    (warning,) = found.warnings
    assert warning.startswith(f"LGE has two voxel sizes in its header: 1.2 x 1.2 x 10 mm ({taken}) was taken")


@pytest.mark.parametrize(
    "options",
    [
        {"sform": SIZE, "pixdim": (1.5, 1.5, 8.0)},
        {"sform": SIZE, "qform": ONE_MM},  # a stale sform, or an empty qform
        {"sform": (1.2, 1.2, 8.0), "pixdim": SIZE},
    ],
)
def test_two_sizes_of_which_none_is_told(options):
    found = refusal(**options)
    assert found.what == "LGE has two voxel sizes in its header, and either may be right"
    assert "(sform)" in found.got
    assert "(pixdim" in found.got
    assert "PixelSpacing" in found.remedy


def test_what_is_within_one_percent_is_one_size():
    assert place(sform=(1.21, 1.2, 10.0), pixdim=SIZE).warnings == ()
    assert place(sform=(1.2, 1.2, 10.2), qform=SIZE).warnings


@pytest.mark.parametrize("said", [0.0, 1.0, np.nan])
def test_one_slice_has_the_thickness_that_is_said(said):
    # Along an axis of one voxel, 0 and 1 are no sizes.
    found = place(sform=SIZE, pixdim=(1.2, 1.2, said), shape=(20, 24, 1))
    assert found.warnings == ()
    assert found.grid.voxel_volume_ml == pytest.approx(ML, rel=1e-5)


def test_pixdim_of_sheared_axes_is_a_step_or_a_distance():
    affine = oblique_affine(SIZE)
    affine[:3, 2] += 4 * affine[:3, 0]  # steps of 11.09 mm between slices 10 mm apart
    for distance in (10.0, 11.09):
        found = header(sform=SIZE, pixdim=(1.2, 1.2, distance))
        found.set_sform(affine, 1)
        there = placed(found, FILE)
        assert there.warnings == ()
        assert there.grid.voxel_volume_ml == pytest.approx(ML, rel=1e-5)


@pytest.mark.parametrize(("unit", "factor"), [(1, 1e-3), (3, 1e3)])
def test_units(unit, factor):
    size = tuple(factor * mm for mm in SIZE)
    found = header(sform=size, qform=size, unit=unit)
    for form in ("sform", "qform"):  # the origin is a length, too
        affine = np.diag([factor, factor, factor, 1]) @ oblique_affine(SIZE)
        getattr(found, f"set_{form}")(affine, 1)
    there = placed(found, FILE)
    np.testing.assert_allclose(there.grid.affine, oblique_affine(SIZE), rtol=1e-4, atol=1e-4)
    assert "as its header says: voxels of 1.2 x 1.2 x 10 mm" in there.warnings[0]


def test_cm_are_no_mm():
    cm = (0.12, 0.12, 1.0)
    found = refusal(sform=cm, qform=cm, unit=0)
    assert found.what == "LGE has lengths that look like cm"
    assert "multiply the affine by 10" in found.remedy
    assert "small animal" in found.remedy
    # A header that says mm may be a mouse's.
    (warning,) = place(sform=cm, qform=cm, unit=2).warnings
    assert "if these are cm, volumes and masses are 1000 times too small" in warning


def test_other_readings_of_the_header_are_known():
    found = place(sform=ONE_MM, qform=SIZE).grid
    alone = place(sform=ONE_MM).grid
    assert found.same_as(alone)
    assert alone.same_as(found)
    assert not place(sform=SIZE, pixdim=SIZE).grid.same_as(alone)
    assert alone.measured_by(found) is found
    assert found.measured_by(alone) is found


def test_without_codes_itk_puts_the_first_voxel_at_0():
    found = header(pixdim=SIZE)
    there = placed(found, FILE).grid
    itk = header(sform=SIZE)
    itk.set_sform(np.diag([-1.2, -1.2, 10, 1]), 1)
    assert there.same_as(placed(itk, FILE).grid)


def seen_by_itk(found, folder):
    nib.Nifti1Image(np.zeros(SHAPE, np.uint8), None, found).to_filename(folder / "a.nii")
    return sitk.ReadImage(str(folder / "a.nii"))


def test_itk_opens_what_is_said_to_open(tmp_path):
    random = np.random.default_rng(0)
    refused = 0
    for _ in range(60):
        found = header(sform=SIZE)
        affine = oblique_affine(SIZE)
        affine[:3, :3] += random.uniform(-1, 1, (3, 3)) * random.choice([2e-5, 1e-4]) * np.array(SIZE)
        found.set_sform(affine, 1)
        found["pixdim"][1:4] = SIZE
        try:
            seen_by_itk(found, tmp_path)
            opened = True
        except RuntimeError:
            opened = False
        assert itk_opens(found) is opened
        refused += not opened
    assert 10 < refused < 50


def test_a_qform_is_added_for_itk(tmp_path):
    found = header(sform=SIZE, pixdim=SIZE)
    affine = oblique_affine(SIZE)
    affine[:3, :3] = np.round(affine[:3, :3], 2)
    found.set_sform(affine, 2)
    assert not itk_opens(found)
    grid = placed(found, FILE).grid
    add_qform(found, grid)
    assert itk_opens(found)
    np.testing.assert_array_equal(found.get_sform(), affine.astype(np.float32))
    assert found.get_qform(coded=True)[1] == 2
    image = seen_by_itk(found, tmp_path)
    np.testing.assert_allclose(image.GetSpacing(), grid.spacing_mm, rtol=1e-5)
    assert placed(found, FILE).grid.same_as(grid)
