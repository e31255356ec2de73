"""Headers that lie, and honest ones of unusual studies."""

import gzip

import nibabel as nib
import numpy as np
import pytest

from ..conftest import oblique_affine
from .cases import (
    ALL_FILES,
    SHAPE,
    StudyCase,
    assert_study_case,
    every,
    identified,
    patched,
    reshaped,
    with_data,
)

NO_VOLUME = "has an affine that maps no volume"
ONE = "T2 is not one volume"
NUMBERS = "has voxels that are no single real numbers"
SIZE = "has voxels of a size that no scanner gives"
ROWS = oblique_affine()[:3]


def srow(role, rows):
    return patched(role, srow_x=("12f", tuple(np.asarray(rows, dtype=float).ravel())))


def everywhere(rows):
    """The same affine in every file of the study, in the sform alone."""
    return every(ALL_FILES, lambda role: lambda place: (srow(role, rows)(place), no_qform(role)(place)))


def no_qform(role):
    return patched(role, qform_code=("h", 0))


def in_unit(factor, **fields):
    """Both forms and pixdim of a file in another unit than mm."""

    def one(role):
        affine = np.diag([factor, factor, factor, 1]) @ oblique_affine()
        unit = patched(role, xyzt_units=("B", fields.get("xyzt_units", 0)))
        return lambda place: (place.volume(role, place.data(role), affine), unit(place))

    return one


def codes(qform, sform):
    return every(ALL_FILES, lambda role: patched(role, qform_code=("h", qform), sform_code=("h", sform)))


def turned(change):
    """All files of the study stored otherwise: same physical content."""

    def one(role):
        def spoil(place):
            image = nib.load(place.file(role))
            image = change(nib.Nifti1Image(np.asarray(image.dataobj), image.affine))
            place.volume(role, np.asarray(image.dataobj), image.affine)

        return spoil

    return every(ALL_FILES, one)


def oriented(text):
    def change(image):
        ornt = nib.orientations.axcodes2ornt(text)
        return image.as_reoriented(nib.orientations.ornt_transform(nib.io_orientation(image.affine), ornt))

    return turned(change)


def of_dtype(dtype):
    def spoil(place):
        image = nib.Nifti1Image(np.round(place.data("T2")).astype(dtype), oblique_affine(), dtype=dtype)
        image.header.set_xyzt_units("mm")
        nib.save(image, place.file("T2"))

    return spoil


def sheared():
    rows = ROWS.copy()
    rows[:, 2] += 4 * rows[:, 0]
    return rows


def scaled(factor):
    rows = ROWS.copy()
    rows[:, :3] *= factor
    return rows


def coplanar():
    rows = ROWS.copy()
    rows[:, 2] = rows[:, 0] + rows[:, 1]
    return rows


def with_value(row, column, value):
    rows = ROWS.copy()
    rows[row, column] = value
    return rows


def lps_for_ras(role):
    """The header of a converter that took LPS for RAS."""
    return lambda place: place.volume(role, place.data(role), np.diag([-1, -1, 1, 1]) @ oblique_affine())


def dims(*shape):
    return patched("T2", dim=("8h", (len(shape), *shape, *[1] * (7 - len(shape)))))


def stored(shape):
    return lambda place: place.volume("T2", np.ones(shape, np.float32))


def own_values(place):
    """int16 with slope and intercept that give back the clean LGE to within rounding of 1e-3."""
    raw = nib.Nifti1Image(np.round(place.data("LGE") * 10).astype(np.int16), oblique_affine())
    raw.header.set_slope_inter(0.1, 5.0)
    raw.header.set_xyzt_units("mm")
    content = bytearray(raw.to_bytes())
    content[112:120] = np.array([0.1, 5.0], "<f4").tobytes()
    place.file("LGE").write_bytes(gzip.compress(bytes(content)))


def enlarged(place):
    """The study in the middle of an empty field of view."""
    for role in ALL_FILES:
        place.volume(role, np.pad(place.data(role)[:, :, :1], ((990, 990), (988, 988), (0, 0))))


CASES = [
    # How many dimensions.
    StudyCase("0-d data", dims(), ONE, "T2", got="shape (0,)"),
    StudyCase("1-d data", dims(20), ONE, "T2", got="(20,)"),
    StudyCase(
        "4-d data: several frames",
        stored((*SHAPE, 4)),
        ONE,
        "T2",
        got="(20, 24, 3, 4)",
        remedy="frame",
        commands=("files",),
    ),
    StudyCase("4-d data: a mosaic of slices in the fourth dimension", stored((20, 24, 1, 3)), ONE, "T2"),
    StudyCase("5-d data", stored((20, 24, 3, 1, 3)), ONE, "T2", got="(20, 24, 3, 1, 3)"),
    StudyCase(
        "a region of several frames",
        with_data("region", lambda d: np.stack([d, d], -1)),
        "region is not one volume",
        "region",
        commands=("prior",),
    ),
    StudyCase("a dimension of 0", dims(0, 24, 3), "T2", "T2"),
    StudyCase("a negative dimension", dims(-20, 24, 3), "T2", "T2"),
    StudyCase("dim[0] is 9", patched("T2", dim=("h", 9)), "T2", "T2"),
    StudyCase("dim[0] is -1", patched("T2", dim=("h", -1)), "T2", "T2"),
    StudyCase("2-d data: one slice", reshaped((20, 24)), result="a label map of 20 x 24"),
    StudyCase("one slice", reshaped((20, 24, 1)), result="a label map of 20 x 24 x 1"),
    StudyCase("1 x 1 x 1", reshaped((1, 1, 1), np.ones((1, 1, 1))), "no sequence varies inside the region"),
    StudyCase(
        "a single row of voxels",
        reshaped((20, 1, 3), np.ones((20, 1, 3))),
        check=0,
        result="a label map of 20 x 1 x 3",
    ),
    StudyCase("2,000 x 2,000", enlarged, result="a label map of 2,000 x 2,000"),
    # Kinds of voxels.
    StudyCase("int64", of_dtype(np.int64), result="segmented"),
    StudyCase("uint8", of_dtype(np.uint8), result="segmented"),
    StudyCase("uint64", of_dtype(np.uint64), result="segmented"),
    StudyCase("float64", with_data("LGE", lambda d: d.astype(np.float64)), same=True),
    StudyCase(
        "complex",
        with_data("T2", lambda d: d.astype(np.complex64)),
        NUMBERS,
        "T2",
        got="complex64",
        remedy="magnitude",
        commands=("files",),
    ),
    StudyCase(
        "RGB",
        with_data("T2", lambda d: np.zeros(d.shape, [(c, "u1") for c in "RGB"])),
        NUMBERS,
        "T2",
        got="RGB",
    ),
    StudyCase("a complex region", with_data("region", lambda d: d.astype(np.complex64)), NUMBERS, "region"),
    StudyCase("an unknown data type", patched("T2", datatype=("h", 999)), "is not a NIfTI file", "T2"),
    StudyCase("one bit per voxel", patched("T2", datatype=("h", 1)), "T2", "T2"),
    # Scaling.
    StudyCase("slope and intercept", own_values, result="segmented: intensities are scaled"),
    StudyCase("scl_slope 0: not scaled", patched("LGE", scl_slope=("f", 0)), same=True),
    StudyCase("scl_slope NaN: not scaled", patched("LGE", scl_slope=("f", np.nan)), same=True),
    StudyCase("scl_slope infinite: not scaled", patched("LGE", scl_slope=("f", np.inf)), same=True),
    StudyCase("scl_inter NaN", patched("LGE", scl_slope=("f", 1), scl_inter=("f", np.nan)), "LGE", "LGE"),
    StudyCase("scl_slope of 1e38", patched("T2", scl_slope=("f", 1e38), scl_inter=("f", 0)), "T2", "T2"),
    StudyCase(
        "a region of slope 0.5",
        patched("region", scl_slope=("f", 0.5), scl_inter=("f", 0)),
        "no whole numbers",
        "region",
    ),
    # Where the voxels start.
    StudyCase("vox_offset beyond the file", patched("T2", vox_offset=("f", 1e6)), "T2", "T2"),
    StudyCase("vox_offset of 1e38", patched("T2", vox_offset=("f", 1e38)), "T2", "T2"),
    StudyCase("vox_offset inside the header", patched("T2", vox_offset=("f", 100)), "T2", "T2"),
    StudyCase("vox_offset negative", patched("T2", vox_offset=("f", -352)), "T2", "T2"),
    StudyCase("vox_offset NaN", patched("T2", vox_offset=("f", np.nan)), "T2", "T2"),
    StudyCase("vox_offset infinite", patched("T2", vox_offset=("f", np.inf)), "T2", "T2"),
    StudyCase("vox_offset 0: behind the header", patched("LGE", vox_offset=("f", 0)), same=True),
    # Affines.
    StudyCase("no qform and no sform", codes(0, 0), result="segmented on the grid that the voxel size gives"),
    StudyCase("qform only", codes(1, 0), same=True),
    StudyCase("sform only", codes(0, 1), same=True),
    StudyCase(
        "singular: all zero", srow("T2", ROWS * 0), NO_VOLUME, "T2", remedy="convert", commands=("files",)
    ),
    StudyCase("singular: coplanar axes", srow("T2", coplanar()), NO_VOLUME, "T2"),
    StudyCase("a NaN in the affine", srow("T2", with_value(0, 0, np.nan)), NO_VOLUME, "T2"),
    StudyCase("an infinite origin", srow("T2", with_value(1, 3, np.inf)), NO_VOLUME, "T2"),
    StudyCase("an origin of 1e38 mm", srow("T2", with_value(1, 3, 1e38)), "T2", "T2"),
    StudyCase("axes of 1e38 mm", srow("T2", scaled(1e37)), NO_VOLUME, "T2"),
    StudyCase(
        "axes of 1e-38 mm in the sform alone: pixdim and qform count",
        srow("T2", scaled(1e-39)),
        same=True,
        note="T2 has two voxel sizes in its header",
    ),
    StudyCase(
        "no forms and a pixdim of 0",
        patched("T2", qform_code=("h", 0), sform_code=("h", 0), pixdim=("8f", (1, 0, 0, 0, 1, 1, 1, 1))),
        NO_VOLUME,
        "T2",
    ),
    StudyCase(
        "no forms and a pixdim of NaN",
        patched("T2", qform_code=("h", 0), sform_code=("h", 0), pixdim=("8f", (1, np.nan, 1, 1, 1, 1, 1, 1))),
        NO_VOLUME,
        "T2",
    ),
    StudyCase(
        "a quaternion that is none",
        patched("T2", sform_code=("h", 0), quatern_b=("3f", (2.0, 3.0, 4.0))),
        "T2",
        "T2",
    ),
    StudyCase(
        "a quaternion of NaN",
        patched("T2", sform_code=("h", 0), quatern_b=("3f", (np.nan, 0, 0))),
        "T2",
        "T2",
    ),
    StudyCase(
        "qform and sform disagree: the sform counts",
        every(ALL_FILES, lambda role: patched(role, quatern_b=("3f", (0.0, 0.0, 0.0)))),
        same=True,
    ),
    StudyCase("sheared", everywhere(sheared()), result="segmented on the sheared grid"),
    StudyCase("stored as RAS", oriented("RAS"), same=True),
    StudyCase("stored as LPI", oriented("LPI"), same=True),
    StudyCase("axes permuted: slices first", oriented("SLP"), same=True),
    StudyCase("axes permuted and flipped", oriented("AIR"), same=True),
    StudyCase(
        "LPS taken for RAS in the region's header",
        lps_for_ras("region"),
        "region map is not on the grid",
        "region",
        got="by up to",
        commands=("files", "prior"),
    ),
    StudyCase(
        "LPS taken for RAS in the header of T2",
        lps_for_ras("T2"),
        "T2 does not show the region",
        "T2",
        got="covers",
    ),
    # Units.
    StudyCase(
        "metres, as the header says",
        every(ALL_FILES, in_unit(1e-3, xyzt_units=1)),
        same=True,
        note="LGE has lengths in metres, as its header says: voxels of 1.2 x 1.2 x 10 mm",
    ),
    StudyCase(
        "micrometres, as the header says",
        every(ALL_FILES, in_unit(1e3, xyzt_units=3)),
        same=True,
        note="LGE has lengths in micrometres",
    ),
    StudyCase(
        "mm in a header that says metres",
        patched("T2", xyzt_units=("B", 1)),
        SIZE,
        "T2",
        got="a heart's if these are millimetres",
        remedy="set_xyzt_units('mm')",
    ),
    StudyCase("mm in a header that says micrometres", patched("T2", xyzt_units=("B", 3)), SIZE, "T2"),
    StudyCase("unknown unit: mm", patched("LGE", xyzt_units=("B", 0)), same=True),
    StudyCase(
        "metres without saying so",
        every(ALL_FILES, in_unit(1e-3)),
        SIZE,
        "LGE",
        got="a heart's if these are metres",
        remedy="mm",
        commands=("files", "prior"),
    ),
    StudyCase("micrometres without saying so", every(ALL_FILES, in_unit(1e3)), SIZE, "LGE", remedy="mm"),
    StudyCase(
        "metres in the sform alone: pixdim counts",
        everywhere(scaled(1e-3)),
        same=True,
        note="LGE has two voxel sizes in its header: 1.2 x 1.2 x 10 mm (pixdim) was taken",
    ),
]


@pytest.mark.parametrize("case", CASES, ids=identified)
def test_headers(cli, place, clean_labels, case):
    assert_study_case(case, cli, place, clean_labels)
