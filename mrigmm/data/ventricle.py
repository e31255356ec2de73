"""From probabilities of cavity and wall to one closed ventricle."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from mrigmm.labels import Region

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
