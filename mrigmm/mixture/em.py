"""Expectation maximisation for one study: Gaussian mixture and spatially variant mixture."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from mrigmm.mixture.gaussian import Covariance, Mixture, log_gaussian, parameter_dtype
from mrigmm.mixture.initial import Start, kmeans_responsibilities, random_responsibilities
from mrigmm.mixture.missing import expected_statistics, log_gaussian_observed
from mrigmm.mixture.moments import Statistics, statistics
from mrigmm.mixture.objectives import log_likelihood, posterior, region_log_prior
from mrigmm.mixture.updates import VARIANCE_FLOOR, MapPrior, constrained_weights, log_map_prior, m_step


class ConvergenceWarning(UserWarning):
    """EM stopped at its iteration limit before the bound settled."""


@dataclass(frozen=True)
class EMResult:
    """What EM found for one study.

    Attributes:
        mixture: the fitted mixture, float64.
        resp: ``(N, K)`` posterior class probabilities under it.
        lower_bounds: mean log likelihood per voxel (with a prior: plus log prior / N) before each M-step.
        converged: whether the bound settled within the tolerance.
        n_iter: M-steps taken.
        log_likelihood: ``(N,)`` log likelihood of each voxel.
    """

    mixture: Mixture
    resp: Tensor
    lower_bounds: list[float]
    converged: bool
    n_iter: int
    log_likelihood: Tensor


@dataclass(frozen=True)
class _Problem:
    """One study's voxels and everything that stays fixed while EM runs."""

    x: Tensor  # (N, C)
    allowed: Tensor  # (R, K)
    region: Tensor  # (N,)
    covariance: Covariance
    variance_floor: float
    prior: MapPrior | None
    present: Tensor | None  # (C,)
    observed: Tensor | None  # (N, C)

    def log_density(self, mixture: Mixture) -> Tensor:
        if self.observed is not None:
            return log_gaussian_observed(self.x, mixture.means, mixture.covariances, self.observed)
        return log_gaussian(self.x, mixture.means, mixture.covariances, present=self.present)

    def log_prior(self, mixture: Mixture) -> Tensor:
        return region_log_prior(mixture.weights, self.allowed, self.region).to(self.x.dtype)

    def m_step(self, resp: Tensor, mixture: Mixture | None) -> Mixture:
        stats = self.statistics(resp, mixture)
        new = m_step(
            stats,
            covariance=self.covariance,
            variance_floor=self.variance_floor,
            prior=self.prior,
            present=self.present,
        )
        counts = torch.bincount(self.region, minlength=len(self.allowed))
        weights = constrained_weights(stats.n, counts, self.allowed, prior=self.prior)
        return Mixture(weights, new.means, new.covariances)

    def statistics(self, resp: Tensor, mixture: Mixture | None) -> Statistics:
        if self.observed is None or mixture is None:
            return statistics(self.x, resp)
        return expected_statistics(self.x, resp, mixture.means, mixture.covariances, self.observed)

    def bound(self, per_voxel: Tensor, mixture: Mixture, *, with_weights: bool = True) -> float:
        value = float(per_voxel.to(parameter_dtype(per_voxel.device)).mean())
        if self.prior is None:
            return value
        n_voxels = torch.as_tensor(float(len(self.x)), dtype=mixture.means.dtype, device=self.x.device)
        prior = (
            self.prior
            if with_weights
            else MapPrior(
                self.prior.means,
                self.prior.covariances,
                self.prior.weights,
                self.prior.kappa,
                self.prior.nu,
                0.0,
            )
        )
        return value + float(log_map_prior(mixture, prior, n_voxels, present=self.present)) / len(self.x)


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
        n_classes: K; taken from ``start`` or ``prior`` when None.
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
        n_starts: starts with different seeds, of which the best bound is kept.
        seed: of the random starts.
        variance_floor: added to every variance.

    Returns:
        The best fit.

    Warns:
        ConvergenceWarning: ``max_iter`` was not enough.

    Raises:
        ValueError: arguments that do not fit together, or voxels that are not finite.
    """
    problem, K = _checked(
        x, n_classes, start, covariance, prior, allowed, region, present, observed, variance_floor
    )
    return _best(problem, K, start, n_starts, seed, max_iter, tol, _run_gmm)


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
    ``NLL_V`` and therefore ends near a hard classification.

    Arguments as for ``fit_gmm``; the bound is the mean of ``log sum_k pi_nk N(x_n | k)``. The result's
    ``mixture.weights`` are the mean responsibilities.
    """
    problem, K = _checked(
        x, n_classes, start, covariance, prior, allowed, region, present, observed, variance_floor
    )
    return _best(problem, K, start, n_starts, seed, max_iter, tol, _run_svgmm)


def _run_gmm(problem: _Problem, mixture: Mixture, max_iter: int, tol: float) -> EMResult:
    bounds: list[float] = []
    converged = False
    for _ in range(max_iter):
        log_density, log_prior = problem.log_density(mixture), problem.log_prior(mixture)
        bounds.append(problem.bound(log_likelihood(log_prior, log_density), mixture))
        mixture = problem.m_step(posterior(log_prior, log_density), mixture)
        if len(bounds) > 1 and abs(bounds[-1] - bounds[-2]) < tol:
            converged = True
            break
    log_density, log_prior = problem.log_density(mixture), problem.log_prior(mixture)
    return EMResult(
        mixture,
        posterior(log_prior, log_density),
        bounds,
        converged,
        len(bounds),
        log_likelihood(log_prior, log_density),
    )


def _run_svgmm(problem: _Problem, mixture: Mixture, max_iter: int, tol: float) -> EMResult:
    log_pi = problem.log_prior(mixture)
    bounds: list[float] = []
    converged = False
    for _ in range(max_iter):
        joint = log_pi + problem.log_density(mixture)
        evidence = joint.logsumexp(-1)
        bounds.append(problem.bound(evidence, mixture, with_weights=False))
        log_pi = joint - evidence[:, None]
        mixture = problem.m_step(log_pi.exp(), mixture)
        if len(bounds) > 1 and abs(bounds[-1] - bounds[-2]) < tol:
            converged = True
            break
    joint = log_pi + problem.log_density(mixture)
    evidence = joint.logsumexp(-1)
    resp = (joint - evidence[:, None]).exp()
    return EMResult(mixture, resp, bounds, converged, len(bounds), evidence)


_Runner = Callable[[_Problem, Mixture, int, float], EMResult]


def _best(
    problem: _Problem,
    K: int,
    start: Mixture | Start | None,
    n_starts: int,
    seed: int,
    max_iter: int,
    tol: float,
    run: _Runner,
) -> EMResult:
    """The best of several starts, with a warning when it did not converge."""
    if max_iter < 1 or n_starts < 1:
        raise ValueError(f"max_iter and n_starts must be at least 1, got {max_iter} and {n_starts}")
    N = len(problem.x)
    if N == 0:
        empty = problem.x.new_zeros(0, K)
        mixture = problem.m_step(empty, None)
        return EMResult(mixture, empty, [], True, 0, problem.x.new_zeros(0))
    if start is None:
        start = "kmeans++" if problem.prior is None else problem.prior.mixture()
    generator = torch.Generator().manual_seed(seed)
    best: EMResult | None = None
    for _ in range(1 if isinstance(start, Mixture) else n_starts):
        result = run(problem, _first_mixture(problem, start, generator), max_iter, tol)
        if best is None or result.lower_bounds[-1] > best.lower_bounds[-1]:
            best = result
    assert best is not None
    if not best.converged:
        warnings.warn(
            f"EM did not converge in {max_iter} iterations (tolerance {tol:g} on the mean log likelihood): "
            "raise max_iter or tol",
            ConvergenceWarning,
            stacklevel=3,
        )
    return best


def _first_mixture(problem: _Problem, start: Mixture | Start, generator: torch.Generator) -> Mixture:
    if isinstance(start, Mixture):
        return start.to(dtype=parameter_dtype(problem.x.device), device=problem.x.device)
    allowed = problem.allowed[problem.region]
    filled = problem
    if problem.observed is not None:
        filled = _Problem(
            **{**vars(problem), "x": _mean_filled(problem.x, problem.observed), "observed": None}
        )
    if start == "random":
        resp = random_responsibilities(allowed, generator)
    elif start == "kmeans++":
        visible = filled.x if problem.present is None else filled.x[:, problem.present]
        resp = kmeans_responsibilities(visible, allowed, generator)
    else:
        raise ValueError(f"expected a Mixture, 'kmeans++' or 'random' as start, got {start!r}")
    return filled.m_step(resp, None)


def _mean_filled(x: Tensor, observed: Tensor) -> Tensor:
    """Voxels with a sequence's observed mean where it was not observed."""
    mean = torch.where(observed, x, 0.0).sum(0) / observed.sum(0).clamp_min(1)
    return torch.where(observed, x, mean)


def _checked(
    x: Tensor,
    n_classes: int | None,
    start: Mixture | Start | None,
    covariance: Covariance,
    prior: MapPrior | None,
    allowed: Tensor | None,
    region: Tensor | None,
    present: Tensor | None,
    observed: Tensor | None,
    variance_floor: float,
) -> tuple[_Problem, int]:
    """The problem and K, after every check that a wrong call needs."""
    if x.dim() != 2 or x.shape[1] == 0:
        raise ValueError(f"expected x (N, C) with at least one sequence, got {tuple(x.shape)}")
    N, C = x.shape
    sizes = {
        "n_classes": n_classes,
        "start": start.n_classes if isinstance(start, Mixture) else None,
        "prior": None if prior is None else prior.means.shape[0],
        "allowed": None if allowed is None else allowed.shape[-1],
    }
    given = {name: size for name, size in sizes.items() if size is not None}
    if len(set(given.values())) != 1:
        raise ValueError(f"expected one number of classes, got {given or 'none (give n_classes)'}")
    K = next(iter(given.values()))
    if K < 1:
        raise ValueError(f"expected at least one class, got {K}")
    for name, size in (
        ("start", start.n_sequences if isinstance(start, Mixture) else C),
        ("prior", C if prior is None else prior.means.shape[1]),
    ):
        if size != C:
            raise ValueError(f"expected {C} sequences as in x, got {size} in {name}")
    x = x.detach().to(torch.float64 if x.dtype == torch.float64 else torch.float32)
    device = x.device
    if present is not None:
        if present.shape != (C,) or not bool(present.any()):
            raise ValueError(
                f"expected present ({C},) bool with one sequence at least, got {present.tolist()}"
            )
        present = present.to(device)
        x = torch.where(present, x, 0.0)
    if observed is not None:
        if observed.shape != x.shape:
            raise ValueError(f"expected observed {tuple(x.shape)}, got {tuple(observed.shape)}")
        observed = observed.to(device)
        x = torch.where(observed, x, 0.0)
        if present is not None:
            observed = observed & present
        # What nobody observed is a missing sequence.
        anywhere = observed.any(0) if N else torch.ones(C, dtype=torch.bool, device=device)
        present = anywhere if not bool(anywhere.all()) else None
        if present is not None and not bool(present.any()):
            raise ValueError("observed is False everywhere")
    if not bool(torch.isfinite(x).all()):
        raise ValueError("x holds values that are not finite; say with observed or present which to ignore")
    if (allowed is None) != (region is None):
        raise ValueError("allowed and region go together")
    if allowed is None or region is None:
        allowed = torch.ones(1, K, dtype=torch.bool)
        region = torch.zeros(N, dtype=torch.long)
    allowed, region = allowed.to(device), region.to(device).long()
    if region.shape != (N,):
        raise ValueError(f"expected region ({N},), got {tuple(region.shape)}")
    if N and (int(region.min()) < 0 or int(region.max()) >= len(allowed)):
        raise ValueError(
            f"expected region values in 0..{len(allowed) - 1}, got {int(region.min())}..{int(region.max())}"
        )
    if N and not bool(allowed[region.unique()].any(-1).all()):
        raise ValueError("a region value that occurs allows no class")
    return _Problem(x, allowed, region, covariance, variance_floor, prior, present, observed), K
