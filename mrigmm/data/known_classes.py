"""Knowledge of the voxels of a labelled study: label maps, parts of them, region maps, scribbles."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from mrigmm.data.manifest import RegionRule, Study
from mrigmm.data.maps import on_grid, reference_volume, region_map, require_cavity_inside
from mrigmm.data.study_tensors import StudyTensors
from mrigmm.data.volumes import Volume, read_map
from mrigmm.labels import ANY_CLASS, BACKGROUND_ID, REGION_CLASSES, TISSUES, class_set, label_sets

_SCRIBBLE_IDS = {name: (tissue.id,) for name, tissue in TISSUES.items()}


@dataclass(frozen=True)
class KnownClasses:
    """Possible classes of a study's voxels, slices along the last axis.

    Attributes:
        sets: (X, Y, Z) uint8 `labels.class_set` of the classes that a voxel may be of.
        region: (X, Y, Z) uint8 `labels.Region` codes; None where neither label nor region map tells them.
    """

    sets: Tensor
    region: Tensor | None

    @property
    def slices(self) -> Tensor:
        """(Z,) bool, slices of which anything is known."""
        return (self.sets != ANY_CLASS).flatten(0, 1).any(dim=0)


def has_labels(study: Study) -> bool:
    """Return whether a study names anything that a training could learn classes from."""
    drawn = isinstance(study.region, Path)
    return study.label is not None or study.scribbles is not None or drawn


def known_classes(
    study: Study,
    whole: StudyTensors,
    images: Mapping[str, Volume],
    reference: str,
    labels: Mapping[str, Sequence[int]],
) -> KnownClasses:
    """Read what is known of a study's voxels; what two files say of one voxel must both be possible.

    A slice of a label map without any id but the background's is taken as not labelled, where the labels
    have blood or myocardium: they occur in every slice of the ventricle.

    Args:
        study: the files.
        whole: the study of `data.whole.load_whole`.
        images: the sequences that were read.
        reference: name of the one that gives the grid.
        labels: class name -> ids in the reference label file.

    Raises:
        InputError: a file cannot be read, has unknown ids or lies on another grid.
    """
    grid = images[reference].grid

    def turned(array: NDArray[Any]) -> Tensor:
        return torch.from_numpy(whole.turn.apply(array))

    sets = torch.full(whole.region.shape, ANY_CLASS, dtype=torch.uint8)
    region = None
    if study.label is not None:
        meant = label_sets(labels)
        label = turned(reference_volume(study, grid, labels).data.astype(np.int64))
        sets = _looked_up(label, meant)
        if {"blood", "myocardium"} & {name for name, ids in labels.items() if ids}:
            empty = torch.isin(label, torch.tensor(labels.get("background", ()))).flatten(0, 1).all(dim=0)
            sets[..., empty] = ANY_CLASS
        says_nothing = torch.isin(label, torch.tensor(labels.get("ignore", ()))).any()
        if labels.get("blood") and labels.get("myocardium") and not says_nothing:
            region = _region(study, images, reference, labels, RegionRule("cavity-wall"), turned)
    if isinstance(study.region, Path):
        drawn = _region(study, images, reference, labels, study.region, turned)
        of_region = {int(code): class_set(names) for code, names in REGION_CLASSES.items()}
        sets = _both(sets, _looked_up(drawn.long(), of_region))
        region = drawn if region is None else region
    if study.scribbles is not None:
        ids = {BACKGROUND_ID: ANY_CLASS, **{i: s for i, s in label_sets(_SCRIBBLE_IDS).items() if i}}
        volume = read_map(study.scribbles, study=study.id, role="scribbles", known=[*ids])
        drawn = turned(on_grid(volume, grid, study.id, "scribbles").data.astype(np.int64))
        sets = _both(sets, _looked_up(drawn, ids))
    return KnownClasses(sets, region)


def _region(
    study: Study,
    images: Mapping[str, Volume],
    reference: str,
    labels: Mapping[str, Sequence[int]],
    source: Any,
    turned: Any,
) -> Tensor:
    """Region codes (X, Y, Z) from a file, or by a rule."""
    study = replace(study, region=source)
    codes = region_map(study, images, images[reference], labels)
    require_cavity_inside(study, codes, images[reference].grid)
    region: Tensor = turned(codes)
    return region


def _looked_up(ids: Tensor, sets: Mapping[int, int]) -> Tensor:
    """Sets (X, Y, Z) uint8 by id; what has no set is unknown."""
    out = torch.full(ids.shape, ANY_CLASS, dtype=torch.uint8)
    for value, meant in sets.items():
        out[ids == value] = meant
    return out


def _both(one: Tensor, other: Tensor) -> Tensor:
    """The classes that two sources allow; where they contradict each other nothing is known."""
    both = one & other
    both[both == 0] = ANY_CLASS
    return both
