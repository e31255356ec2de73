import numpy as np

from mrigmm.data.cine import end_diastolic_frame, values_in_centre, values_in_region
from mrigmm.data.geometry import Grid

from ..conftest import oblique_affine


def test_the_frame_with_most_bright_voxels():
    values = np.full((10, 4), 50)
    for frame, bright in enumerate((4, 6, 3, 6)):
        values[:bright, frame] = 200
    assert end_diastolic_frame(values) == 1  # the first of two that are equal


def test_brighter_blood_is_no_larger_cavity():
    values = np.full((10, 2), 50)
    values[:6, 0], values[:5, 1] = 180, 260
    assert end_diastolic_frame(values) == 0


def test_without_contrast_or_voxels_the_first():
    assert end_diastolic_frame(np.ones((5, 3))) == 0
    assert end_diastolic_frame(np.empty((0, 3))) == 0


def test_values_in_the_region_are_those_at_its_place_in_mm():
    # The series has pixels half as wide and starts 2.4 mm to the left along x.
    grid = Grid((12, 5, 2), oblique_affine((0.6, 1.2, 10.0)))
    affine = oblique_affine()
    affine[:3, 3] += 2 * affine[:3, 0]
    frames = np.arange(12 * 5 * 2 * 3).reshape(12, 5, 2, 3)
    region = np.zeros((6, 5, 2), bool)
    region[1, 2, 0] = region[5, 4, 1] = True  # the second lies beyond the series' last column
    np.testing.assert_array_equal(
        values_in_region(frames, grid, region, Grid((6, 5, 2), affine)), frames[[6], 2, 0]
    )


def test_the_centre_is_half_of_each_slice_along_both_axes():
    frames = np.arange(8 * 3 * 4 * 2).reshape(8, 3, 4, 2)
    grid = Grid((8, 3, 4), np.diag([1.0, 10, 1, 1]))  # slices along the second axis
    np.testing.assert_array_equal(values_in_centre(frames, grid), frames[2:6, :, 1:3].reshape(-1, 2))
    one = Grid((1, 1, 1), np.eye(4))
    assert values_in_centre(np.ones((1, 1, 1, 5)), one).shape == (1, 5)
