import math

import numpy as np
import pytest

from mrigmm.evaluation.calibration import calibration_error


def test_confidence_that_is_right_as_often_as_it_says_has_no_error():
    probabilities = np.array([[0.75] * 4, [0.25] * 4])
    assert calibration_error(probabilities, np.array([0, 0, 0, 1])) == pytest.approx(0)


def test_errors_of_bins_weigh_as_many_voxels_as_they_hold():
    """Three voxels at .9, all right: off by .1. One at .6, wrong: off by .6."""
    probabilities = np.array([[0.9, 0.9, 0.9, 0.6], [0.1, 0.1, 0.1, 0.4]])
    assert calibration_error(probabilities, np.array([0, 0, 0, 1])) == pytest.approx((3 * 0.1 + 0.6) / 4)


def test_certainty_and_nothing():
    assert calibration_error(np.array([[1.0], [0.0]]), np.array([0])) == 0
    assert calibration_error(np.array([[1.0], [0.0]]), np.array([1])) == 1
    assert math.isnan(calibration_error(np.zeros((2, 0)), np.zeros(0, int)))
