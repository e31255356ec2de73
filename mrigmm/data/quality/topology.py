"""Findings about the parts of a region map, slice by slice: is it a cavity inside a wall?

All arrays have their slices along the last axis, in the order of the file; slices are told from 1.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from mrigmm.data.geometry import filled, plane_box
from mrigmm.data.limits import (
    APEX_MM,
    ENDS_OPEN,
    GAP_MM,
    HOLE_MM2,
    MAX_ELONGATION,
    MIN_SOLIDITY,
    OPEN_SHARE,
    PART_MM2,
)
from mrigmm.errors import Problem
from mrigmm.labels import Region

Mask = NDArray[np.bool_]

_EXCHANGED_SHARE = 0.2  # of a slice: papillary muscles are less, a cavity is more
_DIAGONALS = np.ones((3, 3), dtype=bool)


@dataclass(frozen=True)
class SliceShape:
    """Parts of one slice and how they lie to each other; areas in mm2, lengths in mm.

    Attributes:
        area: of the whole region.
        cavity: of the cavity.
        wall: of the wall.
        border: length of the cavity's border.
        open: of the part of it at the outside of the region; its holes count by themselves.
        wall_border: as `border`, of the wall.
        wall_open: as `open`, of the wall.
        apart: of the parts beside the largest connected one.
        hole: of what the region encloses and leaves out.
        solidity: area of the region without holes by that of its convex hull; 1 of an empty slice.
        elongation: longer by shorter axis of the ellipse with its moments; 1 of an empty slice.
    """

    area: float
    cavity: float
    wall: float
    border: float
    open: float
    wall_border: float
    wall_open: float
    apart: float
    hole: float
    solidity: float
    elongation: float

    @property
    def open_share(self) -> float:
        """Share of the cavity's border that has no wall; 0 without a cavity."""
        return self.open / self.border if self.border > 0 else 0.0

    @property
    def inside_out(self) -> bool:
        """Whether the wall lies inside the cavity: this one borders on the outside, and that one does not."""
        both = self.cavity > 0 and self.wall > 0
        return both and self.open_share > 0.4 and self.wall_open < 0.25 * self.wall_border


def slice_shapes(codes: NDArray[np.uint8], spacing_mm: Sequence[float]) -> list[SliceShape]:
    """The shape of every slice.

    Args:
        codes: (X, Y, Z) `labels.Region` codes.
        spacing_mm: (3,) of the axes.
    """
    cropped = codes[plane_box(codes > 0)]
    in_plane = (float(spacing_mm[0]), float(spacing_mm[1]))
    return [_shape(np.pad(cropped[..., z], 1), in_plane) for z in range(codes.shape[2])]


def exchanged(shapes: Sequence[SliceShape]) -> list[int]:
    """Slices (from 1) in which the wall lies inside the cavity; empty where the ids are as they should be.

    A papillary muscle that is drawn as wall where the drawing has no other wall does not count: what lies
    inside has to be more of the slice than that, or it has to be so in most slices.
    """
    both = [s for s in shapes if s.cavity > 0 and s.wall > 0]
    found = [(z, s) for z, s in enumerate(shapes, start=1) if s.inside_out]
    if 2 * len(found) > len(both):
        return [z for z, _ in found]
    return [z for z, s in found if s.wall >= _EXCHANGED_SHARE * s.area]


def doubtful_parts(
    shapes: Sequence[SliceShape], slice_distance_mm: float, *, with_cavity: bool = True
) -> Iterator[Problem]:
    """Yield what no drawing of a left ventricle should have; one finding of each kind, with the slices.

    Args:
        shapes: of all slices, where `exchanged` finds nothing.
        slice_distance_mm: between neighbouring slices.
        with_cavity: whether the classes include the blood of a cavity.
    """
    filled = [z for z, s in enumerate(shapes, start=1) if s.area > 0]
    divided = any(s.cavity > 0 for s in shapes) or any(s.wall > 0 for s in shapes)
    yield from _gaps(shapes, filled)
    yield from _apart(shapes)
    yield from _holes(shapes, divided=divided, with_cavity=with_cavity)
    if divided and with_cavity:
        yield from _cavity_and_wall(shapes, filled, slice_distance_mm)
    yield from _not_round(shapes)


def _cavity_and_wall(
    shapes: Sequence[SliceShape], filled: Sequence[int], slice_distance_mm: float
) -> Iterator[Problem]:
    cavity = [z for z in filled if shapes[z - 1].cavity > 0]
    bare = [z for z in cavity if shapes[z - 1].wall == 0]
    if bare:
        yield _finding(
            "the region has cavity without wall",
            bare,
            expected="both in every slice: 1 = cavity, 2 = wall",
            remedy="draw the wall, or set the slices to 0: all in them counts as blood, "
            "and their wall is not measured",
        )
    leaking = [z for z in cavity if z not in bare and shapes[z - 1].open >= GAP_MM]
    mild = set(_at_the_ends(leaking, cavity, shapes))
    for slices, severity in (([z for z in leaking if z not in mild], "warning"), (sorted(mild), "note")):
        if slices:
            yield _finding(
                "the cavity is not enclosed by wall",
                slices,
                expected="wall all around the cavity, but for the outflow tract",
                remedy="close the wall where it was left out; open at the outflow tract is right"
                if severity == "warning"
                else "none needed if that is the outflow tract",
                note=severity == "note",
            )
    alone = [z for z in filled if shapes[z - 1].cavity == 0]
    wrong = _away_from_the_apex(alone, cavity, shapes, slice_distance_mm)
    if wrong:
        yield _finding(
            "the region has wall without cavity away from the apex",
            wrong,
            expected="cavity and wall in every slice but the last ones at the apex",
            remedy="draw the cavity (1), or set the slices to 0: all in them counts as wall",
        )


def _at_the_ends(
    leaking: Sequence[int], cavity: Sequence[int], shapes: Sequence[SliceShape]
) -> Iterator[int]:
    """Slices at either end of the cavity that lie open no further than at an outflow tract."""
    for end in (cavity, cavity[::-1]):
        for z in end[:ENDS_OPEN]:
            if z not in leaking or shapes[z - 1].open_share > OPEN_SHARE:
                break
            yield z


def _away_from_the_apex(
    alone: Sequence[int], cavity: Sequence[int], shapes: Sequence[SliceShape], slice_distance_mm: float
) -> list[int]:
    """Return which slices of wall alone are not those below the cavity's tip.

    The apex is where the region of the cavity's last slice is smaller; where they are alike, either end.
    """
    if not cavity:
        return list(alone)
    first, last = shapes[cavity[0] - 1].area, shapes[cavity[-1] - 1].area
    above = [z for z in alone if z < cavity[0]]
    below = [z for z in alone if z > cavity[-1]]
    at_most = max(2, int(APEX_MM // slice_distance_mm))
    wrong = [z for z in alone if cavity[0] < z < cavity[-1]]
    for slices, here, there in ((above, first, last), (below, last, first)):
        if len(slices) > at_most or here > 1.1 * there:
            wrong += slices
    return sorted(wrong)


def _gaps(shapes: Sequence[SliceShape], filled: Sequence[int]) -> Iterator[Problem]:
    empty = [z for z in range(filled[0], filled[-1]) if shapes[z - 1].area == 0]
    if empty:
        yield _finding(
            "the region has a gap: slices without any of it between slices with it",
            empty,
            expected="one piece from base to apex",
            remedy="draw it there, or remove what does not belong to the ventricle: the gap is not counted",
        )


def _apart(shapes: Sequence[SliceShape]) -> Iterator[Problem]:
    large = [z for z, s in enumerate(shapes, start=1) if s.apart >= PART_MM2]
    small = [z for z, s in enumerate(shapes, start=1) if 0 < s.apart < PART_MM2]
    if large:
        yield _finding(
            "the region has two parts or more in one slice",
            large,
            expected="one connected ventricle",
            remedy="set to 0 what is no left ventricle: both parts are segmented and counted",
        )
    if small:
        yield _finding(
            "the region has single voxels beside the ventricle",
            small,
            expected="one connected ventricle",
            remedy="set them to 0",
            note=True,
        )


def _holes(shapes: Sequence[SliceShape], *, divided: bool, with_cavity: bool) -> Iterator[Problem]:
    slices = [z for z, s in enumerate(shapes, start=1) if s.hole >= HOLE_MM2]
    if not slices or not with_cavity:
        return
    beside = [z for z in slices if shapes[z - 1].cavity > 0 and shapes[z - 1].open_share > 0]
    if 2 * len(beside) > len(slices):
        yield _finding(
            "the region's cavity lies beside the ring of its wall: the right ventricle, taken for the left?",
            beside,
            expected="the left ventricle's cavity inside its wall",
            remedy="write 1 for the left ventricle's cavity, and 0 for the right ventricle",
        )
    elif divided:
        yield _finding(
            "the region encloses voxels that are neither cavity nor wall",
            slices,
            expected="1 = cavity inside 2 = wall",
            remedy="write 1 for all that the wall encloses: what is 0 is not segmented",
        )
    else:
        yield _finding(
            "the region is a ring: is it the wall alone?",
            slices,
            expected="1 = the whole left ventricle, or 1 = cavity and 2 = wall",
            remedy="write 1 for the cavity and 2 for the wall; a ring of 1 counts as undivided ventricle, "
            "in which blood is sought",
        )


def _not_round(shapes: Sequence[SliceShape]) -> Iterator[Problem]:
    """A crescent, or a long body: a right ventricle, an atrium, or another view."""
    drawn = [s for s in shapes if s.area >= PART_MM2]
    if not drawn:
        return
    solidity = float(np.median([s.solidity for s in drawn]))
    elongation = float(np.median([s.elongation for s in drawn]))
    if solidity >= MIN_SOLIDITY and elongation <= MAX_ELONGATION:
        return
    yield Problem(
        "the region is not round: the right ventricle, taken for the left, or another view?",
        expected=f"slices that fill at least {MIN_SOLIDITY:g} of their convex hull and are at most "
        f"{MAX_ELONGATION:g} times as long as wide",
        got=f"median {solidity:.2f}, and {elongation:.1f} times as long",
        remedy="look at the map over the images: it has to show the left ventricle in short axis",
        severity="warning",
    )


def _finding(what: str, slices: Iterable[int], *, expected: str, remedy: str, note: bool = False) -> Problem:
    named = list(slices)
    return Problem(
        what,
        expected=expected,
        got=f"slice{'s' if len(named) > 1 else ''} {_ranges(named)} (from 1)",
        remedy=remedy,
        severity="note" if note else "warning",
    )


def _ranges(numbers: Sequence[int]) -> str:
    """Numbers in words, with runs drawn together.

    Examples:
        >>> _ranges([1, 2, 3, 5, 7, 8])
        '1 to 3, 5, 7, 8'
    """
    runs: list[list[int]] = []
    for number in sorted(numbers):
        if runs and number == runs[-1][-1] + 1:
            runs[-1].append(number)
        else:
            runs.append([number])
    texts = [f"{run[0]} to {run[-1]}" if len(run) > 2 else ", ".join(map(str, run)) for run in runs]
    return ", ".join(texts)


def _shape(codes: NDArray[np.uint8], spacing_mm: tuple[float, float]) -> SliceShape:
    """The shape of a slice (X, Y) whose outermost pixels are 0."""
    mm2 = spacing_mm[0] * spacing_mm[1]
    inside, cavity, wall = codes > 0, codes == Region.CAVITY, codes == Region.WALL
    if not inside.any():
        return SliceShape(0, 0, 0, 0, 0, 0, 0, 0, 0, solidity=1, elongation=1)
    parts, n = ndimage.label(inside, _DIAGONALS)
    sizes = np.bincount(parts.ravel())[1:]
    largest = parts == int(sizes.argmax()) + 1 if n > 1 else inside
    whole = filled(largest)
    outside = ~filled(inside)
    return SliceShape(
        area=float(inside.sum()) * mm2,
        cavity=float(cavity.sum()) * mm2,
        wall=float(wall.sum()) * mm2,
        border=_edges_mm(cavity, ~cavity, spacing_mm),
        open=_edges_mm(cavity, outside, spacing_mm),
        wall_border=_edges_mm(wall, ~wall, spacing_mm),
        wall_open=_edges_mm(wall, outside, spacing_mm),
        apart=float(sizes.sum() - sizes.max()) * mm2,
        hole=float((whole & ~inside).sum()) * mm2,
        solidity=_solidity(whole),
        elongation=_elongation(whole, spacing_mm),
    )


def _edges_mm(mask: Mask, other: Mask, spacing_mm: tuple[float, float]) -> float:
    """Length of the edges between the pixels of two masks (X, Y)."""
    across_x = (mask[1:] & other[:-1]).sum() + (mask[:-1] & other[1:]).sum()
    across_y = (mask[:, 1:] & other[:, :-1]).sum() + (mask[:, :-1] & other[:, 1:]).sum()
    return float(across_x) * spacing_mm[1] + float(across_y) * spacing_mm[0]


def _solidity(mask: Mask) -> float:
    """Area of a mask (X, Y) by that of its convex hull, which goes through the corners of its pixels."""
    rows = np.flatnonzero(mask.any(axis=1))
    first, last = mask[rows].argmax(axis=1), mask.shape[1] - mask[rows, ::-1].argmax(axis=1)
    ends = zip([*rows, *rows], [*first, *last], strict=True)
    return float(mask.sum()) / _hull_area({(int(x) + dx, int(y)) for x, y in ends for dx in (0, 1)})


def _hull_area(points: set[tuple[int, int]]) -> float:
    """Area of the convex hull, by Andrew's monotone chains."""
    ordered, twice = sorted(points), 0
    for line in (ordered, ordered[::-1]):
        chain: list[tuple[int, int]] = []
        for x, y in line:
            while len(chain) > 1:
                (a, b), (c, d) = chain[-2:]
                if (c - a) * (y - b) > (d - b) * (x - a):
                    break
                chain.pop()  # not a left turn
            chain.append((x, y))
        twice += sum(a * d - b * c for (a, b), (c, d) in pairwise(chain))
    return twice / 2


def _elongation(mask: Mask, spacing_mm: tuple[float, float]) -> float:
    """Longer by shorter axis of the ellipse with the moments of a mask (X, Y), each pixel a rectangle."""
    places = np.argwhere(mask) * np.array(spacing_mm)
    moments = np.cov(places.T, bias=True) + np.diag(np.square(spacing_mm)) / 12
    shorter, longer = np.linalg.eigvalsh(moments)
    return float(np.sqrt(longer / shorter))
