"""Agreement of predicted and reference volumes, drawn (J. M. Bland, D. G. Altman, Lancet 327, 307 (1986))."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from matplotlib.figure import Figure

from mrigmm.labels import class_colours
from mrigmm.reporting.pictures import Picture, diagram, plain

_COLUMNS = 3


@dataclass(frozen=True)
class VolumePairs:
    """Volumes of one class, predicted and reference, and how they agree; everything in ml.

    Attributes:
        predicted: one per study.
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
    """Return one panel per class: difference against mean of the two volumes, bias and limits of agreement.

    Args:
        pairs: by class name.
    """
    rows = -(-len(pairs) // _COLUMNS)
    columns = min(len(pairs), _COLUMNS)
    figure = Figure(figsize=(3.2 * columns, 2.6 * rows), layout="constrained")
    axes = figure.subplots(rows, columns, squeeze=False).ravel()
    colours = class_colours(list(pairs))
    for axis, (name, volumes) in zip(axes, pairs.items(), strict=False):
        means = np.add(volumes.predicted, volumes.reference) / 2
        axis.axhline(0, color="#bbbbbb", lw=0.8)
        axis.axhline(volumes.bias, color="#333333", lw=1.2)
        for limit in volumes.limits:
            axis.axhline(limit, color="#333333", lw=1, ls="--")
        colour = np.array(colours[name]) / 255
        differences = np.subtract(volumes.predicted, volumes.reference)
        axis.scatter(means, differences, s=26, color=colour, edgecolors="#333333", linewidths=0.6)
        axis.set_title(plain(name), fontsize=9)
        axis.set_xlabel("mean of the two, ml", fontsize=8)
        axis.set_ylabel("predicted - reference, ml", fontsize=8)
        axis.tick_params(labelsize=8)
    for axis in axes[len(pairs) :]:
        axis.set_axis_off()
    return diagram(
        figure,
        title="Bland-Altman",
        alt="Predicted minus reference volume against their mean, per class, with limits of agreement",
    )
