"""One study from its files to standardised tensors, and back to the grid of its files.

`load_study` is the whole way in, step by step; `StudyTensors.to_input_grid` is the way back.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import torch
from monai.data import MetaTensor
from numpy.typing import NDArray
from torch import Tensor

from mrigmm.data.bias_field import Shading, remove_shading
from mrigmm.data.cine import CINE_SEQUENCE, end_diastolic_frame, values_in_centre, values_in_region
from mrigmm.data.geometry import Grid, Turn, coverage, in_field_of_view, slices_last
from mrigmm.data.manifest import RegionRule, Study
from mrigmm.data.maps import (
    own_region,
    read_reference_label,
    read_scribbles,
    region_from_label,
    region_map,
    where_classes_fit,
)
from mrigmm.data.registration import SliceMotion, find_motion, sample, sampling_index
from mrigmm.data.resample import resample_linear
from mrigmm.data.standardise import ZScore, fit_zscore
from mrigmm.data.volumes import Volume, read_image
from mrigmm.errors import InputError
from mrigmm.labels import KEY_SEQUENCES

# Preferred sequence to give the output grid (docs/data.md).
REFERENCE_SEQUENCE = "LGE"
# A sequence must cover at least this share of the region: less is another examination, or a lost header.
MIN_COVERAGE = 0.5


@dataclass(frozen=True)
class Corrections:
    """Optional steps of loading a study.

    Attributes:
        bias_correction: divide every sequence by its bias field (`mrigmm.data.bias_field`).
        registration: register every sequence to the reference sequence, slice by slice
            (`mrigmm.data.registration`); after the bias field.
    """

    bias_correction: bool = False
    registration: bool = False


NO_CORRECTIONS = Corrections()


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
            sequence; a MetaTensor, whose history will undo what a network's view does to it.
        observed: (C, X, Y, Z) bool, where each sequence was acquired and varies; the image is 0
            elsewhere.
        region: (X, Y, Z) uint8 `labels.Region` codes; above 0 where at least one class is allowed.
        label: (X, Y, Z) int64 class indices from 0, `maps.NO_CLASS` elsewhere; None when not asked for.
        spacing_mm: voxel spacing (3,) in mm of the array axes.
        turn: how the file's arrays were turned so that the slices lie last.
        output: the grid to write results on.
        inputs: file of each sequence that was read.
        frames: the frame, from 0, that was taken of each file that holds several.
        zscores: how the intensities of each sequence that the study has became `image`.
        found_region: how sure the anatomy stage is of the region that it found; None where one was given.
        scribbles: (X, Y, Z) int64 class indices that a user named, `maps.NO_CLASS` elsewhere; None when
            there are none or they were not asked for.
        region_source: file or rule of the region map.
        warnings: what the user should know about this study.
        motion: what each registered sequence was moved by, per slice of the reference file.
        shading: what the bias field of each corrected sequence was.
    """

    id: str
    sequences: tuple[str, ...]
    image: MetaTensor
    observed: Tensor
    region: Tensor
    label: Tensor | None
    spacing_mm: tuple[float, float, float]
    turn: Turn
    output: OutputGrid
    inputs: Mapping[str, Path]
    region_source: Path | RegionRule | None = None
    warnings: tuple[str, ...] = ()
    frames: Mapping[str, int] = field(default_factory=dict)
    motion: Mapping[str, tuple[SliceMotion, ...]] = field(default_factory=dict)
    shading: Mapping[str, Shading] = field(default_factory=dict)
    zscores: Mapping[str, ZScore] = field(default_factory=dict)
    found_region: Mapping[str, Any] | None = None
    scribbles: Tensor | None = None

    @cached_property
    def present(self) -> Tensor:
        """(C,) bool, which sequences the study has."""
        return self.observed.flatten(1).any(dim=1)

    @property
    def voxels(self) -> Tensor:
        """Intensities (N, C) of the region's voxels, in `region.nonzero()` order."""
        return packed(self.image.as_tensor(), self.region).T

    def present_voxels(self) -> tuple[Tensor, Tensor | None]:
        """Intensities (N, C') of the sequences that the study has, and where they were acquired.

        Returns:
            The second is (N, C') bool, or None when every voxel has all of them.
        """
        observed = packed(self.observed, self.region).T[:, self.present]
        return self.voxels[:, self.present], None if bool(observed.all()) else observed

    def to_input_grid(self, maps: Tensor) -> NDArray[np.generic]:
        """Put maps (M, X, Y, Z) of this study back on the grid of the reference file.

        Returns:
            (M, *grid shape), dtype kept; flips and permutations are undone exactly.
        """
        return self.turn.undo(maps.detach().cpu().numpy())


def packed(maps: Tensor, region: Tensor) -> Tensor:
    """The voxels (M, N) of maps (M, X, Y, Z) inside the region (X, Y, Z), in `region.nonzero()` order."""
    # By index: a boolean mask is looked through again for every map.
    return maps.flatten(1).index_select(1, region.flatten().nonzero()[:, 0])


def load_study(
    study: Study,
    sequences: Sequence[str],
    classes: Sequence[str],
    *,
    labels: Mapping[str, Sequence[int]] | None = None,
    with_label: bool = False,
    with_scribbles: bool = False,
    images: Mapping[str, Volume] | None = None,
    region: NDArray[np.uint8] | None = None,
    corrections: Corrections = NO_CORRECTIONS,
) -> StudyTensors:
    """Read a study, put its sequences on one grid, standardise them inside the region.

    Args:
        study: the files.
        sequences: channel order; sequences that the study lacks become absent channels.
        classes: classes of the mixture; voxels where none of them is allowed leave the region.
        labels: class name -> ids in the reference label file (the manifest's); needed when the label
            is read, that is with `with_label` or for a region that is derived from the label.
        with_label: read the reference label too.
        with_scribbles: read the scribbles too, where the study has them.
        images: what `read_sequences` returned for this study, where the caller has it already.
        region: `labels.Region` codes on the grid of the reference sequence, in place of the study's own.
        corrections: optional steps on the images.

    Raises:
        InputError: naming study, file, what was expected and found, and the remedy.
    """
    if images is None:
        images = read_sequences(study, sequences, labels or {})
    reference = images[reference_sequence(images)]
    own = region is None
    if region is None:
        region = region_map(study, images, reference, labels or {})
    label = None
    if with_label:
        label = read_reference_label(study, reference.grid, labels or {}, classes)

    warnings: list[str] = []
    if own and region_from_label(study):
        warnings.append("the region comes from the reference label")
    warnings += [
        f"{name}: frame {volume.frame} was taken as end-diastole (first frame: 0)"
        for name, volume in images.items()
        if volume.frame is not None and name not in study.frames
    ]
    shading: dict[str, Shading] = {}
    if corrections.bias_correction:
        images, shading = remove_shading(images, warnings)
    inside = region > 0
    motion: dict[str, tuple[SliceMotion, ...]] = {}
    if corrections.registration:
        motion = find_motion(images, reference_sequence(images), inside, warnings)
    on_grid = {
        name: _on_grid(volume, reference, inside, motion.get(name), study.id, name)
        for name, volume in images.items()
    }
    warnings += [resampled.note for resampled in on_grid.values() if resampled.note]
    image, observed, zscores = _standardise(study, sequences, on_grid, region, warnings)
    region = where_classes_fit(study, region, classes)
    scribbles = None
    if with_scribbles and study.scribbles is not None:
        scribbles = read_scribbles(study.scribbles, reference.grid, region, classes, study=study.id)
    present = [name for name, seen in zip(sequences, observed, strict=True) if seen.any()]
    warnings += [f"no {name}" for name in sequences if name not in images]
    warnings += [
        f"{name} cannot be told reliably without {key}"
        for name, key in KEY_SEQUENCES.items()
        if name in classes and key not in present
    ]

    turn = slices_last(reference.grid)

    def turned(array: NDArray[Any]) -> Tensor:
        return torch.from_numpy(turn.apply(array))

    spacing = Grid(region.shape, turn.affine).spacing_mm
    return StudyTensors(
        id=study.id,
        sequences=tuple(sequences),
        image=MetaTensor(turned(image), affine=torch.from_numpy(turn.affine)),
        observed=turned(observed),
        region=turned(region),
        label=None if label is None else turned(label),
        spacing_mm=(float(spacing[0]), float(spacing[1]), float(spacing[2])),
        turn=turn,
        output=OutputGrid(reference.grid, reference.header, reference.stored_shape, reference.path),
        inputs={name: volume.path for name, volume in images.items()},
        region_source=study.region if own else None,
        warnings=tuple(warnings),
        frames={name: volume.frame for name, volume in images.items() if volume.frame is not None},
        motion=motion,
        shading=shading,
        zscores=zscores,
        scribbles=None if scribbles is None else turned(scribbles),
    )


def reference_sequence(images: Mapping[str, object]) -> str:
    """Which of a study's sequences (one at least) gives the output grid."""
    return REFERENCE_SEQUENCE if REFERENCE_SEQUENCE in images else next(iter(images))


def read_sequences(
    study: Study, sequences: Sequence[str], labels: Mapping[str, Sequence[int]]
) -> dict[str, Volume]:
    """Read those of a study's sequences that are asked for, each on its own grid.

    Raises:
        InputError: none of them is there, or one cannot be read.
    """
    wanted = [name for name in sequences if name in study.images]
    if not wanted:
        raise InputError(
            "the study has none of the sequences",
            study=study.id,
            expected=f"at least one of {', '.join(sequences)}",
            got=", ".join(study.images) or "no image",
        )
    return {name: read_sequence(study, name, labels) for name in wanted}


def read_sequence(study: Study, name: str, labels: Mapping[str, Sequence[int]]) -> Volume:
    """Read one sequence of a study: of several frames the one that the manifest names, or end-diastole.

    Args:
        study: the files.
        name: of the sequence.
        labels: class name -> ids in the reference label file, for regions that are derived from it.

    Raises:
        InputError: it cannot be read, or has several frames of which none is named and it is no cine.
    """

    def end_diastole(frames: NDArray[np.generic], grid: Grid) -> int:
        region = own_region(study, labels)
        values = values_in_centre(frames, grid) if region is None else values_in_region(frames, grid, *region)
        return end_diastolic_frame(values)

    return read_image(
        study.images[name],
        study=study.id,
        role=name,
        frame=study.frames.get(name),
        choose_frame=end_diastole if name == CINE_SEQUENCE else None,
    )


@dataclass(frozen=True)
class _OnGrid:
    """A sequence (X, Y, Z) on the reference grid, where it was acquired (X, Y, Z; None: everywhere), and
    what to know of it.
    """

    data: NDArray[np.float32]
    acquired: NDArray[np.bool_] | None = None
    note: str | None = None


def _on_grid(
    volume: Volume,
    reference: Volume,
    inside: NDArray[np.bool_],
    motion: tuple[SliceMotion, ...] | None,
    study: str,
    name: str,
) -> _OnGrid:
    """One sequence on the reference grid, linearly where the grids differ or the sequence moved."""
    if motion is None and volume.grid.same_as(reference.grid):
        return _OnGrid(volume.data.astype(np.float32, copy=False))
    if motion is None:
        acquired = coverage(reference.grid, volume.grid)
    else:
        index = sampling_index(reference.grid, inside, motion, volume.grid)
        acquired = in_field_of_view(index, volume.grid.shape)
    covered = float(acquired[inside].mean())
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
    note = None
    if covered < 1:
        note = f"{name} covers {100 * covered:.1f} % of the region and counts as missing in the rest"
    if motion is not None:
        data = sample(volume.data, index)
    else:
        data = resample_linear(volume.data.astype(np.float32, copy=False), volume.grid, reference.grid)
    return _OnGrid(data, None if acquired.all() else acquired, note)


def _standardise(
    study: Study,
    sequences: Sequence[str],
    on_grid: Mapping[str, _OnGrid],
    region: NDArray[np.uint8],
    warnings: list[str],
) -> tuple[NDArray[np.float32], NDArray[np.bool_], dict[str, ZScore]]:
    """Stack the sequences in region z-score units (C, X, Y, Z), say where they carry information, and how
    each was standardised.
    """
    image = np.zeros((len(sequences), *region.shape), dtype=np.float32)
    observed = np.zeros(image.shape, dtype=bool)
    zscores: dict[str, ZScore] = {}
    inside = region > 0
    for index, name in enumerate(sequences):
        if name not in on_grid:
            continue
        channel, acquired = on_grid[name].data, on_grid[name].acquired
        zscore = fit_zscore(channel[inside if acquired is None else acquired & inside])
        if not zscore.varies:
            warnings.append(f"{name} is constant inside the region and is left out")
            continue
        if zscore.n_clipped:
            warnings.append(f"{name}: {zscore.n_clipped} extreme voxels of the region were clipped")
        zscores[name] = zscore
        image[index] = zscore.apply(channel)
        observed[index] = True if acquired is None else acquired
        if acquired is not None:
            image[index][~acquired] = 0
    if not observed.any():
        raise InputError(
            "no sequence varies inside the region",
            study=study.id,
            file=next(iter(study.images.values())),
            expected="an image with contrast inside the region",
            got=f"one value in all {int((region > 0).sum())} voxels",
            remedy="check that region and images belong together",
        )
    return image, observed, zscores
