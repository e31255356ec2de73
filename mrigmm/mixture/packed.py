"""EM over packed voxels: several starts, and studies whose sequences differ."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from mrigmm.mixture import fast
from mrigmm.mixture.gaussian import Mixture, parameter_dtype
from mrigmm.mixture.initial import Start
from mrigmm.mixture.map_prior import MapPrior
from mrigmm.mixture.problem import Problem, Schedule
from mrigmm.mixture.results import BatchResult


def fit_packed(
    problem: Problem, index: Tensor | None, n_mixtures: int, start: Mixture | Start, schedule: Schedule
) -> BatchResult:
    """Mixtures of studies that all have the same sequences.

    Args:
        problem: voxels of all studies.
        index: ``(n,)`` study of each voxel; all 0 when None.
        n_mixtures: S.
        start: mixtures ``(S, ...)`` or one for all, or how to start.
        schedule: of EM.
    """
    whole = problem
    if problem.present is not None:
        problem, start = _without_absent(problem, problem.present, start)
    voxels = fast.prepare(problem.x, index, n_mixtures, problem.allowed, problem.region, problem.covariance)
    m_step = fast.MStep(voxels, problem.covariance, problem.variance_floor, problem.prior)
    generator = torch.Generator().manual_seed(schedule.seed)
    best: fast.Run | None = None
    for _ in schedule.repeats(start):
        if isinstance(start, Mixture):
            first = fast.from_mixture(start, voxels)
        else:
            resp = _first_responsibilities(problem, index, n_mixtures, start, generator)
            first = m_step(fast.feature_sums(voxels, resp))
        run = fast.Run(first, n_mixtures)
        run.iterate(voxels, m_step, schedule.max_iter, schedule.tol)
        best = run if best is None else best.better(run)
    assert best is not None
    resp, log_likelihood = fast.evaluate(voxels, best.parameters)
    mixture = fast.to_mixture(best.parameters, voxels, problem.x.device)
    if whole.present is not None:
        mixture = _with_absent(mixture, whole.present, whole.prior)
    n_iter = [len(bounds) for bounds in best.bounds]
    return BatchResult(mixture, resp, best.bounds, best.converged.tolist(), n_iter, log_likelihood)


def fit_packed_patterns(
    problem: Problem, index: Tensor, start: Mixture | Start, present: Tensor, schedule: Schedule
) -> BatchResult:
    """Mixtures of studies with different sequences, one group of equal sequences after the other.

    Args:
        problem: voxels of all studies.
        index: ``(n,)`` study of each voxel.
        start: mixtures ``(S, ...)``, or how to start.
        present: ``(S, C)`` bool.
        schedule: of EM.
    """
    (S, C), K = present.shape, problem.n_classes
    patterns, which = torch.unique(present, dim=0, return_inverse=True)
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
        fitted = fit_packed(part, rank[index[own]], len(members), first, schedule)
        weights[members], means[members] = fitted.mixture.weights, fitted.mixture.means
        covariances[members] = fitted.mixture.covariances
        resp[own], log_likelihood[own] = fitted.resp, fitted.log_likelihood
        for position, s in enumerate(members.tolist()):
            bounds[s], n_iter[s] = fitted.lower_bounds[position], fitted.n_iter[position]
            converged[s] = fitted.converged[position]
    return BatchResult(Mixture(weights, means, covariances), resp, bounds, converged, n_iter, log_likelihood)


def _first_responsibilities(
    problem: Problem, index: Tensor | None, n_mixtures: int, start: Start, generator: torch.Generator
) -> Tensor:
    """``(n, K)``, each mixture's voxels started on their own."""
    exact = parameter_dtype(problem.x.device)
    resp = problem.x.new_zeros(len(problem.x), problem.n_classes, dtype=exact)
    if index is None:
        return problem.first_responsibilities(start, generator) if len(problem.x) else resp
    for s in range(n_mixtures):
        own = (index == s).nonzero()[:, 0]
        if len(own):
            region = None if problem.region is None else problem.region[own]
            part = replace(problem, x=problem.x[own], region=region)
            resp[own] = part.first_responsibilities(start, generator)
    return resp


def _without_absent(
    problem: Problem, present: Tensor, start: Mixture | Start
) -> tuple[Problem, Mixture | Start]:
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
