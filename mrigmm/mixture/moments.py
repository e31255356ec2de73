"""Sufficient statistics of a mixture: what an M-step needs to know about the voxels."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from mrigmm.mixture.gaussian import parameter_dtype


@dataclass(frozen=True)
class Statistics:
    """Responsibility-weighted sums over the voxels of a region, float64.

    Attributes:
        n: ``(..., K)`` ``sum_n r_nk``, in voxels.
        sum_x: ``(..., K, C)`` ``sum_n r_nk x_n``.
        sum_xx: ``(..., K, C, C)`` ``sum_n r_nk x_n x_n^T``.
    """

    n: Tensor
    sum_x: Tensor
    sum_xx: Tensor

    def __add__(self, other: Statistics) -> Statistics:
        return Statistics(self.n + other.n, self.sum_x + other.sum_x, self.sum_xx + other.sum_xx)

    def pool(self, index: Tensor, n_mixtures: int) -> Statistics:
        """Sum batch entries (slices) into mixtures (studies); differentiable.

        Args:
            index: ``(B,)`` long, the mixture that each entry of the first dimension belongs to.
            n_mixtures: S; a mixture without entries gets zeros.
        """

        def pooled(values: Tensor) -> Tensor:
            return values.new_zeros(n_mixtures, *values.shape[1:]).index_add(0, index, values)

        return Statistics(pooled(self.n), pooled(self.sum_x), pooled(self.sum_xx))


def statistics(x: Tensor, resp: Tensor) -> Statistics:
    """Sufficient statistics of voxels under their responsibilities; differentiable.

    Args:
        x: ``(..., N, C)`` finite intensities.
        resp: ``(..., N, K)``; voxels outside the region have 0 in every class.

    Returns:
        Sums in float64, so that second moments of an image far from zero still give its variance.
    """
    exact = parameter_dtype(x.device)
    C, K = x.shape[-1], resp.shape[-1]
    with torch.autocast(x.device.type, enabled=False):
        x, resp = x.to(exact), resp.to(exact)
        outer = (x[..., :, None] * x[..., None, :]).flatten(-2)  # (..., N, C * C)
        sums = resp.mT @ torch.cat([x, outer], dim=-1)  # (..., K, C + C * C)
        sum_x, sum_xx = sums.split([C, C * C], dim=-1)
        return Statistics(resp.sum(-2), sum_x, sum_xx.reshape(*sums.shape[:-2], K, C, C))
