"""The series that a map was made on, found again: by the record of the import, else by its geometry."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mrigmm.data.dicom.recognise import recognise, title
from mrigmm.data.dicom.record import Origin
from mrigmm.data.dicom.scan import scan
from mrigmm.data.dicom.series import DicomStudy, Part, group_studies
from mrigmm.data.dicom.stack import Stack, stack_slices
from mrigmm.data.geometry import Grid, turned_onto
from mrigmm.data.volumes import Volume
from mrigmm.errors import InputError, Problem
from mrigmm.labels import SEQUENCES

_SHOWN = 5  # series in a message


@dataclass(frozen=True)
class Source:
    """A series, and a map on its pixels.

    Attributes:
        stack: its images, one per slice.
        data: (Z, rows, columns), the map in their order.
        said: which series it is, and by what it was found.
        doubt: why it may be the wrong one; empty when there is nothing.
    """

    stack: Stack
    data: NDArray[np.int64]
    said: str
    doubt: str = ""


@dataclass(frozen=True)
class DicomFolder:
    """The MR images below a folder."""

    path: Path
    studies: tuple[DicomStudy, ...]
    problems: tuple[Problem, ...]


def read_folder(path: Path, track: Callable[[Iterable[Any], str], Iterable[Any]]) -> DicomFolder:
    """Read the headers of a folder.

    Raises:
        InputError: no folder.
    """
    found = scan(path, track)
    studies, problems = group_studies(found.frames)
    return DicomFolder(path, tuple(studies), (*found.problems, *problems))


def recorded_source(folder: DicomFolder, volume: Volume, origin: Origin, *, study: str) -> Source:
    """The series that the import made the image from which a map has its grid.

    Raises:
        InputError: the study or the series are not in the folder, or the map has another grid.
    """
    wanted = [found for found in folder.studies if found.uid == origin.study]
    of_series = [part for found in wanted for part in found.parts if part.key in origin.series]
    # The parts of a series are numbered anew where some of its images are no longer there.
    parts = [part for part in of_series if part.component == origin.component]
    missing = [key for key in origin.series if key not in {part.key for part in parts}]
    if missing:
        raise InputError(
            "the series that the study was segmented on is not in the DICOM folder",
            study=study,
            file=folder.path,
            expected=f"{origin.sequence}: series {missing[0]}, {origin.component}",
            got="other images of this study" if wanted else "other studies",
            remedy="give the folder that mrigmm manifest dicom was run on",
        )
    stack = stack_slices(parts, study=study, role=origin.sequence)
    data = _on_stack(stack, volume)
    if data is None:
        raise InputError(
            "the label map is not on the grid of the series that the import recorded",
            study=study,
            file=volume.path,
            expected=_grid(stack).describe(),
            got=volume.grid.describe(),
            remedy="predict again with the images that the last run of mrigmm manifest dicom wrote",
        )
    return Source(stack, data, f"refers to {_titles(parts)} ({origin.sequence}), as the import recorded")


def matching_source(folder: DicomFolder, volume: Volume, sequence: str | None, *, study: str) -> Source:
    """The one series of a folder whose slices are those of a map.

    The map's axes may be flipped or permuted against the series, as other converters leave them.

    Args:
        folder: with the series, and perhaps others of another geometry.
        volume: the map.
        sequence: that the map was made on, where it is known.
        study: study id, for messages.

    Raises:
        InputError: no MR images, no series of this geometry, or several.
    """
    parts = [part for found in folder.studies for part in found.parts]
    if not parts:
        nothing = Problem(
            "there are no MR images in the DICOM folder",
            study=study,
            file=str(folder.path),
            remedy="give the folder of the series that the study was segmented on",
        )
        errors = [problem for problem in folder.problems if problem.severity == "error"]
        raise InputError.from_problems([*errors, nothing])
    fitting = [(part, *found) for part in parts if (found := _of_part(part, volume, study)) is not None]
    if len({part.header.series_uid for part, _, _ in fitting}) != 1:
        shown = [part for part, _, _ in fitting] or parts
        raise InputError(
            "several series have the geometry of the label map"
            if fitting
            else "no series has the geometry of the label map",
            study=study,
            file=folder.path,
            expected=f"one series of {volume.grid.describe()}",
            got="; ".join(f"{title(part)}: {part.describe()}" for part in shown[:_SHOWN]),
            remedy="give the images.json of the import with --record, or a folder with the series alone that "
            "the study was segmented on (its reference sequence, LGE where there is one)",
        )
    part, stack, data = fitting[0]
    doubts = []
    if len(fitting) > 1:
        doubts.append(f"of {len(fitting)} kinds of images in it, {part.component} {part.key} is taken")
    looks = recognise(part).sequence
    if sequence in SEQUENCES and looks in SEQUENCES and looks != sequence:
        doubts.append(f"it looks like {looks}, but the study was segmented on {sequence}")
    return Source(stack, data, f"refers to series {title(part)}, by its geometry alone", "; ".join(doubts))


def _titles(parts: Sequence[Part]) -> str:
    first = f"series {title(parts[0])}"
    return first if len(parts) == 1 else f"{len(parts)} series, the first of them {title(parts[0])}"


def _of_part(part: Part, volume: Volume, study: str) -> tuple[Stack, NDArray[np.int64]] | None:
    """The slices of a part and the map on them; None where they differ."""
    try:
        stack = stack_slices([part], study=study, role="source")
    except InputError:  # no volume: nothing was segmented on it
        return None
    data = _on_stack(stack, volume)
    return None if data is None else (stack, data)


def _on_stack(stack: Stack, volume: Volume) -> NDArray[np.int64] | None:
    """The map (Z, rows, columns) in the order of a stack; None where its slices are others."""
    data = turned_onto(volume.data, volume.grid, _grid(stack))
    return None if data is None else np.ascontiguousarray(data.transpose(2, 1, 0)).astype(np.int64)


def _grid(stack: Stack) -> Grid:
    rows, columns = stack.frames[0].shape
    return Grid((columns, rows, len(stack.frames)), stack.affine)
