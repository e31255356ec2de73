"""Distances of slices, and those that are irregular."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations

import numpy as np
from numpy.typing import NDArray

from mrigmm.data.dicom.frames import Frame
from mrigmm.data.dicom.series import SAME_POSITION_MM, missing_slices
from mrigmm.data.geometry import TOLERANCE_MM, TOLERANCE_VOXELS
from mrigmm.errors import InputError, counted, some_of


def check_regular(
    frames: Sequence[Frame], positions: NDArray[np.float64], step: NDArray[np.float64], study: str, role: str
) -> None:
    """Refuse slices that do not lie at one distance; the message says which are missing, or were repeated.

    Args:
        frames: Z images, from the lowest.
        positions: (Z, 3) in mm.
        step: (3,) in mm, from one slice to the next.
        study: study id, for messages.
        role: the sequence, for messages.
    """
    tolerance = max(TOLERANCE_MM, TOLERANCE_VOXELS * min(frames[0].pixel_mm))
    if _is_regular(positions, step, tolerance) and _distances(frames).min() >= SAME_POSITION_MM:
        return
    distances = _distances(frames)
    smallest = distances.min()
    worst = int(np.argmin(distances) if smallest < SAME_POSITION_MM else np.argmax(distances)) + 1
    what, remedy = (
        f"{role}: the slices do not lie at regular distances",
        "set the series to 'ignore' in the map",
    )
    if smallest < SAME_POSITION_MM:
        what = f"{role}: two images lie at the same height"
        remedy = (
            "set all but one of the series that hold this slice to 'ignore' in the map; where they are one "
            "series, move all but one of the files out of the folder"
        )
    missing = missing_slices([frame.height_mm for frame in frames])
    intruders = _intruders(positions, tolerance)
    if smallest < SAME_POSITION_MM and 2 * len(intruders) >= len(frames):
        pass  # every slice stands twice
    elif missing and not 0 < len(intruders) < missing:
        what = (
            f"{role}: {counted(missing, 'slice')} {'is' if missing == 1 else 'are'} missing inside the stack"
        )
        remedy = "export the series again with all slices, or set it to 'ignore' in the map"
    elif intruders:
        worst = intruders[0]
        what, remedy = _said_of_intruders(frames, positions, intruders, role)
    raise InputError(
        what,
        study=study,
        file=frames[worst].file,
        expected=f"one distance between neighbouring slices, within {tolerance:.2g} mm",
        got="distances " + ", ".join(f"{d:.2f}" for d in distances) + " mm",
        remedy=remedy,
    )


def _said_of_intruders(
    frames: Sequence[Frame], positions: NDArray[np.float64], intruders: Sequence[int], role: str
) -> tuple[str, str]:
    """Return which slices are off a stack, beside which they lie, and what to do about it."""
    stack = np.setdiff1d(np.arange(len(frames)), intruders)
    places = []
    for i in intruders:
        away = np.linalg.norm(positions[stack] - positions[i], axis=1)
        beside = frames[stack[int(np.argmin(away))]]
        places.append(
            f"{frames[i].height_mm:.1f} mm ({frames[i].file.name}) at {away.min():.1f} mm from that of "
            f"{beside.file.name}"
        )
    off = {frames[i].file for i in intruders}
    files = some_of([file.name for file in sorted(off)])
    what = f"{role}: {counted(len(intruders), 'slice')} off the regular distances of the others: "
    if off & {frames[int(i)].file for i in stack}:
        remedy = "export the series again without the repetition, or set it to 'ignore' in the map"
    else:
        remedy = f"if a slice was repeated there, move its file out of the folder ({files}), and use --map"
    alone = {frames[i].header.series_uid for i in intruders} - {
        frames[int(i)].header.series_uid for i in stack
    }
    if alone:
        remedy += f"; or set its series ({some_of(sorted(alone))}) to 'ignore' in the map"
    return what + " and ".join(places), remedy


def _distances(frames: Sequence[Frame]) -> NDArray[np.float64]:
    """Between neighbours along the normal."""
    return np.diff([frame.height_mm for frame in frames])


def _is_regular(positions: NDArray[np.float64], step: NDArray[np.float64], tolerance_mm: float) -> bool:
    """Return whether positions (Z, 3) are the first one and whole steps from it."""
    expected = positions[0] + np.arange(len(positions))[:, None] * step
    return bool(np.linalg.norm(positions - expected, axis=1).max() <= tolerance_mm)


def _intruders(positions: NDArray[np.float64], tolerance_mm: float) -> tuple[int, ...]:
    """The slices beside the longest regular stack; none where that is less than half of them, or two."""
    best: list[int] = []
    for i, j in combinations(range(len(positions)), 2):
        members = [i, j]
        while True:  # as far as there is a slice at the next step
            away = np.linalg.norm(positions - (2 * positions[members[-1]] - positions[members[-2]]), axis=1)
            following = int(np.argmin(away))
            if away[following] > 2 * tolerance_mm or following <= members[-1]:
                break
            members.append(following)
        of_stack = positions[members]
        step = (of_stack[-1] - of_stack[0]) / (len(members) - 1)
        if len(members) > len(best) and _is_regular(of_stack, step, tolerance_mm):
            best = members
    if len(best) < max(3, len(positions) / 2):
        return ()
    return tuple(i for i in range(len(positions)) if i not in best)
