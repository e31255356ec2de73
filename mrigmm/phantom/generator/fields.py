"""Smooth random fields, drawn on coarse grids and interpolated: quick enough to train on."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn.functional import interpolate

from mrigmm.phantom import tables
from mrigmm.phantom.population import CLASSES

FloatArray = NDArray[np.floating[Any]]

_COARSE = 1.25  # grid step of a field relative to its smoothness


def smooth_fields(
    shape: tuple[int, ...], *, sigma_px: float, size: tuple[int, int], rng: np.random.Generator
) -> FloatArray:
    """Return independent fields (*shape, X, Y) of unit variance and about the given smoothness.

    Args:
        shape: leading dimensions.
        sigma_px: SD in pixels of the Gaussian kernel that they look smoothed by; under 0.8: white noise.
        size: (X, Y).
        rng: source of the noise.
    """
    if sigma_px < 0.8:
        return rng.standard_normal((*shape, *size), dtype=np.float32)
    coarse = [max(4, round(n / (_COARSE * sigma_px)) + 3) for n in size]
    noise = torch.from_numpy(rng.standard_normal((1, int(np.prod(shape)), *coarse), dtype=np.float32))
    field = interpolate(noise, size=size, mode="bicubic", align_corners=True)[0]
    field /= field.square().mean().sqrt()
    return field.reshape(*shape, *size).numpy()


@dataclass(frozen=True)
class Textures:
    """Unit-variance fields (S, C, X, Y, Z) at the scales of `tables.FIELD_SCALES_MM`."""

    fields: FloatArray

    def of_class(self, k: int, channel: int, mixing: FloatArray) -> FloatArray:
        """Texture (X, Y, Z) of class k in a sequence, correlated with the others as tabulated.

        Surroundings (k beyond the classes) get the two middle scales.
        """
        if k >= len(CLASSES):
            middle: FloatArray = np.float32(np.sqrt(0.5)) * (
                self.fields[1, channel] + self.fields[2, channel]
            )
            return middle
        shares = np.sqrt(np.array(tables.FIELD_SHARES[k][channel], np.float32))
        weights = shares[:, None] * mixing[k, channel][None]  # (S, C)
        total: FloatArray = np.tensordot(weights.astype(np.float32), self.fields, axes=2)
        return total


def draw_textures(
    n_slices: int, size: tuple[int, int], spacing_mm: float, rng: np.random.Generator
) -> Textures:
    """Draw the textures of a study's slices."""
    # In one piece, for the products of `of_class`.
    fields = np.empty((len(tables.FIELD_SCALES_MM), 3, *size, n_slices), np.float32)
    for field, scale in zip(fields, tables.FIELD_SCALES_MM, strict=True):
        drawn = smooth_fields((3, n_slices), sigma_px=scale / spacing_mm, size=size, rng=rng)
        for z in range(n_slices):  # in one step, of a short last axis, it takes three times as long
            field[..., z] = drawn[:, z]
    return Textures(fields)
