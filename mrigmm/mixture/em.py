"""Expectation maximisation: Gaussian mixtures of one study or of many, and the spatially variant mixture."""

from __future__ import annotations

import warnings

import torch
from torch import Tensor

from mrigmm.mixture.gaussian import Covariance, Mixture
from mrigmm.mixture.initial import Start
from mrigmm.mixture.map_prior import MapPrior
from mrigmm.mixture.packed import fit_packed, fit_packed_patterns
from mrigmm.mixture.problem import Schedule, check, first_mixture
from mrigmm.mixture.results import BatchResult, ConvergenceWarning, EMResult
from mrigmm.mixture.updates import VARIANCE_FLOOR
from mrigmm.mixture.voxelwise import best_gmm, best_svgmm


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
        The best fit.

    Warns:
        ConvergenceWarning: ``max_iter`` was not enough.

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
        result = fit_packed(problem, None, 1, first, schedule).only()
    else:
        result = best_gmm(problem, first, schedule)
    _warn_unless_converged([result.converged], schedule)
    return result


def fit_gmm_batch(
    x: Tensor,
    index: Tensor,
    n_mixtures: int,
    *,
    n_classes: int | None = None,
    start: Mixture | Start | None = None,
    covariance: Covariance = "full",
    prior: MapPrior | None = None,
    allowed: Tensor | None = None,
    region: Tensor | None = None,
    present: Tensor | None = None,
    max_iter: int = 100,
    tol: float = 1e-4,
    n_starts: int = 1,
    seed: int = 0,
    variance_floor: float = VARIANCE_FLOOR,
) -> BatchResult:
    """Fit one mixture to each of many studies or slices of any size, together.

    The same as ``fit_gmm`` on each, but the small operations are shared. Voxels are packed: nothing is
    padded. A mixture that has converged costs nothing more.

    Args:
        x: ``(n, C)`` voxels of all studies; grouped by study is fastest, any order is right.
        index: ``(n,)`` long, the study of each voxel, in 0..S-1.
        n_mixtures: S; a study may have no voxel.
        n_classes: as in ``fit_gmm``.
        start: as in ``fit_gmm``; a mixture ``(K, ...)`` for all or ``(S, K, ...)``.
        covariance: as in ``fit_gmm``.
        prior: as in ``fit_gmm``, shared; its strengths follow each study's own voxel count.
        allowed: as in ``fit_gmm``, shared.
        region: ``(n,)``.
        present: ``(S, C)`` bool, the sequences that each study has.
        max_iter: as in ``fit_gmm``.
        tol: as in ``fit_gmm``, for each mixture on its own.
        n_starts: as in ``fit_gmm``, the best kept for each mixture.
        seed: as in ``fit_gmm``.
        variance_floor: as in ``fit_gmm``.

    Warns:
        ConvergenceWarning: ``max_iter`` was not enough for some mixture.

    Raises:
        ValueError: arguments that do not fit together, or voxels that are not finite.
    """
    schedule = Schedule(max_iter, tol, n_starts, seed)
    if n_mixtures < 1:
        raise ValueError(f"expected at least one mixture, got {n_mixtures}")
    if index.shape != x.shape[:1]:
        raise ValueError(f"expected index ({len(x)},), got {tuple(index.shape)}")
    if len(index) and not 0 <= int(index.min()) <= int(index.max()) < n_mixtures:
        raise ValueError(f"expected index in 0..{n_mixtures - 1}, got {int(index.min())}..{int(index.max())}")
    S, C = n_mixtures, x.shape[-1]
    index = index.to(x.device).long()
    if present is not None:
        if present.shape != (S, C) or not bool(present.any(1).all()):
            raise ValueError(f"expected present ({S}, {C}) bool with a sequence for each study")
        present = present.to(x.device)
        x = torch.where(present[index], x, 0.0)
    problem = check(
        x,
        n_classes=n_classes,
        start=start,
        covariance=covariance,
        variance_floor=variance_floor,
        prior=prior,
        allowed=allowed,
        region=region,
        present=None,
        observed=None,
    )
    first = first_mixture(start, problem)
    if isinstance(first, Mixture):
        first = Mixture(
            first.weights.expand(S, problem.n_classes),
            first.means.expand(S, problem.n_classes, C),
            first.covariances.expand(S, problem.n_classes, C, C),
        )
    if present is None:
        result = fit_packed(problem, index, S, first, schedule)
    else:
        result = fit_packed_patterns(problem, index, first, present, schedule)
    _warn_unless_converged(result.converged, schedule)
    return result


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

    Arguments, warnings and errors as for ``fit_gmm``; the bound is the mean of
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
    result = best_svgmm(problem, first_mixture(start, problem), schedule)
    _warn_unless_converged([result.converged], schedule)
    return result


def _warn_unless_converged(converged: list[bool], schedule: Schedule) -> None:
    if all(converged):
        return
    which = "" if len(converged) == 1 else f" for {converged.count(False)} of {len(converged)} mixtures"
    warnings.warn(
        f"EM did not converge{which} in {schedule.max_iter} iterations (tolerance {schedule.tol:g} on the "
        "mean log likelihood): raise max_iter or tol",
        ConvergenceWarning,
        stacklevel=3,
    )
