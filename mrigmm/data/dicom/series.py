"""Frames in groups: studies, and in each study the parts of its series that can become one volume."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Hashable, Iterable, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Literal, TypeVar

from mrigmm.data.dicom.frames import Frame, SeriesHeader
from mrigmm.data.series_names import PHASE_TYPES
from mrigmm.errors import Problem, counted

K = TypeVar("K", bound=Hashable)
Component = Literal["magnitude", "PSIR", "phase"]

SAME_POSITION_MM = 0.1
_SAME_DIRECTION = 1e-3  # of the unit vectors; 0.3 mm at the edge of a 300 mm field of view
_SAME_PIXEL = 1e-3  # of the pixel: rounded headers differ in the fourth digit
_OFF_STEP = 0.05  # of the slice distance
MIN_CINE_FRAMES = 4  # fewer images of a slice are repetitions
# Values of Image Type that say how an image was corrected, not what it shows.
_PROCESSING = {"NORM", "ND", "DIS2D", "DIS3D", "FIL", "FM", "MFSPLIT", "MOCO"}
_PSIR_TYPES = {"PSIR", "R", "CR", "REAL", "R_IR", "CR_IR", "R_FFE"}
# Scanners that write phase-sensitive images as a series of their own often say so in its name alone.
_PSIR_NAME = re.compile(r"PSIR|PSMDE|\bPS:")


@dataclass(frozen=True)
class Part:
    """A series, or one of the parts that hold different images (magnitude and PSIR, views, echoes).

    Attributes:
        key: the series UID, with #1, #2, ... where the series has several parts.
        slices: per position along the normal, from the lowest, the images taken there.
        component: what the pixels are.
        cine: the images of a position are phases of the heart beat.
    """

    key: str
    slices: tuple[tuple[Frame, ...], ...]
    component: Component
    cine: bool

    @property
    def header(self) -> SeriesHeader:
        """Header of the first image."""
        return self.first.header

    @property
    def first(self) -> Frame:
        """The first image of the lowest slice."""
        return self.slices[0][0]

    @property
    def frames(self) -> tuple[Frame, ...]:
        """All images."""
        return tuple(frame for images in self.slices for frame in images)

    @property
    def phases(self) -> int:
        """Images of one slice (the median)."""
        return sorted(len(images) for images in self.slices)[len(self.slices) // 2]

    @property
    def counted_slices(self) -> str:
        """Their number, and how many are missing among them."""
        missing = f" ({self.missing} missing)" if self.missing else ""
        return counted(len(self.slices), "slice") + missing

    @property
    def acquired(self) -> str:
        """When its last image was taken, as sortable text."""
        return max(frame.acquired for frame in self.frames)

    @property
    def missing(self) -> int:
        """Slices that are missing inside the stack."""
        return missing_slices([images[0].height_mm for images in self.slices])

    def describe(self) -> str:
        """Name, size and kind in one line, for the map and messages."""
        rows, columns = self.first.shape
        between_rows, between_columns = self.first.pixel_mm
        cine = f", {self.phases} frames each" if self.cine else ""
        time = f", {self.acquired}" if self.acquired else ""
        return (
            f"{self.counted_slices} of {columns} x {rows} pixels of {between_columns:.4g} x "
            f"{between_rows:.4g} mm, {self.component}{cine}{time}"
        )


@dataclass(frozen=True)
class DicomStudy:
    """One examination: its parts in the order of their series numbers."""

    patient_id: str
    uid: str
    parts: tuple[Part, ...]

    @property
    def persons(self) -> frozenset[tuple[str, str]]:
        """Names and dates of birth in its headers."""
        return frozenset(part.header.person for part in self.parts)


def group_studies(frames: Iterable[Frame]) -> tuple[list[DicomStudy], list[Problem]]:
    """Studies sorted by patient, date of the first image and UID.

    Returns:
        The studies, and an error for each study UID that several patients have.
    """
    by_study = _groups(frames, lambda frame: frame.header.study_uid)
    studies, problems = [], []
    for uid, members in by_study.items():
        patients = {frame.header.patient_id for frame in members}
        if len(patients) > 1:
            problems.append(
                Problem(
                    "a study has the images of several patients",
                    study=str(uid),
                    file=str(members[0].file),
                    expected="one PatientID per StudyInstanceUID",
                    got=f"{len(patients)} PatientIDs",
                    remedy="export the patients again with their own study UIDs; nothing of it is used",
                )
            )
            continue
        series = _groups(members, lambda frame: frame.header.series_uid)
        parts = [part for images in series.values() for part in split_series(images)]
        parts.sort(key=lambda part: (_natural(part.header.number), part.header.series_uid))
        studies.append(DicomStudy(patients.pop(), str(uid), tuple(parts)))
    studies.sort(key=lambda s: (s.patient_id, min(part.first.acquired for part in s.parts), s.uid))
    return studies, problems


def split_series(frames: Sequence[Frame]) -> list[Part]:
    """The parts of one series: by plane and matrix, by image type, and by echo or inversion time where
    most slices were taken several times.
    """
    # By number, not by file name: the parts keep their #1, #2 when files are renamed.
    ordered = sorted(frames, key=lambda frame: (frame.instance, frame.file))
    groups = [
        group
        for plane in _planes(ordered)
        for group in _groups(plane, lambda frame: frozenset(frame.image_type) - _PROCESSING).values()
    ]
    for time in (lambda frame: frame.echo_time_ms, lambda frame: frame.inversion_time_ms):
        groups = [part for group in groups for part in _split_repeats(group, time)]
    types = {value.upper() for group in groups for value in group[0].image_type}
    parts = []
    for number, group in enumerate(groups, start=1):
        header = group[0].header
        key = header.series_uid if len(groups) == 1 else f"{header.series_uid}#{number}"
        slices = _slices(group)
        parts.append(Part(key, slices, _component(group[0], types), _is_cine(slices)))
    return parts


def _component(frame: Frame, types_of_series: set[str]) -> Component:
    types = {value.upper() for value in frame.image_type}
    name = f"{frame.header.description} {frame.header.protocol}".upper()
    if types & _PSIR_TYPES:
        return "PSIR"
    if types & PHASE_TYPES:
        return "phase"
    in_tags = types_of_series & {*_PSIR_TYPES, "MAG"}
    return "PSIR" if _PSIR_NAME.search(name) and "MAG" not in name and not in_tags else "magnitude"


def _split_repeats(frames: list[Frame], time: Callable[[Frame], float | None]) -> list[list[Frame]]:
    """Groups of equal time when most slices have several images that differ in it."""
    slices = _slices(frames)
    differing = [images for images in slices if len({time(frame) for frame in images}) > 1]
    if 2 * len(differing) <= len(slices):
        return [frames]
    return list(_groups(frames, time).values())


def _is_cine(slices: Sequence[Sequence[Frame]]) -> bool:
    """Return whether most slices have several images that differ in trigger time or phase."""
    moving = [
        images
        for images in slices
        if len({(frame.trigger_time_ms, frame.phase) for frame in images}) >= MIN_CINE_FRAMES
    ]
    return 2 * len(moving) > len(slices)


def _slices(frames: Iterable[Frame]) -> tuple[tuple[Frame, ...], ...]:
    """Frames by position, positions from the lowest along the normal, frames by time."""
    slices: list[list[Frame]] = []
    for frame in frames:
        for images in slices:
            if math.dist(images[0].position_mm, frame.position_mm) < SAME_POSITION_MM:
                images.append(frame)
                break
        else:
            slices.append([frame])
    slices.sort(key=lambda images: images[0].height_mm)
    return tuple(tuple(sorted(images, key=_moment)) for images in slices)


def _moment(frame: Frame) -> tuple[float, float, str, int]:
    """Return the time in the heart beat, to sort by; a frame that has none comes last."""
    trigger, phase = (math.inf if t is None else t for t in (frame.trigger_time_ms, frame.phase))
    return (trigger, phase, frame.acquired, frame.instance)


def _planes(frames: Iterable[Frame]) -> list[list[Frame]]:
    """Frames of one direction, matrix and pixel size; the normal of the first is used for all."""
    planes: list[list[Frame]] = []
    for frame in frames:
        for plane in planes:
            if same_plane(plane[0], frame):
                # Headers differ in the last digits.
                plane.append(replace(frame, row=plane[0].row, column=plane[0].column))
                break
        else:
            planes.append([frame])
    return planes


def same_plane(one: Frame, other: Frame) -> bool:
    """Return whether two images can be slices of one volume: direction, matrix, pixel size."""
    return (
        one.shape == other.shape
        and math.dist(one.row, other.row) < _SAME_DIRECTION
        and math.dist(one.column, other.column) < _SAME_DIRECTION
        and all(abs(a - b) <= _SAME_PIXEL * a for a, b in zip(one.pixel_mm, other.pixel_mm, strict=True))
    )


def tilt_degrees(one: Frame, other: Frame) -> float:
    """Angle between two planes, 0 to 90 degrees."""
    cosine = sum(a * b for a, b in zip(one.normal, other.normal, strict=True))
    return math.degrees(math.acos(min(abs(cosine), 1.0)))


def missing_slices(heights_mm: Sequence[float]) -> int:
    """Return how many slices are missing where all distances are whole multiples of the smallest; else 0.

    A smallest distance that is none of the stack's, such as that of a repeated slice, needs more slices
    than there are: that is 0, too.
    """
    distances = [upper - lower for lower, upper in pairwise(heights_mm)]
    smallest = min(distances, default=0.0)
    if smallest < SAME_POSITION_MM:
        return 0
    steps = [distance / smallest for distance in distances]
    if any(abs(step - round(step)) > _OFF_STEP for step in steps):
        return 0
    missing = sum(round(step) - 1 for step in steps)
    return missing if missing < len(heights_mm) else 0


def _groups(frames: Iterable[Frame], key: Callable[[Frame], K]) -> dict[K, list[Frame]]:
    groups: dict[K, list[Frame]] = {}
    for frame in frames:
        groups.setdefault(key(frame), []).append(frame)
    return groups


def _natural(number: str) -> tuple[int, str]:
    return (int(number), "") if number.isdecimal() else (10**9, number)
