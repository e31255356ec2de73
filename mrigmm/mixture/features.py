"""Intensities as the features ``[1, x, x_i x_j (i <= j)]`` in which Gaussian mixtures are linear."""

from __future__ import annotations

from functools import cache

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

Index = npt.NDArray[np.intp]

# Largest sum of squares that the features may cancel to a log density. Rounding then stays below
# 0.01 in the most distant voxel and far below that in the others; beyond it, a more careful formula.
REACH = {torch.float32: 1e5, torch.float64: 1e13}


@cache
def pairs(C: int) -> tuple[Index, Index]:
    """Row and column of each product ``i <= j``, in the order of the features."""
    i, j = np.triu_indices(C)
    return i, j


@cache
def pair_factors(C: int) -> npt.NDArray[np.float64]:
    """Factor of each product ``x_i x_j`` in ``-x^T P x / 2``: the pairs i < j stand for both halves."""
    i, j = pairs(C)
    return np.where(i == j, -0.5, -1.0)


@cache
def pair_positions(C: int) -> Index:
    """``(C, C)``, where the product of i and j stands among the pairs."""
    i, j = pairs(C)
    position = np.zeros((C, C), dtype=np.intp)
    position[i, j] = position[j, i] = np.arange(len(i))
    return position


def write_products(rows: Tensor, out: Tensor) -> None:
    """Write the products of all pairs of intensities ``(..., C, N)`` to ``out (..., C (C + 1) / 2, N)``."""
    C, row = rows.shape[-2], 0
    for i in range(C):
        torch.mul(rows[..., i : i + 1, :], rows[..., i:, :], out=out[..., row : row + C - i, :])
        row += C - i


def expand(x: Tensor) -> Tensor:
    """Return features ``(..., D, N)`` of intensities ``(..., C, N)``, ``D = 1 + C + C (C + 1) / 2``."""
    C = x.shape[-2]
    if x.requires_grad:
        products = [x[..., i : i + 1, :] * x[..., i:, :] for i in range(C)]
        return torch.cat([torch.ones_like(x[..., :1, :]), x, *products], dim=-2)
    features = x.new_empty(*x.shape[:-2], 1 + C + len(pairs(C)[0]), x.shape[-1])
    features[..., 0, :] = 1.0
    features[..., 1 : 1 + C, :] = x
    write_products(x, features[..., 1 + C :, :])
    return features


def unpack(products: Tensor, C: int) -> Tensor:
    """Symmetric matrices ``(..., C, C)`` from the features of pairs ``(..., C (C + 1) / 2)``."""
    return products[..., torch.from_numpy(pair_positions(C)).to(products.device)]


def coefficients(constant: Tensor, means: Tensor, precisions: Tensor) -> Tensor:
    """``constant - (x - mu)^T P (x - mu) / 2`` as a linear function of the features, ``(..., K, D)``.

    Args:
        constant: ``(..., K)``.
        means: ``(..., K, C)``.
        precisions: ``(..., K, C, C)``, symmetric.
    """
    C = means.shape[-1]
    i, j = (torch.from_numpy(index).to(means.device) for index in pairs(C))
    linear = (precisions @ means[..., None])[..., 0]
    quadratic = precisions[..., i, j] * torch.from_numpy(pair_factors(C)).to(means)
    offset = constant - 0.5 * (linear * means).sum(-1)
    return torch.cat([offset[..., None], linear, quadratic], dim=-1)
