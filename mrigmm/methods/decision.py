"""The class of a voxel from its responsibilities, decided from the whole to its parts."""

from __future__ import annotations

import torch
from torch import Tensor

from mrigmm.labels import Region, class_ids

# Blood or wall, then normal or injured, then edema or scar: where scar and edema are both likely, the voxel
# is injured, although normal myocardium may be likelier than either alone.
_ORDER = ("blood", "myocardium", "edema", "scar")


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


def decided_labels(resp: Tensor, region: Tensor, classes: tuple[str, ...]) -> Tensor:
    """Return class ids (X, Y, Z) uint8 of `decide`, 0 outside the region."""
    ids = torch.tensor(list(class_ids(classes).values()), dtype=torch.uint8)
    return torch.where(region != Region.OUTSIDE, ids[decide(resp, classes)], 0)
