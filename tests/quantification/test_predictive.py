import numpy as np
import pytest
from scipy.stats import norm

from mrigmm.quantification.predictive import N_DRAWS, crps_ensemble, draw_volumes_ml, intervals


def test_the_draws_have_the_expected_volume():
    probability = np.random.default_rng(0).uniform(size=(10, 10, 10))
    draws = draw_volumes_ml(probability, 0.01)
    assert draws.shape == (N_DRAWS,)
    assert (np.diff(draws) >= 0).all()
    assert draws.mean() == pytest.approx(probability.sum() * 0.01, rel=1e-3)


def test_the_interval_is_between_voxels_of_97_5_and_2_5_percent():
    """Of 0.1 ml each: 10 voxels sure, 5 at 50 %, 20 at 1 %: from 1 ml to 1.5 ml."""
    probability = np.array([1.0] * 10 + [0.5] * 5 + [0.01] * 20 + [0.0] * 30)
    sure, absent = (np.full(7, p) for p in (1.0, 0.0))  # they have no spread
    draws = {"edema": draw_volumes_ml(sure, 2.0), "scar": draw_volumes_ml(probability, 0.1)}
    found = intervals({**draws, "cavity": draw_volumes_ml(absent, 2.0)})
    assert {name: pytest.approx(ends) for name, ends in found.items()} == {"scar": (1.0, 1.5)}
    assert intervals({}) == {}


def test_crps_of_two_draws_by_hand():
    """Draws 0 and 2 against 1: mean distance 1, mean |x_i - x_j| = 1, so 1 - 1/2."""
    assert crps_ensemble(np.array([2.0, 0.0]), 1.0) == pytest.approx(0.5)


def test_crps_of_a_point_is_the_absolute_error():
    assert crps_ensemble(np.array([3.0]), 5.5) == 2.5
    assert crps_ensemble(np.full(9, 3.0), 5.5) == pytest.approx(2.5)


@pytest.mark.parametrize("observed", [-3.0, 0.4, 2.0, 9.0])
def test_crps_is_the_integral_of_its_definition(observed):
    draws = np.random.default_rng(1).gamma(2, 1, size=50)
    x = np.linspace(-5, 20, 2_000_001)
    below = np.searchsorted(np.sort(draws), x, side="right") / draws.size
    assert crps_ensemble(draws, observed) == pytest.approx(
        np.trapezoid((below - (x >= observed)) ** 2, x), abs=1e-4
    )


@pytest.mark.parametrize("observed", [9.0, 12.5])
def test_crps_of_a_gaussian_is_its_closed_form(observed):
    """sd (z (2 Phi(z) - 1) + 2 phi(z) - 1 / sqrt(pi)), for the quantiles of N(10, 2) as draws."""
    z = (observed - 10) / 2
    closed = 2 * (z * (2 * norm.cdf(z) - 1) + 2 * norm.pdf(z) - 1 / np.sqrt(np.pi))
    draws = norm.ppf((np.arange(20_000) + 0.5) / 20_000, 10, 2)
    assert crps_ensemble(draws, observed) == pytest.approx(closed, rel=1e-3)
