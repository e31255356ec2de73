"""Smoothing of a study's volumes, in mm: Gaussian, inside a region, of posteriors, at several scales.

Volumes are ``(..., X, Y, Z)`` with the slices along the last axis. Slices are many millimetres apart, so
everything works in plane unless told otherwise. Nothing leaks across the border of a region value.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from mrigmm.mixture.gaussian import voxel_dtype
from mrigmm.mixture.problem import occurring

# A Gaussian kernel ends after this many standard deviations, as in scipy.ndimage.
_TRUNCATE = 4.0


def gaussian_blur(
    volume: Tensor, *, sigma_mm: float, spacing_mm: Sequence[float], in_plane: bool = True
) -> Tensor:
    """Gaussian smoothing of ``(..., X, Y, Z)`` with zeros beyond the border, in the volume's dtype.

    Args:
        volume: any leading dimensions.
        sigma_mm: standard deviation in mm; 0 changes nothing.
        spacing_mm: voxel size along X, Y, Z.
        in_plane: leave the slice axis (Z) alone.

    Raises:
        ValueError: a negative sigma, or a spacing that is not three positive numbers.
    """
    if sigma_mm < 0 or len(spacing_mm) != 3 or min(spacing_mm) <= 0:
        raise ValueError(
            f"expected sigma >= 0 mm and three positive spacings, got {sigma_mm}, {list(spacing_mm)}"
        )
    if sigma_mm == 0:
        return volume
    for axis, spacing in zip((-3, -2, -1)[: 2 if in_plane else 3], spacing_mm, strict=False):
        volume = _blur_axis(volume, axis, sigma_mm / spacing)
    return volume


def _blur_axis(volume: Tensor, axis: int, sigma: float) -> Tensor:
    """Return one pass of the separable kernel; ``sigma`` in voxels.

    As a product with a banded (length, length) matrix, which is many times quicker on a CPU than a
    convolution with one channel.
    """
    length = volume.shape[axis]
    radius = int(_TRUNCATE * sigma + 0.5)
    steps = torch.arange(-radius, radius + 1, dtype=torch.float64)
    kernel = torch.exp(-0.5 * (steps / sigma) ** 2)
    kernel = kernel / kernel.sum()
    distance = torch.arange(length)[:, None] - torch.arange(length)  # (to, from)
    weight = kernel[distance.clamp(-radius, radius) + radius]
    matrix = torch.where(distance.abs() <= radius, weight, 0.0).to(volume)
    return torch.tensordot(matrix, volume, dims=([1], [axis])).movedim(0, axis)


def smooth_inside(
    volume: Tensor, region: Tensor, *, sigma_mm: float, spacing_mm: Sequence[float], in_plane: bool = True
) -> Tensor:
    """Return the normalised convolution (Knutsson and Westin 1993) within each region value.

    ``G * (v m) / (G * m)`` with m the voxels of the same region value: a mean of neighbours of the same
    region, whatever the shape of its border. 0 outside.

    Args:
        volume: ``(..., X, Y, Z)``.
        region: ``(X, Y, Z)`` integers, 0 outside.
        sigma_mm: standard deviation in mm.
        spacing_mm: voxel size along X, Y, Z.
        in_plane: leave the slice axis alone.
    """
    volume = volume.to(voxel_dtype(volume))
    result = torch.zeros_like(volume)
    if not bool((region != 0).any()):
        return result
    # Nothing outside counts, so that the box around the region gives the same as the whole image.
    box = bounding_box(region)
    volume, region = volume[..., *box], region[box]
    options: dict[str, Any] = {"sigma_mm": sigma_mm, "spacing_mm": spacing_mm, "in_plane": in_plane}
    smooth = result[..., *box]
    for value in occurring(region):
        if value == 0:
            continue
        mask = region == value
        total = gaussian_blur(torch.where(mask, volume, 0.0), **options)
        share = gaussian_blur(mask.to(volume.dtype), **options)
        smooth = torch.where(mask, total / torch.where(mask, share, 1.0), smooth)
    result[..., *box] = smooth
    return result


def bounding_box(region: Tensor) -> tuple[slice, slice, slice]:
    """Return slices of (X, Y, Z) around everything that is not 0, of which there is some."""
    first, last = region.nonzero().aminmax(dim=0)
    x, y, z = (slice(a, b + 1) for a, b in zip(first.tolist(), last.tolist(), strict=True))
    return x, y, z


def smooth_posterior(
    resp: Tensor, region: Tensor, *, sigma_mm: float, spacing_mm: Sequence[float], in_plane: bool = True
) -> Tensor:
    """Return responsibilities ``(K, X, Y, Z)`` averaged over neighbours of the same region value.

    They still sum to 1 inside the region, and a class that a region value does not allow stays at 0.
    Arguments as in ``smooth_inside``.
    """
    smooth = smooth_inside(resp, region, sigma_mm=sigma_mm, spacing_mm=spacing_mm, in_plane=in_plane)
    total = smooth.sum(0)
    return torch.where(total > 0, smooth / torch.where(total > 0, total, 1.0), 0.0)


def multiscale_features(
    image: Tensor,
    region: Tensor,
    *,
    sigmas_mm: Sequence[float],
    spacing_mm: Sequence[float],
    in_plane: bool = True,
) -> Tensor:
    """Return the sequences smoothed inside the region at several scales, as channels of a mixture.

    Args:
        image: ``(C, X, Y, Z)`` standardised intensities.
        region: ``(X, Y, Z)`` integers, 0 outside.
        sigmas_mm: standard deviations in mm, for instance (0.75, 3).
        spacing_mm: voxel size along X, Y, Z.
        in_plane: leave the slice axis alone.

    Returns:
        ``(len(sigmas_mm) * C, X, Y, Z)``: all sequences at the first scale, then at the next; 0 outside.
    """
    return torch.cat(
        [
            smooth_inside(image, region, sigma_mm=sigma, spacing_mm=spacing_mm, in_plane=in_plane)
            for sigma in sigmas_mm
        ]
    )
