"""The label map lies on exactly the input's grid, as nibabel and SimpleITK read it."""

import nibabel as nib
import numpy as np
import pytest
import SimpleITK as sitk  # noqa: N813 - its own name

from mrigmm.data.study_tensors import OutputGrid
from mrigmm.data.volumes import read_image
from mrigmm.export.nifti import write_labels, write_probabilities

from ..conftest import oblique_affine, save_nifti

# Name -> shape, affine, options of `save_nifti`.
FILES = {
    "oblique LPS 1.2 x 1.2 x 10 mm": ((16, 14, 3), oblique_affine(), {}),
    "oblique RAS": ((16, 14, 3), oblique_affine(flips=(1, 1, 1)), {}),
    "oblique left-handed": ((16, 14, 3), oblique_affine(flips=(-1, 1, 1)), {}),
    "slices first": ((3, 16, 14), oblique_affine((10, 1.2, 1.2), order=(2, 0, 1)), {}),
    "1 slice": ((16, 14, 1), oblique_affine(), {}),
    "2 slices": ((16, 14, 2), oblique_affine(), {}),
    "4 slices": ((16, 14, 4), oblique_affine(), {}),
    "5 slices": ((16, 14, 5), oblique_affine(), {}),
    "NIfTI-2": ((16, 14, 3), oblique_affine(), {"nifti2": True}),
    "2-D": ((16, 14), oblique_affine(), {}),
    "4-D with one frame": ((16, 14, 3, 1), oblique_affine(), {}),
    "qform only": ((16, 14, 3), oblique_affine(), {"sform_code": 0}),
    "sform only": ((16, 14, 3), oblique_affine(), {"qform_code": 0}),
    "codes 2 and 4": ((16, 14, 3), oblique_affine(), {"qform_code": 2, "sform_code": 4}),
    "neither": ((16, 14, 3), np.diag([1.2, 1.2, 10, 1]), {"qform_code": 0, "sform_code": 0}),
}


def seen_by_simpleitk(path):
    """What SimpleITK reads; its builds do not all know NIfTI-2, whatever wrote the file."""
    try:
        return sitk.ReadImage(str(path))
    except RuntimeError as error:
        if nib.load(path).header["sizeof_hdr"] == 540 and "Unable to determine ImageIO" in str(error):
            pytest.skip("this build of SimpleITK reads no NIfTI-2")
        raise


@pytest.fixture(params=FILES, ids=lambda name: name.replace(" ", "-"))
def source(request, tmp_path):
    """A reference file of 16-bit intensities with slope, and its reader's view."""
    shape, affine, options = FILES[request.param]
    data = np.random.default_rng(0).integers(0, 900, shape).astype(np.int16)
    path = save_nifti(tmp_path / "in.nii.gz", data, affine, **options)
    image = nib.load(path)
    image.header.set_slope_inter(0.25, 7)
    image.header["cal_max"] = 500
    image.header["descrip"] = b"Doe, Jane"
    image.header["aux_file"] = b"Doe, Jane"
    image.header.extensions.append(nib.nifti1.Nifti1Extension("comment", b"Doe, Jane"))
    nib.save(image, path)
    volume = read_image(path, study="s", role="LGE")
    return path, OutputGrid(volume.grid, volume.header, volume.stored_shape, path)


def labels_for(output):
    return np.random.default_rng(1).integers(0, 5, output.grid.shape).astype(np.uint8)


def test_nibabel_sees_the_grid_of_the_input(source, tmp_path):
    path, output = source
    labels = labels_for(output)
    write_labels(tmp_path / "out.nii.gz", labels, output)
    before, after = nib.load(path), nib.load(tmp_path / "out.nii.gz")
    assert type(after) is type(before)
    assert after.shape == before.shape
    np.testing.assert_array_equal(after.affine, before.affine)
    for form in ("qform", "sform"):
        old, old_code = getattr(before, f"get_{form}")(coded=True)
        new, new_code = getattr(after, f"get_{form}")(coded=True)
        assert new_code == old_code
        np.testing.assert_array_equal(new, old)
    np.testing.assert_array_equal(after.header["pixdim"][:4], before.header["pixdim"][:4])
    assert after.header.get_xyzt_units() == before.header.get_xyzt_units()
    np.testing.assert_array_equal(np.asarray(after.dataobj).reshape(labels.shape), labels)


def test_simpleitk_sees_the_grid_of_the_input(source, tmp_path):
    path, output = source
    labels = labels_for(output)
    write_labels(tmp_path / "out.nii.gz", labels, output)
    before, after = seen_by_simpleitk(path), seen_by_simpleitk(tmp_path / "out.nii.gz")
    for what in ("GetSize", "GetSpacing", "GetOrigin", "GetDirection"):
        assert getattr(after, what)() == getattr(before, what)(), what
    assert after.GetPixelID() == sitk.sitkUInt8
    array = np.transpose(sitk.GetArrayFromImage(after))
    np.testing.assert_array_equal(array.reshape(labels.shape), labels)


def test_the_header_is_that_of_a_label_map(source, tmp_path):
    _, output = source
    write_labels(tmp_path / "out.nii.gz", labels_for(output), output)
    header = nib.load(tmp_path / "out.nii.gz").header
    assert header.get_data_dtype() == np.uint8
    assert header.get_slope_inter() in ((None, None), (1.0, 0.0))  # no scaling
    assert int(header["intent_code"]) == 1002  # NIFTI_INTENT_LABEL
    assert float(header["cal_max"]) == 0
    assert b"clinical" in bytes(header["descrip"])


def test_no_text_of_the_input_is_passed_on(source, tmp_path):
    _, output = source
    write_labels(tmp_path / "out.nii", labels_for(output), output)
    assert b"Doe" not in (tmp_path / "out.nii").read_bytes()


def test_probabilities_are_one_volume_per_class(source, tmp_path):
    path, output = source
    resp = np.random.default_rng(2).random((4, *output.grid.shape)).astype(np.float32)
    write_probabilities(tmp_path / "out.nii.gz", resp, output)
    after = nib.load(tmp_path / "out.nii.gz")
    assert after.shape == (*output.grid.shape, 4)
    assert after.get_data_dtype() == np.float32
    np.testing.assert_array_equal(after.affine, nib.load(path).affine)
    np.testing.assert_array_equal(np.moveaxis(np.asarray(after.dataobj), -1, 0), resp)
    seen = seen_by_simpleitk(tmp_path / "out.nii.gz")
    assert seen.GetSize() == (*output.grid.shape, 4)
    np.testing.assert_allclose(seen.GetSpacing()[:3], output.grid.spacing_mm, rtol=1e-5)


def test_the_input_and_its_header_are_untouched(source, tmp_path):
    path, output = source
    before, header = path.read_bytes(), output.header.copy()
    write_labels(tmp_path / "out.nii.gz", labels_for(output), output)
    assert path.read_bytes() == before
    assert output.header == header


def test_a_sheared_grid_is_kept_for_nibabel(tmp_path):
    affine = oblique_affine()
    affine[:3, 2] += 4 * affine[:3, 0]
    path = tmp_path / "in.nii"
    image = nib.Nifti1Image(np.ones((16, 14, 3), np.float32), affine)
    image.header.set_qform(None, 0)
    nib.save(image, path)
    volume = read_image(path, study="s", role="LGE")
    write_labels(
        tmp_path / "out.nii",
        np.ones((16, 14, 3), np.uint8),
        OutputGrid(volume.grid, volume.header, volume.stored_shape, path),
    )
    np.testing.assert_array_equal(nib.load(tmp_path / "out.nii").affine, nib.load(path).affine)
