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


def find_cavity(
    blood: Tensor,
    mask: Tensor,
    *,
    sigma_mm: float,
    spacing_mm: Sequence[float],
    threshold: float = 0.5,
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
    hull: Mask = _convex_hull(chosen) & region
    return hull


def _convex_hull(mask: Mask) -> Mask:
    """Pixels whose centre lies in the convex hull of the mask's pixel centres."""
    from scipy.spatial import ConvexHull, QhullError  # takes long to import, and few methods need it

    points = np.argwhere(mask)
    try:
        hull = ConvexHull(points)
    except (QhullError, ValueError):  # one pixel, or all on a line
        return mask
    positions = np.indices(mask.shape).reshape(2, -1)
    inside = np.asarray(np.all(hull.equations[:, :2] @ positions + hull.equations[:, 2:] <= 1e-9, axis=0))
    return inside.reshape(mask.shape)
