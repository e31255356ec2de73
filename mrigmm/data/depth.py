"""Where in the wall a voxel lies."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from scipy.ndimage import distance_transform_edt
from torch import Tensor

from mrigmm.data.geometry import plane_box
from mrigmm.labels import Region


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
