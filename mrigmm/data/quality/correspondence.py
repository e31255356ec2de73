"""Whether the sequences of a study show the same slices, in the same order and the same way round.

A header that was lost, or written for LPS in place of RAS, turns an image against the others, which may still
cover the region. Edges of body and heart lie at the same places in any contrast.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import product

import numpy as np
from numpy.typing import NDArray

from mrigmm.data.geometry import plane_box
from mrigmm.data.limits import TURNED_MARGIN
from mrigmm.errors import Problem
from mrigmm.lazy import LazyModule

optimize = LazyModule("scipy.optimize")

Floats = NDArray[np.float32]

_PIXEL_MM = 4.0  # edges are compared on pixels of about this size
_LEAST_BLOCKS = 24  # along both axes; the edges of fewer correlate by chance
_SIMPLER = 0.02  # correlation that a further turn has to add: a ring fits nearly as well in any direction
_WHAT = "does not lie on"


@dataclass(frozen=True)
class _Fit:
    """A sequence on the reference: its slice `order[i]` on slice i, after turning in plane as `how` says."""

    how: tuple[str, ...]
    order: tuple[int, ...]
    correlation: float


def turned_sequences(
    reference: str, maps: Mapping[str, tuple[Floats, NDArray[np.bool_]]], pixel_mm: float
) -> Iterator[Problem]:
    """Sequences that fit the reference better mirrored or turned in plane, or in another order of slices.

    Args:
        reference: name of the sequence that gives the grid.
        maps: sequence name -> intensities (X, Y, Z) on that grid, slices last, and where they were acquired.
        pixel_mm: size of a pixel, the smaller one.
    """
    step = max(1, round(_PIXEL_MM / pixel_mm))
    for name, (values, acquired) in maps.items():
        if name == reference or reference not in maps:
            continue
        seen = acquired & maps[reference][1]
        slices = np.flatnonzero(seen.any(axis=(0, 1)))
        box = plane_box(np.logical_and.reduce([*np.moveaxis(seen, 2, 0)[slices]])) if slices.size else None
        if box is None or min(part.stop - part.start for part in box) < _LEAST_BLOCKS * step:
            continue
        one, other = (_edges(part[box][..., slices], step) for part in (maps[reference][0], values))
        plain, best = _fits(one, other)
        if best is None:
            continue
        in_order = best.order == tuple(range(len(slices)))
        numbers = ", ".join(str(slices[i] + 1) for i in best.order)
        found = [*best.how, *([] if in_order else [f"slices in the order {numbers}"])]
        yield Problem(
            f"{name} {_WHAT} {reference} as their headers say",
            expected="edges of body and heart at the same places in both",
            got=f"a better fit with {' and '.join(found)}: correlation {best.correlation:.2f}, "
            f"not {plain:.2f}",
            remedy=f"look at {name} over {reference}; convert it again from DICOM, or leave it out (null)",
            severity="warning",
        )


def looks_turned(findings: Iterable[Problem]) -> bool:
    """Return whether `turned_sequences` is among the findings about a study."""
    return any(_WHAT in problem.what for problem in findings)


def _fits(one: Floats, other: Floats) -> tuple[float, _Fit | None]:
    """Mean correlation of edges (Z, X, Y) as they lie, and the fit that is better by the margin, if any."""
    n = len(one)
    plain = best = float((one * other).sum())
    fit = None
    square = one.shape[1] == one.shape[2]
    for swap, x, y in product((False, True) if square else (False,), (False, True), (False, True)):
        mirrored = tuple(axis for axis, given in ((1, x), (2, y)) if given)
        turned = np.flip(other.swapaxes(1, 2) if swap else other, mirrored)
        found = one.reshape(n, -1) @ turned.reshape(n, -1).T  # (Z, Z)
        simpler = best if fit is None else best + _SIMPLER * n
        fewest = n if swap or x or y else 2
        if found.max(axis=1).sum() <= max(simpler, plain + TURNED_MARGIN * fewest):
            continue  # no order can be better
        order = optimize.linear_sum_assignment(-found)[1]
        score = float(found[np.arange(n), order].sum())
        moved = n if swap or x or y else int((order != np.arange(n)).sum())
        if moved and score > max(simpler, plain + TURNED_MARGIN * moved):
            best = score
            how = {
                "its axes in plane exchanged": swap,
                "its first axis mirrored": x,
                "its second axis mirrored": y,
            }
            said = tuple(text for text, given in how.items() if given)
            fit = _Fit(said, tuple(order.tolist()), score / n)
    return plain / n, fit


def _edges(values: Floats, step: int) -> Floats:
    """Length of the gradient in plane of means over blocks of pixels: the same from either side.

    Args:
        values: (X, Y, Z).
        step: pixels of a block along both axes.

    Returns:
        (Z, X', Y'), each slice with mean 0 and norm 1; 0 of a constant slice.
    """
    x, y = ((n % step // 2, n // step * step) for n in values.shape[:2])
    by_slice = np.moveaxis(values, 2, 0)[:, x[0] : x[0] + x[1], y[0] : y[0] + y[1]]
    blocks = [by_slice[:, i::step, j::step] for i, j in product(range(step), repeat=2)]
    means = np.add.reduce(blocks) / len(blocks)
    means = np.clip(means, *np.percentile(means, (1, 99)).astype(np.float32))
    along_x, along_y = np.diff(means, axis=1), np.diff(means, axis=2)
    edges = np.hypot(along_x[:, :, 1:] + along_x[:, :, :-1], along_y[:, 1:] + along_y[:, :-1])
    edges -= edges.mean(axis=(1, 2), keepdims=True)
    return edges / np.maximum(np.sqrt((edges**2).sum(axis=(1, 2), keepdims=True)), np.float32(1e-12))
