"""Gaussian mixtures on images: exact, robust, differentiable. Mathematics only."""

from typing import TYPE_CHECKING, Any

from mrigmm.mixture.cavity import find_cavity
from mrigmm.mixture.em import fit_gmm, fit_svgmm
from mrigmm.mixture.gaussian import Covariance, Mixture, log_gaussian, safe_log
from mrigmm.mixture.initial import match_to_prior, order_by_channels
from mrigmm.mixture.missing import expected_statistics, log_gaussian_observed
from mrigmm.mixture.moments import Statistics, statistics
from mrigmm.mixture.objectives import log_likelihood, masked_mean, nll, pool_mean, posterior, region_log_prior
from mrigmm.mixture.pooled import PooledFit, StudyVoxels, classify, fit_gmm_pooled
from mrigmm.mixture.population import MapPrior, PopulationPrior, log_map_prior
from mrigmm.mixture.population_sums import PARTIAL_SUMS, AddUp, PopulationSums, StudySums
from mrigmm.mixture.potts import fit_potts, potts_bound, potts_posterior, potts_support
from mrigmm.mixture.problem import EMResult
from mrigmm.mixture.smoothing import gaussian_blur, multiscale_features, smooth_inside, smooth_posterior
from mrigmm.mixture.tables import ConvergenceWarning
from mrigmm.mixture.updates import VARIANCE_FLOOR, constrained_weights, m_step, region_log_weights

if TYPE_CHECKING:
    from mrigmm.mixture.estimator import GaussianMixture

__all__ = [
    "PARTIAL_SUMS",
    "VARIANCE_FLOOR",
    "AddUp",
    "ConvergenceWarning",
    "Covariance",
    "EMResult",
    "GaussianMixture",
    "MapPrior",
    "Mixture",
    "PooledFit",
    "PopulationPrior",
    "PopulationSums",
    "Statistics",
    "StudySums",
    "StudyVoxels",
    "classify",
    "constrained_weights",
    "expected_statistics",
    "find_cavity",
    "fit_gmm",
    "fit_gmm_pooled",
    "fit_potts",
    "fit_svgmm",
    "gaussian_blur",
    "log_gaussian",
    "log_gaussian_observed",
    "log_likelihood",
    "log_map_prior",
    "m_step",
    "masked_mean",
    "match_to_prior",
    "multiscale_features",
    "nll",
    "order_by_channels",
    "pool_mean",
    "posterior",
    "potts_bound",
    "potts_posterior",
    "potts_support",
    "region_log_prior",
    "region_log_weights",
    "safe_log",
    "smooth_inside",
    "smooth_posterior",
    "statistics",
]


if not TYPE_CHECKING:

    def __getattr__(name: str) -> Any:
        if name == "GaussianMixture":  # on first use: it takes scikit-learn, which nothing else here does
            from mrigmm.mixture.estimator import GaussianMixture

            return GaussianMixture
        raise AttributeError(f"module 'mrigmm.mixture' has no attribute '{name}'")


def __dir__() -> list[str]:
    return __all__
