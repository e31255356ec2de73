import numpy as np
import pytest

from mrigmm.evaluation.surface import hausdorff95_mm


def box(low, high, shape=(20, 20, 2)):
    mask = np.zeros(shape, dtype=bool)
    mask[low:high, 5:15] = True
    return mask


def test_equal_masks_are_at_distance_zero():
    assert hausdorff95_mm(box(5, 15), box(5, 15), pixel_mm=(1.5, 1.5)) == 0


def test_shifted_line_in_mm():
    """Two lines of pixels three apart along the first axis, pixels of 1.5 x 1 mm: 4.5 mm everywhere."""
    a, b = np.zeros((12, 12, 1), dtype=bool), np.zeros((12, 12, 1), dtype=bool)
    a[2, 3:9], b[5, 3:9] = True, True
    assert hausdorff95_mm(a, b, pixel_mm=(1.5, 1.0)) == pytest.approx(4.5)


def test_slices_are_pooled_and_one_sided_slices_left_out():
    a, b = box(5, 15), box(5, 15)
    b[..., 1] = False
    assert hausdorff95_mm(a, b, pixel_mm=(1.0, 1.0)) == 0


def test_nothing_to_measure():
    assert np.isnan(hausdorff95_mm(box(5, 15), box(5, 5), pixel_mm=(1.0, 1.0)))
