"""One study from its files to standardised tensors: `load_study` is the whole way in, step by step.

The way back is `StudyTensors.to_input_grid`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from mrigmm.data.bias_field import Shading, remove_shading
from mrigmm.data.channels import on_reference_grid, stack_channels
from mrigmm.data.cine import CINE_SEQUENCE, end_diastolic_frame, values_in_centre, values_in_region
from mrigmm.data.geometry import Grid, slices_last
from mrigmm.data.in_memory import LoadedStudy
from mrigmm.data.manifest import Study
from mrigmm.data.maps import (
    own_region,
    read_reference_label,
    read_scribbles,
    region_from_label,
    region_map,
    require_cavity_inside,
    where_classes_fit,
)
from mrigmm.data.quality import study_problems
from mrigmm.data.registration import SliceMotion, find_motion
from mrigmm.data.study_tensors import OutputGrid, StudyTensors
from mrigmm.data.volumes import ChooseFrame, Volume, read_image
from mrigmm.errors import InputError, Problem, told
from mrigmm.labels import KEY_SEQUENCES, of_the_ventricle

# Preferred sequence to give the output grid (docs/data.md).
REFERENCE_SEQUENCE = "LGE"


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
    inspect: bool = False,
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
        inspect: look for what is implausible, too (`mrigmm.data.quality`).

    Raises:
        InputError: naming study, file, what was expected and found, and the remedy.
    """
    if images is None:
        images = read_sequences(study, sequences, labels or {})
    reference = images[reference_sequence(images)]
    own = region is None
    if region is None:
        region = region_map(study, images, reference, labels or {})
        if of_the_ventricle(classes):
            require_cavity_inside(study, region, reference.grid)
    label = None
    if with_label:
        label = read_reference_label(study, reference.grid, labels or {}, classes)

    warnings: list[str] = []
    notes: list[str] = []
    if own and region_from_label(study):
        notes.append("the region comes from the reference label")
    warnings += [text for volume in images.values() for text in volume.warnings]
    notes += [
        f"{name}: frame {volume.frame} was taken as end-diastole (first frame: 0)"
        for name, volume in images.items()
        if volume.frame is not None and name not in study.frames
    ]
    read = images
    shading: dict[str, Shading] = {}
    if corrections.bias_correction:
        images, shading = remove_shading(images, warnings)
    inside = region > 0
    motion: dict[str, tuple[SliceMotion, ...]] = {}
    if corrections.registration:
        motion = find_motion(images, reference_sequence(images), inside, warnings)
    on_grid = {
        name: on_reference_grid(volume, reference, inside, motion.get(name), study.id, name)
        for name, volume in images.items()
    }
    warnings += [text for resampled in on_grid.values() for text in resampled.notes]
    image, observed, zscores = stack_channels(study, sequences, on_grid, region, warnings, notes)
    findings: list[Problem] = []
    if inspect:
        maps = {name: (image[i], observed[i]) for i, name in enumerate(sequences) if observed[i].any()}
        findings += study_problems(read, reference_sequence(read), region, maps, classes)
    region = where_classes_fit(study, region, classes)
    scribbles = None
    if with_scribbles and study.scribbles is not None:
        scribbles = read_scribbles(study.scribbles, reference.grid, region, classes, study=study.id)
    present = [name for name, seen in zip(sequences, observed, strict=True) if seen.any()]
    notes += [f"no {name}" for name in sequences if name not in images]
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
        image=turned(image),
        observed=turned(observed),
        region=turned(region),
        label=None if label is None else turned(label),
        spacing_mm=(float(spacing[0]), float(spacing[1]), float(spacing[2])),
        turn=turn,
        output=OutputGrid(reference.grid, reference.header, reference.stored_shape, reference.path),
        inputs={name: volume.path for name, volume in images.items()},
        region_source=study.region if own else None,
        findings=(
            *told(warnings, "warning", study.id),
            *(replace(problem, study=study.id) for problem in findings),
            *told(notes, "note", study.id),
        ),
        frames={name: volume.frame for name, volume in images.items() if volume.frame is not None},
        motion=motion,
        shading=shading,
        zscores=zscores,
        scribbles=None if scribbles is None else turned(scribbles),
    )


def reference_sequence(images: Mapping[str, object]) -> str:
    """Return which of a study's sequences (one at least) gives the output grid."""
    return REFERENCE_SEQUENCE if REFERENCE_SEQUENCE in images else next(iter(images))


def read_sequences(
    study: Study, sequences: Sequence[str], labels: Mapping[str, Sequence[int]]
) -> dict[str, Volume]:
    """Read those of a study's sequences that are asked for, each on its own grid.

    Raises:
        InputError: none of them is there, or one cannot be read.
    """
    loaded = study.volumes if isinstance(study, LoadedStudy) else {}
    there = loaded or study.images
    wanted = [name for name in sequences if name in there]
    if not wanted:
        raise InputError(
            "the study has none of the sequences",
            study=study.id,
            expected=f"at least one of {', '.join(sequences)}",
            got=", ".join(there) or "no image",
        )
    return {name: loaded[name] if loaded else read_sequence(study, name, labels) for name in wanted}


def read_sequence(study: Study, name: str, labels: Mapping[str, Sequence[int]]) -> Volume:
    """Read one sequence of a study: of several frames the one that the manifest names, or end-diastole.

    Args:
        study: the files.
        name: of the sequence.
        labels: class name -> ids in the reference label file, for regions that are derived from it.

    Raises:
        InputError: it cannot be read, or has several frames of which none is named and it is no cine.
    """
    return read_image(
        study.images[name],
        study=study.id,
        role=name,
        frame=study.frames.get(name),
        choose_frame=frame_chooser(study, name, labels),
    )


def frame_chooser(study: Study, name: str, labels: Mapping[str, Sequence[int]]) -> ChooseFrame | None:
    """Return how end-diastole of a cine is picked, inside the study's region where it has one; else None."""

    def end_diastole(frames: NDArray[np.generic], grid: Grid) -> int:
        region = own_region(study, labels)
        values = values_in_centre(frames, grid) if region is None else values_in_region(frames, grid, *region)
        return end_diastolic_frame(values)

    return end_diastole if name == CINE_SEQUENCE else None
