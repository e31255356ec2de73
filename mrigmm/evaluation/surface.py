"""Distances between boundaries, in mm: slice by slice in the plane, and in space."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mrigmm.lazy import LazyModule

spatial = LazyModule("scipy.spatial")
monai = LazyModule("monai.metrics.utils")

# How far a boundary may be off and still count as found.
TOLERANCE_MM = 2.0
_SLACK_MM = 1e-3  # headers are float32, and grids oblique


@dataclass(frozen=True)
class SurfaceAgreement:
    """Distances between the boundaries of a prediction and a reference in one study.

    Attributes:
        hd95_mm: 95th percentile of the distances in the plane; NaN when no slice has both masks.
        nsd_2mm: share of the boundary, of both masks and all slices, that has the other boundary within
            2 mm in its slice; in a slice that the other mask lacks it has none. NaN when a mask is empty.
        hd95_3d_mm: 95th percentile of the distances in space; NaN when a mask is empty, and for one slice.
        nsd_3d_2mm: share of the boundary that has the other one within 2 mm in space; NaN likewise.
        one_sided_slices: slices that only one of the masks has.
    """

    hd95_mm: float
    nsd_2mm: float
    hd95_3d_mm: float
    nsd_3d_2mm: float
    one_sided_slices: int


def surface_agreement(
    predicted: NDArray[np.bool_], reference: NDArray[np.bool_], axes_mm: NDArray[np.floating]
) -> SurfaceAgreement:
    """Boundary distances of two masks, pooled over slices, and in space.

    The boundary of a mask are its voxels with a neighbour (4 in the plane, 6 in space) that is not in
    it (MONAI's). Each has one distance, to the nearest voxel of the other boundary.

    Args:
        predicted: mask (X, Y, Z), slices along the last axis.
        reference: mask (X, Y, Z).
        axes_mm: (3, 3) step in mm (a column) along each array axis: distances are right on sheared grids.
    """
    a, b = _cropped(predicted, reference)
    none = SurfaceAgreement(
        math.nan, math.nan, math.nan, math.nan, int((a.any(axis=(0, 1)) != b.any(axis=(0, 1))).sum())
    )
    if not (a.any() and b.any()):
        return none
    in_plane, alone = _distances_in_plane(a, b, axes_mm[:, :2])
    near = int(_near(in_plane).sum())
    flat = predicted.shape[2] == 1
    in_space = np.empty(0) if flat else _distances(a, b, axes_mm)
    return SurfaceAgreement(
        hd95_mm=_percentile95(in_plane),
        nsd_2mm=near / (len(in_plane) + alone),
        hd95_3d_mm=_percentile95(in_space),
        nsd_3d_2mm=math.nan if flat else float(_near(in_space).mean()),
        one_sided_slices=none.one_sided_slices,
    )


def _cropped(
    predicted: NDArray[np.bool_], reference: NDArray[np.bool_]
) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """Both masks in the box around them; what touches its border is boundary anyway."""
    either = predicted | reference
    box = []
    for axis in range(3):
        where = np.flatnonzero(either.any(axis=tuple({0, 1, 2} - {axis})))
        box.append(slice(int(where[0]), int(where[-1]) + 1) if where.size else slice(0))
    return predicted[tuple(box)], reference[tuple(box)]


def _distances_in_plane(
    a: NDArray[np.bool_], b: NDArray[np.bool_], axes_mm: NDArray[np.floating]
) -> tuple[NDArray[np.float64], int]:
    """Distances of all slices with both masks, and how many pixels of boundary the other slices have."""
    pooled, alone = [np.empty(0)], 0
    for z in range(a.shape[2]):
        if a[..., z].any() and b[..., z].any():
            pooled.append(_distances(a[..., z], b[..., z], axes_mm))
        else:
            alone += sum(int(edge.sum()) for edge in monai.get_mask_edges(a[..., z], b[..., z], crop=False))
    return np.concatenate(pooled), alone


def _distances(
    a: NDArray[np.bool_], b: NDArray[np.bool_], axes_mm: NDArray[np.floating]
) -> NDArray[np.float64]:
    """Return the distance of every boundary voxel of either mask to the other's boundary; none is empty.

    MONAI's `get_surface_distance` knows spacings only, and stored slices may be sheared.
    """
    edges = monai.get_mask_edges(a, b, crop=False)
    at_a, at_b = (np.argwhere(np.asarray(edge)) @ axes_mm.T for edge in edges)  # (N, 3) mm
    return np.concatenate([spatial.KDTree(at_b).query(at_a)[0], spatial.KDTree(at_a).query(at_b)[0]])


def _near(distances: NDArray[np.float64]) -> NDArray[np.bool_]:
    return distances <= TOLERANCE_MM + _SLACK_MM


def _percentile95(distances: NDArray[np.float64]) -> float:
    return float(np.percentile(distances, 95)) if distances.size else math.nan
