"""Sufficient statistics of a mixture: what an M-step needs to know about the voxels."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from mrigmm.mixture.features import expand, unpack
from mrigmm.mixture.gaussian import parameter_dtype, voxel_dtype

# Voxels that are summed in the images' precision before float64 takes over.
_CHUNK = 16384

# Voxels whose median is the centre.
_SAMPLE = 256

# Root mean square distance of a class from the centre, in its standard deviations, that float32 still
# resolves: the variance then has a relative error of _FAR^2 times float32's, 1e-4.
_FAR = 50.0


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

    float32 images are centred, summed in float32 chunk by chunk and added up in float64, so that second
    moments still give the variance of an image far from zero. Where a class lies so far from the centre that
    its variance would be lost nevertheless, everything is summed in float64.

    Args:
        x: ``(..., N, C)`` finite intensities.
        resp: ``(..., N, K)``; voxels outside the region have 0 in every class.

    Returns:
        Sums in float64.
    """
    with torch.autocast(x.device.type, enabled=False):
        rows, weights = x.mT.to(voxel_dtype(x)), resp.mT  # (..., C, N), (..., K, N)
        centre = _centre(rows.detach())
        n, sum_x, sum_xx = _sums(rows - centre, weights)
        exact = parameter_dtype(x.device)
        if rows.dtype != exact and _lost(n, sum_x, sum_xx):
            n, sum_x, sum_xx = _sums(rows.to(exact) - centre, weights)
        return _moved(n, sum_x, sum_xx, centre.to(exact).mT)


def _centre(rows: Tensor) -> Tensor:
    """Median of a sample of the voxels, ``(..., C, 1)``."""
    if rows.shape[-1] == 0:
        return rows.new_zeros(*rows.shape[:-1], 1)
    return rows[..., :: max(1, rows.shape[-1] // _SAMPLE)].median(-1, keepdim=True).values


def _sums(rows: Tensor, weights: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """``sum r``, ``sum r x``, ``sum r x x^T`` in float64, chunks in the precision of the rows."""
    C, N = rows.shape[-2:]
    features, weights = expand(rows), weights.to(rows.dtype)
    chunks = [
        weights[..., first : first + _CHUNK] @ features[..., first : first + _CHUNK].mT
        for first in range(0, max(N, 1), _CHUNK)
    ]
    exact = parameter_dtype(rows.device)
    sums = sum((chunk.to(exact) for chunk in chunks[1:]), start=chunks[0].to(exact))  # (..., K, D)
    return sums[..., 0], sums[..., 1 : 1 + C], unpack(sums[..., 1 + C :], C)


def _lost(n: Tensor, sum_x: Tensor, sum_xx: Tensor) -> bool:
    """Return whether rounding in float32 shows in a class's variance, the small difference of large sums."""
    with torch.no_grad():
        n_second = n[..., None] * sum_xx.diagonal(dim1=-2, dim2=-1)  # (..., K, C)
        resolved = _FAR**2 * (n_second - sum_x.square()) >= n_second  # False also where float32 overflowed
        return not bool(resolved.all())


def _moved(n: Tensor, sum_x: Tensor, sum_xx: Tensor, centre: Tensor) -> Statistics:
    """Return statistics of intensities from those of intensities minus ``centre`` ``(..., 1, C)``."""
    cross = centre[..., :, None] * sum_x[..., None, :]  # (..., K, C, C)
    count = n[..., None]
    outer = count[..., None] * (centre[..., :, None] * centre[..., None, :])
    return Statistics(n, sum_x + count * centre, sum_xx + cross + cross.mT + outer)
