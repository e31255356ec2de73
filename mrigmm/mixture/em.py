"""Expectation maximisation: the Gaussian mixture of a study, and the spatially variant mixture."""

from __future__ import annotations

from torch import Tensor

from mrigmm.mixture.fast import fit_features
from mrigmm.mixture.gaussian import Covariance, Mixture
from mrigmm.mixture.initial import Start
from mrigmm.mixture.population import MapPrior
from mrigmm.mixture.problem import EMResult, Schedule, check, first_mixture
from mrigmm.mixture.updates import VARIANCE_FLOOR
from mrigmm.mixture.voxelwise import best, run_gmm, run_svgmm


def fit_gmm(
    x: Tensor,
    *,
    n_classes: int | None = None,
    start: Mixture | Start | None = None,
    covariance: Covariance = "full",
    prior: MapPrior | None = None,
    allowed: Tensor | None = None,
    region: Tensor | None = None,
    present: Tensor | None = None,
    observed: Tensor | None = None,
    max_iter: int = 100,
    tol: float = 1e-4,
    n_starts: int = 1,
    seed: int = 0,
    variance_floor: float = VARIANCE_FLOOR,
) -> EMResult:
    """Fit a Gaussian mixture to the voxels of one study (or slice), by EM or MAP-EM.

    Args:
        x: ``(N, C)`` intensities of the region's voxels; N = 0 is allowed.
        n_classes: K; taken from ``start``, ``prior`` or ``allowed`` when None.
        start: a mixture, ``"kmeans++"`` or ``"random"`` (random responsibilities); when None the
            prior's mode, or k-means++ without a prior.
        covariance: ``full``, ``diag``, ``tied`` or ``spherical``.
        prior: maximum a posteriori when given.
        allowed: ``(R, K)`` bool, the classes that each region value allows; needs ``region``.
        region: ``(N,)`` integers in 0..R-1.
        present: ``(C,)`` bool, sequences that the study has. The others are integrated out.
        observed: ``(N, C)`` bool, where a sequence's field of view ends inside the region: the M-step uses
            conditional means and covariances. What ``x`` holds elsewhere is ignored.
        max_iter: M-steps at most.
        tol: EM stops once the bound (mean per voxel, natural log) changes by less.
        n_starts: starts with different seeds, of which the best bound is kept; 1 is enough for a mixture.
        seed: of the random starts.
        variance_floor: added to every variance.

    Returns:
        The best fit; ``converged`` says whether ``max_iter`` was enough.

    Raises:
        ValueError: arguments that do not fit together, or voxels that are not finite.
    """
    schedule = Schedule(max_iter, tol, n_starts, seed)
    problem = check(
        x,
        n_classes=n_classes,
        start=start,
        covariance=covariance,
        variance_floor=variance_floor,
        prior=prior,
        allowed=allowed,
        region=region,
        present=present,
        observed=observed,
    )
    first = first_mixture(start, problem)
    if problem.observed is None:
        return fit_features(problem, first, schedule)
    return best(run_gmm, problem, first, schedule)


def fit_svgmm(
    x: Tensor,
    *,
    n_classes: int | None = None,
    start: Mixture | Start | None = None,
    covariance: Covariance = "diag",
    prior: MapPrior | None = None,
    allowed: Tensor | None = None,
    region: Tensor | None = None,
    present: Tensor | None = None,
    observed: Tensor | None = None,
    max_iter: int = 100,
    tol: float = 1e-3,
    n_starts: int = 1,
    seed: int = 0,
    variance_floor: float = VARIANCE_FLOOR,
) -> EMResult:
    """Fit the spatially variant mixture of the published EM baseline (Schwab et al. 2024).

    Every voxel has its own weights, which each iteration replaces by the responsibilities:
    ``r_nk ~ pi_nk N(x_n | k)``, then means and covariances from r, then ``pi_nk = r_nk``. It is exact EM for
    ``nll_v`` and therefore ends near a hard classification.

    Arguments and errors as for ``fit_gmm``; the bound is the mean of
    ``log sum_k pi_nk N(x_n | k)``. The result's ``mixture.weights`` are the mean responsibilities.
    """
    schedule = Schedule(max_iter, tol, n_starts, seed)
    problem = check(
        x,
        n_classes=n_classes,
        start=start,
        covariance=covariance,
        variance_floor=variance_floor,
        prior=prior,
        allowed=allowed,
        region=region,
        present=present,
        observed=observed,
    )
    return best(run_svgmm, problem, first_mixture(start, problem), schedule)
