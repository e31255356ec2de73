import math

import numpy as np
import pytest
import torch
from monai.metrics import compute_surface_dice

from mrigmm.evaluation.surface import surface_agreement

from ..conftest import oblique_affine


def box(low, high, shape=(20, 20, 2)):
    mask = np.zeros(shape, dtype=bool)
    mask[low:high, 5:15] = True
    return mask


def lines(a, b, n_slices=1):
    """Two lines of 6 pixels along the second axis, at rows a and b."""
    masks = np.zeros((2, 12, 12, n_slices), dtype=bool)
    masks[0, a, 3:9] = masks[1, b, 3:9] = True
    return masks


def test_equal_masks_are_at_distance_zero():
    assert surface_agreement(box(5, 15), box(5, 15), np.diag([1.5, 1.5, 10.0])).hd95_mm == 0


def test_shifted_line_in_mm():
    """Two lines of pixels three apart along the first axis, pixels of 1.5 x 1 mm: 4.5 mm everywhere."""
    assert surface_agreement(*lines(2, 5), np.diag([1.5, 1.0, 10.0])).hd95_mm == pytest.approx(4.5)


def test_slices_are_pooled_and_one_sided_slices_left_out():
    a, b = box(5, 15), box(5, 15)
    b[..., 1] = False
    assert surface_agreement(a, b, np.diag([1.0, 1.0, 10.0])).hd95_mm == 0


def test_the_percentile_by_hand():
    """One pixel more, 3 mm off: of 13 distances 12 are 0, and 95 % of the 12 steps are 11.4."""
    a, b = lines(2, 2)
    b[5, 5] = True
    assert surface_agreement(a, b, np.diag([1.0, 1.0, 10.0])).hd95_mm == pytest.approx(0.4 * 3)


def test_nothing_to_measure():
    assert np.isnan(surface_agreement(box(5, 15), box(5, 5), np.diag([1.0, 1.0, 10.0])).hd95_mm)


def test_shifted_squares_on_an_anisotropic_grid():
    """Squares of 3 x 3 pixels of 1.5 x 1 mm, one apart along the first axis, in slices 10 mm thick.

    Of 8 boundary pixels each, in both masks: the outer row of 3 is 1.5 mm off; of the inner row
    the corners are on the other's boundary, the middle pixel is at the other's centre, 1 mm from it; of
    the row between, the two pixels are on it. Distances: 6 of 1.5, 2 of 1 and 8 of 0.
    """
    a, b = np.zeros((9, 9, 2), dtype=bool), np.zeros((9, 9, 2), dtype=bool)
    a[2:5, 2:5], b[3:6, 2:5] = True, True
    found = surface_agreement(a, b, np.diag([1.5, 1.0, 10.0]))
    assert found.hd95_mm == pytest.approx(1.5)
    assert found.nsd_2mm == 1
    # In space all 18 voxels of both masks are boundary: those without the other mask in them are 1.5 mm off.
    assert found.hd95_3d_mm == pytest.approx(1.5)
    assert found.one_sided_slices == 0
    # With pixels of 3 mm, the outer row is beyond the tolerance: 6 of 16, and in space 6 of 18.
    wide = surface_agreement(a, b, np.diag([3.0, 1.0, 10.0]))
    assert wide.hd95_mm == pytest.approx(3)
    assert wide.nsd_2mm == pytest.approx(1 - 6 / 16)
    assert wide.nsd_3d_2mm == pytest.approx(1 - 6 / 18)


@pytest.mark.parametrize(("apart", "nsd"), [(1, 1.0), (2, 1.0), (3, 0.0)])
def test_two_millimetres_are_still_within_the_tolerance(apart, nsd):
    assert surface_agreement(*lines(2, 2 + apart, 2), np.diag([1.0, 1.0, 8.0])).nsd_2mm == nsd


def test_two_millimetres_of_an_oblique_float32_grid():
    axes = oblique_affine((1.0, 1.0, 8.0))[:3, :3].astype(np.float32)
    assert surface_agreement(*lines(2, 4, 2), axes).nsd_2mm == 1


def test_boundary_in_a_slice_that_the_other_lacks_is_not_found():
    """The second slice of 6 pixels is the prediction's alone: no distance, but 6 of 18 not within 2 mm."""
    a, b = lines(4, 4, 2)
    b[..., 1] = False
    found = surface_agreement(a, b, np.diag([1.0, 1.0, 10.0]))
    assert (found.hd95_mm, found.one_sided_slices) == (0, 1)
    assert found.nsd_2mm == pytest.approx(12 / 18)
    # In space they are 10 mm from the slice below.
    assert found.hd95_3d_mm == pytest.approx(10)
    assert found.nsd_3d_2mm == pytest.approx(12 / 18)


def test_boundaries_of_all_slices_that_the_other_lacks_count():
    """Of four slices one is the reference's alone and two the prediction's: 12 of 12 + 3 x 6."""
    a, b = lines(4, 4, 4)
    b[..., [1, 3]], a[..., 2] = False, False
    found = surface_agreement(a, b, np.diag([1.0, 1.0, 10.0]))
    assert found.nsd_2mm == pytest.approx(12 / 30)
    assert found.one_sided_slices == 3


def test_masks_without_a_slice_in_common():
    a, b = lines(4, 4, 2)
    a[..., 0], b[..., 1] = False, False
    found = surface_agreement(a, b, np.diag([1.0, 1.0, 10.0]))
    assert math.isnan(found.hd95_mm)
    assert (found.nsd_2mm, found.hd95_3d_mm, found.nsd_3d_2mm, found.one_sided_slices) == (0, 10, 0, 2)


def test_distances_on_a_sheared_grid():
    """Each slice is drawn one pixel (1.5 mm) further: the same voxel lies sqrt(1.5^2 + 10^2) off."""
    axes = np.array([[1.5, 0, 1.5], [0, 1.0, 0], [0, 0, 10.0]])
    a, b = lines(4, 4, 2)
    a[..., 1], b[..., 0] = False, False
    assert surface_agreement(a, b, axes).hd95_3d_mm == pytest.approx(math.hypot(1.5, 10))
    assert surface_agreement(*lines(2, 5, 2), axes).hd95_mm == pytest.approx(4.5)


@pytest.mark.parametrize("masks", [(box(5, 15), box(5, 5)), (box(5, 5), box(5, 15)), (box(5, 5), box(5, 5))])
def test_an_empty_mask_has_no_boundary(masks):
    found = surface_agreement(*masks, np.eye(3))
    values = (found.hd95_mm, found.nsd_2mm, found.hd95_3d_mm, found.nsd_3d_2mm)
    assert all(math.isnan(value) for value in values)
    assert found.one_sided_slices == (2 if masks[0].any() != masks[1].any() else 0)


def test_one_slice_has_no_boundary_in_space():
    found = surface_agreement(*lines(2, 3), np.diag([1.0, 1.0, 10.0]))
    assert found.hd95_mm == 1
    assert math.isnan(found.hd95_3d_mm)
    assert math.isnan(found.nsd_3d_2mm)


@pytest.mark.filterwarnings("ignore:.*always_return_as_numpy:FutureWarning")  # MONAI's, of itself
def test_as_monai_where_monai_can_do_it():
    """One slice in the plane, and a straight grid in space."""
    random = np.random.default_rng(0)
    a, b = random.random((2, 15, 12, 4)) < 0.4
    spacing = (1.3, 0.9, 1.7)
    found = surface_agreement(a, b, np.diag(spacing))

    def monai(a, b, spacing):
        pair = [torch.from_numpy(mask)[None, None] for mask in (a, b)]
        return float(compute_surface_dice(*pair, [2.0], include_background=True, spacing=spacing))

    assert found.nsd_3d_2mm == pytest.approx(monai(a, b, spacing))
    one = surface_agreement(a[..., :1], b[..., :1], np.diag(spacing))
    assert one.nsd_2mm == pytest.approx(monai(a[..., 0], b[..., 0], spacing[:2]))
