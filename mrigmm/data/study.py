"""One study from its files to standardised tensors, and back to the grid of its files.

`load_study` is the whole way in, step by step; `StudyTensors.to_input_grid` is the way back.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass
from pathlib import Path

import nibabel as nib
import numpy as np
import torch
from monai.data import MetaTensor
from monai.transforms import Orientation, ResampleToMatch
from numpy.typing import NDArray
from torch import Tensor

from mrigmm.data.geometry import Grid, canonical_axcodes, coverage
from mrigmm.data.manifest import RegionRule, Study
from mrigmm.data.standardise import fit_zscore
from mrigmm.data.volumes import Volume, read_image, read_map
from mrigmm.errors import InputError
from mrigmm.labels import AUXILIARY_NAMES, CAVITY_CLASSES, REGION_FILE_IDS, Region, allowed_classes

# Label maps inside the program: class index from 0; everything that is no class has this value.
NO_CLASS = -1
# Preferred sequence to give the output grid (docs/data.md).
REFERENCE_SEQUENCE = "LGE"
# A sequence must cover at least this share of the region; below it, it is another examination.
MIN_COVERAGE = 0.95

_AXIS_LABELS = (("L", "R"), ("P", "A"), ("I", "S"))


@dataclass(frozen=True)
class OutputGrid:
    """What is needed to write a map exactly on the grid of the reference sequence's file."""

    grid: Grid
    header: nib.nifti1.Nifti1Header
    stored_shape: tuple[int, ...]
    file: Path


@dataclass(frozen=True)
class StudyTensors:
    """A study in memory, slices along the last axis.

    Attributes:
        id: study id.
        sequences: names of the C channels.
        image: (C, X, Y, Z) float32, standardised inside the region, NaN-free, 0 for a missing
            sequence; its MetaTensor history undoes every spatial step.
        present: (C,) bool, which sequences exist and vary.
        region: (X, Y, Z) uint8 `labels.Region` codes; above 0 where at least one class is allowed.
        label: (X, Y, Z) int64 class indices from 0, `NO_CLASS` elsewhere; None when not asked for.
        spacing_mm: voxel spacing (3,) in mm of the array axes.
        orientation: the MONAI transform that turned the slices last; undoes itself by that history.
        output: the grid to write results on.
        inputs: file of each sequence that was read.
        warnings: what the user should know about this study.
    """

    id: str
    sequences: tuple[str, ...]
    image: MetaTensor
    present: Tensor
    region: Tensor
    label: Tensor | None
    spacing_mm: tuple[float, float, float]
    orientation: Orientation
    output: OutputGrid
    inputs: Mapping[str, Path]
    warnings: tuple[str, ...] = ()

    @property
    def voxels(self) -> Tensor:
        """Intensities (N, C) of the region's voxels, in `region.nonzero()` order."""
        return self.image.as_tensor()[:, self.region > 0].T

    def to_input_grid(self, maps: Tensor) -> NDArray[np.generic]:
        """Put maps (M, X, Y, Z) of this study back on the grid of the reference file.

        Returns:
            (M, *grid shape), dtype kept; flips and permutations are undone exactly.
        """
        history = MetaTensor(
            maps.detach().cpu(),
            affine=self.image.affine,
            applied_operations=deepcopy(self.image.applied_operations),
        )
        return np.asarray(self.orientation.inverse(history).as_tensor().numpy())


def load_study(
    study: Study,
    sequences: Sequence[str],
    classes: Sequence[str],
    *,
    labels: Mapping[str, Sequence[int]] | None = None,
    with_label: bool = False,
) -> StudyTensors:
    """Read a study, put its sequences on one grid, standardise them inside the region.

    Args:
        study: the files.
        sequences: channel order; sequences that the study lacks become absent channels.
        classes: classes of the mixture; voxels where none of them is allowed leave the region.
        labels: class name -> ids in the reference label file (the manifest's); needed when the label
            is read, that is with `with_label` or for a region that is derived from the label.
        with_label: read the reference label too.

    Raises:
        InputError: naming study, file, what was expected and found, and the remedy.
    """
    images = _read_sequences(study, sequences)
    reference = images[reference_sequence(images)]
    region = _region_map(study, images, reference, labels or {})
    label = None
    if with_label:
        label = _class_indices(_read_label(study, reference, labels or {}), labels or {}, classes)

    warnings: list[str] = []
    channels = []  # each (X, Y, Z) on the reference grid
    for name in sequences:
        if name not in images:
            channels.append(np.zeros(reference.grid.shape, dtype=np.float32))
        else:
            channels.append(_on_grid(images[name], reference, region > 0, study.id, name, warnings))
    image, present = _standardise(
        study, channels, [name in images for name in sequences], region, sequences, warnings
    )

    region = _where_classes_fit(study, region, classes)

    orient = Orientation(axcodes=canonical_axcodes(reference.grid), labels=_AXIS_LABELS)

    def turned(array: NDArray[np.generic]) -> MetaTensor:
        return orient(MetaTensor(torch.from_numpy(array), affine=torch.from_numpy(reference.grid.affine)))

    stacked = turned(image)  # (C, X, Y, Z), slices last
    spacing = np.linalg.norm(np.asarray(stacked.affine)[:3, :3], axis=0)
    return StudyTensors(
        id=study.id,
        sequences=tuple(sequences),
        image=stacked,
        present=present,
        region=turned(region[None]).as_tensor()[0],
        label=None if label is None else turned(label[None]).as_tensor()[0],
        spacing_mm=(float(spacing[0]), float(spacing[1]), float(spacing[2])),
        orientation=orient,
        output=OutputGrid(reference.grid, reference.header, reference.stored_shape, reference.path),
        inputs={name: volume.path for name, volume in images.items()},
        warnings=tuple(warnings),
    )


def reference_sequence(images: Mapping[str, object]) -> str:
    """Which of a study's sequences (one at least) gives the output grid."""
    return REFERENCE_SEQUENCE if REFERENCE_SEQUENCE in images else next(iter(images))


def read_reference_label(
    study: Study, grid: Grid, labels: Mapping[str, Sequence[int]], classes: Sequence[str]
) -> NDArray[np.int64]:
    """Reference label (X, Y, Z) in file order as class indices, `NO_CLASS` elsewhere.

    Raises:
        InputError: when it is missing, has unknown ids or lies on another grid than `grid`.
    """
    volume = _label_volume(study, labels)
    _require_grid(volume, grid, study.id, "label")
    return _class_indices(volume.data.astype(np.int64), labels, classes)


def _read_sequences(study: Study, sequences: Sequence[str]) -> dict[str, Volume]:
    images = {
        name: read_image(study.images[name], study=study.id, role=name)
        for name in sequences
        if name in study.images
    }
    if not images:
        raise InputError(
            "the study has none of the sequences",
            study=study.id,
            expected=f"at least one of {', '.join(sequences)}",
            got=", ".join(study.images) or "no image",
        )
    return images


def _label_volume(study: Study, labels: Mapping[str, Sequence[int]]) -> Volume:
    if study.label is None:
        raise InputError(
            "the study has no reference label", study=study.id, remedy="add 'label' to it in the manifest"
        )
    known = [i for ids in labels.values() for i in ids]
    if not known:
        raise InputError(
            "the label ids of this cohort are not known",
            study=study.id,
            file=study.label,
            remedy="add 'labels' (class name -> id) to the manifest",
        )
    return read_map(study.label, study=study.id, role="label", known=known)


def _read_label(study: Study, reference: Volume, labels: Mapping[str, Sequence[int]]) -> NDArray[np.int64]:
    volume = _label_volume(study, labels)
    _require_grid(volume, reference.grid, study.id, "label")
    return volume.data.astype(np.int64)


def _class_indices(
    ids: NDArray[np.int64], labels: Mapping[str, Sequence[int]], classes: Sequence[str]
) -> NDArray[np.int64]:
    indices = np.full(ids.shape, NO_CLASS, dtype=np.int64)
    for index, name in enumerate(classes):
        indices[np.isin(ids, list(labels.get(name, ())))] = index
    return indices


def _region_map(
    study: Study, images: Mapping[str, Volume], reference: Volume, labels: Mapping[str, Sequence[int]]
) -> NDArray[np.uint8]:
    if study.region is None:
        raise InputError(
            "the study has no region map, and a mixture is fitted inside one",
            study=study.id,
            expected="a map of the left ventricle: 1 inside, or 1 = cavity and 2 = wall",
            remedy="add 'region' in the manifest (or give --region), see docs/data.md",
        )
    file: Path | None
    if isinstance(study.region, RegionRule):
        file = study.label if study.region.kind != "nonzero" else reference.path
        region = _derived_region(study, study.region, images, reference, labels)
    else:
        file = study.region
        volume = read_map(file, study=study.id, role="region", known=REGION_FILE_IDS)
        _require_grid(volume, reference.grid, study.id, "region")
        region = _region_codes(volume.data.astype(np.uint8))
    if not region.any():
        raise InputError(
            "the region is empty",
            study=study.id,
            file=file,
            expected="voxels above 0",
            got="none",
            remedy="check the file, or leave the study out",
        )
    return region


def _derived_region(
    study: Study,
    rule: RegionRule,
    images: Mapping[str, Volume],
    reference: Volume,
    labels: Mapping[str, Sequence[int]],
) -> NDArray[np.uint8]:
    if rule.kind == "nonzero":
        inside = np.ones(reference.grid.shape, dtype=bool)
        for name, volume in images.items():
            _require_grid(volume, reference.grid, study.id, name)
            inside &= volume.data > 0
        return np.where(inside, Region.LV, Region.OUTSIDE).astype(np.uint8)
    classes = [name for name in labels if name not in AUXILIARY_NAMES]
    index = _class_indices(_read_label(study, reference, labels), labels, classes)
    if rule.kind == "lv":
        return np.where(index != NO_CLASS, Region.LV, Region.OUTSIDE).astype(np.uint8)
    cavity = np.isin(index, [i for i, name in enumerate(classes) if name in CAVITY_CLASSES])
    region = np.where(index != NO_CLASS, Region.WALL, Region.OUTSIDE)
    return np.where(cavity, Region.CAVITY, region).astype(np.uint8)


def _region_codes(ids: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """A file's 1 is the whole ventricle, unless the map has a wall; then it is the cavity."""
    inner = Region.CAVITY if (ids == 2).any() else Region.LV
    codes = np.array([Region.OUTSIDE, inner, Region.WALL], dtype=np.uint8)
    return codes[ids]


def _where_classes_fit(study: Study, region: NDArray[np.uint8], classes: Sequence[str]) -> NDArray[np.uint8]:
    """The region without the voxels where no class is allowed (the cavity, without a blood class)."""
    fits = np.array([any(row) for row in allowed_classes(classes)])
    restricted = np.where(fits[region], region, Region.OUTSIDE).astype(np.uint8)
    if not restricted.any():
        raise InputError(
            "the region holds none of the classes",
            study=study.id,
            expected=f"voxels where {', '.join(classes)} can occur",
            got="only " + " and ".join(Region(code).name.lower() for code in np.unique(region) if code),
            remedy="give a region map that fits the classes",
        )
    return restricted


def _require_grid(volume: Volume, expected: Grid, study: str, role: str) -> None:
    if volume.grid.same_as(expected):
        return
    difference = volume.grid.difference_mm(expected)
    distance = "" if np.isinf(difference) else f"; corners differ by up to {difference:.1f} mm"
    raise InputError(
        f"the {role} map is not on the grid of the reference sequence",
        study=study,
        file=volume.path,
        expected=expected.describe(),
        got=volume.grid.describe() + distance,
        remedy="resample the map onto the reference sequence (nearest neighbour), or copy that header "
        "if only the header was lost",
    )


def _on_grid(
    volume: Volume, reference: Volume, inside: NDArray[np.bool_], study: str, name: str, warnings: list[str]
) -> NDArray[np.float32]:
    """One sequence (X, Y, Z) on the reference grid, by linear interpolation where the grids differ."""
    if volume.grid.same_as(reference.grid):
        return volume.data.astype(np.float32)
    covered = float(coverage(reference.grid, inside, volume.grid).mean())
    if covered < MIN_COVERAGE:
        raise InputError(
            f"{name} does not show the region: its grid lies elsewhere",
            study=study,
            file=volume.path,
            expected=f"a grid that covers the region; reference: {reference.grid.describe()}",
            got=f"{volume.grid.describe()}; covers {100 * covered:.0f} % of the region",
            remedy=f"repair the header of {name}, crop the region to the common field of view, "
            "or leave the sequence out (null)",
        )
    if covered < 1:
        warnings.append(f"{name} covers {100 * covered:.1f} % of the region; its border values fill the rest")
    moving = MetaTensor(
        torch.from_numpy(volume.data.astype(np.float32)[None]), affine=torch.from_numpy(volume.grid.affine)
    )
    target = MetaTensor(
        torch.zeros((1, *reference.grid.shape)), affine=torch.from_numpy(reference.grid.affine)
    )
    resample = ResampleToMatch(
        mode="bilinear", padding_mode="border", align_corners=False, dtype=torch.float64
    )
    return np.asarray(resample(moving, target).as_tensor()[0].numpy(), dtype=np.float32)


def _standardise(
    study: Study,
    channels: Sequence[NDArray[np.float32]],
    given: Sequence[bool],
    region: NDArray[np.uint8],
    sequences: Sequence[str],
    warnings: list[str],
) -> tuple[NDArray[np.float32], Tensor]:
    """Stack the channels in region z-score units (C, X, Y, Z), and say which carry information (C,)."""
    inside = region > 0
    image = np.zeros((len(channels), *region.shape), dtype=np.float32)
    present = torch.zeros(len(channels), dtype=torch.bool)
    for index, (channel, exists) in enumerate(zip(channels, given, strict=True)):
        if not exists:
            continue
        zscore = fit_zscore(channel[inside])
        if not zscore.varies:
            warnings.append(f"{sequences[index]} is constant inside the region and is left out")
            continue
        if zscore.n_clipped:
            warnings.append(
                f"{sequences[index]}: {zscore.n_clipped} extreme voxels of the region were clipped"
            )
        image[index] = zscore.apply(channel)
        present[index] = True
    if not present.any():
        raise InputError(
            "no sequence varies inside the region",
            study=study.id,
            file=next(iter(study.images.values())),
            expected="an image with contrast inside the region",
            got=f"one value in all {int(inside.sum())} voxels",
            remedy="check that region and images belong together",
        )
    return image, present
