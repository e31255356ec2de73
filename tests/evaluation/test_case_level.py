import math

import pytest

from mrigmm.evaluation.cohort import case_level
from mrigmm.evaluation.overlap import Overlap


def studies(*volumes):
    return [Overlap(math.nan, math.nan, predicted, reference) for predicted, reference in volumes]


def test_counts_and_rates():
    """Found in 3 of 4 with an infarct, absent in 4 of 6 without."""
    with_infarct, without = ((1, 2), (0.1, 5), (3, 3), (0, 4)), ((0.5, 0), (0.1, 0), *[(0, 0)] * 4)
    found = case_level(studies(*with_infarct, *without))
    counts = (found.true_positive, found.false_negative, found.false_positive, found.true_negative)
    assert counts == (3, 1, 2, 4)
    assert (found.sensitivity.value, found.specificity.value) == (0.75, pytest.approx(4 / 6))


def test_wilson_interval_by_hand():
    """9 of 10: centre (0.9 + z^2 / 20) / (1 + z^2 / 10), z = 1.96."""
    found = case_level(studies(*[(1, 1)] * 9, (0, 1))).sensitivity
    z2 = 1.959964**2
    centre = (0.9 + z2 / 20) / (1 + z2 / 10)
    half = math.sqrt(z2 * (0.09 / 10 + z2 / 400)) / (1 + z2 / 10)
    assert (found.low, found.high) == (pytest.approx(centre - half), pytest.approx(centre + half))
    assert case_level(studies((1, 1))).sensitivity.low == pytest.approx(1 / (1 + z2))  # not 1


def test_a_smaller_prediction_than_the_minimum_is_none():
    volumes = studies((0.4, 1), (0.5, 1), (0.4, 0), (0.5, 0), (1, 0.1))
    found = case_level(volumes, minimum_ml=0.5)
    counts = (found.true_positive, found.false_negative, found.false_positive, found.true_negative)
    assert counts == (2, 1, 1, 1)  # the reference's 0.1 ml are an infarct all the same
    assert found.minimum_ml == 0.5


def test_no_studies_of_a_kind_have_no_rate():
    found = case_level(studies((1, 1)))
    assert found.sensitivity.value == 1
    assert all(
        math.isnan(v) for v in (found.specificity.value, found.specificity.low, found.specificity.high)
    )
