"""The M-step of the class weights, where the region says which classes are allowed."""

from __future__ import annotations

import torch
from torch import Tensor

from mrigmm.mixture.gaussian import safe_log
from mrigmm.mixture.map_prior import MapPrior

# Of the minorise-maximise steps.
_ITERATIONS = 200
_TOLERANCE = 1e-12


def class_fractions(n: Tensor, prior: MapPrior | None) -> Tensor:
    """``(n + a pi_0) / (N + a)``; a mixture without voxels gets ``pi_0``, or equal weights."""
    total = n.sum(-1, keepdim=True)
    if prior is None:
        return torch.where(total > 0, n / torch.where(total > 0, total, 1.0), 1.0 / n.shape[-1])
    a = torch.where(total > 0, prior.a * total, 1.0)
    return (n + a * prior.weights) / (total + a)


def weights_are_fractions(region_counts: Tensor, allowed: Tensor) -> bool:
    """Return whether the best weights are plain class fractions.

    They are where the region values that occur share no class, or are all alike.

    Args:
        region_counts: ``(..., R)`` voxels per region value.
        allowed: ``(R, K)`` bool.
    """
    occurring = allowed[(region_counts > 0).reshape(-1, len(allowed)).any(0)]
    return bool((occurring.sum(0) <= 1).all()) or bool((occurring == occurring[:1]).all())


def constrained_weights(
    n: Tensor, region_counts: Tensor, allowed: Tensor, *, prior: MapPrior | None = None
) -> Tensor:
    r"""Return class weights where the region says which classes are allowed, ``(..., K)``.

    A voxel of region r has ``pi_k = w_k / sum_{j in A_r} w_j``, so the M-step maximises
    ``sum_k n'_k log w_k - sum_r N'_r log sum_{j in A_r} w_j``, n' and N' with the prior's pseudo-voxels.
    Where the regions share no class the maximum is the plain ``(n + a pi_0) / (N + a)``; else it is
    found by the minorise-maximise step ``w_k = n'_k / sum_{r: k in A_r} (N'_r / W_r)`` (Hunter 2004).

    Args:
        n: ``(..., K)`` voxels per class.
        region_counts: ``(..., R)`` voxels per region value.
        allowed: ``(R, K)`` bool.
        prior: adds ``a N pi_0`` pseudo-voxels, spread over the regions that allow their class.
    """
    weights = class_fractions(n, prior)
    counts = region_counts.to(n.dtype)
    membership = allowed.to(n.dtype)  # (R, K)
    if prior is not None:
        pseudo = prior.a * n.sum(-1, keepdim=True) * prior.weights.to(n)
        home = counts @ membership  # (..., K) voxels that may be class k
        share = torch.where(home > 0, pseudo / torch.where(home > 0, home, 1.0), 0.0)
        n = n + pseudo
        counts = counts * (1.0 + share @ membership.mT)
    if weights_are_fractions(region_counts, allowed):
        return weights
    for _ in range(_ITERATIONS):
        mass = weights @ membership.mT  # (..., R)
        rate = torch.where(mass > 0, counts / torch.where(mass > 0, mass, 1.0), 0.0) @ membership
        new = torch.where(rate > 0, n / torch.where(rate > 0, rate, 1.0), weights)
        new = new / new.sum(-1, keepdim=True)
        change, weights = (new - weights).abs().max(), new
        if bool(change < _TOLERANCE):
            break
    return weights


def region_log_weights(weights: Tensor, region_counts: Tensor, allowed: Tensor) -> Tensor:
    """Return the mean log class weight over the voxels that may be the class, ``(..., K)``.

    ``sum_{r: k in A_r} N_r log(w_k / W_r) / sum_{r: k in A_r} N_r``, which is what the prior's pseudo-voxels
    of class k see; ``log w_k`` without a constraint, 0 for a class that may be nowhere.

    Args:
        weights: ``(..., K)``.
        region_counts: ``(..., R)`` voxels per region value.
        allowed: ``(R, K)`` bool.
    """
    counts, membership = region_counts.to(weights.dtype), allowed.to(weights.dtype)
    mass = weights @ membership.mT  # (..., R)
    log_mass = torch.where(mass > 0, mass, 1.0).log()
    home = counts @ membership  # (..., K)
    share = (counts * log_mass) @ membership / torch.where(home > 0, home, 1.0)
    return torch.where(home > 0, safe_log(weights) - share, 0.0)
