import math

import numpy as np
import pytest

from mrigmm.evaluation.calibration import pooled, reliability


def test_confidence_that_is_right_as_often_as_it_says_has_no_error():
    probabilities = np.array([[0.75] * 4, [0.25] * 4])
    assert reliability(probabilities, np.array([0, 0, 0, 1])).error() == pytest.approx(0)


def test_errors_of_bins_weigh_as_many_voxels_as_they_hold():
    """Three voxels at .9, all right: off by .1. One at .6, wrong: off by .6."""
    probabilities = np.array([[0.9, 0.9, 0.9, 0.6], [0.1, 0.1, 0.1, 0.4]])
    assert reliability(probabilities, np.array([0, 0, 0, 1])).error() == pytest.approx((3 * 0.1 + 0.6) / 4)


def test_certainty_and_nothing():
    assert reliability(np.array([[1.0], [0.0]]), np.array([0])).error() == 0
    assert reliability(np.array([[1.0], [0.0]]), np.array([1])).error() == 1
    certain = reliability(np.array([[1.0], [0.0]]), np.array([0]))
    assert certain.count.tolist() == [0] * 14 + [1]  # the last bin has its upper bound
    assert math.isnan(reliability(np.zeros((2, 0)), np.zeros(0, int)).error())


def test_the_bins_of_the_table():
    """15 bins: .9 lies in the 14th (.867 to .933), .6 in the 10th (.6 to .667)."""
    probabilities = np.array([[0.9, 0.9, 0.9, 0.61], [0.1, 0.1, 0.1, 0.39]])
    found = reliability(probabilities, np.array([0, 0, 1, -1]))  # -1: no class of the reference
    table = found.table()
    assert [row["count"] for row in table] == [0] * 9 + [1] + [0] * 3 + [3, 0]
    assert table[13]["low"] == pytest.approx(13 / 15)
    assert table[13]["high"] == pytest.approx(14 / 15)
    assert table[13]["confidence"] == pytest.approx(0.9)
    assert table[13]["frequency"] == pytest.approx(2 / 3)
    assert (table[9]["confidence"], table[9]["frequency"]) == (pytest.approx(0.61), 0)
    assert math.isnan(table[0]["frequency"])


def test_studies_are_pooled_voxel_by_voxel():
    """.9 right in one study, .9 wrong in the other: 90 % said, 50 % right."""
    sure = np.array([[0.9], [0.1]])
    right, wrong = reliability(sure, np.array([0])), reliability(sure, np.array([1]))
    assert right.error() == pytest.approx(0.1)
    assert wrong.error() == pytest.approx(0.9)
    assert pooled([right, wrong]).error() == pytest.approx(0.4)
    assert math.isnan(pooled([]).error())
    assert pooled([right, wrong]).count.dtype == right.count.dtype  # voxels are whole numbers
