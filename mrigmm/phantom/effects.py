"""Effects of a scanner beyond blur, noise and coil shading; neutral values change nothing."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

FloatArray = NDArray[np.floating[Any]]

_GHOST_SHIFTS = (1 / 2, 1 / 3, 1 / 4)  # of the field of view
_SHARPENED_MM = 1.0  # SD of the Gaussian whose loss a sharpening filter adds


def vary_slices(
    signal: FloatArray, *, contrast: float, offset: float, lowest: float | None, rng: np.random.Generator
) -> FloatArray:
    """Give each slice a contrast and an offset of its own, as breath holds and inversion times do.

    Args:
        signal: (X, Y, Z) in LV z-score units; the contrast turns about 0, the middle of the ventricle.
        contrast: log-SD of the factor on it, whose median is 1.
        offset: SD of what is added, LV z-score units.
        lowest: no signal falls below it; None for phase-sensitive images.
        rng: draws both for every slice.
    """
    slices = signal.shape[2:]
    factor = np.exp(rng.normal(0, contrast, slices)).astype(np.float32)
    added = rng.normal(0, offset, slices).astype(np.float32)
    if not contrast and not offset:
        return signal
    varied: FloatArray = factor * signal + added
    return varied if lowest is None else np.maximum(varied, np.float32(lowest))


def add_ghost(signal: FloatArray, *, strength: float, rng: np.random.Generator) -> FloatArray:
    """Add a copy of the picture, shifted along y (phase encoding) and wrapped around.

    Args:
        signal: (X, Y, Z) above the zero level.
        strength: mean of the copy's factor, drawn between 0 and twice that for each slice.
        rng: draws the shift (a half, a third or a quarter of the field of view) and the factors.
    """
    shift = round(float(rng.choice(_GHOST_SHIFTS)) * signal.shape[1])
    factor = rng.uniform(0, 2 * strength, signal.shape[2:]).astype(np.float32)
    if not strength:
        return signal
    ghosted: FloatArray = signal + factor * np.roll(signal, shift, axis=1)
    return ghosted


def reconstruct(
    image: FloatArray, *, spacing_mm: float, smoothing_mm: float, sharpening: float, kspace_share: float
) -> FloatArray:
    """Filter in k-space: a Gaussian, a sharpening, and a sharp end of what was acquired, which rings.

    Args:
        image: (X, Y, Z), real part or imaginary part.
        spacing_mm: in-plane voxel size.
        smoothing_mm: SD of the Gaussian.
        sharpening: the transfer function is times 1 + sharpening * (1 - that of a Gaussian of 1 mm).
        kspace_share: frequencies above this share of the highest one are 0, along each axis.
    """
    if not smoothing_mm and not sharpening and kspace_share >= 1:
        return image
    transfer = np.ones((1, 1))
    for axis in range(2):
        frequency = np.fft.fftfreq(image.shape[axis], spacing_mm)  # cycles per mm
        response = _gaussian(frequency, smoothing_mm) * (np.abs(frequency) <= kspace_share / (2 * spacing_mm))
        transfer = transfer * np.expand_dims(response, 1 - axis)
    sharpened = np.multiply.outer(
        *(_gaussian(np.fft.fftfreq(size, spacing_mm), _SHARPENED_MM) for size in image.shape[:2])
    )
    transfer = transfer * (1 + sharpening * (1 - sharpened))
    filtered = np.fft.ifft2(np.fft.fft2(image, axes=(0, 1)) * transfer[..., None], axes=(0, 1)).real
    result: FloatArray = filtered.astype(image.dtype)
    return result


def _gaussian(frequency: FloatArray, sigma_mm: float) -> FloatArray:
    """Return the transfer function of a Gaussian of this SD."""
    response: FloatArray = np.exp(-2 * (np.pi * sigma_mm * frequency) ** 2)
    return response
