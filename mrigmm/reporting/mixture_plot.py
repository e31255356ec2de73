"""The mixture of a study in the plane of two sequences: voxels, and an ellipse per class.

Drawn as SVG: sharp at any size, and in a hundredth of the time that a plotting library takes.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Any

import numpy as np
from markupsafe import escape
from numpy.typing import NDArray

from mrigmm.labels import class_colours
from mrigmm.reporting.pictures import Picture, nice_ticks

MAX_POINTS = 800
MAX_SEQUENCES = 3
_SEED = 0
_SDS = (1, 2)
_PANEL = 280  # pixels
_LEFT, _RIGHT, _TOP, _BOTTOM = 46, 10, 8, 40  # of a panel, around its frame
_FINE = 2  # steps of a pixel that places are rounded to
_DARK = "#333333"

Colour = tuple[int, int, int]


@dataclass(frozen=True)
class _Panel:
    """Axes in pixels of a panel, y downwards.

    Attributes:
        x: smallest and largest number shown.
        y: likewise.
        below: what the x axis is.
        beside: what the y axis is.
        width: of the panel, frame and texts.
    """

    x: tuple[float, float]
    y: tuple[float, float]
    below: str
    beside: str
    width: int = _PANEL

    @property
    def scale(self) -> NDArray[np.float64]:
        """Pixels per unit, across and down."""
        across, up = self.width - _LEFT - _RIGHT, _PANEL - _TOP - _BOTTOM
        return np.array([across / (self.x[1] - self.x[0]), -up / (self.y[1] - self.y[0])])

    def places(self, points: NDArray[np.floating[Any]]) -> NDArray[np.float64]:
        """Return pixels (N, 2) of points (N, 2)."""
        placed: NDArray[np.float64] = (points - [self.x[0], self.y[1]]) * self.scale + [_LEFT, _TOP]
        return placed

    def drawn(self, marks: Iterable[str]) -> str:
        """Return frame, ticks and texts around marks, which are cut off at the frame."""
        right, down = self.width - _RIGHT, _PANEL - _BOTTOM
        parts = [
            f'<svg x="{_LEFT}" y="{_TOP}" width="{right - _LEFT}" height="{down - _TOP}" '
            f'viewBox="{_LEFT} {_TOP} {right - _LEFT} {down - _TOP}">{"".join(marks)}</svg>',
            f'<path d="M{_LEFT} {_TOP}H{right}V{down}H{_LEFT}z" stroke="#000" stroke-width=".8"/>',
        ]
        for value in nice_ticks(*self.x, 6):
            if self.x[0] <= value <= self.x[1]:
                x = self.places(np.array([[value, 0]]))[0, 0]
                parts.append(f'<path d="M{x:.1f} {down}v4" stroke="#000" stroke-width=".8"/>')
                parts.append(f'<text x="{x:.1f}" y="{down + 15}" text-anchor="middle">{value:g}</text>')
        for value in nice_ticks(*self.y, 6):
            if self.y[0] <= value <= self.y[1]:
                y = self.places(np.array([[0, value]]))[0, 1]
                parts.append(f'<path d="M{_LEFT} {y:.1f}h-4" stroke="#000" stroke-width=".8"/>')
                parts.append(f'<text x="{_LEFT - 7}" y="{y + 4:.1f}" text-anchor="end">{value:g}</text>')
        across, up = (_LEFT + right) / 2, (_TOP + down) / 2
        parts.append(f'<text x="{across}" y="{down + 33}" text-anchor="middle">{self.below}</text>')
        parts.append(
            f'<text transform="translate(13 {up}) rotate(-90)" text-anchor="middle">{self.beside}</text>'
        )
        return "".join(parts)


def mixture_picture(
    values: NDArray[np.floating[Any]],
    labels: NDArray[np.integer[Any]],
    class_ids: Mapping[str, int],
    *,
    sequences: Sequence[str],
    units: str,
    weights: NDArray[np.float64],
    means: NDArray[np.float64],
    covariances: NDArray[np.float64],
) -> Picture:
    """Scatter of every pair of sequences with Gaussian ellipses; of one sequence a histogram.

    With more than three sequences, those in which the classes' means lie furthest apart, in units of
    the classes' own standard deviations.

    Args:
        values: (N, C) intensities.
        labels: (N,) class ids.
        class_ids: K class names -> ids.
        sequences: C names.
        units: of the intensities, in words.
        weights: (K,).
        means: (K, C).
        covariances: (K, C, C).
    """
    colours = class_colours(list(class_ids))
    chosen = _chosen_sequences(means, covariances)
    if len(chosen) == 1:
        return _histogram(values[:, 0], [*colours.values()], sequences[0], units, weights, means, covariances)
    keep = np.random.default_rng(_SEED).permutation(len(values))[:MAX_POINTS]
    pairs = list(combinations(chosen, 2))
    panels = []
    for pair in pairs:
        x, y = (_limits(values[:, c], 0.08) for c in pair)
        panel = _Panel(x, y, _text(sequences[pair[0]]), _text(sequences[pair[1]]))
        marks = []
        for k, (name, index) in enumerate(class_ids.items()):
            of_class = values[keep][labels[keep] == index][:, pair]
            marks.append(_dots(panel.places(of_class), colours[name]))
            mean, covariance = means[k, list(pair)], covariances[k][np.ix_(pair, pair)]
            marks += _ellipses(panel, mean, covariance, colours[name])
        panels.append(panel.drawn(marks))
    names = ", ".join(f"{sequences[a]} against {sequences[b]}" for a, b in pairs)
    return _picture(
        panels,
        _PANEL,
        title=f"Mixture, {units}",
        alt=f"Intensities of {len(keep)} voxels, {names}, with the ellipses of the classes "
        f"at {_SDS[0]} and {_SDS[1]} standard deviations",
    )


def _chosen_sequences(means: NDArray[np.float64], covariances: NDArray[np.float64]) -> list[int]:
    """Up to three sequences, those that separate the classes best, in their own order."""
    within = np.diagonal(covariances, axis1=1, axis2=2).mean(axis=0)
    separation = means.var(axis=0) / np.maximum(within, 1e-12)
    return sorted(np.argsort(-separation, kind="stable")[:MAX_SEQUENCES].tolist())


def _limits(values: NDArray[np.floating[Any]], margin: float) -> tuple[float, float]:
    """Return numbers between which all but the outermost voxels lie, with a share of them around."""
    low, high = (float(v) for v in np.percentile(values, [0.2, 99.8]))
    around = max(margin * (high - low), 1e-3)
    return low - around, high + around


def _dots(places: NDArray[np.float64], colour: Colour) -> str:
    """Return a path of dots at pixels (N, 2)."""
    if not len(places):
        return ""
    fine = np.rint(places * _FINE).astype(int)
    fine = fine[np.lexsort((fine[:, 1], fine[:, 0]))]
    moves = np.diff(fine, axis=0, prepend=np.zeros((1, 2), dtype=int))
    path = "".join(f"m{x} {y}h0" for x, y in moves.tolist())
    return (
        f'<path transform="scale({1 / _FINE})" d="{path}" stroke="{_hex(colour)}" stroke-opacity=".55" '
        f'stroke-width="{3 * _FINE}" stroke-linecap="round"/>'
    )


def _ellipses(
    panel: _Panel, mean: NDArray[np.float64], covariance: NDArray[np.float64], colour: Colour
) -> list[str]:
    """Return a class's ellipses and its middle."""
    variances, axes = np.linalg.eigh(covariance * np.outer(panel.scale, panel.scale))
    across, down = np.sqrt(np.maximum(variances, 0))
    degrees = np.degrees(np.arctan2(axes[1, 0], axes[0, 0]))
    (x, y), marks = panel.places(mean[None])[0], []
    for sds in _SDS:
        ellipse = (
            f'<ellipse rx="{sds * across:.1f}" ry="{sds * down:.1f}" '
            f'transform="translate({x:.1f} {y:.1f}) rotate({degrees:.1f})"'
        )
        marks += [f"{ellipse} {line}/>" for line in _lines(colour)]
    marks.append(f'<path d="M{x - 4:.1f} {y:.1f}h8m-4-4v8" stroke="{_DARK}"/>')
    return marks


def _lines(colour: Colour) -> tuple[str, str]:
    """Return a dark line, and the coloured one above it: yellow on white is hard to see."""
    return f'stroke="{_DARK}" stroke-width="3.2"', f'stroke="{_hex(colour)}" stroke-width="1.9"'


def _hex(colour: Colour) -> str:
    return "#" + bytes(colour).hex()


def _text(name: str) -> str:
    """Return a name from a file as text of a picture."""
    return escape(" ".join(name.split())[:40])


def _picture(panels: Sequence[str], width: int, *, title: str, alt: str) -> Picture:
    """Return panels of one width side by side."""
    size = f'width="{width * len(panels)}" height="{_PANEL}"'
    side_by_side = "".join(f'<g transform="translate({width * n} 0)">{p}</g>' for n, p in enumerate(panels))
    svg = (
        f'<svg xmlns="http://www.w3.org/2000/svg" {size}><rect {size} fill="#fff"/>'
        "<style>*{fill:none}text{fill:#000;font:11px sans-serif}</style>"
        f"{side_by_side}</svg>"
    )
    return Picture(title, alt, svg.encode(), width * len(panels), _PANEL, kind="svg+xml")


def _histogram(
    values: NDArray[np.floating[Any]],
    colours: Sequence[Colour],
    sequence: str,
    units: str,
    weights: NDArray[np.float64],
    means: NDArray[np.float64],
    covariances: NDArray[np.float64],
) -> Picture:
    x = _limits(values, 0)
    heights, edges = np.histogram(values, bins=60, range=x, density=True)
    grid = np.linspace(*x, 300)
    sds = np.sqrt(covariances[:, :1, 0])
    heights_of_class = weights[:, None] / (sds * np.sqrt(2 * np.pi))
    curves = heights_of_class * np.exp(-((grid - means[:, :1]) ** 2) / (2 * sds**2))
    panel = _Panel(x, (0.0, 1.05 * float(max(heights.max(), curves.max()))), _text(sequence), "density", 470)
    steps = np.column_stack([np.repeat(edges, 2), [0, *np.repeat(heights, 2), 0]])
    marks = [f'<path d="{_line(panel.places(steps))}" style="fill:#ccc"/>']
    for curve, colour in zip(curves, colours, strict=True):
        path = _line(panel.places(np.column_stack([grid, curve])))
        marks += [f'<path d="{path}" {line}/>' for line in _lines(colour)]
    return _picture(
        [panel.drawn(marks)],
        panel.width,
        title=f"Mixture, {units}",
        alt=f"Histogram of {sequence} with the density of each class",
    )


def _line(places: NDArray[np.float64]) -> str:
    return "M" + " ".join(f"{x:.1f} {y:.1f}" for x, y in places.tolist())
