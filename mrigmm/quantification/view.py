"""How short-axis slices are looked at: from the apex, the anterior wall above and the septum at the left.

Radiologists look at a slice from the feet, the left or the front. For a short-axis slice all three mean from
the apex, so that one rule serves slices of any direction.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mrigmm.quantification.segments import TO_APEX, base_by_header, plane_axes

# The anterior wall lies above and in front of the inferior one (RAS+).
_ANTERIOR = np.array([0.0, 0.5, 1.0])
# Where a bull's eye has the anterior insertion of the right ventricle: degrees from the right.
_INSERTION_DEGREES = 120.0
# Cosine from which a direction of the patient is named at an edge.
_NAMED_COSINE = 0.4

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class View:
    """How to turn an array (X, Y, Z), slices last, so that it is shown as radiologists show it.

    Attributes:
        down: array axis (0 or 1) that runs down the picture; the other runs across.
        flipped: axes of the turned array that run against the array's.
        edges: directions of the patient at the top, right, bottom and left edge, such as "S" or "PL".
        spacing_mm: between rows, columns and slices of the turned array.
        base_known: whether the first slice of the turned array is the basal one, or only one of the ends.
    """

    down: int
    flipped: tuple[int, ...]
    edges: tuple[str, str, str, str]
    spacing_mm: tuple[float, float, float]
    base_known: bool

    def turn(self, array: NDArray[Any]) -> NDArray[Any]:
        """Return an array (rows from the top, columns from the left, slices from the base)."""
        return np.ascontiguousarray(np.flip(array.transpose(self.down, 1 - self.down, 2), self.flipped))

    def turn_back(self, turned: NDArray[Any]) -> NDArray[Any]:
        """Return the array that `turn` made another of."""
        return np.ascontiguousarray(np.flip(turned, self.flipped).transpose(self.down, 1 - self.down, 2))

    def index_affine(self, shape: tuple[int, int, int]) -> Floats:
        """Return the affine (4, 4) from an index of the turned array to the array's, which has this shape."""
        axes = (self.down, 1 - self.down, 2)
        affine = np.zeros((4, 4))
        affine[3, 3] = 1.0
        for turned, axis in enumerate(axes):
            against = turned in self.flipped
            affine[axis, turned] = -1.0 if against else 1.0
            affine[axis, 3] = shape[axis] - 1 if against else 0
        return affine

    def numbers(self, n_slices: int) -> list[int]:
        """Return the number of each turned slice in the file, from 1."""
        numbers = range(1, n_slices + 1)
        return [*(reversed(numbers) if 2 in self.flipped else numbers)]


def short_axis_view(
    affine: Floats, *, base_first: bool | None = None, insertion_degrees: float | None = None
) -> View:
    """Return how to look at slices; flips and turns by right angles only.

    Args:
        affine: (4, 4) of an array with the slices along the last axis.
        base_first: whether its first slice is the basal one; None: as the header says.
        insertion_degrees: angle of the anterior insertion of the right ventricle (`Orientation`); None: the
            anterior wall is where it is in patients.
    """
    axes, in_plane = plane_axes(affine)
    rising = np.cross(axes[:, 0], axes[:, 1])
    known = base_by_header(affine) if base_first is None else base_first
    first_is_base = rising @ TO_APEX >= 0 if known is None else known
    to_viewer = rising if first_is_base else -rising
    steps = affine[:3, :2] / np.linalg.norm(affine[:3, :2], axis=0)
    angle = None if insertion_degrees is None else np.deg2rad(insertion_degrees)
    insertion = None if angle is None else axes @ np.array([np.cos(angle), np.sin(angle)])
    best, chosen = -np.inf, (0, 1.0, 1.0)
    for down in (0, 1):
        for sign_down in (-1.0, 1.0):
            up = -sign_down * steps[:, down]
            right = np.cross(up, to_viewer)
            sign_across = float(np.sign(right @ steps[:, 1 - down]))
            if insertion is None:
                score = float(up @ _ANTERIOR)
            else:
                seen = np.arctan2(insertion @ up, insertion @ right)
                score = float(np.cos(seen - np.deg2rad(_INSERTION_DEGREES)))
            if score > best:
                best, chosen = score, (down, sign_down, sign_across)
    down, sign_down, sign_across = chosen
    downwards, rightwards = sign_down * steps[:, down], sign_across * steps[:, 1 - down]
    flips = (sign_down < 0, sign_across < 0, not first_is_base)
    spacing = np.linalg.norm(in_plane, axis=0)
    return View(
        down=down,
        flipped=tuple(axis for axis, against in enumerate(flips) if against),
        edges=(_named(-downwards), _named(rightwards), _named(downwards), _named(-rightwards)),
        spacing_mm=(float(spacing[down]), float(spacing[1 - down]), float(abs(rising @ affine[:3, 2]))),
        base_known=known is not None,
    )


def _named(direction: Floats) -> str:
    """Letters of a unit vector (RAS+), the main one first."""
    letters = [pair[int(v < 0)] for pair, v in zip(("RL", "AP", "SI"), direction, strict=True)]
    order = sorted(range(3), key=lambda axis: -abs(direction[axis]))
    return letters[order[0]] + "".join(
        letters[axis] for axis in order[1:] if abs(direction[axis]) >= _NAMED_COSINE
    )
