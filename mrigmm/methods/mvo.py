"""Microvascular obstruction: the dark core of an infarct, after any method."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import ndimage

from mrigmm.data.geometry import filled, plane_box
from mrigmm.data.study_tensors import StudyTensors
from mrigmm.labels import CAVITY_CLASSES, Region, class_ids
from mrigmm.methods.base import Segmentation, present_sequences

_NORMAL, _SCAR = "myocardium", "scar"
# Smaller dark cores within a slice are noise, partial volume, or normal wall at the border of scar.
MIN_AREA_MM2 = 40.0
# Radius of the disc that closes gaps of the rim, which are partial volume.
BRIDGED_MM = 1.5

Mask = NDArray[np.bool_]


def with_mvo(study: StudyTensors, found: Segmentation, classes: tuple[str, ...]) -> Segmentation:
    """Give the dark cores of the infarct to scar, and keep them as `Segmentation.mvo`.

    A core is wall that is darker on LGE than halfway between the means of what the method labelled normal
    and scar, and that is closed in, within its slice, by the rest of the scar or by it and the cavity.
    The mixture stays the one that the method fitted. Obstruction that the method knows itself, and calls
    scar, stays obstruction, and is no part of the bright scar.

    Args:
        study: the study.
        found: what the method made of it.
        classes: K class names.

    Returns:
        `found` itself where nothing can be looked for: classes without normal wall or scar, no LGE, or a
        wall that is neither known nor found by the method.
    """
    if not {_NORMAL, _SCAR} <= set(classes) or "LGE" not in present_sequences(study):
        return found
    box = plane_box(study.region.numpy() > 0)
    labels, ids = found.labels.numpy()[box], class_ids(classes)
    region = _anatomy(study.region.numpy()[box], labels, classes)
    if region is None:
        return found
    channel = study.sequences.index("LGE")
    lge, acquired = study.image[channel].numpy()[box], study.observed[channel].numpy()[box]
    wall = (region == Region.WALL) & acquired
    core = np.zeros(wall.shape, dtype=bool)
    known = core if found.mvo is None else found.mvo.numpy()[box]
    normal, scar = wall & (labels == ids[_NORMAL]), wall & (labels == ids[_SCAR]) & ~known
    threshold = None
    if normal.any() and scar.any():
        threshold = float(lge[normal].mean() + lge[scar].mean()) / 2
        dark = wall & (lge < threshold)
        cavity = region == Region.CAVITY
        for z in np.flatnonzero((scar & ~dark).any(axis=(0, 1))):
            rim = scar[..., z] & ~dark[..., z]
            core[..., z] = cores(rim, dark[..., z], wall[..., z], cavity[..., z], study.spacing_mm[:2])
    mvo = study.from_plane_box(torch.from_numpy(core), box)
    resp = found.resp
    if core.any():
        resp, scar_row = resp.clone(), classes.index(_SCAR)
        resp[:, mvo] = 0
        resp[scar_row, mvo] = 1
    figures = {
        "threshold_lge": None if threshold is None else study.zscores["LGE"].undo(threshold),
        "min_area_mm2": MIN_AREA_MM2,
        "bridged_mm": BRIDGED_MM,
    }
    return replace(
        found,
        resp=resp,
        labels=torch.where(mvo, ids[_SCAR], found.labels.long()).to(torch.uint8),
        details={**found.details, "mvo": figures},
        mvo=mvo if found.mvo is None else mvo | found.mvo,
    )


def cores(rim: Mask, dark: Mask, wall: Mask, cavity: Mask, spacing_mm: tuple[float, float]) -> Mask:
    """Dark wall of one slice that scar, or scar and cavity, closes in.

    Gaps in the rim are bridged within the wall (closing of rim and cavity by a disc of `BRIDGED_MM`).
    Connected pieces, edge to edge, under `MIN_AREA_MM2` are left out.

    Args:
        rim: (X, Y) bright scar.
        dark: (X, Y) wall as dark as a core.
        wall: (X, Y).
        cavity: (X, Y).
        spacing_mm: of the two axes.
    """
    shape = wall.shape
    x, y = (np.flatnonzero((wall | cavity).any(axis=axis)) for axis in (1, 0))
    box = np.s_[x[0] : x[-1] + 1, y[0] : y[-1] + 1]
    rim, dark, wall, cavity = rim[box], dark[box], wall[box], cavity[box]
    bridged = _closed(rim | cavity, BRIDGED_MM, spacing_mm) & wall
    edges = ndimage.generate_binary_structure(2, 1)
    inside = filled(bridged | cavity) & dark
    pieces, _ = ndimage.label(inside, structure=edges)
    areas = np.bincount(pieces.ravel()) * spacing_mm[0] * spacing_mm[1]
    areas[0] = 0
    found = np.zeros(shape, dtype=bool)
    found[box] = (areas >= MIN_AREA_MM2)[pieces]
    return found


def _closed(mask: Mask, radius_mm: float, spacing_mm: tuple[float, float]) -> Mask:
    """Closing by a disc."""
    margin = int(radius_mm / min(spacing_mm)) + 2
    padded = np.pad(mask, margin)
    near = ndimage.distance_transform_edt(~padded, sampling=spacing_mm) <= radius_mm
    closed = ndimage.distance_transform_edt(near, sampling=spacing_mm) > radius_mm
    inner = slice(margin, -margin)
    return np.asarray(closed[inner, inner], dtype=np.bool_)


def _anatomy(
    region: NDArray[np.uint8], labels: NDArray[np.integer[Any]], classes: tuple[str, ...]
) -> NDArray[np.uint8] | None:
    """Region codes (X, Y, Z) with cavity and wall told apart, by the method's blood where they were not.

    None where there is no class for blood, either.
    """
    region = region.copy()
    undivided = region == Region.LV
    if undivided.any():
        blood = [i for name, i in class_ids(classes).items() if name in CAVITY_CLASSES]
        if not blood:
            return None
        cavity = np.isin(labels, blood)
        region[undivided & cavity], region[undivided & ~cavity] = Region.CAVITY, Region.WALL
    wall = region == Region.WALL
    for z in range(region.shape[2]):  # without blood among the classes the cavity is a hole in the region
        hole = filled(wall[..., z]) & (region[..., z] == Region.OUTSIDE)
        region[hole, z] = Region.CAVITY
    return region
