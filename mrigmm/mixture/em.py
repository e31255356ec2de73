"""Expectation maximisation: Gaussian mixtures of one study or of many, and the spatially variant mixture."""

from __future__ import annotations

import warnings
from dataclasses import replace

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from mrigmm.mixture import fast, voxelwise
from mrigmm.mixture.gaussian import Covariance, Mixture, parameter_dtype
from mrigmm.mixture.initial import Start
from mrigmm.mixture.problem import Problem, check, check_limits, first_mixture
from mrigmm.mixture.results import BatchResult, ConvergenceWarning, EMResult
from mrigmm.mixture.updates import VARIANCE_FLOOR, MapPrior


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
    check_limits(max_iter, tol, n_starts)
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
    if problem.observed is not None:
        return _best_voxelwise(problem, start, n_starts, seed, max_iter, tol, spatially_variant=False)
    batch = _fit_pattern(problem, None, 1, first_mixture(start, problem), n_starts, seed, max_iter, tol)
    mixture = Mixture(batch.mixture.weights[0], batch.mixture.means[0], batch.mixture.covariances[0])
    result = EMResult(
        mixture,
        batch.resp,
        batch.lower_bounds[0],
        batch.converged[0],
        batch.n_iter[0],
        batch.log_likelihood,
    )
    _warn_unless_converged([result.converged], max_iter, tol)
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
    check_limits(max_iter, tol, n_starts)
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
        result = _fit_pattern(problem, index, S, first, n_starts, seed, max_iter, tol)
    else:
        patterns, which = torch.unique(present, dim=0, return_inverse=True)
        result = _fit_patterns(problem, index, first, patterns, which, n_starts, seed, max_iter, tol)
    _warn_unless_converged(result.converged, max_iter, tol)
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
    check_limits(max_iter, tol, n_starts)
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
    return _best_voxelwise(problem, start, n_starts, seed, max_iter, tol, spatially_variant=True)


def _best_voxelwise(
    problem: Problem,
    start: Mixture | Start | None,
    n_starts: int,
    seed: int,
    max_iter: int,
    tol: float,
    *,
    spatially_variant: bool,
) -> EMResult:
    """The best of several starts of the voxel-wise EM."""
    K = problem.n_classes
    if len(problem.x) == 0:
        nothing = problem.x.new_zeros(0, K)
        return EMResult(
            voxelwise.update(problem, nothing, None), nothing, [], True, 0, problem.x.new_zeros(0)
        )
    run = voxelwise.run_svgmm if spatially_variant else voxelwise.run_gmm
    first = first_mixture(start, problem)
    generator = torch.Generator().manual_seed(seed)
    results = []
    for _ in range(1 if isinstance(first, Mixture) else n_starts):
        mixture = (
            first
            if isinstance(first, Mixture)
            else voxelwise.update(problem, problem.first_responsibilities(first, generator), None)
        )
        results.append(run(problem, mixture, max_iter, tol))
    best = max(results, key=lambda result: result.lower_bounds[-1])
    _warn_unless_converged([best.converged], max_iter, tol)
    return best


def _fit_pattern(
    problem: Problem,
    index: Tensor | None,
    n_mixtures: int,
    start: Mixture | Start,
    n_starts: int,
    seed: int,
    max_iter: int,
    tol: float,
) -> BatchResult:
    """Mixtures of studies that all have the same sequences."""
    whole = problem
    if problem.present is not None:
        problem, start = _without_absent(problem, problem.present, start)
    voxels = fast.prepare(problem.x, index, n_mixtures, problem.allowed, problem.region, problem.covariance)
    updater = fast.Updater.build(voxels, problem.covariance, problem.variance_floor, problem.prior)
    generator = torch.Generator().manual_seed(seed)
    best: _Run | None = None
    for _ in range(1 if isinstance(start, Mixture) else n_starts):
        if isinstance(start, Mixture):
            first = fast.from_mixture(start, voxels)
        else:
            resp = _first_responsibilities(problem, index, n_mixtures, start, generator)
            first = updater(fast.feature_sums(voxels, resp), voxels)
        run = _Run(first, n_mixtures)
        run.iterate(voxels, updater, max_iter, tol)
        best = run if best is None else best.better(run)
    assert best is not None
    resp, log_likelihood = fast.evaluate(voxels, best.parameters)
    mixture = fast.to_mixture(best.parameters, voxels, problem.x.device)
    if whole.present is not None:
        mixture = _with_absent(mixture, whole.present, whole.prior)
    return BatchResult(
        mixture,
        resp,
        best.bounds,
        best.converged.tolist(),
        [len(bounds) for bounds in best.bounds],
        log_likelihood,
    )


def _fit_patterns(
    problem: Problem,
    index: Tensor,
    start: Mixture | Start,
    patterns: Tensor,
    which: Tensor,
    n_starts: int,
    seed: int,
    max_iter: int,
    tol: float,
) -> BatchResult:
    """Mixtures of studies with different sequences, one group of equal sequences after the other."""
    (S,), K, C = which.shape, problem.n_classes, problem.x.shape[1]
    exact = parameter_dtype(problem.x.device)
    new = problem.x.new_empty
    weights, means = new(S, K, dtype=exact), new(S, K, C, dtype=exact)
    covariances = new(S, K, C, C, dtype=exact)
    resp, log_likelihood = new(len(index), K), new(len(index))
    bounds: list[list[float]] = [[] for _ in range(S)]
    converged, n_iter = [False] * S, [0] * S
    for number, pattern in enumerate(patterns):
        members = (which == number).nonzero()[:, 0]
        own = (which[index] == number).nonzero()[:, 0]
        rank = torch.empty_like(which)
        rank[members] = torch.arange(len(members), device=which.device)
        part = replace(
            problem,
            x=problem.x[own],
            region=None if problem.region is None else problem.region[own],
            present=None if bool(pattern.all()) else pattern,
        )
        first = start
        if isinstance(start, Mixture):
            first = Mixture(start.weights[members], start.means[members], start.covariances[members])
        fitted = _fit_pattern(part, rank[index[own]], len(members), first, n_starts, seed, max_iter, tol)
        weights[members], means[members] = fitted.mixture.weights, fitted.mixture.means
        covariances[members] = fitted.mixture.covariances
        resp[own], log_likelihood[own] = fitted.resp, fitted.log_likelihood
        for position, s in enumerate(members.tolist()):
            bounds[s], n_iter[s] = fitted.lower_bounds[position], fitted.n_iter[position]
            converged[s] = fitted.converged[position]
    return BatchResult(Mixture(weights, means, covariances), resp, bounds, converged, n_iter, log_likelihood)


class _Run:
    """The state of EM on S mixtures from one start."""

    def __init__(self, parameters: fast.Parameters, n_mixtures: int) -> None:
        self.parameters = parameters
        self.bounds: list[list[float]] = [[] for _ in range(n_mixtures)]
        self.converged: npt.NDArray[np.bool_] = np.zeros(n_mixtures, dtype=bool)

    def iterate(self, voxels: fast.Voxels, updater: fast.Updater, max_iter: int, tol: float) -> None:
        """EM until every mixture has converged, or ``max_iter`` M-steps."""
        totals = voxels.region_counts.sum(-1)
        if not totals.all():
            # Without voxels there is nothing to iterate: the M-step's fallback is the answer.
            fallback = updater(fast.no_sums(voxels), voxels)
            self.parameters = fast.keep(self.parameters, fallback, totals == 0)
            self.converged |= totals == 0
        buffers = fast.workspace(voxels)
        before = np.full(len(totals), -np.inf)
        per_voxel = np.maximum(totals, 1.0)
        for _ in range(max_iter):
            active = ~self.converged
            if not active.any():
                return
            sums, bound = fast.e_step(voxels, self.parameters, buffers, active)
            if updater.prior is not None:
                bound = bound + updater.log_prior(self.parameters, voxels)
            bound = bound / per_voxel
            self.parameters = fast.keep(self.parameters, updater(sums, voxels), active)
            for s in active.nonzero()[0].tolist():
                self.bounds[s].append(float(bound[s]))
            self.converged |= active & (np.abs(bound - before) < tol)
            before = bound

    def better(self, other: _Run) -> _Run:
        """Each mixture from the run with its higher bound."""
        wins = np.array([b[-1:] > a[-1:] for a, b in zip(self.bounds, other.bounds, strict=True)])
        merged = _Run(fast.keep(self.parameters, other.parameters, wins), len(wins))
        merged.bounds = [b if win else a for a, b, win in zip(self.bounds, other.bounds, wins, strict=True)]
        merged.converged = np.where(wins, other.converged, self.converged)
        return merged


def _first_responsibilities(
    problem: Problem, index: Tensor | None, n_mixtures: int, start: Start, generator: torch.Generator
) -> Tensor:
    """``(n, K)``, each mixture's voxels started on their own."""
    if index is None:
        return problem.first_responsibilities(start, generator) if len(problem.x) else _nothing(problem)
    resp = _nothing(problem)
    for s in range(n_mixtures):
        own = (index == s).nonzero()[:, 0]
        if len(own):
            region = None if problem.region is None else problem.region[own]
            part = replace(problem, x=problem.x[own], region=region)
            resp[own] = part.first_responsibilities(start, generator)
    return resp


def _nothing(problem: Problem) -> Tensor:
    return problem.x.new_zeros(len(problem.x), problem.n_classes, dtype=parameter_dtype(problem.x.device))


_Start = Mixture | Start


def _without_absent(problem: Problem, present: Tensor, start: _Start) -> tuple[Problem, _Start]:
    """The same problem in the sequences that exist: a Gaussian's rows and columns are dropped."""
    keep = present.nonzero()[:, 0].tolist()
    prior = problem.prior
    if prior is not None:
        sub = prior.mixture().channels(keep)
        prior = MapPrior(sub.means, sub.covariances, prior.weights, prior.kappa, prior.nu, prior.a)
    if isinstance(start, Mixture):
        start = start.channels(keep)
    return replace(problem, x=problem.x[:, keep], prior=prior, present=None), start


def _with_absent(mixture: Mixture, present: Tensor, prior: MapPrior | None) -> Mixture:
    """The mixture with the absent sequences back, filled as ``m_step`` fills them."""
    keep = present.nonzero()[:, 0]
    K, C = mixture.n_classes, len(present)
    shape = mixture.weights.shape[:-1]
    means = mixture.means.new_zeros(*shape, K, C)
    covariances = torch.eye(C, dtype=means.dtype, device=means.device).repeat(*shape, K, 1, 1)
    if prior is not None:
        absent = ~present
        means[:] = prior.means.to(means)
        block = absent[:, None] & absent[None, :]
        covariances = torch.where(block, prior.covariances.to(means), covariances)
    means[..., keep] = mixture.means
    covariances[..., keep[:, None], keep] = mixture.covariances
    return Mixture(mixture.weights, means, covariances)


def _warn_unless_converged(converged: list[bool], max_iter: int, tol: float) -> None:
    if all(converged):
        return
    which = "" if len(converged) == 1 else f" for {converged.count(False)} of {len(converged)} mixtures"
    warnings.warn(
        f"EM did not converge{which} in {max_iter} iterations (tolerance {tol:g} on the mean log "
        "likelihood): raise max_iter or tol",
        ConvergenceWarning,
        stacklevel=3,
    )
