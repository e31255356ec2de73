"""Intensities as the features ``[1, x, x_i x_j (i <= j)]`` in which Gaussian mixtures are linear."""

from __future__ import annotations

from functools import cache

import torch
from torch import Tensor

# Largest sum of squares that the features may cancel to a log density. Rounding then stays below
# 0.01 in the most distant voxel and far below that in the others; beyond it, a more careful formula.
REACH = {torch.float32: 1e5, torch.float64: 1e13}


@cache
def pairs(C: int) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Row and column of each product ``i <= j``, in the order of the features."""
    found = [(i, j) for i in range(C) for j in range(i, C)]
    return tuple(i for i, _ in found), tuple(j for _, j in found)


def expand(x: Tensor) -> Tensor:
    """Features ``(..., D, N)`` of intensities ``(..., C, N)``, ``D = 1 + C + C (C + 1) / 2``."""
    C = x.shape[-2]
    products = [x[..., i : i + 1, :] * x[..., i:, :] for i in range(C)]
    return torch.cat([torch.ones_like(x[..., :1, :]), x, *products], dim=-2)


def unpack(products: Tensor, C: int) -> Tensor:
    """Symmetric matrices ``(..., C, C)`` from the features of pairs ``(..., C (C + 1) / 2)``."""
    i, j = pairs(C)
    position = torch.empty(C, C, dtype=torch.long, device=products.device)
    order = torch.arange(len(i), device=products.device)
    position[list(i), list(j)] = order
    position[list(j), list(i)] = order
    return products[..., position]


def coefficients(constant: Tensor, means: Tensor, precisions: Tensor) -> Tensor:
    """``constant - (x - mu)^T P (x - mu) / 2`` as a linear function of the features, ``(..., K, D)``.

    Args:
        constant: ``(..., K)``.
        means: ``(..., K, C)``.
        precisions: ``(..., K, C, C)``, symmetric.
    """
    i, j = pairs(means.shape[-1])
    linear = (precisions @ means[..., None])[..., 0]
    factor = torch.tensor([-0.5 if a == b else -1.0 for a, b in zip(i, j, strict=True)]).to(means)
    quadratic = precisions[..., list(i), list(j)] * factor
    offset = constant - 0.5 * (linear * means).sum(-1)
    return torch.cat([offset[..., None], linear, quadratic], dim=-1)
