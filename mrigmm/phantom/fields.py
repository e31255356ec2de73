"""Spatially correlated random fields."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter, gaussian_filter1d

FloatArray = NDArray[np.floating[Any]]


def smooth_field(shape: tuple[int, int, int], *, sigma_px: float, rng: np.random.Generator) -> FloatArray:
    """Gaussian random field of unit variance, smooth in plane and independent between slices.

    Args:
        shape: (X, Y, Z).
        sigma_px: SD of the Gaussian kernel in voxels; 0 gives white noise.
        rng: source of the noise.
    """
    noise = rng.standard_normal(shape, dtype=np.float32)
    if sigma_px <= 0:
        return noise
    # The field of a wide kernel is periodic over the matrix, which lies well outside the heart.
    smooth = gaussian_filter(noise, (sigma_px, sigma_px, 0), mode="wrap", truncate=3.0)
    return smooth / np.float32(_kernel_norm(shape[0], sigma_px) * _kernel_norm(shape[1], sigma_px))


def _kernel_norm(size: int, sigma_px: float) -> float:
    impulse = np.zeros(size)
    impulse[size // 2] = 1.0
    return float(np.linalg.norm(gaussian_filter1d(impulse, sigma_px, mode="wrap", truncate=3.0)))


def multiscale_fields(
    shape: tuple[int, int, int], *, sigmas_px: Sequence[float], rng: np.random.Generator
) -> FloatArray:
    """Return one unit-variance field per scale, (S, X, Y, Z)."""
    return np.stack([smooth_field(shape, sigma_px=sigma, rng=rng) for sigma in sigmas_px])


def skew(field: FloatArray, shape: float) -> FloatArray:
    """Give a standard normal field a log-normal marginal of mean 0 and SD 1; `shape` 0 changes nothing.

    f(g) = (exp(s g - s^2 / 2) - 1) / sqrt(exp(s^2) - 1), monotone in g.
    """
    if shape < 1e-3:
        return field
    stretched: FloatArray = np.expm1(shape * field - shape**2 / 2) / np.float32(np.sqrt(np.expm1(shape**2)))
    return stretched
