"""From probabilities of cavity and wall to one closed ventricle, and whether it can be one."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from mrigmm.labels import Region

# What adult left ventricles measure, with a wide margin.
DIAMETER_MM = (20.0, 130.0)  # of a circle of the slice's area, wall included, in the largest slice
VOLUME_ML = (40.0, 700.0)  # wall included
WALL_SHARE = (0.2, 0.95)  # of that volume

Mask = NDArray[np.bool_]


def closed_ventricle(probabilities: NDArray[np.float32]) -> NDArray[np.uint8]:
    """Region codes of the largest connected ventricle, in every slice without holes and with a closed wall.

    Args:
        probabilities: (3, X, Y, Z) of outside, cavity and wall, slices along the last axis.

    Returns:
        (X, Y, Z) `labels.Region` codes: CAVITY, WALL, OUTSIDE. Nothing but OUTSIDE when nothing was found.
    """
    outside, cavity, wall = probabilities
    ventricle = _largest(cavity + wall > outside)
    inner = ventricle & (cavity > wall)
    codes = np.zeros(ventricle.shape, np.uint8)
    for z in range(ventricle.shape[2]):
        if not ventricle[..., z].any():
            continue
        whole: Mask = ndimage.binary_fill_holes(_largest(ventricle[..., z]))
        # The pixels at the border are wall: blood does not touch the outside.
        pool = inner[..., z] & ndimage.binary_erosion(whole)
        if pool.any():
            pool = ndimage.binary_fill_holes(_largest(pool))
        codes[..., z] = np.where(pool, Region.CAVITY, np.where(whole, Region.WALL, Region.OUTSIDE))
    return codes


def implausible(codes: NDArray[np.uint8], spacing_mm: Sequence[float]) -> list[str]:
    """What about a ventricle's size in mm and ml no adult ventricle has.

    Args:
        codes: (X, Y, Z) of `closed_ventricle`, not empty.
        spacing_mm: of the axes.
    """
    inside = codes != Region.OUTSIDE
    area = inside.sum(axis=(0, 1)).max() * spacing_mm[0] * spacing_mm[1]
    volume = inside.sum() * float(np.prod(spacing_mm)) / 1000
    share = (codes == Region.WALL).sum() / inside.sum()
    measured = (
        ("largest diameter", 2 * float(np.sqrt(area / np.pi)), DIAMETER_MM, " mm"),
        ("volume", volume, VOLUME_ML, " ml"),
        ("share of the wall", float(share), WALL_SHARE, ""),
    )
    return [
        f"the ventricle that was found is implausible: {name} {value:.3g}{unit}, "
        f"expected {low:g} to {high:g}{unit}"
        for name, value, (low, high), unit in measured
        if not low <= value <= high
    ]


def _largest(mask: Mask) -> Mask:
    """The largest connected part of a mask; diagonal neighbours in plane are connected."""
    structure = ndimage.generate_binary_structure(mask.ndim, 1)
    if mask.ndim == 3:
        structure[:, :, 1] = True
    else:
        structure[:] = True
    parts, n = ndimage.label(mask, structure)
    if n <= 1:
        return mask
    largest: Mask = parts == np.bincount(parts.ravel())[1:].argmax() + 1
    return largest
