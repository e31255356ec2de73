"""The bull's eye of the American Heart Association: one number for each of 16 segments."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

# Segments from the outside in: first segment, how many, where the first begins (degrees counter-clockwise
# from the right: the septum at the left and the anterior wall on top), inner and outer radius.
_RINGS = ((1, 6, 60.0, 75.0, 100.0), (7, 6, 60.0, 50.0, 75.0), (13, 4, 45.0, 25.0, 50.0))
# M. Cerqueira et al., Circulation 2002: which artery usually supplies a segment.
TERRITORIES: Mapping[str, tuple[int, ...]] = {
    "LAD": (1, 2, 7, 8, 13, 14),
    "RCA": (3, 4, 9, 10, 15),
    "LCx": (5, 6, 11, 12, 16),
}
# Colour map cividis (place from 0 to 255, RGB): equal to readers with and without colour vision
# deficiency, and rising in lightness.
_COLOURS = (
    (0, (0, 34, 77)),
    (20, (0, 48, 112)),
    (29, (20, 54, 111)),
    (58, (61, 74, 107)),
    (95, (96, 100, 110)),
    (128, (124, 123, 120)),
    (173, (168, 158, 115)),
    (207, (203, 186, 100)),
    (237, (236, 213, 74)),
    (255, (253, 231, 55)),
)


@dataclass(frozen=True)
class Wedge:
    """One segment; lengths as in a circle of radius 100, y downwards.

    Attributes:
        segment: 1 to 16.
        path: data of an SVG path.
        x: of its middle.
        y: of its middle.
        value: in percent; None where it is not known.
        colour: RGB; None where it is not known.
        dark: whether the colour is a dark one.
    """

    segment: int
    path: str
    x: float
    y: float
    value: float | None
    colour: tuple[int, int, int] | None
    dark: bool


@dataclass(frozen=True)
class BullsEye:
    """A bull's eye.

    Attributes:
        wedges: the 16 segments.
        borders: data of the path between the territories.
        numbered_by: what the segments are numbered by, in words.
    """

    wedges: tuple[Wedge, ...]
    borders: str
    numbered_by: str


def bulls_eye(percent: Mapping[int, float | None], numbered_by: str) -> BullsEye:
    """Return 16 AHA segments: basal ring outside, apical ring inside, anterior wall on top.

    Args:
        percent: segment (1 to 16) -> value; segments that are absent, None or NaN are not coloured.
        numbered_by: what they are numbered by, in words.

    Raises:
        ValueError: a segment that is none of the 16.
    """
    if not set(percent) <= set(range(1, 17)):
        raise ValueError(f"expected AHA segments 1 to 16, got {sorted(percent)}")
    wedges, borders = [], []
    for first, count, start, inner, outer in _RINGS:
        span = 360 / count
        for number in range(first, first + count):
            begin = start + (number - first) * span
            x, y = _at((inner + outer) / 2, begin + span / 2)
            value = percent.get(number)
            known = value is not None and np.isfinite(value)
            share = min(max(float(value or 0) / 100, 0.0), 1.0) if known else 0.0
            rgb = _colour(share)
            path = _wedge(inner, outer, begin, begin + span)
            wedges.append(
                Wedge(number, path, x, y, value if known else None, rgb if known else None, share < 0.5)
            )
            before = first + (number - first - 1) % count
            if _territory(number) != _territory(before):
                (a, b), (c, d) = _at(inner, begin), _at(outer, begin)
                borders.append(f"M{a:.1f} {b:.1f}L{c:.1f} {d:.1f}")
    return BullsEye(tuple(wedges), "".join(borders), numbered_by)


def _colour(share: float) -> tuple[int, int, int]:
    """Return RGB of a share from 0 to 1."""
    places, colours = zip(*_COLOURS, strict=True)
    red, green, blue = (round(float(np.interp(share * 256, places, c))) for c in zip(*colours, strict=True))
    return red, green, blue


def _territory(segment: int) -> str:
    return next(name for name, segments in TERRITORIES.items() if segment in segments)


def _at(radius: float, degrees: float) -> tuple[float, float]:
    """Place in the picture, y downwards."""
    angle = np.deg2rad(degrees)
    return float(radius * np.cos(angle)), float(-radius * np.sin(angle))


def _wedge(inner: float, outer: float, begin: float, end: float) -> str:
    (a, b), (c, d), (e, f), (g, h) = (_at(inner, begin), _at(outer, begin), _at(outer, end), _at(inner, end))
    return (
        f"M{a:.1f} {b:.1f}L{c:.1f} {d:.1f}A{outer:g} {outer:g} 0 0 0 {e:.1f} {f:.1f}"
        f"L{g:.1f} {h:.1f}A{inner:g} {inner:g} 0 0 1 {a:.1f} {b:.1f}z"
    )
