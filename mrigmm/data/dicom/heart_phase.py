"""Whether the slices of a cine show one moment of the heart beat."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from statistics import median

from mrigmm.data.dicom.series import Part
from mrigmm.errors import InputError, counted, some_of

_SAME_PHASE = 1.5  # frame distances of a cine: the delay after the R wave varies from slice to slice


def check_one_phase(parts: Sequence[Part], study: str, role: str) -> None:
    """Refuse a cine whose slices do not begin at the same moment of the heart beat: one was cut short."""
    slices = [images for part in parts for images in part.slices]
    timed = any(frame.trigger_time_ms is not None for images in slices for frame in images)
    unit = " ms" if timed else ""
    times = [
        sorted(t for f in images if (t := f.trigger_time_ms if timed else f.phase) is not None)
        for images in slices
    ]
    steps = [after - before for own in times for before, after in pairwise(sorted(set(own)))]
    first = min(own[0] for own in times if own)
    latest = first + _SAME_PHASE * (median(steps) if steps else 0.0)
    late = [(images[0], own) for images, own in zip(slices, times, strict=True) if not own or own[0] > latest]
    if not late:
        return
    late.sort(key=lambda found: found[0].height_mm)
    places = [f"{frame.height_mm:.1f} mm ({frame.file.name})" for frame, _ in late]
    begins = [f"{own[0]:g}{unit} at {frame.height_mm:.1f} mm" if own else "no time" for frame, own in late]
    raise InputError(
        f"{role}: {counted(len(late), 'slice')} of the cine {'has' if len(late) == 1 else 'have'} no image "
        f"of the heart phase at which the others begin: {some_of(places)}",
        study=study,
        file=late[0][0].file,
        expected=f"a first frame between {first:g} and {latest:g}{unit} in each of {len(slices)} slices",
        got=f"the first frame is that of {some_of(begins)}",
        remedy="export the series again with all phases of these slices; where they are the first or "
        "the last ones of the stack, move their files out of the folder instead; or set the series to "
        "'ignore' in the map",
    )
