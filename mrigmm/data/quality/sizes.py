"""Findings about what a left ventricle measures, in mm, ml and g."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from mrigmm.data.limits import (
    DIAMETER_MM,
    MASS_G,
    MAX_LENGTH_MM,
    VOLUME_ML,
    WALL_MM,
    WHOLE_STACK_MM,
)
from mrigmm.errors import Problem
from mrigmm.labels import MYOCARDIUM_G_PER_ML, Region


def implausible_size(
    codes: NDArray[np.uint8], spacing_mm: Sequence[float], voxel_ml: float
) -> Problem | None:
    """The ventricle measures what no left ventricle does; thickness and mass where its wall is known.

    Args:
        codes: (X, Y, Z) `labels.Region` codes, slices along the last axis; not empty.
        spacing_mm: (3,) of the axes.
        voxel_ml: volume of a voxel.
    """
    inside, wall = codes != Region.OUTSIDE, codes == Region.WALL
    pixel_mm2 = spacing_mm[0] * spacing_mm[1]
    slices = np.flatnonzero(inside.any(axis=(0, 1)))
    stack_mm = float(slices[-1] - slices[0] + 1) * spacing_mm[2]
    whole = stack_mm >= WHOLE_STACK_MM
    area = float(inside.sum(axis=(0, 1)).max()) * pixel_mm2
    volume = float(inside.sum()) * voxel_ml
    measured = [
        ("diameter", 2 * float(np.sqrt(area / np.pi)), "mm", DIAMETER_MM),
        ("volume", volume, "ml", (VOLUME_ML[0] if whole else 0.0, VOLUME_ML[1])),
    ]
    if codes.shape[2] > 1:  # what a header says of a single slice is its thickness, or nothing
        measured.append(("length", stack_mm, "mm", (0.0, MAX_LENGTH_MM)))
    thickness = wall_thickness_mm(codes, pixel_mm2)
    if thickness is not None:
        measured.append(("wall thickness", thickness, "mm", WALL_MM))
    if wall.any():
        mass = MYOCARDIUM_G_PER_ML * float(wall.sum()) * voxel_ml
        measured.append(("mass", mass, "g", (MASS_G[0] if whole else 0.0, MASS_G[1])))
    wrong = [row for row in measured if not row[3][0] <= row[1] <= row[3][1]]
    if not wrong:
        return None
    return Problem(
        "no adult left ventricle has this size",
        expected=", ".join(f"{name} {_limits(ends, unit)}" for name, _, unit, ends in wrong),
        got=", ".join(f"{name} {value:.3g} {unit}" for name, value, unit, _ in wrong),
        remedy="check the map's ids and the voxel size in the headers; for other organs and animals, none",
        severity="warning",
    )


def wall_thickness_mm(codes: NDArray[np.uint8], pixel_mm2: float) -> float | None:
    """Mean thickness of the wall around the cavity, as of two circles of their areas, median over slices.

    Args:
        codes: (X, Y, Z) `labels.Region` codes, slices along the last axis.
        pixel_mm2: area of a pixel.

    Returns:
        None where no slice has both cavity and wall.
    """
    cavity = (codes == Region.CAVITY).sum(axis=(0, 1))
    wall = (codes == Region.WALL).sum(axis=(0, 1))
    both = (cavity > 0) & (wall > 0)
    if not both.any():
        return None
    outer, inner = np.sqrt((cavity + wall)[both]), np.sqrt(cavity[both])
    return float(np.median(outer - inner)) * float(np.sqrt(pixel_mm2 / np.pi))


def _limits(ends: tuple[float, float], unit: str) -> str:
    low, high = ends
    return f"{low:g} to {high:g} {unit}" if low > 0 else f"at most {high:g} {unit}"
