"""The series that a map was made on, found again by its geometry."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
from numpy.typing import NDArray

from mrigmm.data.dicom.recognise import title
from mrigmm.data.dicom.scan import scan
from mrigmm.data.dicom.series import Part, group_studies
from mrigmm.data.dicom.stack import Stack, stack_slices
from mrigmm.data.geometry import Grid
from mrigmm.data.volumes import Volume
from mrigmm.errors import InputError, Problem

_SHOWN = 5  # series in a message


@dataclass(frozen=True)
class Source:
    """A series, and a map on its pixels.

    Attributes:
        stack: its images, one per slice.
        data: (Z, rows, columns), the map in their order.
        note: what the user should know; empty when there is nothing.
    """

    stack: Stack
    data: NDArray[np.int64]
    note: str = ""


def find_source(
    folder: Path, volume: Volume, *, study: str, track: Callable[[Iterable[Any], str], Iterable[Any]]
) -> Source:
    """The one series below a folder whose slices are those of a map.

    The map's axes may be flipped or permuted against the series, as other converters leave them.

    Args:
        folder: with the series, and perhaps others of another geometry.
        volume: the map.
        study: study id, for messages.
        track: progress bar.

    Raises:
        InputError: no folder, no MR images, no series of this geometry, or several.
    """
    found = scan(folder, track)
    studies, problems = group_studies(found.frames)
    parts = [part for dicom_study in studies for part in dicom_study.parts]
    if not parts:
        nothing = Problem(
            "there are no MR images in the DICOM folder",
            study=study,
            file=str(folder),
            remedy="give the folder of the series that the study was segmented on",
        )
        errors = [p for p in (*found.problems, *problems) if p.severity == "error"]
        raise InputError.from_problems([*errors, nothing])
    fitting = [(part, source) for part in parts if (source := _source(part, volume, study)) is not None]
    series = {part.header.series_uid for part, _ in fitting}
    if len(series) != 1:
        shown = [part for part, _ in fitting] or parts
        raise InputError(
            "several series have the geometry of the label map"
            if fitting
            else "no series has the geometry of the label map",
            study=study,
            file=folder,
            expected=f"one series of {volume.grid.describe()}",
            got="; ".join(f"{title(part)}: {part.describe()}" for part in shown[:_SHOWN]),
            remedy="give a folder with the series alone that the study was segmented on (its reference "
            "sequence, LGE where there is one)",
        )
    part, source = fitting[0]
    if len(fitting) > 1:
        note = f"of {len(fitting)} kinds of images in the series, {part.component} {part.key} is referred to"
        return Source(source.stack, source.data, note)
    return source


def _source(part: Part, volume: Volume, study: str) -> Source | None:
    """The map on the slices of a part of a series; None where they differ."""
    try:
        stack = stack_slices([part], study=study, role="source")
    except InputError:  # no volume: nothing was segmented on it
        return None
    rows, columns = part.first.shape
    grid = Grid((columns, rows, len(stack.frames)), stack.affine)
    turn = nib.orientations.ornt_transform(
        nib.io_orientation(volume.grid.affine), nib.io_orientation(stack.affine)
    )
    data = nib.orientations.apply_orientation(volume.data, turn)
    turned = volume.grid.affine @ nib.orientations.inv_ornt_aff(turn, volume.grid.shape)
    if not Grid(data.shape, turned).same_as(grid):
        return None
    return Source(stack, np.ascontiguousarray(data.transpose(2, 1, 0)).astype(np.int64))
