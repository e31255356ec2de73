"""Bias field of receive coils, removed by N4 (Tustison et al. 2010, IEEE TMI 29:1310) in SimpleITK.

A coil multiplies the signal about zero. So the field is estimated from the magnitude, also of phase-sensitive
LGE with its negative voxels, and divided out of the signed intensities: signs and zeros stay.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from mrigmm.data.geometry import Grid
from mrigmm.data.volumes import Volume
from mrigmm.lazy import LazyModule

if TYPE_CHECKING:
    import SimpleITK as sitk  # noqa: N813 - its own name
else:
    sitk = LazyModule("SimpleITK")

# Pixels of the estimate: coil fields are smooth, and full resolution takes minutes. Slices are never
# merged: there are few.
PIXEL_MM = 4.0
_ITERATIONS = (50, 50, 50)  # per level of a spline with 1, 2 and 4 pieces along each axis
_CONVERGENCE = 1e-4
_MIN_PIXELS = 50  # of the small image's foreground: fewer than a spline has coefficients


@dataclass(frozen=True)
class Shading:
    """The bias field that was removed, relative to its mean over the foreground, and what it took.

    Attributes:
        lowest: 1st percentile over the foreground.
        highest: 99th percentile.
        seconds: time.
    """

    lowest: float
    highest: float
    seconds: float


def remove_shading(
    images: Mapping[str, Volume], warnings: list[str]
) -> tuple[dict[str, Volume], dict[str, Shading]]:
    """Divide each sequence of a study by its own bias field.

    Args:
        images: the sequences.
        warnings: gets a line for each that is left as it is, because no body stands out in it.

    Returns:
        The sequences on their own grids, and what was removed.
    """
    corrected: dict[str, Volume] = {}
    shading: dict[str, Shading] = {}
    for name, volume in images.items():
        started = time.perf_counter()
        try:
            field, foreground = bias_field(volume.data.astype(np.float32), volume.grid)
        except ValueError as error:
            warnings.append(f"{name}: the bias field was not removed, {error}")
            corrected[name] = volume
            continue
        low, high = np.percentile(field[foreground], [1, 99])
        corrected[name] = replace(volume, data=(volume.data / field).astype(np.float32))
        shading[name] = Shading(float(low), float(high), round(time.perf_counter() - started, 3))
    return corrected, shading


def bias_field(data: NDArray[np.float32], grid: Grid) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    """Multiplicative field (X, Y, Z) of mean 1 over the foreground, and that foreground (X, Y, Z).

    The foreground lies above Li's threshold (minimum cross-entropy) of the magnitude. A stack of slices
    has one smooth field, a single slice a field in its plane.

    Raises:
        ValueError: there is no foreground to fit to.
    """
    axis = grid.slice_axis
    magnitude = np.moveaxis(np.abs(data), axis, -1)
    spacing = [*np.delete(grid.spacing_mm, axis), grid.spacing_mm[axis]]
    shrink = [max(1, round(PIXEL_MM / s)) for s in spacing[:2]] + [1]
    if magnitude.shape[2] == 1:
        magnitude, spacing, shrink = magnitude[..., 0], spacing[:2], shrink[:2]
    # Orientation does not matter to the field, and SimpleITK takes none that is sheared.
    image = sitk.GetImageFromArray(np.ascontiguousarray(magnitude.T))
    image.SetSpacing([float(s) for s in spacing])
    if not np.ptp(magnitude) > 0:
        raise ValueError("it has one value in all voxels")
    foreground = sitk.LiThreshold(image, 0, 1)
    log_field = _log_field(sitk.BinShrink(image, shrink), image)
    field = np.exp(sitk.GetArrayFromImage(log_field)).T
    inside = sitk.GetArrayFromImage(foreground).T > 0
    field /= field[inside].mean()
    field, inside = (np.moveaxis(a.reshape(*a.shape[:2], -1), -1, axis) for a in (field, inside))
    return field.astype(np.float32), inside


def _log_field(small: sitk.Image, full: sitk.Image) -> sitk.Image:
    """N4 on a small image, its logarithmic field on the pixels of the full one."""
    mask = sitk.LiThreshold(small, 0, 1)
    if np.count_nonzero(sitk.GetArrayViewFromImage(mask)) < _MIN_PIXELS:
        raise ValueError(f"its foreground has fewer than {_MIN_PIXELS} pixels of {PIXEL_MM:g} mm")
    n4 = sitk.N4BiasFieldCorrectionImageFilter()
    n4.SetNumberOfThreads(1)  # sums in the same order: the same result on every run
    n4.SetMaximumNumberOfIterations(_ITERATIONS)
    n4.SetConvergenceThreshold(_CONVERGENCE)
    n4.Execute(small, mask)
    return n4.GetLogBiasFieldAsImage(full)
