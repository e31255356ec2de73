import math

import numpy as np
import pytest

from mrigmm.evaluation.overlap import empty_remark, overlap

ML = 0.0144  # a voxel of 1.2 x 1.2 x 10 mm


def mask(*indices, n=10):
    m = np.zeros(n, bool)
    m[list(indices)] = True
    return m


@pytest.mark.parametrize(
    ("predicted", "reference", "dice", "iou"),
    [
        ((0, 1, 2), (0, 1, 2), 1, 1),
        ((0, 1, 2), (2, 3), 2 / 5, 1 / 4),  # 2 x 1 / (3 + 2); 1 of 4
        ((0, 1, 2, 3), (2, 3, 4, 5), 1 / 2, 1 / 3),
        ((0,), (1,), 0, 0),
        ((0, 1), (), 0, 0),  # prediction only: a false finding counts
        ((), (0, 1), 0, 0),  # reference only: missed
    ],
)
def test_hand_computed(predicted, reference, dice, iou):
    o = overlap(mask(*predicted), mask(*reference), ML)
    assert (o.dice, o.iou) == (pytest.approx(dice), pytest.approx(iou))
    assert o.predicted_ml == pytest.approx(len(predicted) * 0.0144)
    assert o.reference_ml == pytest.approx(len(reference) * 0.0144)


def test_both_empty_is_not_defined():
    o = overlap(mask(), mask(), ML)
    assert math.isnan(o.dice)
    assert math.isnan(o.iou)
    assert (o.predicted_ml, o.reference_ml) == (0, 0)


def test_all_slices_are_one_object():
    predicted, reference = np.zeros((2, 2, 2), bool), np.zeros((2, 2, 2), bool)
    predicted[..., 0], reference[0, 0, 0], reference[0, 0, 1] = True, True, True
    # 4 and 2 voxels, 1 in common: 2/6. A mean over slices would give (2/5 + 0) / 2.
    assert overlap(predicted, reference, ML).dice == pytest.approx(1 / 3)


def test_shapes_must_agree():
    with pytest.raises(ValueError, match="shapes differ"):
        overlap(mask(n=3), mask(n=4), ML)


@pytest.mark.parametrize(
    ("predicted", "reference", "remark"),
    [
        (1.0, 2.0, None),
        (0.5, 0.5, None),
        (0.1, 0.0, "the reference has no scar; 0.1 ml predicted"),
        (0.0, 0.5, "no scar predicted; the reference has 0.5 ml"),
        (1.24, 0.0, "the reference has no scar; 1.2 ml predicted"),
        (0.02, 0.0, "the reference has no scar; under 0.1 ml predicted"),
        (0.0, 3.0, "no scar predicted; the reference has 3.0 ml"),
        (0.0, 0.0, "neither has scar: Dice is not defined"),
    ],
)
def test_why_dice_is_0_or_not_defined(predicted, reference, remark):
    assert empty_remark("scar", predicted, reference) == remark
