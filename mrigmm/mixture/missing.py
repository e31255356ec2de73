"""Sequences whose field of view ends inside the region: per-voxel missing values."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from mrigmm.mixture.gaussian import cholesky, log_gaussian, parameter_dtype
from mrigmm.mixture.moments import Statistics, statistics


def _patterns(observed: Tensor) -> Iterator[tuple[Tensor, Tensor]]:
    """Each pattern ``(C,)`` of observed sequences that occurs, with the voxels ``(n,)`` that have it."""
    if len(observed) and bool((observed == observed[0]).all()):  # nearly always, and sorting them is slow
        yield observed[0], torch.arange(len(observed), device=observed.device)
        return
    patterns, which = torch.unique(observed, dim=0, return_inverse=True)
    for index, pattern in enumerate(patterns):
        yield pattern, (which == index).nonzero()[:, 0]


def log_gaussian_observed(x: Tensor, means: Tensor, covariances: Tensor, observed: Tensor) -> Tensor:
    """``log_gaussian`` of each voxel's observed sequences, the others integrated out.

    Args:
        x: ``(N, C)``.
        means: ``(K, C)``.
        covariances: ``(K, C, C)``.
        observed: ``(N, C)`` bool. A voxel without any observation has log density 0.

    Returns:
        ``(N, K)``.
    """
    result = x.new_zeros(len(x), len(means))
    for pattern, voxels in _patterns(observed):
        result[voxels] = log_gaussian(x[voxels], means, covariances, present=pattern)
    return result


def expected_statistics(
    x: Tensor, resp: Tensor, means: Tensor, covariances: Tensor, observed: Tensor
) -> Statistics:
    r"""Sufficient statistics in which missing values are replaced by their expectation under each class.

    For a voxel that observes the sequences o and misses m (Little and Rubin, Statistical Analysis with
    Missing Data)::

        E[x_m]     = mu_m + Sigma_mo Sigma_oo^-1 (x_o - mu_o)
        Cov[x_m]   = Sigma_mm - Sigma_mo Sigma_oo^-1 Sigma_om

    ``sum_xx`` gets the conditional covariance on top of the outer product: without it the fit would grow
    too confident.

    Args:
        x: ``(N, C)``.
        resp: ``(N, K)``.
        means: ``(K, C)`` of the mixture that ``resp`` was computed with.
        covariances: ``(K, C, C)``.
        observed: ``(N, C)`` bool.
    """
    K, C = means.shape
    exact = parameter_dtype(x.device)
    means, covariances = means.to(exact), covariances.to(exact)
    total = Statistics(means.new_zeros(K), means.new_zeros(K, C), means.new_zeros(K, C, C))
    for pattern, voxels in _patterns(observed):
        own = resp[voxels].to(exact)
        if bool(pattern.all()):
            total = total + statistics(x[voxels], own)
            continue
        gain, conditional = _conditional(covariances, pattern)  # (K, C, C) both
        seen = x[voxels].to(exact)
        # (K, n, C): observed values as they are, missing ones as the class expects them.
        offset = torch.where(pattern, seen - means[:, None, :], 0.0)
        expected = torch.where(pattern, seen, means[:, None, :] + offset @ gain.mT)
        per_class = statistics(expected, own.mT[..., None])
        n = per_class.n[:, 0]
        total = total + Statistics(
            n, per_class.sum_x[:, 0], per_class.sum_xx[:, 0] + n[:, None, None] * conditional
        )
    return total


def _conditional(covariances: Tensor, pattern: Tensor) -> tuple[Tensor, Tensor]:
    """Regression of the missing on the observed sequences and its residual covariance, zero padded."""
    gain, residual = torch.zeros_like(covariances), torch.zeros_like(covariances)
    seen, missing = pattern.nonzero()[:, 0], (~pattern).nonzero()[:, 0]
    inside = covariances[:, missing[:, None], missing]
    if len(seen):
        cross = covariances[:, missing[:, None], seen]  # (K, M, O)
        factor = cholesky(covariances[:, seen[:, None], seen])
        regression = torch.cholesky_solve(cross.mT, factor).mT
        gain[:, missing[:, None], seen] = regression
        inside = inside - regression @ cross.mT
    residual[:, missing[:, None], missing] = inside
    return gain, residual
