import gzip
import re
import struct

import nibabel as nib
import numpy as np
import pytest

from mrigmm.data.volumes import read_image, read_map
from mrigmm.errors import InputError

from ..conftest import SHAPE, oblique_affine, save_nifti

DATA = np.arange(np.prod(SHAPE), dtype=np.float32).reshape(SHAPE)
# Offsets of header fields in NIfTI-1.
DIM, DATATYPE, VOX_OFFSET, SCL_SLOPE, XYZT_UNITS, SROW_X = 40, 70, 108, 112, 123, 280


@pytest.fixture
def path(tmp_path):
    return save_nifti(tmp_path / "a.nii.gz", DATA, oblique_affine())


def patched(path, offset, pattern, *values):
    raw = bytearray(gzip.decompress(path.read_bytes()))
    struct.pack_into(pattern, raw, offset, *values)
    path.write_bytes(gzip.compress(bytes(raw)))


def refusal(path, message, read=read_image, **options):
    with pytest.raises(InputError, match=re.escape(message)) as caught:
        read(path, study="p1", role="LGE", **options)
    (problem,) = caught.value.problems
    assert (problem.study, problem.file) == ("p1", str(path))
    assert problem.remedy
    return problem


def test_values_and_grid(path):
    volume = read_image(path, study="p1", role="LGE")
    np.testing.assert_array_equal(volume.data, DATA)
    assert volume.data.dtype == np.float32
    np.testing.assert_allclose(volume.grid.affine, oblique_affine(), atol=1e-5)
    assert volume.stored_shape == volume.grid.shape == SHAPE


@pytest.mark.parametrize("name", ["a.nii", "a.nii.gz", "A.NII.GZ", "b.c.nii"])
@pytest.mark.parametrize("nifti2", [False, True])
def test_names_and_versions(tmp_path, name, nifti2):
    path = save_nifti(tmp_path / name, DATA, oblique_affine(), nifti2=nifti2)
    np.testing.assert_array_equal(read_image(path, study="p1", role="LGE").data, DATA)


@pytest.mark.parametrize(
    ("stored", "read"),
    [((16, 14), (16, 14, 1)), ((16, 14, 3, 1), (16, 14, 3)), ((16, 14, 1, 1, 1), (16, 14, 1))],
)
def test_two_and_four_dimensions_become_three(tmp_path, stored, read):
    data = np.arange(np.prod(stored), dtype=np.int16).reshape(stored)
    volume = read_image(save_nifti(tmp_path / "a.nii", data, oblique_affine()), study="p1", role="LGE")
    assert (volume.stored_shape, volume.grid.shape) == (stored, read)
    np.testing.assert_array_equal(volume.data, data.reshape(read))


def test_a_frame_of_a_series(tmp_path):
    data = np.arange(16 * 14 * 3 * 4, dtype=np.float32).reshape(16, 14, 3, 4)
    data[0, 0, 0, 1] = np.nan  # of no interest unless that frame is taken
    path = save_nifti(tmp_path / "a.nii.gz", data, oblique_affine())
    volume = read_image(path, study="p1", role="bSSFP", frame=2)
    np.testing.assert_array_equal(volume.data, data[..., 2])
    assert (volume.frame, volume.stored_shape, volume.grid.shape) == (2, (16, 14, 3), (16, 14, 3))
    asked = []

    def choose(frames, grid):
        asked.append((frames.shape, grid.shape))
        return 3

    volume = read_image(path, study="p1", role="bSSFP", choose_frame=choose)
    np.testing.assert_array_equal(volume.data, data[..., 3])
    assert (volume.frame, asked) == (3, [((16, 14, 3, 4), (16, 14, 3))])
    refusal(path, "NaN", frame=1)
    problem = refusal(path, "LGE has no frame 4", frame=4)
    assert problem.expected == "a frame from 0 to 3"
    refusal(path, "is not one volume", read_map)


def test_a_file_without_frames_has_the_first_only(path):
    assert read_image(path, study="p1", role="LGE", frame=0).frame is None
    assert read_image(path, study="p1", role="LGE", choose_frame=lambda *_: 7).frame is None
    refusal(path, "LGE has no frame 1", frame=1)


def test_an_offset_of_0_means_behind_the_header(path):
    patched(path, VOX_OFFSET, "<f", 0)
    np.testing.assert_array_equal(read_image(path, study="p1", role="LGE").data, DATA)


def test_slope_and_intercept_are_applied(tmp_path):
    image = nib.Nifti1Image(np.array([[[1, 2], [3, 4]]], dtype=np.int16), oblique_affine())
    image.header.set_slope_inter(0.5, 10)
    raw = bytearray(image.to_bytes())
    struct.pack_into("<2f", raw, SCL_SLOPE, 0.5, 10)
    (tmp_path / "a.nii").write_bytes(raw)
    volume = read_image(tmp_path / "a.nii", study="p1", role="LGE")
    np.testing.assert_array_equal(volume.data.ravel(), [10.5, 11, 11.5, 12])


def test_big_endian_files(tmp_path):
    image = nib.Nifti1Image(DATA.astype(">f4"), oblique_affine(), nib.Nifti1Header(endianness=">"))
    nib.save(image, tmp_path / "a.nii")
    volume = read_image(tmp_path / "a.nii", study="p1", role="LGE")
    np.testing.assert_array_equal(volume.data, DATA)
    assert volume.data.dtype.isnative


def test_missing(tmp_path):
    refusal(tmp_path / "no.nii", "the LGE file does not exist")
    (tmp_path / "folder.nii").mkdir()
    refusal(tmp_path / "folder.nii", "LGE is not a file")
    refusal(tmp_path / ("x" * 300 + ".nii"), "cannot be read")


@pytest.mark.parametrize(("others", "remedy"), [(["t2.nii.gz"], "copy the file"), ([], "--data-root")])
def test_the_remedy_for_a_missing_file_depends_on_what_else_is_there(tmp_path, others, remedy):
    for name in others:
        (tmp_path / name).touch()
    with pytest.raises(InputError) as caught:
        read_image(tmp_path / "lge.nii.gz", study="p1", role="LGE")
    assert remedy in (caught.value.problems[0].remedy or "")


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("a.nii", b""),
        ("a.nii.gz", b""),
        ("a.nii.gz", gzip.compress(b"", mtime=0)),
        ("a.nii", b"hello world " * 100),
        ("a.nii.gz", b"hello world " * 100),
        ("a.nii.gz", gzip.compress(b"hello world " * 100, mtime=0)),
        ("a.mha", b"ObjectType = Image"),
        ("a.dcm", b"\0" * 128 + b"DICM"),
        ("a.hdr", b"\0" * 348),
    ],
)
def test_not_nifti(tmp_path, name, content):
    (tmp_path / name).write_bytes(content)
    problem = refusal(tmp_path / name, "the LGE file is not a NIfTI file")
    assert problem.expected == "a NIfTI-1 or NIfTI-2 file (.nii or .nii.gz)"


def test_the_header_of_a_pair_is_no_single_file(tmp_path):
    pair = nib.Nifti1Pair(DATA, oblique_affine())
    nib.save(pair, tmp_path / "a.img")
    refusal(tmp_path / "a.img", "the LGE file is not a NIfTI file")


@pytest.mark.parametrize("kept", [0.5, 0.9, 0.999])
def test_truncated_gzip(tmp_path, kept):
    # Noise, so that the data are most of the compressed bytes.
    noise = np.random.default_rng(0).normal(size=(32, 32, 4)).astype(np.float32)
    path = save_nifti(tmp_path / "a.nii.gz", noise, oblique_affine())
    whole = path.read_bytes()
    path.write_bytes(whole[: int(kept * len(whole))])
    assert refusal(path, "the LGE file is damaged").expected == "a complete NIfTI file"


def test_data_that_end_early(path):
    whole = gzip.decompress(path.read_bytes())
    path.write_bytes(gzip.compress(whole[:-1]))
    refusal(path, "the LGE file is damaged")


def test_a_flipped_bit_in_the_gzip_stream(tmp_path):
    noise = np.random.default_rng(0).normal(size=(32, 32, 4)).astype(np.float32)
    path = save_nifti(tmp_path / "a.nii.gz", noise, oblique_affine())
    raw = bytearray(path.read_bytes())
    raw[len(raw) // 2] ^= 0x10
    path.write_bytes(raw)
    refusal(path, "the LGE file is damaged")


@pytest.mark.parametrize(
    ("shape", "got"), [((4, 4, 2, 2), "(4, 4, 2, 2)"), ((4, 4, 1, 1, 3), "(4, 4, 1, 1, 3)"), ((4,), "(4,)")]
)
def test_not_one_volume(tmp_path, shape, got):
    path = save_nifti(tmp_path / "a.nii", np.ones(shape, np.float32), oblique_affine())
    assert refusal(path, "LGE is not one volume").got == f"shape {got}"


@pytest.mark.parametrize(
    "dims", [(3, 0, 14, 3, 1, 1, 1, 1), (3, -1, 14, 3, 1, 1, 1, 1), (3, *[32767] * 3, *[1] * 4)]
)
def test_impossible_dimensions(path, dims):
    patched(path, DIM, "<8h", *dims)
    with pytest.raises(InputError):
        read_image(path, study="p1", role="LGE")


@pytest.mark.parametrize("dtype", [np.complex64, np.complex128])
def test_complex_voxels(tmp_path, dtype):
    path = save_nifti(tmp_path / "a.nii", DATA.astype(dtype), oblique_affine())
    assert "complex" in str(refusal(path, "no single real numbers").got)


@pytest.mark.parametrize("channels", ["RGB", "RGBA"])
def test_colour_voxels(tmp_path, channels):
    data = np.zeros(SHAPE, dtype=[(c, "u1") for c in channels])
    path = save_nifti(tmp_path / "a.nii", data, oblique_affine())
    assert "RGB" in str(refusal(path, "no single real numbers").got)


def test_unknown_data_type(path):
    patched(path, DATATYPE, "<h", 999)
    refusal(path, "not a NIfTI file")


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_voxels_that_are_no_numbers(tmp_path, value):
    data = DATA.copy()
    data[0, 0, 0] = data[5, 5, 1] = value
    path = save_nifti(tmp_path / "a.nii", data, oblique_affine())
    assert refusal(path, "LGE has NaN or infinite voxels").got == "2 of 672 voxels are not finite"


def test_intensities_that_would_overflow(tmp_path):
    data = DATA.astype(np.float64)
    data[0, 0, 0] = -1e31
    path = save_nifti(tmp_path / "a.nii", data, oblique_affine())
    assert refusal(path, "intensities that no scanner writes").got == "1e+31"
    data[0, 0, 0] = -1e30
    save_nifti(path, data, oblique_affine())
    assert read_image(path, study="p1", role="LGE").data.min() == np.float32(-1e30)


@pytest.mark.parametrize("kind", ["zero", "coplanar", "nan"])
def test_singular_affines(path, kind):
    rows = oblique_affine()[:3]
    if kind == "zero":
        rows = rows * 0
    elif kind == "coplanar":
        rows[:, 2] = rows[:, 0] + rows[:, 1]
    else:
        rows[0, 0] = np.nan
    patched(path, SROW_X, "<12f", *rows.ravel())
    refusal(path, "LGE has an affine that maps no volume")


def test_a_sheared_affine_is_read(path):
    # Slices shifted by half their distance: SimpleITK refuses this, and nothing here needs to.
    affine = oblique_affine()
    affine[:3, 2] += 4 * affine[:3, 0]
    patched(path, SROW_X, "<12f", *affine[:3].ravel())
    np.testing.assert_allclose(read_image(path, study="p1", role="LGE").grid.affine, affine, rtol=1e-6)


@pytest.mark.parametrize(("code", "unit", "size"), [(1, "metres", "1200"), (3, "micrometres", "0.0012")])
def test_lengths_that_are_mm_under_another_unit(path, code, unit, size):
    patched(path, XYZT_UNITS, "<B", code | 8)  # 8: time in seconds
    got = refusal(path, "voxels of a size that no scanner gives").got
    assert got.startswith(f"{size} x {size} x ")
    assert got.endswith(f"as the header says: {unit}; a heart's if these are millimetres")


@pytest.mark.parametrize("code", [0, 2, 10])
def test_unknown_units_are_mm(path, code):
    patched(path, XYZT_UNITS, "<B", code)
    np.testing.assert_allclose(
        read_image(path, study="p1", role="LGE").grid.spacing_mm, [1.2, 1.2, 10], rtol=1e-6
    )


def test_maps_are_whole_numbers(tmp_path):
    path = save_nifti(tmp_path / "a.nii", (DATA > 300).astype(np.float64) * 2, oblique_affine())
    volume = read_map(path, study="p1", role="region", known=(0, 1, 2))
    assert volume.data.dtype == np.int64
    np.testing.assert_array_equal(volume.data, np.where(DATA > 300, 2, 0))


def test_a_map_packed_as_floats_are_keeps_its_ids(tmp_path):
    """Floats in a file of int16: 1 comes back as 1.00002 and 3 as 2.99998."""
    ids = np.arange(np.prod(SHAPE)).reshape(SHAPE) % 5
    image = nib.Nifti1Image(ids.astype(np.float32), oblique_affine())
    image.set_data_dtype(np.int16)
    image.to_filename(tmp_path / "a.nii.gz")
    assert (np.asarray(nib.load(tmp_path / "a.nii.gz").dataobj) != ids).any()
    read = read_map(tmp_path / "a.nii.gz", study="p1", role="label", known=range(5))
    np.testing.assert_array_equal(read.data, ids)


def test_a_map_with_a_volume_per_class(tmp_path):
    path = save_nifti(tmp_path / "a.nii", np.zeros((*SHAPE, 5), np.uint8), oblique_affine())
    with pytest.raises(InputError, match="label is not one volume") as caught:
        read_map(path, study="p1", role="label")
    assert "argmax" in str(caught.value.problems[0].remedy)


@pytest.mark.parametrize("value", [0.5, np.nan, np.inf])
def test_maps_with_fractions(tmp_path, value):
    data = np.zeros(SHAPE)
    data[3, 3, 0] = value
    path = save_nifti(tmp_path / "a.nii", data, oblique_affine())
    assert refusal(path, "no whole numbers", read_map).got == f"{value:g}"


def test_unknown_ids_are_named(tmp_path):
    data = np.zeros(SHAPE, np.int16)
    data[0], data[1] = 600, -3
    path = save_nifti(tmp_path / "a.nii", data, oblique_affine())
    problem = refusal(path, "unknown class id", read_map, known=(0, 500))
    assert (problem.expected, problem.got) == ("ids 0, 500", "-3, 600")
    np.testing.assert_array_equal(np.unique(read_map(path, study="p1", role="label").data), [-3, 0, 600])
