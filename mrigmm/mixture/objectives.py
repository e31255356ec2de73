"""Objectives that a mixture's parameters, or a network that gives responsibilities, minimise.

Every objective takes ``(..., N, K)`` log values and a mask ``(..., N)``. A voxel that no class is allowed to
own counts as outside the mask.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.autograd.function import FunctionCtx, once_differentiable

from mrigmm.mixture.gaussian import safe_log

_NEVER = float("-inf")


def region_log_table(weights: Tensor, allowed: Tensor) -> Tensor:
    """``region_log_prior`` of each region value, ``(..., R, K)``."""
    masses = torch.where(allowed, weights[..., None, :], 0.0)  # (..., R, K)
    total = masses.sum(-1, keepdim=True)
    share = torch.where(total > 0, masses, allowed.to(masses.dtype))
    return safe_log(share / share.sum(-1, keepdim=True).clamp_min(torch.finfo(masses.dtype).tiny))


def region_log_prior(weights: Tensor, allowed: Tensor, region: Tensor) -> Tensor:
    """Return the log class weights at every voxel, renormalised over what its region value allows.

    ``log pi_nk = log w_k - log sum_{j allowed} w_j``. Where all allowed classes have weight 0 they
    share equally.

    Args:
        weights: ``(..., K)``.
        allowed: ``(R, K)`` bool, row r for region value r.
        region: ``(..., N)`` long, values in 0..R-1.

    Returns:
        ``(..., N, K)``, -inf where a class is not allowed.
    """
    table = region_log_table(weights, allowed)
    batch = np.broadcast_shapes(table.shape[:-2], region.shape[:-1])  # torch's imports sympy, which is slow
    R, K = allowed.shape
    if bool(allowed.all()):  # nothing to look up
        return table[..., :1, :].expand(*batch, region.shape[-1], K)
    if table.dim() == 2:
        return table[region]
    index = region[..., None].expand(*region.shape, K)
    return table.expand(*batch, R, K).gather(-2, index.expand(*batch, *index.shape[-2:]))


def log_likelihood(log_prior: Tensor, log_density: Tensor) -> Tensor:
    """``log sum_k pi_nk N(x_n | k)`` per voxel, ``(..., N)``; -inf where no class is allowed."""
    joint, usable = _joint(log_prior, log_density)
    evidence = _logsumexp(joint)
    return evidence if usable is None else torch.where(usable, evidence, _NEVER)


def posterior(log_prior: Tensor, log_density: Tensor) -> Tensor:
    """Return responsibilities ``pi_nk N(x_n | k) / sum_j pi_nj N(x_n | j)``, ``(..., N, K)``.

    Rows sum to 1; they are 0 where no class is allowed.
    """
    joint, usable = _joint(log_prior, log_density)
    # Densities lie in memory by class: along that axis torch is ten times faster.
    resp = joint.mT.softmax(-2).mT if joint.dim() > 1 else joint.softmax(-1)
    return resp if usable is None else torch.where(usable[..., None], resp, 0.0)


def nll(log_prior: Tensor, log_density: Tensor, mask: Tensor) -> Tensor:
    """Return the negative log likelihood ``-mean_n log sum_k pi_nk N(x_n | k)`` over the masked voxels.

    Args:
        log_prior: ``(..., N, K)`` or ``(..., 1, K)`` log weights, -inf for classes not allowed.
        log_density: ``(..., N, K)`` from ``log_gaussian``.
        mask: ``(..., N)`` bool.

    Returns:
        ``(...)``, one value per batch entry; 0 without gradient where the mask is empty.
    """
    joint, usable = _joint(log_prior, log_density)
    return masked_mean(-_logsumexp(joint), mask if usable is None else mask & usable)


def masked_mean(values: Tensor, mask: Tensor) -> Tensor:
    """Mean of ``values (..., N)`` over ``mask (..., N)`` per batch entry; 0 where the mask is empty."""
    mask = mask.expand(values.shape)
    total = torch.where(mask, values, 0.0).sum(-1)
    return total / mask.sum(-1).clamp_min(1)


def pool_mean(values: Tensor, mask: Tensor, index: Tensor, n_mixtures: int) -> Tensor:
    """Return the mean of voxel values over studies that are made of several batch entries (slices).

    Args:
        values: ``(B, N)``, for instance ``-log_likelihood``.
        mask: ``(B, N)`` bool.
        index: ``(B,)`` long, the study of each entry.
        n_mixtures: S.

    Returns:
        ``(S,)``: every voxel of a study counts the same, whatever its slice; 0 for a study without any.
    """
    mask = mask.expand(values.shape)
    totals = torch.where(mask, values, 0.0).sum(-1)
    counts = mask.sum(-1).to(values.dtype)
    pooled = values.new_zeros(n_mixtures).index_add(0, index, totals)
    count = values.new_zeros(n_mixtures).index_add(0, index, counts)
    return pooled / count.clamp_min(1)


class _LogSumExp(torch.autograd.Function):
    """``log sum_k exp joint`` ``(..., N)`` whose gradient is the softmax whatever the magnitude.

    The plain one takes its gradient from ``exp(joint - result)``, which sums to K, not 1, once an outlier's
    log density is so large that its last digit exceeds log K.
    """

    @staticmethod
    def forward(ctx: FunctionCtx, joint: Tensor) -> Tensor:
        by_class = joint.mT  # (..., K, N): densities lie in memory by class
        resp = by_class.softmax(-2)
        ctx.save_for_backward(resp)
        # The largest responsibility is 1 / K at least: its logarithm is accurate.
        return by_class.amax(-2) - resp.amax(-2).log()

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        (resp,) = ctx.saved_tensors
        return (gradient[..., None, :] * resp).mT


def _logsumexp(joint: Tensor) -> Tensor:
    """``log sum_k exp joint``, ``(..., N)``."""
    if joint.dim() == 1:
        return _logsumexp(joint[None])[0]
    value: Tensor = _LogSumExp.apply(joint)
    return value


def _joint(log_prior: Tensor, log_density: Tensor) -> tuple[Tensor, Tensor | None]:
    """``log pi + log N`` with -inf where not allowed, all 0 in voxels where nothing is; and which voxels,
    broadcastable to ``(..., N)``, have an allowed class (None: all have every class).
    """
    joint = log_prior + log_density
    if log_prior.numel() == 0 or bool(log_prior.amin() > _NEVER):
        return joint, None
    allowed = log_prior > _NEVER
    usable = allowed.any(-1)
    return torch.where(allowed, joint, _NEVER).masked_fill(~usable[..., None], 0.0), usable
