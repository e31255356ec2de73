"""Sufficient statistics of a mixture: what an M-step needs to know about the voxels."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from mrigmm.mixture.features import expand, unpack
from mrigmm.mixture.gaussian import parameter_dtype, voxel_dtype

# Voxels that are summed in the images' precision before float64 takes over.
_CHUNK = 16384

# A voxel this many times further out than the median voxel is an outlier to float32; the medians are
# those of a sample.
_OUTLIER = 50.0
_SAMPLE = 256


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
    moments still give the variance of an image far from zero; images with far outliers are summed in
    float64 throughout.

    Args:
        x: ``(..., N, C)`` finite intensities.
        resp: ``(..., N, K)``; voxels outside the region have 0 in every class.

    Returns:
        Sums in float64.
    """
    exact = parameter_dtype(x.device)
    C, N = x.shape[-1], x.shape[-2]
    with torch.autocast(x.device.type, enabled=False):
        rows, weights = x.mT.to(voxel_dtype(x)), resp.mT  # (..., C, N), (..., K, N)
        centre, typical = _centre(rows.detach())
        centred = rows - centre
        if _has_outlier(centred.detach(), typical):
            centred = rows.to(exact) - centre
        centre = centre.to(exact)
        features, weights = expand(centred), weights.to(centred.dtype)
        sums = sum(
            (
                (weights[..., first : first + _CHUNK] @ features[..., first : first + _CHUNK].mT).to(exact)
                for first in range(0, N, _CHUNK)
            ),
            start=(weights[..., :0] @ features[..., :0].mT).to(exact),
        )  # (..., K, D)
        return _moved(sums[..., 0], sums[..., 1 : 1 + C], unpack(sums[..., 1 + C :], C), centre.mT)


def _centre(rows: Tensor) -> tuple[Tensor, Tensor]:
    """Median of a sample of the voxels, and the median distance from it; both ``(..., C, 1)``."""
    if rows.shape[-1] == 0:
        nothing = rows.new_zeros(*rows.shape[:-1], 1)
        return nothing, nothing
    sample = rows[..., :: max(1, rows.shape[-1] // _SAMPLE)]
    centre = sample.median(-1, keepdim=True).values
    return centre, (sample - centre).abs().median(-1, keepdim=True).values


def _has_outlier(centred: Tensor, typical: Tensor) -> bool:
    """Whether some voxel lies so far out that the others' squares would drown in float32."""
    if centred.dtype == torch.float64 or centred.numel() == 0:
        return False
    return bool((centred.abs().amax(-1, keepdim=True) > _OUTLIER * typical).any())


def _moved(n: Tensor, sum_x: Tensor, sum_xx: Tensor, centre: Tensor) -> Statistics:
    """Statistics of intensities from those of intensities minus ``centre`` ``(..., 1, C)``."""
    cross = centre[..., :, None] * sum_x[..., None, :]  # (..., K, C, C)
    count = n[..., None]
    outer = count[..., None] * (centre[..., :, None] * centre[..., None, :])
    return Statistics(n, sum_x + count * centre, sum_xx + cross + cross.mT + outer)
