"""End-diastole of a cine series."""

from __future__ import annotations

from typing import Any

import numpy as np
from nibabel.affines import apply_affine
from numpy.typing import NDArray

from mrigmm.data.geometry import Grid
from mrigmm.lazy import LazyModule

filters = LazyModule("skimage.filters")

# The sequence that scanners acquire as a cine; of any other, the manifest has to name the frame.
CINE_SEQUENCE = "bSSFP"


def end_diastolic_frame(values: NDArray[np.generic]) -> int:
    """The frame with most bright voxels: blood is bright in bSSFP and the cavity largest at end-diastole.

    Bright is what lies above Otsu's threshold over all frames. The first of several that are equal:
    series start at the R wave, that is near end-diastole.

    Args:
        values: (N, T) intensities of N voxels in T frames.
    """
    if values.size == 0 or values.min() == values.max():
        return 0
    return int((values > filters.threshold_otsu(values)).sum(axis=0).argmax())


def values_in_region(
    frames: NDArray[Any], grid: Grid, region: NDArray[np.bool_], region_grid: Grid
) -> NDArray[Any]:
    """Intensities (N, T) at the region's voxels inside the series' field of view, nearest neighbour.

    Args:
        frames: (X, Y, Z, T).
        grid: of the first three axes.
        region: (X', Y', Z').
        region_grid: its own grid.
    """
    if region_grid.same_as(grid):
        return np.asarray(frames[region])
    to_frames = np.linalg.inv(grid.affine) @ region_grid.affine
    index = np.round(apply_affine(to_frames, np.argwhere(region))).astype(int)
    index = index[np.all((index >= 0) & (index < grid.shape), axis=1)]
    return np.asarray(frames[tuple(index.T)])


def values_in_centre(frames: NDArray[np.generic], grid: Grid) -> NDArray[np.generic]:
    """Intensities (N, T) of the central half of each slice, along both of its axes."""
    centre = tuple(
        slice(None) if axis == grid.slice_axis else slice(n // 4, max(n - n // 4, 1))
        for axis, n in enumerate(grid.shape)
    )
    return np.asarray(frames[centre].reshape(-1, frames.shape[3]))
