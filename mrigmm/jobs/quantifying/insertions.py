"""Whether the points and the base that a user gives can be those of the studies that are measured."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from mrigmm.data.side_file import BASES, SideFile
from mrigmm.errors import InputError, Problem, near_misses, some_of
from mrigmm.quantification.segments import (
    NOT_ABOVE,
    anterior_above,
    base_by_rv,
    contact_ends,
    distance_mm,
    insertion_by_rv,
    insertion_of_point,
)
from mrigmm.quantification.study import Maps

# A heart is some 120 mm long: a point farther away from the left ventricle is of something else.
FARTHEST_MM = 40.0
# An insertion lies on the outer border of the wall, which a label map misses by some millimetres.
_AT_THE_WALL_MM = 15.0
_FLIP = np.array([-1.0, -1.0, 1.0])  # between RAS+ and LPS+
_FLIPPED = (
    "read as LPS+, as 3D Slicer writes it, it fits: give its own file, whose header says LPS, or x_mm "
    "and y_mm with the other sign"
)

Points = Mapping[str, NDArray[np.float64]]


def require_base(base: str | None) -> None:
    """Refuse a base that is no end of the files; raises InputError."""
    if base is not None and base not in BASES:
        raise InputError("the base is one end of the files", expected=" or ".join(BASES), got=base)


def check_studies(points: Points, studies: Sequence[str], file: Path) -> list[Problem]:
    """Compare the ids of points with those of the studies that are measured.

    Args:
        points: study -> point.
        studies: ids of the predictions.
        file: of the points, for messages.

    Returns:
        A warning where points belong to no prediction and predictions have no point.

    Raises:
        InputError: no point belongs to a prediction, or ids differ only in the way that they are written.
    """
    unknown = [name for name in points if name not in studies]
    without = [study for study in studies if study not in points]
    written = {_plain(study): study for study in without}
    misspelt = [name for name in unknown if _plain(name) in written]
    if misspelt or (unknown and len(unknown) == len(points)):
        wrong = misspelt or unknown
        raise InputError(
            "insertion points of the right ventricle are named after no study of the predictions",
            file=file,
            expected=f"study ids such as {some_of(without)}",
            got=some_of(wrong),
            remedy=f"did you mean {written[_plain(wrong[0])]}?"
            if misspelt
            else near_misses(wrong[0], studies),
        )
    if unknown and without:
        what = (
            f"insertion points of studies that have no prediction here: {some_of(unknown)}; "
            f"studies without a point: {some_of(without)}"
        )
        return [Problem(what, file=str(file), severity="warning")]
    return []


def check_place(point_mm: NDArray[np.float64], maps: Maps, study: str, file: Path) -> list[Problem]:
    """Compare a point with the place of the left ventricle.

    Args:
        point_mm: (3,) in RAS+.
        maps: of the study.
        study: its id, for messages.
        file: of the point, for messages.

    Returns:
        A warning where the point lies off the wall, and read as LPS+ does not.

    Raises:
        InputError: it lies more than `FARTHEST_MM` from the ventricle.
    """
    ventricle = maps.cavity | maps.wall
    if not ventricle.any():
        return []
    away, flipped = (distance_mm(p, ventricle, maps.grid.affine) for p in (point_mm, point_mm * _FLIP))
    if away > FARTHEST_MM:
        raise InputError(
            f"the insertion point of the right ventricle lies more than {FARTHEST_MM:g} mm from the left one",
            study=study,
            file=file,
            expected="a point (x, y, z) in mm in RAS+ at the anterior border of wall and septum",
            remedy=_FLIPPED
            if flipped <= FARTHEST_MM
            else "check the point, and that it belongs to this study",
        )
    if flipped <= _AT_THE_WALL_MM < away:
        what = (
            f"the insertion point lies more than {_AT_THE_WALL_MM:g} mm from the left ventricle; {_FLIPPED}"
        )
        return [Problem(what, study, str(file), severity="warning")]
    return []


def check_base(base: str, maps: Maps, rv: NDArray[np.bool_] | None, study: str) -> list[Problem]:
    """Compare the named base with the ventricles, which narrow towards the apex.

    Args:
        base: "first" or "last".
        maps: of the study.
        rv: (X, Y, Z) right-ventricular blood of the reference; None where it is not known.
        study: its id, for messages.

    Returns:
        A warning where a ventricle is larger by half at the other end.
    """
    ventricle = maps.cavity | maps.wall
    for name, mask in (("right", rv), ("left", ventricle)):
        first = None if mask is None else base_by_rv(mask, ventricle)
        if first is not None and first != (base == "first"):
            what = (
                f"--base {base} may be the other end: the {name} ventricle is larger by half at the "
                f"{'first' if first else 'last'} slices"
            )
            return [Problem(what, study, severity="warning")]
    return []


def check_header(rv: NDArray[np.bool_], maps: Maps, study: str, *, base_first: bool) -> list[Problem]:
    """Compare the septum of the reference with the header, which tells a mirrored file.

    Args:
        rv: (X, Y, Z) right-ventricular blood of the reference.
        maps: of the study.
        study: its id, for messages.
        base_first: whether the first slice is basal.

    Returns:
        A warning where anterior and inferior segments may have changed places.
    """
    ends = contact_ends(rv, maps.cavity, maps.wall, maps.grid.affine, base_first=base_first)
    if not len(ends) or anterior_above(ends, maps.grid.affine):
        return []
    what = f"anterior and inferior AHA segments may be exchanged: {NOT_ABOVE}"
    remedy = "compare the headers' orientation with the scanner's, or name the insertion (--rv-insertion)"
    return [Problem(what, study, remedy=remedy, severity="warning")]


def without_effect(
    *, base: str | None, points: Points, no_insertion: Sequence[str], no_base: Sequence[str]
) -> list[Problem]:
    """Warn of a base, or of points, that number no segments because the other is missing.

    Args:
        base: as the user gave it.
        points: study -> point, as the user gave them.
        no_insertion: studies whose insertion is not known.
        no_base: studies whose base is not known.
    """
    told = []
    if base is not None and no_insertion:
        told.append(
            f"--base has no effect on {some_of(no_insertion)}: AHA segments also need the anterior insertion "
            "of the right ventricle (--rv-insertion, or rv_blood in the reference labels of --manifest)"
        )
    unused = [study for study in no_base if study in points]
    if unused:
        told.append(
            f"--rv-insertion has no effect on {some_of(unused)}: AHA segments also need the base "
            "(--base first or last)"
        )
    return [Problem(text, severity="warning") for text in told]


def _plain(name: str) -> str:
    """An id without what people write differently: case, and what separates words."""
    return "".join(c for c in name.casefold() if c.isalnum())


def reviewed_landmarks(side: SideFile) -> tuple[NDArray[np.float64] | None, bool | None]:
    """Return what a reviewer named, None where not: the insertion (3,) in RAS+ mm; first slice basal."""
    if side.review is None:
        return None, None
    point, base = side.review.insertion_mm, side.review.base
    return None if point is None else np.array(point), None if base is None else base == "first"


def landmarks(
    maps: Maps, rv: NDArray[np.bool_] | None, point_mm: NDArray[np.float64] | None, base_first: bool | None
) -> tuple[bool | None, float | None]:
    """Whether the first slice is basal, and the angle of the anterior insertion; None: not known."""
    cavity, wall, affine = maps.cavity, maps.wall, maps.grid.affine
    shown = maps.rv if rv is None else rv
    if base_first is None and shown is not None:
        base_first = base_by_rv(shown, cavity | wall)
    degrees = None
    if point_mm is not None:
        degrees = insertion_of_point(point_mm, cavity, wall, affine)
    elif rv is not None and base_first is not None:
        degrees = insertion_by_rv(rv, cavity, wall, affine, base_first=base_first)
    return base_first, degrees
