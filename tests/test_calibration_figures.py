"""Figures against hand-made studies, and the pass rule."""

from dataclasses import replace

import numpy as np
import pytest
from calibration.comparisons import (
    REAL_DICE,
    Comparison,
    broken_ranks,
    further_comparisons,
    method_comparisons,
    passes,
    population_comparisons,
)
from calibration.figures import auc, crop_zscore, lv_zscore, measure

from mrigmm.phantom import PRESETS, simulate_study


@pytest.fixture(scope="module")
def example():
    return simulate_study(PRESETS["myops-like"], seed=5, index=0)


def test_lv_zscore_standardises_inside_the_mask():
    images = np.random.default_rng(0).normal(7, 3, (2, 20, 20, 3))
    inside = np.zeros((20, 20, 3), dtype=bool)
    inside[5:15, 5:15] = True
    values = lv_zscore(images, inside)[:, inside]
    np.testing.assert_allclose(values.mean(axis=1), 0, atol=1e-12)
    np.testing.assert_allclose(values.std(axis=1), 1)


def test_crop_zscore_standardises_each_slice_of_the_crop():
    images = np.random.default_rng(0).normal(7, 3, (1, 200, 200, 2))
    images[..., 1] *= 5
    inside = np.zeros((200, 200, 2), dtype=bool)
    inside[90:111, 80:101] = True  # centre (100, 90)
    crop = crop_zscore(images, inside)[:, 20:180, 10:170]
    np.testing.assert_allclose(crop.mean(axis=(1, 2)), 0, atol=1e-12)
    np.testing.assert_allclose(crop.std(axis=(1, 2)), 1)


def test_auc_counts_pairs():
    # pairs (3,1) (3,2) (2,1) won, (2,2) tied: 3.5 of 4
    assert auc(np.array([3.0, 2.0]), np.array([1.0, 2.0])) == pytest.approx(0.875)
    assert np.isnan(auc(np.array([]), np.array([1.0])))


def test_measured_means_and_fractions_follow_a_painted_study(example):
    # noise-free classes at 0, 1, 2, 3 in every sequence
    painted = {name: np.maximum(example.label.astype(np.float32) - 1, 0) for name in example.sequences}
    rng = np.random.default_rng(0)
    noise = rng.normal(0, 0.1, example.label.shape).astype(np.float32)
    figures = measure(replace(example, sequences={n: image + noise for n, image in painted.items()}))
    inside = example.label > 0
    shares = [(example.label == k).sum() / inside.sum() for k in (1, 2, 3, 4)]
    np.testing.assert_allclose(figures.fraction, shares)
    sd = (painted["LGE"] + noise)[inside].std()
    np.testing.assert_allclose(np.diff(figures.lv_mean[:, 0]), 1 / sd, rtol=0.05)
    np.testing.assert_allclose(np.sqrt(figures.lv_variance), 0.1 / sd, rtol=0.1)
    np.testing.assert_allclose(figures.autocorrelation[1], 0, atol=0.05)  # white noise
    assert figures.auc[0] > 0.999  # LGE: scar above normal wall
    assert figures.auc[1] > 0.999
    assert figures.auc[2] < 0.001  # painted darker than the wall


def test_autocorrelation_of_a_smooth_residual(example):
    x = np.arange(example.label.shape[0])[:, None, None]
    wave = np.broadcast_to(np.sin(2 * np.pi * x / 16), example.label.shape).astype(np.float32)
    figures = measure(replace(example, sequences=dict.fromkeys(example.sequences, wave)))
    # along x cos(2 pi lag / 16), along y 1; half of the pairs each
    expected = [(1 + np.cos(2 * np.pi * lag / 16)) / 2 for lag in (1, 2, 4, 8)]
    np.testing.assert_allclose(figures.autocorrelation[0, 0], expected, atol=0.06)


def test_depth_shares_sum_to_one_in_the_wall(example):
    shares = measure(example).depth_share
    np.testing.assert_allclose(shares.sum(axis=0), 1)
    np.testing.assert_array_equal(shares[0], 0)


def test_comparison_is_met_within_its_tolerance_only():
    assert Comparison("g", "n", real=0.5, simulated=0.55, tolerance=0.06).met
    assert not Comparison("g", "n", real=0.5, simulated=0.43, tolerance=0.06).met
    assert not Comparison("g", "n", real=0.5, simulated=float("nan"), tolerance=0.06).met


def test_real_scores_pass_and_swapped_methods_break_the_ranks():
    dice = {name: list(values) for name, values in REAL_DICE.items()}
    rows = method_comparisons(dice)
    assert len(rows) == 22
    assert all(row.met for row in rows)
    assert broken_ranks(dice) == []
    assert passes(rows, dice)
    swapped = dice | {"MAP-EM": dice["EM-GMM"], "EM-GMM": dice["MAP-EM"]}
    assert "scar: EM-GMM against MAP-EM" in broken_ranks(swapped)
    assert not passes(method_comparisons(swapped), swapped)


def test_too_few_figures_met_do_not_pass():
    dice = {"MAP-EM": [value + 0.1 for value in REAL_DICE["MAP-EM"]]}
    assert broken_ranks(dice) == []
    assert not passes(method_comparisons(dice), dice)


def test_population_comparisons_cover_every_listed_figure(example):
    groups = [row.group for row in population_comparisons([measure(example)])]
    assert groups.count("class mean, LV z-score") == 12
    assert groups.count("within-class SD, crop z-score") == 12
    assert sum(group.startswith("autocorrelation") for group in groups) == 36
    assert groups.count("share of the LV") == 4
    assert groups.count("median AUC") == 3
    assert len(groups) == 91


def test_further_comparisons_carry_no_tolerance(example):
    rows = further_comparisons([measure(example)])
    assert {row.group for row in rows} >= {"slices without", "scar in the wall"}
    assert all(np.isnan(row.tolerance) and not row.met for row in rows)
    # 13 of 102 slices have no scar
    scar = next(row for row in rows if (row.group, row.name) == ("slices without", "scar"))
    assert scar.real == pytest.approx(13 / 102)
    empty = sum(not (example.label[..., z] == 4).any() for z in range(example.label.shape[2]))
    assert scar.simulated == pytest.approx(empty / example.label.shape[2])


@pytest.mark.slow
def test_population_figures_hold_on_studies_that_nothing_was_tuned_on():
    figures = [measure(simulate_study(PRESETS["myops-like"], seed=77, index=i)) for i in range(60)]
    met = [row.met for row in population_comparisons(figures)]
    assert np.mean(met) >= 0.9
