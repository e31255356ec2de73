"""The class that each voxel is called, and which small islands are set aside."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from scipy import ndimage
from torch import Tensor

from mrigmm.labels import Region, class_ids

# Blood or wall, then normal or injured, then edema or scar: where scar and edema are both likely, the voxel
# is injured, although normal myocardium may be likelier than either alone.
_ORDER = ("blood", "myocardium", "edema", "scar")

# Smaller islands of an injury are noise more often than lesions; the largest one stays, whatever its size.
ISLAND_ML = 1.0


def decide(resp: Tensor, classes: tuple[str, ...]) -> Tensor:
    """Return the row of `classes` (X, Y, Z) int64 that each voxel is called.

    A class is taken where it is at least as likely as all that follow it together.

    Args:
        resp: (K, X, Y, Z) responsibilities.
        classes: K class names.
    """
    rows = [classes.index(name) for name in _ORDER if name in classes]
    called = torch.full(resp.shape[1:], rows[-1])
    for before in range(len(rows) - 2, -1, -1):
        takes = resp[rows[before]] >= resp[rows[before + 1 :]].sum(dim=0)
        called = torch.where(takes, rows[before], called)
    return called


def decided_labels(
    resp: Tensor, region: Tensor, classes: tuple[str, ...], *, voxel_volume_ml: float
) -> Tensor:
    """Return class ids (X, Y, Z) uint8 of `decide` without small islands, 0 outside the region.

    Islands (connected through faces) of what is injured, edema and scar together, under `ISLAND_ML` become
    normal myocardium; then islands of scar within the rest become edema. The responsibilities keep them.
    """
    called = decide(resp, classes)
    called = torch.where(region != Region.OUTSIDE, called, -1)
    injured = [classes.index(name) for name in ("edema", "scar") if name in classes]
    if "myocardium" in classes and injured:
        called[_islands(called, injured, voxel_volume_ml)] = classes.index("myocardium")
    if len(injured) == 2:
        called[_islands(called, injured[1:], voxel_volume_ml)] = injured[0]
    ids = torch.tensor([*class_ids(classes).values(), 0], dtype=torch.uint8)  # -1 is the last
    return ids[called]


def _islands(called: Tensor, rows: Sequence[int], voxel_volume_ml: float) -> Tensor:
    """Return where (X, Y, Z) bool these classes form an island that is too small, and not the largest."""
    pieces, n = ndimage.label(np.isin(called.numpy(), rows))
    if not n:
        return torch.zeros(called.shape, dtype=torch.bool)
    sizes = np.bincount(pieces.ravel())[1:]
    small = sizes * voxel_volume_ml < ISLAND_ML
    small[sizes.argmax()] = False
    return torch.from_numpy(np.concatenate([[False], small])[pieces])
