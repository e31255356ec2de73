import numpy as np
import pytest

from mrigmm.data.geometry import Grid
from mrigmm.data.quality import on_another_grid
from mrigmm.data.quality.grids import implausible_spacing, not_parallel, sheared

from ...conftest import SHAPE, oblique_affine


def grid(shape=SHAPE, affine=None):
    return Grid(tuple(shape), oblique_affine() if affine is None else np.asarray(affine, dtype=float))


def test_sheared():
    assert sheared("LGE", grid(), itk_opens=True) is None
    affine = oblique_affine()
    affine[:3, 2] += 4 * affine[:3, 0]  # 4.8 mm along x over 10 mm: atan(0.48) = 25.6 degrees
    found = sheared("LGE", grid(affine=affine), itk_opens=True)
    assert (found.severity, found.what) == ("note", "LGE has a sheared grid")
    assert "26 degrees" in found.got


def test_what_itk_programs_refuse():
    affine = oblique_affine()
    affine[:3, 2] += 0.02 * affine[:3, 0]  # 0.024 mm along x over 10 mm: 0.14 degrees
    assert sheared("LGE", grid(affine=affine), itk_opens=True) is None
    found = sheared("LGE", grid(affine=affine), itk_opens=False)
    assert (found.severity, found.what) == (
        "note",
        "ITK programs (3D Slicer, ITK-SNAP, SimpleITK) will refuse LGE",
    )
    assert found.got.startswith("axes that are 0.14 degrees off, and no qform")
    assert "set_qform" in found.remedy


def test_a_header_rounded_to_float32_is_not_sheared():
    assert sheared("LGE", grid(affine=oblique_affine().astype(np.float32)), itk_opens=True) is None


@pytest.mark.parametrize(
    ("shape", "spacing", "good"),
    [
        (SHAPE, (0.75, 0.75, 23), True),
        ((64, 64, 64), (0.5, 0.5, 0.5), True),
        (SHAPE, (0.0012, 0.0012, 0.01), False),  # metres
        (SHAPE, (1200, 1200, 10000), False),  # micrometres
        (SHAPE, (1.2, 1.2, 45), False),
        ((16, 14, 1), (1.2, 1.2, 45), True),  # the thickness of a single slice is anyone's guess
        (SHAPE, (0.19, 1.2, 10), False),
        (SHAPE, (1, 1, 1), False),  # nobody knew it
        ((64, 64, 60), (1, 1, 1), True),
        (SHAPE, (1.2, 5.1, 10), False),
    ],
)
def test_implausible_spacing(shape, spacing, good):
    found = implausible_spacing("T2", Grid(shape, oblique_affine(spacing)))
    assert (found is None) is good
    if found:
        assert found.severity == "warning"
        assert "T2 has voxels of an implausible size" in found.what


@pytest.mark.parametrize(("degrees", "good"), [(0, True), (29, True), (31, False), (90, False), (180, True)])
def test_not_parallel(degrees, good):
    a = np.deg2rad(degrees)
    turn = np.eye(4)
    turn[1:3, 1:3] = [[np.cos(a), -np.sin(a)], [np.sin(a), np.cos(a)]]
    plain = np.diag([1.2, 1.2, 10, 1])
    found = not_parallel("T2", grid(affine=turn @ plain), "LGE", grid(affine=plain))
    assert (found is None) is good
    if found:
        assert (found.severity, found.what) == ("warning", "T2 shows another view than LGE")
        assert found.got.startswith(f"{degrees} degrees")


def test_on_another_grid():
    assert on_another_grid("T2", {}) is None
    assert on_another_grid("T2", {"a": None, "b": None}) is None
    found = on_another_grid("T2", {"a": None, "b": 3.25, "c": float("inf")})
    assert found.severity == "note"
    assert found.got == "2 of 3 studies: b (corners up to 3.2 mm apart), c (other shape)"


def test_a_long_list_of_studies_is_cut():
    found = on_another_grid("T2", {f"s{i}": 1.0 for i in range(7)})
    assert found.got.endswith("s4 (corners up to 1.0 mm apart), ...")
