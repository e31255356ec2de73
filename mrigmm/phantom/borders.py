"""Fat, pericardium and trabeculae: they hide a ventricle's borders in real images, not in the presets."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

FloatArray = NDArray[np.floating[Any]]
Waves = tuple[tuple[float, float], ...]


@dataclass(frozen=True)
class Borders:
    """Fat, pericardium and trabeculae. Lengths in mm, angles and phases in rad.

    Heights `s` are relative to base (0) and apex (1).

    Attributes:
        fat: epicardial fat over the free walls at the base; below 0: none.
        apical_fat: how much more there is at the apex.
        fat_waves: (amplitude, phase) of orders 1, 2, 3 around the circumference.
        pericardium: dark layer around the fat.
        closing: how far chest wall and diaphragm follow the ventricle as it narrows towards the apex, 0 to 1.
        trabeculae: greatest height of the ridges of the endocardium.
        ridges: (order, phase) around the circumference.
        strands: share of the right ventricle's apex that looks like wall, about.
        strand_waves: (wave number along x, along y, both in 1 / mm, phase).
    """

    fat: float
    apical_fat: float
    fat_waves: Waves
    pericardium: float
    closing: float
    trabeculae: float
    ridges: Waves
    strands: float
    strand_waves: tuple[tuple[float, float, float], ...]

    def fat_mm(self, angle: FloatArray, s: FloatArray) -> FloatArray:
        """Thickness of the epicardial fat."""
        fat = self.fat + self.apical_fat * np.clip(s, 0, 1) + waves_around(self.fat_waves, angle, first=1)
        return np.maximum(fat, 0)

    def ridge_mm(self, angle: FloatArray, z: FloatArray) -> FloatArray:
        """Height of the trabeculae over the endocardium; they wind along the ventricle, `z` in mm."""
        waves = sum(np.cos(order * angle + phase + 0.1 * z) for order, phase in self.ridges)
        return self.trabeculae * np.clip(waves / len(self.ridges) + 0.2, 0, 1)

    def strand(self, x: FloatArray, y: FloatArray, s: FloatArray) -> NDArray[np.bool_]:
        """Where the right ventricle's blood is crossed by strands of its wall, more so towards the apex."""
        waves = sum(np.cos(a * x + b * y + phase) for a, b, phase in self.strand_waves)
        crossed: NDArray[np.bool_] = waves / len(self.strand_waves) > 1 - 2 * self.strands * s
        return crossed


def waves_around(waves: Waves, angle: FloatArray, *, first: int = 2) -> FloatArray:
    """Sum of cosines around the circumference; (amplitude, phase) of the orders from `first` on."""
    total = np.zeros_like(angle)
    for order, (size, phase) in enumerate(waves, start=first):
        total += size * np.cos(order * (angle - phase))
    return total
