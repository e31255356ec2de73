"""Microvascular obstruction: the dark core of an infarct, after any method."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import ndimage

from mrigmm.data.study_tensors import StudyTensors
from mrigmm.errors import InputError
from mrigmm.labels import CAVITY_CLASSES, Region, class_ids
from mrigmm.methods.base import Segmentation, present_sequences
from mrigmm.methods.remote import dark_cores

_NORMAL, _SCAR = "myocardium", "scar"
# Smaller dark cores within a slice are noise, or partial volume.
MIN_AREA_MM2 = 20.0


def require_mvo_classes(classes: tuple[str, ...]) -> None:
    """Refuse classes among which there is no infarct to have a core.

    Raises:
        InputError: no myocardium or no scar.
    """
    if not {_NORMAL, _SCAR} <= set(classes):
        raise InputError(
            f"microvascular obstruction needs the classes {_NORMAL} and {_SCAR}", got=", ".join(classes)
        )


def add_mvo(study: StudyTensors, found: Segmentation, classes: tuple[str, ...]) -> Segmentation:
    """Give the dark cores of the infarct to scar, and keep them as `Segmentation.mvo`.

    A core is wall that is darker on LGE than halfway between the means of what the method labelled normal
    and scar, and that is closed in, within its slice, by the rest of the scar or by it and the cavity.
    The mixture stays the one that the method fitted.

    Args:
        study: the study.
        found: what the method made of it.
        classes: K class names.

    Raises:
        InputError: no LGE, or the wall is neither known nor found by the method.
    """
    region = _anatomy(study, found, classes)
    if "LGE" not in present_sequences(study):
        raise InputError(
            "microvascular obstruction needs LGE",
            study=study.id,
            expected="LGE that varies inside the region",
            got=", ".join(present_sequences(study)),
            remedy="add LGE, or predict without mvo",
        )
    channel = study.sequences.index("LGE")
    lge, acquired = study.image.as_tensor()[channel].numpy(), study.observed[channel].numpy()
    wall = (region == Region.WALL) & acquired
    labels, ids = found.labels.numpy(), class_ids(classes)
    normal, scar = wall & (labels == ids[_NORMAL]), wall & (labels == ids[_SCAR])
    core = np.zeros(wall.shape, dtype=bool)
    threshold = None
    if normal.any() and scar.any():
        threshold = float(lge[normal].mean() + lge[scar].mean()) / 2
        dark = wall & (lge < threshold)
        core = _large(dark_cores(scar & ~dark, region) & dark, study.spacing_mm)
    mvo = torch.from_numpy(core)
    # A method that knows obstruction itself has called it scar.
    both = mvo if found.mvo is None else mvo | found.mvo
    resp, scar_row = found.resp.clone(), classes.index(_SCAR)
    resp[:, mvo] = 0
    resp[scar_row, mvo] = 1
    figures = {
        "threshold_lge": None if threshold is None else study.zscores["LGE"].undo(threshold),
        "min_area_mm2": MIN_AREA_MM2,
    }
    return replace(
        found,
        resp=resp,
        labels=torch.where(mvo, ids[_SCAR], found.labels.long()).to(torch.uint8),
        details={**found.details, "mvo": figures},
        mvo=both,
    )


def _anatomy(study: StudyTensors, found: Segmentation, classes: tuple[str, ...]) -> NDArray[np.uint8]:
    """Region codes (X, Y, Z) with cavity and wall told apart, by the method's blood where they were not."""
    region = study.region.numpy().copy()
    undivided = region == Region.LV
    if undivided.any():
        blood = [i for name, i in class_ids(classes).items() if name in CAVITY_CLASSES]
        if not blood:
            raise InputError(
                "microvascular obstruction needs to know the wall",
                study=study.id,
                expected="a region map with 1 = cavity and 2 = wall, or a class for blood",
                got="the left ventricle as a whole",
                remedy="give such a map, or predict without mvo",
            )
        cavity = np.isin(found.labels.numpy(), blood)
        region[undivided & cavity], region[undivided & ~cavity] = Region.CAVITY, Region.WALL
    wall = region == Region.WALL
    for z in range(region.shape[2]):  # without blood among the classes the cavity is a hole in the region
        hole = ndimage.binary_fill_holes(wall[..., z]) & (region[..., z] == Region.OUTSIDE)
        region[hole, z] = Region.CAVITY
    return region


def _large(mask: NDArray[np.bool_], spacing_mm: tuple[float, float, float]) -> NDArray[np.bool_]:
    """The connected pieces, slice by slice, of at least `MIN_AREA_MM2`."""
    in_plane = ndimage.generate_binary_structure(3, 1)
    in_plane[..., [0, 2]] = False
    pieces, _ = ndimage.label(mask, structure=in_plane)
    areas = np.bincount(pieces.ravel()) * spacing_mm[0] * spacing_mm[1]
    areas[0] = 0
    return np.asarray((areas >= MIN_AREA_MM2)[pieces], dtype=np.bool_)
