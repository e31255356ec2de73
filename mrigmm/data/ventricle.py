"""From probabilities of cavity and wall to one closed ventricle."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import ndimage
from scipy.ndimage import distance_transform_edt
from torch import Tensor

from mrigmm.data.geometry import filled, largest_piece, plane_box
from mrigmm.labels import Region
from mrigmm.mixture.cavity import convex_hull

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
        codes[..., z] = _divided(filled(_largest(ventricle[..., z])), inner[..., z])
    return codes


def divided_ventricle(ventricle: Mask, cavity: Mask) -> NDArray[np.uint8]:
    """Region codes (X, Y, Z) of a known ventricle, with one convex cavity and a closed wall in every slice.

    Args:
        ventricle: (X, Y, Z).
        cavity: (X, Y, Z) what of it looks like blood.
    """
    codes = np.zeros(ventricle.shape, np.uint8)
    for z in np.flatnonzero(ventricle.any(axis=(0, 1))):
        codes[..., z] = _divided(ventricle[..., z], cavity[..., z])
    return with_convex_cavity(codes)


def _divided(whole: Mask, inner: Mask) -> NDArray[np.uint8]:
    """Region codes of a slice's ventricle."""
    # The pixels at the border are wall: blood does not touch the outside.
    pool = inner & ndimage.binary_erosion(whole)
    if pool.any():
        pool = filled(_largest(pool)) & whole
    return np.where(pool, Region.CAVITY, np.where(whole, Region.WALL, Region.OUTSIDE)).astype(np.uint8)


def with_convex_cavity(codes: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Return a ventricle whose cavity is convex in every slice, as far as a wall remains around it.

    The cavity holds the papillary muscles; where blood and scar look alike, its border is lost on that side
    only.

    Args:
        codes: (X, Y, Z) of `closed_ventricle`.
    """
    found = codes.copy()
    for z in range(codes.shape[2]):
        slice_ = found[..., z]
        cavity = slice_ == Region.CAVITY
        if cavity.any():
            inner = ndimage.binary_erosion(slice_ != Region.OUTSIDE)
            slice_[convex_hull(cavity) & inner] = Region.CAVITY
    return found


def _largest(mask: Mask) -> Mask:
    """The largest connected part of a mask; diagonal neighbours in plane are connected."""
    structure = ndimage.generate_binary_structure(mask.ndim, 1)
    if mask.ndim == 3:
        structure[:, :, 1] = True
    else:
        structure[:] = True
    return largest_piece(mask, structure)


def wall_depth(region: Tensor, *, spacing_mm: Sequence[float]) -> Tensor:
    """Depth in the wall, slice by slice: 0 at the epicardium, 1 at the endocardium.

    `d_epi / (d_epi + d_endo)` with the in-plane distances in mm to the nearest voxel outside the
    ventricle and to the nearest cavity voxel.

    Args:
        region: (X, Y, Z) `labels.Region` codes with cavity and wall told apart.
        spacing_mm: voxel spacing (3,) in mm.

    Returns:
        (X, Y, Z) float32; 0 outside the wall, and in slices without cavity.
    """
    codes = region.numpy()
    depth = np.zeros(codes.shape, dtype=np.float32)
    for z in range(codes.shape[2]):
        box = plane_box(codes[..., z] != Region.OUTSIDE)
        # A rim of outside voxels, which the box has lost and a wall at the image's border never had.
        slice_ = np.pad(codes[..., z][box], 1)
        cavity, wall = slice_ == Region.CAVITY, slice_ == Region.WALL
        if not (cavity.any() and wall.any()):
            continue
        to_outside = distance_transform_edt(slice_ != Region.OUTSIDE, sampling=spacing_mm[:2])
        to_cavity = distance_transform_edt(~cavity, sampling=spacing_mm[:2])
        relative = to_outside / np.maximum(to_outside + to_cavity, 1e-6)
        depth[..., z][box] = np.where(wall, relative, 0)[1:-1, 1:-1]
    return torch.from_numpy(depth)
