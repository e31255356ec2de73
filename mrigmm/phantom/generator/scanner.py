"""Resolution, noise, coil, ghosts and motion of simulated slices."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import shift as shifted

from mrigmm.config_pretrain import GeneratorRanges

FloatArray = NDArray[np.floating[Any]]


def scan(
    signal: FloatArray, zero: FloatArray, *, psir: bool, ranges: GeneratorRanges, rng: np.random.Generator
) -> FloatArray:
    """Take images of the signal.

    Args:
        signal: (C, X, Y, Z) in z.
        zero: (C,) signal of intensity 0.
        psir: the first sequence keeps its sign.
        ranges: of the scanner.
        rng: for everything drawn here.

    Returns:
        (C, X, Y, Z) float32 in z above the zero level.
    """
    n_channels, *size, n_slices = signal.shape
    out = np.empty((n_slices, n_channels, *size), signal.dtype)
    pixel = rng.uniform(*ranges.pixel_mm)
    noise = rng.uniform(*ranges.noise)
    for channel, values in enumerate(signal):
        x = np.moveaxis(values - zero[channel], -1, 0)  # (Z, X, Y)
        if channel and rng.random() < ranges.motion_chance:
            x = np.stack([_moved(s, ranges, rng) for s in x])
        x = x + np.float32(noise) * rng.standard_normal(x.shape, dtype=np.float32)
        x = _resolved(x, pixel * rng.uniform(0.8, 1.25), ranges, rng)
        if not (psir and channel == 0):
            x = np.abs(x)
        x = x * _coil(x.shape[1:], ranges, rng)
        if rng.random() < ranges.ghost_chance:
            x = x + rng.uniform(0.04, 0.2) * np.roll(
                x, x.shape[1] // int(rng.integers(2, 5)), axis=int(rng.integers(1, 3))
            )
        out[:, channel] = x
    return np.moveaxis(out, 0, -1)


def _moved(values: FloatArray, ranges: GeneratorRanges, rng: np.random.Generator) -> FloatArray:
    turn, reach = rng.uniform(0, 2 * np.pi), rng.uniform(*ranges.motion_mm) / ranges.spacing_mm
    moved: FloatArray = shifted(values, (reach * np.cos(turn), reach * np.sin(turn)), order=1, mode="nearest")
    return moved


def _resolved(
    x: FloatArray, pixel_mm: float, ranges: GeneratorRanges, rng: np.random.Generator
) -> FloatArray:
    """Images (Z, X, Y) as a scanner of that pixel size resolves them: k-space weighted, or cut off."""
    fx, fy = np.fft.fftfreq(x.shape[1]), np.fft.rfftfreq(x.shape[2])
    square = (fx[:, None] ** 2 + fy[None] ** 2) / ranges.spacing_mm**2  # (cycles per mm)^2
    sigma = rng.uniform(*ranges.point_spread_mm)
    weight = np.exp(-2 * (np.pi * sigma) ** 2 * square)
    edge = 0.5 / pixel_mm * ranges.spacing_mm  # Nyquist of the acquired pixel, in cycles per our pixel
    ax, ay = np.abs(fx)[:, None], np.abs(fy)[None]
    if rng.random() < ranges.ringing_chance:
        weight = weight * ((ax <= edge) & (ay <= edge)) * (1 + rng.uniform(0, 0.8) * square * pixel_mm**2)
    else:  # apodised
        weight = weight * np.clip(1.5 - ax / edge, 0, 1) * np.clip(1.5 - ay / edge, 0, 1)
    resolved: FloatArray = np.fft.irfft2(
        np.fft.rfft2(x) * weight.astype(np.float32)[None], s=x.shape[1:]
    ).astype(np.float32)
    return resolved


def _coil(shape: tuple[int, ...], ranges: GeneratorRanges, rng: np.random.Generator) -> FloatArray:
    """Smooth sensitivity (X, Y) about 1."""
    size = rng.uniform(*ranges.coil_shading)
    u, v = (
        ((np.arange(n, dtype=np.float32) - n / 2) * ranges.spacing_mm / 40.0).reshape(where)
        for n, where in zip(shape, ((-1, 1), (1, -1)), strict=True)
    )
    a, b = rng.normal(0, size, 2)
    c, d, e = rng.normal(0, size / 4, 3)
    plane = a * u + b * v + c * u * u + d * u * v + e * v * v
    sensitivity: FloatArray = np.exp(np.clip(plane, -1.2, 1.2)).astype(np.float32)
    return sensitivity
