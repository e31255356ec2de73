"""Agreement of two measurements, drawn (J. M. Bland, D. G. Altman, Lancet 327, 307 (1986))."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from mrigmm.labels import segment_colours
from mrigmm.reporting.figures import new_figure, png
from mrigmm.reporting.pictures import Picture, plain, saved_diagram

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_COLUMNS = 3


@dataclass(frozen=True)
class VolumePairs:
    """Volumes of one class, predicted and reference, or a quantity by two readers, and how they agree.

    Attributes:
        predicted: one per study, or by the first reader.
        reference: of the same studies.
        bias: mean of predicted minus reference.
        limits: of agreement.
    """

    predicted: tuple[float, ...]
    reference: tuple[float, ...]
    bias: float
    limits: tuple[float, float]

    @property
    def n(self) -> int:
        """Number of studies."""
        return len(self.predicted)


def bland_altman_picture(pairs: Mapping[str, VolumePairs]) -> Picture:
    """Return one panel per number: difference against mean of the two, bias and limits of agreement.

    Args:
        pairs: by number, with its unit.
    """
    rows = -(-len(pairs) // _COLUMNS)
    columns = min(len(pairs), _COLUMNS)
    figure = new_figure((3.2 * columns, 2.6 * rows))
    axes = figure.subplots(rows, columns, squeeze=False).ravel()
    colours = dict(zip(pairs, segment_colours(len(pairs)), strict=True))
    for axis, (name, volumes) in zip(axes, pairs.items(), strict=False):
        _panel(axis, volumes, colours[name], name, ("mean of the two", "predicted - reference"))
    for axis in axes[len(pairs) :]:
        axis.set_axis_off()
    return saved_diagram(
        png(figure, dpi=144),
        sharper=1.5,
        title="Bland-Altman",
        alt="Predicted minus reference against their mean, per number, with limits of agreement",
    )


def bland_altman_figure(panels: Mapping[tuple[str, str], VolumePairs]) -> bytes:
    """Return a row per pair of readers, a column per quantity, as a PNG file.

    Args:
        panels: (quantity with its unit, the two readers) -> values in that unit.
    """
    quantities = list(dict.fromkeys(quantity for quantity, _ in panels))
    readers = list(dict.fromkeys(pair for _, pair in panels))
    figure = new_figure((3.2 * len(quantities), 2.8 * len(readers)))
    axes = figure.subplots(len(readers), len(quantities), squeeze=False)
    colours = segment_colours(len(quantities))
    for row, pair in enumerate(readers):
        for column, quantity in enumerate(quantities):
            axis, values = axes[row, column], panels.get((quantity, pair))
            if values is None:
                axis.set_axis_off()
                continue
            _panel(
                axis, values, colours[column], f"{quantity}\n{pair}", ("mean of the two", "first - second")
            )
    return png(figure, dpi=120)


def _panel(
    axis: Axes, values: VolumePairs, rgb: tuple[int, int, int], title: str, labels: tuple[str, str]
) -> None:
    """Draw the differences of pairs over their means, with bias and limits."""
    means = np.add(values.predicted, values.reference) / 2
    axis.axhline(0, color="#bbbbbb", lw=0.8)
    axis.axhline(values.bias, color="#333333", lw=1.2)
    for limit in values.limits:
        axis.axhline(limit, color="#333333", lw=1, ls="--")
    differences = np.subtract(values.predicted, values.reference)
    colour = np.array(rgb) / 255
    axis.scatter(means, differences, s=26, color=colour, edgecolors="#333333", linewidths=0.6)
    axis.set_title("\n".join(map(plain, title.split("\n"))), fontsize=9)
    axis.set_xlabel(labels[0], fontsize=8)
    axis.set_ylabel(labels[1], fontsize=8)
    axis.tick_params(labelsize=8)
