"""Linear resampling from one voxel grid to another."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn.functional import grid_sample

from mrigmm.data.geometry import Grid, index_affine, index_along


def resample_linear(data: NDArray[np.float32], source: Grid, target: Grid) -> NDArray[np.float32]:
    """Trilinear interpolation of `data` (X', Y', Z') on `source` at the voxel centres of `target`.

    Beyond the outermost voxel centres the border's value holds. Any two affines will do, sheared and
    left-handed ones included. The same as MONAI's `ResampleToMatch` (bilinear, border, float64), without
    its copies.

    Returns:
        (X, Y, Z), computed in float64.
    """
    to_source = index_affine(target, source)
    coordinates = np.empty((*target.shape, 3))
    for axis, n in enumerate(source.shape):
        # Index i is at (2 i + 1) / n - 1 in grid_sample's units, which takes the last axis first.
        scaled = to_source.copy()
        scaled[axis] = 2 / n * to_source[axis]
        scaled[axis, 3] += 1 / n - 1
        coordinates[..., 2 - axis] = index_along(scaled, target.shape, axis)
    sampled = grid_sample(
        torch.from_numpy(data.astype(np.float64))[None, None],
        torch.from_numpy(coordinates)[None],
        mode="bilinear",
        padding_mode="border",
        align_corners=False,
    )
    return np.asarray(sampled[0, 0].numpy(), dtype=np.float32)
