from itertools import permutations

import nibabel as nib
import numpy as np
import pytest
import torch
from scipy import ndimage

from mrigmm.data.geometry import (
    Grid,
    coverage,
    filled,
    plane_box,
    shear_degrees,
    slice_normal,
    slices_last,
    turned_onto,
)

from ..conftest import SHAPE, oblique_affine


def grid(shape=SHAPE, affine=None, **options):
    return Grid(
        tuple(shape), oblique_affine(**options) if affine is None else np.asarray(affine, dtype=float)
    )


def test_spacing_volume_and_slices_of_an_oblique_stack():
    g = grid()
    np.testing.assert_allclose(g.spacing_mm, [1.2, 1.2, 10.0])
    assert g.voxel_volume_ml == pytest.approx(0.0144)  # 1.2 x 1.2 x 10 mm3
    assert g.slice_axis == 2


def test_volume_uses_slice_distance_in_a_sheared_stack():
    # Slices 8 mm apart, shifted by 6 mm along x from one to the next: the axis is 10 mm long.
    g = grid(affine=[[2, 0, 6, 0], [0, 2, 0, 0], [0, 0, 8, 0], [0, 0, 0, 1]])
    np.testing.assert_allclose(g.spacing_mm, [2, 2, 10])
    assert g.voxel_volume_ml == pytest.approx(0.032)  # 2 x 2 x 8 mm3, not 2 x 2 x 10


def test_a_left_handed_grid_has_a_positive_volume():
    affine = np.diag([-1.5, 1.5, 6, 1])
    assert np.linalg.det(affine[:3, :3]) < 0
    assert grid(affine=affine).voxel_volume_ml == pytest.approx(0.0135)


@pytest.mark.parametrize(
    ("shape", "spacing", "axis"),
    [
        ((64, 64, 5), (1, 1, 8), 2),
        ((64, 5, 64), (1, 8, 1), 1),
        ((5, 64, 64), (8, 1, 1), 0),
        ((64, 64, 1), (1.4, 1.4, 1.0), 2),  # one slice wins over a thickness that is not to be trusted
        ((1, 64, 64), (1, 1, 5), 0),
        ((64, 64, 64), (1, 1, 1), 2),
        ((64, 64, 64), (1.0001, 1, 1), 2),  # rounding is no anisotropy
        ((64, 64, 90), (1.5, 1.5, 1), 2),  # slices thinner than square pixels
        ((90, 64, 64), (1, 1.5, 1.5), 0),
        ((64, 64, 5), (1.2, 1.3, 8), 2),
    ],
)
def test_slice_axis(shape, spacing, axis):
    assert grid(shape, np.diag([*spacing, 1])).slice_axis == axis


def test_corners_are_voxel_centres():
    affine = np.array([[0, -2, 0, 10], [3, 0, 0, 20], [0, 0, 5, 30], [0, 0, 0, 1]])
    corners = grid((2, 3, 4), affine).corners_mm()
    assert corners.shape == (8, 3)
    np.testing.assert_array_equal(corners[0], [10, 20, 30])
    np.testing.assert_array_equal(corners[-1], [10 - 2 * 2, 20 + 3, 30 + 5 * 3])


def test_a_shift_is_measured_in_mm():
    a = grid()
    moved = grid(origin_mm=(31.0 + 3, -17.5, 42.25 + 4))
    assert a.difference_mm(moved) == pytest.approx(5)
    assert a.difference_mm(grid((16, 14, 4))) == np.inf


@pytest.mark.parametrize(
    ("spacing", "shift_mm", "same"),
    [
        ((1.2, 1.2, 10), 0.119, True),  # 10 % of 1.2 mm
        ((1.2, 1.2, 10), 0.121, False),
        ((0.5, 0.5, 10), 0.099, True),  # 0.1 mm
        ((0.5, 0.5, 10), 0.101, False),
    ],
)
def test_tolerance_is_a_tenth_of_a_millimetre_or_voxel(spacing, shift_mm, same):
    a = Grid(SHAPE, oblique_affine(spacing))
    b = Grid(SHAPE, oblique_affine(spacing, origin_mm=(31.0, -17.5 + shift_mm, 42.25)))
    assert a.same_as(b) is same


def test_a_small_turn_counts_where_it_moves_the_corners():
    # 0.001 rad over 15 voxels of 1.2 mm moves a corner by 0.018 mm; over 400 voxels by 0.48 mm.
    turn = np.eye(4)
    turn[:2, :2] = [[np.cos(0.001), -np.sin(0.001)], [np.sin(0.001), np.cos(0.001)]]
    plain = np.diag([1.2, 1.2, 10, 1])
    assert Grid((16, 14, 3), plain).same_as(Grid((16, 14, 3), turn @ plain))
    assert not Grid((400, 400, 3), plain).same_as(Grid((400, 400, 3), turn @ plain))


@pytest.mark.parametrize(
    ("order", "flips", "codes"),
    [
        ((0, 1, 2), (1, 1, 1), "RAS"),
        ((0, 1, 2), (-1, -1, 1), "RAS"),
        ((1, 0, 2), (1, -1, -1), "RAS"),
        ((0, 2, 1), (1, 1, 1), "RSA"),  # coronal slices: the last array axis runs along y
        ((1, 2, 0), (1, 1, -1), "ASR"),  # sagittal slices
    ],
)
def test_canonical_orientation_keeps_the_slices_last(order, flips, codes):
    g = grid(order=order, flips=flips)
    turn = slices_last(g)
    assert turn.axcodes == "".join(nib.aff2axcodes(turn.affine)) == codes
    array = np.arange(2 * np.prod(SHAPE)).reshape(2, *SHAPE)
    turned = turn.apply(array)
    np.testing.assert_array_equal(turn.undo(turned), array)
    # Every voxel stays at its place in mm.
    for index in ((0, 0, 0), (1, 2, 0), tuple(n - 1 for n in turned.shape[1:])):
        (found,) = np.argwhere(array[1] == turned[(1, *index)])
        np.testing.assert_allclose(turn.affine @ [*index, 1], g.affine @ [*found, 1], atol=1e-9)


@pytest.mark.parametrize("order", list(permutations(range(3))))
@pytest.mark.parametrize("flips", [(1, 1, 1), (-1, 1, 1), (1, -1, -1), (-1, -1, -1)])
def test_an_array_is_turned_onto_the_order_of_another_file_of_its_voxels(order, flips):
    numbers = np.arange(np.prod(SHAPE)).reshape(SHAPE)
    image = nib.Nifti1Image(numbers.astype(np.int32), oblique_affine())
    # nibabel's own flips and permutations of the same voxels
    turned = image.as_reoriented(np.array(list(zip(order, flips, strict=True))))
    grid, other = Grid(turned.shape, turned.affine), Grid(SHAPE, image.affine)
    np.testing.assert_array_equal(turned_onto(np.asarray(turned.dataobj), grid, other), numbers)


def test_other_voxels_are_not_turned_onto():
    here = Grid(SHAPE, oblique_affine())
    flipped = here.affine @ np.diag([-1.0, 1, 1, 1])  # about the first voxel, not about the middle
    for other in (
        Grid(SHAPE, oblique_affine(origin_mm=(31, -17.5, 42.25 + 1))),
        Grid(SHAPE, flipped),
        Grid((SHAPE[0] - 1, *SHAPE[1:]), here.affine),
        Grid((SHAPE[1], SHAPE[0], SHAPE[2]), here.affine),
    ):
        assert turned_onto(np.zeros(other.shape), other, here) is None


def test_coverage_reaches_half_a_voxel_beyond_the_centres():
    a = Grid((5, 1, 1), np.diag([1.0, 1, 1, 1]))  # centres at 0 .. 4 mm
    other = Grid((2, 1, 1), np.array([[1, 0, 0, 1.5], [0, 1, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1.0]]))
    # `other` shows x from 1.0 to 3.0 mm, borders included.
    np.testing.assert_array_equal(coverage(a, other).ravel(), [False, True, True, True, False])
    np.testing.assert_array_equal(coverage(Grid((2, 1, 1), other.affine), a).ravel(), [True, True])


def test_shear_is_the_largest_departure_from_a_right_angle():
    assert shear_degrees(grid()) == pytest.approx(0, abs=1e-5)
    # Slices 8 mm apart that shift by 6 mm along x: 90 - atan(8 / 6) = 36.87 degrees.
    sheared = [[2, 0, 6, 0], [0, 2, 0, 0], [0, 0, 8, 0], [0, 0, 0, 1]]
    assert shear_degrees(grid(affine=sheared)) == pytest.approx(36.87, abs=0.01)


def test_the_normal_is_that_of_the_slices_also_when_they_are_sheared():
    sheared = [[2, 0, 6, 0], [0, 2, 0, 0], [0, 0, 8, 0], [0, 0, 0, 1]]
    np.testing.assert_allclose(np.abs(slice_normal(grid(affine=sheared))), [0, 0, 1])
    np.testing.assert_allclose(np.abs(slice_normal(grid())), np.abs(oblique_affine()[:3, 2]) / 10, atol=1e-12)


def test_description_is_for_people():
    assert grid().describe() == "16 x 14 x 3 voxels of 1.2 x 1.2 x 10 mm, LPS, origin (31.0, -17.5, 42.2) mm"


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_a_single_slice_that_points_the_other_way(axis):
    """torch takes no negative stride, which numpy gives a flipped axis of one voxel."""
    shape = [4, 5, 6]
    shape[axis] = 1
    data = np.arange(np.prod(shape)).reshape(shape)
    turn = slices_last(Grid(tuple(shape), np.diag([-1.0, -1.0, -1.0, 1.0])))
    turned = turn.apply(data)
    assert all(stride > 0 for stride in turned.strides)
    assert torch.from_numpy(turned).shape[2] == 1
    np.testing.assert_array_equal(turn.undo(turned), data)


def test_the_box_of_a_mask_in_the_plane():
    mask = np.zeros((9, 8, 3), dtype=bool)
    mask[2, 5, 0] = mask[6, 3, 2] = True
    assert plane_box(mask) == (slice(2, 7), slice(3, 6))
    assert plane_box(mask[..., 0]) == (slice(2, 3), slice(5, 6))
    assert plane_box(mask[..., 1]) == (slice(0, 1), slice(0, 1))  # empty


def test_filled_is_what_scipy_fills():
    """Holes, a bay open to the border, and a gap that only a diagonal step leads through."""
    ring = np.ones((5, 6), dtype=bool)
    ring[1:4, 1:3], ring[2, 4], ring[0, 5] = False, False, False
    masks = [ring, ~ring, ring & False, ring | True, np.random.default_rng(0).uniform(size=(30, 20)) < 0.6]
    for mask in masks:
        np.testing.assert_array_equal(filled(mask), ndimage.binary_fill_holes(mask))
    assert filled(ring).sum() == 29
