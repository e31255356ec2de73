"""Distances between boundaries, in mm."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from monai.metrics.utils import get_mask_edges, get_surface_distance
from numpy.typing import NDArray


def hausdorff95_mm(
    predicted: NDArray[np.bool_], reference: NDArray[np.bool_], *, pixel_mm: Sequence[float]
) -> float:
    """95th percentile of the distance between two boundaries, slice by slice in 2-D.

    The distances of all slices, from either boundary to the other, are pooled before the percentile is
    taken. Slices where only one of the masks is present have no distance and do not enter; their error
    shows in Dice.

    Args:
        predicted: mask (X, Y, Z), slices along the last axis.
        reference: mask (X, Y, Z).
        pixel_mm: in-plane spacing (2,) in mm.

    Returns:
        Distance in mm; NaN when no slice has both masks.
    """
    distances: list[NDArray[np.float64]] = []
    for z in range(predicted.shape[2]):
        a, b = predicted[..., z], reference[..., z]
        if not (a.any() and b.any()):
            continue
        edges_a, edges_b = get_mask_edges(a, b, crop=False)
        for there, back in ((edges_a, edges_b), (edges_b, edges_a)):
            distances.append(np.asarray(get_surface_distance(there, back, spacing=tuple(pixel_mm))))
    if not distances:
        return math.nan
    return float(np.percentile(np.concatenate(distances), 95))
