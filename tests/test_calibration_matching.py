from dataclasses import replace

import numpy as np
import pytest
from calibration.figures import measure
from calibration.matching import Tables, Targets, field_autocovariance, match_once, solve_shares

from mrigmm.phantom import PRESETS, simulate_study
from mrigmm.phantom.population import statistics
from mrigmm.phantom.tables import FIELD_SCALES_MM


def test_targets_are_the_tabulated_figures():
    targets = Targets.tabulated()
    assert targets.mean[3, 0] == pytest.approx(0.705)
    assert targets.width[0, 1] == pytest.approx(np.sqrt(0.832))
    np.testing.assert_allclose(targets.autocorrelation[1, 1], [0.9, 0.76, 0.52, 0.33])
    np.testing.assert_array_equal(targets.autocorrelation[2], targets.autocorrelation[3])


def test_solve_shares_recovers_the_mix_that_made_a_correlation():
    autocovariance = np.array(
        [[1.0, 0.7, 0.2, 0.0, 0.0], [0.9, 0.85, 0.7, 0.3, 0.1], [0.6, 0.6, 0.55, 0.5, 0.4]]
    )
    shares = np.array([0.5, 0.2, 0.3])
    total = shares @ autocovariance
    np.testing.assert_allclose(solve_shares(autocovariance, total[1:] / total[0]), shares, atol=0.03)


def test_field_autocovariance_is_smoother_for_wider_scales():
    studies = [simulate_study(PRESETS["myops-like"], seed=21, index=0)]
    table = field_autocovariance(studies, psf_mm=0.75, rng=np.random.default_rng(0))
    assert table.shape == (4, len(FIELD_SCALES_MM), 5)
    correlation = table[:, :, 1:] / table[:, :, :1]
    assert (np.diff(correlation[:2, :, 1], axis=1) > 0).all()  # blood and wall, lag 2
    # SD 0.75 mm twice (field and point spread) is sqrt(2) px: exp(-1 / (4 * 2)) at lag 1
    assert correlation[0, 0, 0] == pytest.approx(np.exp(-1 / 8), abs=0.02)
    assert table[0, 0, 0] == pytest.approx(1.0, abs=0.1)
    assert table[2, -1, 0] < 0.8 * table[0, 0, 0]  # the slice's mean takes from wide fields


def test_a_step_moves_towards_the_targets_without_a_common_shift():
    figures = [measure(simulate_study(PRESETS["myops-like"], seed=22, index=0))]
    table = field_autocovariance(
        [simulate_study(PRESETS["myops-like"], seed=22, index=0)], psf_mm=0.75, rng=np.random.default_rng(0)
    )
    start, targets = Tables.current(), Targets.tabulated()
    wanted = replace(targets, mean=figures[0].lv_mean + 0.2, width=np.sqrt(figures[0].lv_variance) * 1.21)
    matched, aim = match_once(
        start, figures, targets=wanted, aim=targets.autocorrelation, autocovariance=table
    )
    np.testing.assert_allclose(
        matched.mean_shift, start.mean_shift, atol=1e-9
    )  # all classes alike: invisible
    np.testing.assert_allclose(matched.width_factor, start.width_factor * 1.1)
    np.testing.assert_allclose(matched.field_shares.sum(axis=-1), 1)
    rise = wanted.autocorrelation - figures[0].autocorrelation
    inside = (aim > 0) & (aim < 0.97)
    np.testing.assert_allclose((aim - targets.autocorrelation)[inside], 0.5 * rise[inside])

    brighter = figures[0].lv_mean.copy()
    brighter[3, 0] += 0.2
    matched, _ = match_once(
        start,
        figures,
        targets=replace(wanted, mean=brighter),
        aim=targets.autocorrelation,
        autocovariance=table,
    )
    share = np.array(statistics()["lv_volume_fraction"]["mean"])
    moved = (matched.mean_shift - start.mean_shift)[:, 0]
    assert moved[3] == pytest.approx(0.1 * (1 - share[3] / share.sum()))
    assert share @ moved == pytest.approx(0, abs=1e-12)
