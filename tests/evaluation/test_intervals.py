import math

import numpy as np
import pytest

from mrigmm.evaluation.intervals import estimate_mean, paired_difference


def test_mean_and_sd_by_hand():
    found = estimate_mean([1.0, 2.0, 6.0])
    assert found.mean == pytest.approx(3.0)
    assert found.sd == pytest.approx(math.sqrt((4 + 1 + 9) / 2))
    assert (found.n, found.n_undefined) == (3, 0)
    assert estimate_mean([1.0, 3.0]).sd == pytest.approx(math.sqrt(2))


def test_undefined_values_are_counted_not_averaged():
    found = estimate_mean([0.5, math.nan, 0.7, math.nan])
    assert found.mean == pytest.approx(0.6)
    assert (found.n, found.n_undefined) == (2, 2)


@pytest.mark.parametrize("values", [[], [math.nan], [0.4]])
def test_too_few_studies_have_no_interval(values):
    found = estimate_mean(values)
    assert math.isnan(found.low)
    assert math.isnan(found.high)
    assert math.isnan(found.sd)
    assert found.n + found.n_undefined == len(values)


def test_infinite_values_are_refused():
    with pytest.raises(ValueError, match="1 of 2 values are infinite"):
        estimate_mean([1.0, math.inf])
    with pytest.raises(ValueError, match="infinite"):
        paired_difference({"a": 1.0}, {"a": -math.inf})


def test_interval_is_that_of_the_normal_theory_for_many_studies():
    values = np.random.default_rng(0).normal(0.6, 0.1, 400)
    found = estimate_mean(values.tolist())
    half = 1.96 * values.std(ddof=1) / 20
    assert found.low == pytest.approx(values.mean() - half, abs=5e-4)
    assert found.high == pytest.approx(values.mean() + half, abs=5e-4)


def test_same_seed_same_interval():
    values = np.random.default_rng(3).random(12).tolist()
    assert estimate_mean(values, seed=1) == estimate_mean(values, seed=1)
    assert estimate_mean(values, seed=1) != estimate_mean(values, seed=2)
    assert estimate_mean(values) == estimate_mean(values, seed=0)
    ids = [str(i) for i in range(12)]
    method, baseline = dict(zip(ids, values, strict=True)), dict(zip(ids, reversed(values), strict=True))
    one, two = (paired_difference(method, baseline, seed=seed) for seed in (1, 2))
    assert one == paired_difference(method, baseline, seed=1)
    assert (one.low, one.high) != (two.low, two.high)
    assert paired_difference(method, baseline) == paired_difference(method, baseline, seed=0)


def test_paired_by_id_not_by_order():
    found = paired_difference({"a": 0.5, "b": 0.9}, {"b": 0.8, "a": 0.2})
    assert found.mean == pytest.approx(0.2)
    assert (found.low, found.high) == (pytest.approx(0.1), pytest.approx(0.3))


def test_studies_without_a_partner_are_counted():
    method = {"a": 0.5, "b": math.nan, "c": 0.4, "d": 0.6}
    found = paired_difference(method, {"a": 0.4, "b": 0.1, "c": math.nan, "e": 0.3})
    assert found.mean == pytest.approx(0.1)
    assert (found.n, found.n_unpaired) == (1, 4)


def test_wilcoxon_by_hand():
    """Six differences of one sign: the two extreme ones of 2^6 sign patterns, p = 2 / 64."""
    baseline = {str(i): 0.0 for i in range(6)}
    method = {str(i): 0.1 * (i + 1) for i in range(6)}
    assert paired_difference(method, baseline).p_value == pytest.approx(2 / 64)
    # A study without difference changes nothing about the ranks.
    assert paired_difference(method | {"z": 0.3}, baseline | {"z": 0.3}).p_value == pytest.approx(2 / 64)


def test_no_difference_at_all():
    same = {"a": 0.3, "b": 0.4, "c": 0.9}
    found = paired_difference(same, same)
    assert (found.mean, found.low, found.high, found.p_value) == (0.0, 0.0, 0.0, 1.0)


def test_no_pairs():
    found = paired_difference({"a": math.nan}, {"b": 1.0})
    assert math.isnan(found.mean)
    assert math.isnan(found.p_value)
    assert (found.n, found.n_unpaired) == (0, 2)
