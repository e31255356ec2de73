"""A comparison of two sets of predictions as a picture and as Markdown."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from mrigmm.labels import class_colours
from mrigmm.reporting.figures import new_figure, png

_HALF = 0.2  # of the distance between two classes


def comparison_figure(
    values: Mapping[str, Mapping[str, NDArray[np.floating]]],
    notes: Mapping[str, Mapping[str, str]],
    names: tuple[str, str],
) -> bytes:
    """Return every study as a line from its first to its second value, a panel per metric, means as bars.

    Args:
        values: metric, as written on the axis -> class -> (N, 2) first and second value of N studies.
        notes: metric -> class -> what stands above its lines.
        names: of the first and the second.

    Returns:
        A PNG file.
    """
    classes = list(next(iter(values.values())))
    colours = class_colours(classes)
    size = (1.3 * max(len(classes), 4) + 0.9, 2.6 * len(values) + 0.4)
    figure = new_figure(size)
    panels = figure.subplots(len(values), 1, sharex=True, squeeze=False)[:, 0]
    for axis, (metric, by_class) in zip(panels, values.items(), strict=True):
        for x, name in enumerate(classes):
            ends, pairs = (x - _HALF, x + _HALF), by_class[name]
            colour = np.array(colours[name]) / 255
            axis.plot(ends, pairs.T, color=colour, linewidth=0.8, alpha=0.6)
            for side, column in zip(ends, pairs.T, strict=True):
                where = np.full(len(column), side)
                axis.scatter(where, column, s=18, color=colour, edgecolors="black", linewidths=0.4, zorder=3)
                if len(column):
                    axis.hlines(column.mean(), side - 0.13, side + 0.13, color="black", linewidth=2, zorder=4)
            place = {"xycoords": ("data", "axes fraction"), "ha": "center", "va": "bottom", "fontsize": 8}
            axis.annotate(notes[metric][name], (x, 1.01), **place)
        axis.set_ylabel(metric)
        axis.set_ylim(bottom=-0.03 * axis.get_ylim()[1])  # nothing is negative, and a dot at 0 is whole
        axis.grid(axis="y", linewidth=0.4)
        axis.spines[["top", "right"]].set_visible(False)
    panels[-1].set_xticks(range(len(classes)), [*map(plain_text, classes)])
    panels[-1].set_xlim(-0.5, len(classes) - 0.5)
    first, second = (plain_text(name) for name in names)
    figure.suptitle(
        f"left: {first}   right: {second}   bar: mean of the studies\n"
        "above: mean of left minus right, p after Holm, number of studies",
        fontsize=10,
    )
    return png(figure, dpi=120)


def plain_text(text: str) -> str:
    """Return a name as matplotlib is to draw it: a dollar sign begins no formula."""
    return text.replace("$", r"\$")


def markdown_table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Return a Markdown table; what stands in a cell ends no cell and no line."""
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join("| " + " | ".join(map(_cell, line)) + " |" for line in lines)


def _cell(text: str) -> str:
    return " ".join(text.replace("|", r"\|").split())
