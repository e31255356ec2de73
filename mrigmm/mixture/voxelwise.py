"""EM that looks at every voxel on its own: per-voxel weights (SVGMM), per-voxel missing sequences."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import torch
from torch import Tensor

from mrigmm.mixture.gaussian import Mixture, log_gaussian, parameter_dtype
from mrigmm.mixture.initial import Start
from mrigmm.mixture.missing import expected_statistics, log_gaussian_observed
from mrigmm.mixture.moments import statistics
from mrigmm.mixture.objectives import log_likelihood, posterior, region_log_prior
from mrigmm.mixture.population import log_map_prior
from mrigmm.mixture.problem import EMResult, Problem, Schedule
from mrigmm.mixture.updates import constrained_weights, m_step, region_log_weights


def best(
    run: Callable[[Problem, Mixture, Schedule], EMResult],
    problem: Problem,
    start: Mixture | Start,
    schedule: Schedule,
) -> EMResult:
    """Return the best of several starts, of `run_gmm` or `run_svgmm`."""
    if len(problem.x) == 0:
        nothing = problem.x.new_zeros(0, problem.n_classes)
        return EMResult(_update(problem, nothing, None), nothing, [], True, 0, problem.x.new_zeros(0))
    generator = torch.Generator().manual_seed(schedule.seed)
    results = []
    for _ in schedule.repeats(start):
        if isinstance(start, Mixture):
            first = start
        else:
            first = _update(problem, problem.first_responsibilities(start, generator), None)
        results.append(run(problem, first, schedule))
    return max(results, key=lambda result: result.lower_bounds[-1])


def _log_density(problem: Problem, mixture: Mixture) -> Tensor:
    """``(N, K)``, missing values integrated out."""
    if problem.observed is not None:
        return log_gaussian_observed(problem.x, mixture.means, mixture.covariances, problem.observed)
    return log_gaussian(problem.x, mixture.means, mixture.covariances, present=problem.present)


def _log_prior(problem: Problem, mixture: Mixture) -> Tensor:
    """``(N, K)`` log class weights under the region's constraint."""
    return region_log_prior(mixture.weights, problem.allowed, problem.region_index).to(problem.x.dtype)


def _update(problem: Problem, resp: Tensor, mixture: Mixture | None) -> Mixture:
    """M-step; ``mixture`` is what ``resp`` was computed with, None for first responsibilities."""
    if problem.observed is None or mixture is None:
        stats = statistics(problem.filled(), resp)
    else:
        stats = expected_statistics(problem.x, resp, mixture.means, mixture.covariances, problem.observed)
    new = m_step(
        stats,
        covariance=problem.covariance,
        variance_floor=problem.variance_floor,
        prior=problem.prior,
        present=problem.present,
    )
    weights = constrained_weights(stats.n, _region_counts(problem), problem.allowed, prior=problem.prior)
    return Mixture(weights, new.means, new.covariances)


def run_gmm(problem: Problem, mixture: Mixture, schedule: Schedule) -> EMResult:
    """EM for the mixture with one weight per class; exact also with per-voxel missing values."""
    bounds: list[float] = []
    converged = False
    while not converged and len(bounds) < schedule.max_iter:
        density, prior = _log_density(problem, mixture), _log_prior(problem, mixture)
        bounds.append(_bound(problem, log_likelihood(prior, density), mixture, weights=True))
        mixture = _update(problem, posterior(prior, density), mixture)
        converged = len(bounds) > 1 and abs(bounds[-1] - bounds[-2]) < schedule.tol
    density, prior = _log_density(problem, mixture), _log_prior(problem, mixture)
    resp, per_voxel = posterior(prior, density), log_likelihood(prior, density)
    return EMResult(mixture, resp, bounds, converged, len(bounds), per_voxel)


def run_svgmm(problem: Problem, mixture: Mixture, schedule: Schedule) -> EMResult:
    """EM for the spatially variant mixture; its first weights are those of ``mixture``."""
    log_pi = _log_prior(problem, mixture)
    bounds: list[float] = []
    converged = False
    while not converged and len(bounds) < schedule.max_iter:
        joint = log_pi + _log_density(problem, mixture)
        evidence = joint.logsumexp(-1)
        bounds.append(_bound(problem, evidence, mixture, weights=False))
        log_pi = joint - evidence[:, None]
        mixture = _update(problem, log_pi.exp(), mixture)
        converged = len(bounds) > 1 and abs(bounds[-1] - bounds[-2]) < schedule.tol
    joint = log_pi + _log_density(problem, mixture)
    evidence = joint.logsumexp(-1)
    resp = (joint - evidence[:, None]).exp()
    return EMResult(mixture, resp, bounds, converged, len(bounds), evidence)


def _bound(problem: Problem, per_voxel: Tensor, mixture: Mixture, *, weights: bool) -> float:
    """Mean log likelihood, with a prior plus log prior / N; ``weights``: whether it covers the weights."""
    value = float(per_voxel.to(parameter_dtype(per_voxel.device)).mean())
    if problem.prior is None:
        return value
    prior = problem.prior if weights else replace(problem.prior, a=0.0)
    log_prior_density = log_map_prior(
        mixture,
        prior,
        torch.tensor(float(len(problem.x)), dtype=mixture.means.dtype, device=mixture.means.device),
        present=problem.present,
        log_weights=region_log_weights(mixture.weights, _region_counts(problem), problem.allowed),
    )
    return value + float(log_prior_density) / len(problem.x)


def _region_counts(problem: Problem) -> Tensor:
    return torch.bincount(problem.region_index, minlength=len(problem.allowed))
