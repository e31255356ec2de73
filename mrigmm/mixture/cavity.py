"""The first of two steps inside a left-ventricle mask: which voxels are the cavity."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import torch
from scipy import ndimage
from torch import Tensor

from mrigmm.mixture.smoothing import bounding_box, smooth_inside

Mask = npt.NDArray[np.bool_]

# A component counts by its voxels, each weighted by a Gaussian around the mask's centre whose width
# is this share of the mask's radius: a bright rim of scar cannot win against the blood pool.
_CENTRAL_SHARE = 0.5
_ROUNDING = 1e-9  # of pixels


def find_cavity(
    blood: Tensor, mask: Tensor, *, sigma_mm: float, spacing_mm: Sequence[float], threshold: float = 0.5
) -> Tensor:
    """Return the cavity from the blood class's posterior: smooth, take the central component, fill, hull.

    Every slice on its own: the posterior is smoothed inside the mask and thresholded; of the connected
    components the largest central one is kept, its holes are filled (papillary muscles), and its convex
    hull within the mask is the cavity.

    Args:
        blood: ``(X, Y, Z)`` posterior probability of blood.
        mask: ``(X, Y, Z)`` bool, the left ventricle.
        sigma_mm: in-plane smoothing in mm.
        spacing_mm: voxel size along X, Y, Z.
        threshold: probability above which a smoothed voxel is taken for blood.

    Returns:
        ``(X, Y, Z)`` bool; empty in slices without blood.
    """
    mask = mask.bool()
    cavity = torch.zeros_like(mask)
    if not bool(mask.any()):
        return cavity
    box = bounding_box(mask)
    inside = mask[box]
    smooth = smooth_inside(blood[box], inside.long(), sigma_mm=sigma_mm, spacing_mm=spacing_mm)
    candidate = ((smooth > threshold) & inside).cpu().numpy()
    region = inside.cpu().numpy()
    pixel_mm = (float(spacing_mm[0]), float(spacing_mm[1]))
    slices = [_slice_cavity(candidate[..., z], region[..., z], pixel_mm) for z in range(candidate.shape[-1])]
    cavity[box] = torch.from_numpy(np.stack(slices, axis=-1)).to(mask.device)
    return cavity


def _slice_cavity(candidate: Mask, region: Mask, pixel_mm: tuple[float, float]) -> Mask:
    """``(X, Y)`` cavity of one slice."""
    labels, count = ndimage.label(candidate)
    if count == 0:
        return np.zeros_like(candidate)
    points = np.argwhere(region) * pixel_mm  # mm
    radius = np.sqrt(len(points) * pixel_mm[0] * pixel_mm[1] / np.pi)
    positions = np.moveaxis(np.indices(candidate.shape), 0, -1) * pixel_mm
    squared = ((positions - points.mean(axis=0)) ** 2).sum(axis=-1)
    centrality = np.exp(-0.5 * squared / (_CENTRAL_SHARE * radius) ** 2)
    scores = ndimage.sum_labels(centrality, labels, index=np.arange(1, count + 1))
    chosen = np.asarray(ndimage.binary_fill_holes(labels == 1 + int(np.argmax(scores))))
    hull: Mask = convex_hull(chosen) & region
    return hull


def convex_hull(mask: Mask) -> Mask:
    """Return the pixels (X, Y) whose centres lie in the convex hull of a mask's pixel centres.

    Row by row, between the lower and the upper border (scipy's Qhull takes long to import).
    """
    hull = np.zeros_like(mask)
    x = np.flatnonzero(mask.any(axis=1))
    if x.size:
        y, rows = np.arange(mask.shape[1]), np.arange(x[0], x[-1] + 1)
        first = mask[x].argmax(axis=1)
        last = mask.shape[1] - 1 - mask[x, ::-1].argmax(axis=1)
        lower, upper = _lower_border(rows, x, first), -_lower_border(rows, x, -last)
        hull[rows] = (y >= lower[:, None] - _ROUNDING) & (y <= upper[:, None] + _ROUNDING)
    return hull


def _lower_border(
    at: npt.NDArray[np.int_], x: npt.NDArray[np.int_], y: npt.NDArray[np.int_]
) -> npt.NDArray[np.float64]:
    """The convex function below points of increasing x that is largest, at some x (monotone chain)."""
    kept: list[tuple[int, int]] = []
    for point in zip(x.tolist(), y.tolist(), strict=True):
        while len(kept) > 1 and _turn(kept[-2], kept[-1], point) <= 0:
            kept.pop()
        kept.append(point)
    corners = np.array(kept)
    return np.interp(at, corners[:, 0], corners[:, 1])


def _turn(a: tuple[int, int], b: tuple[int, int], c: tuple[int, int]) -> int:
    """Above 0 where the way from a over b to c turns to the left."""
    return (b[0] - a[0]) * (c[1] - a[1]) - (b[1] - a[1]) * (c[0] - a[0])
