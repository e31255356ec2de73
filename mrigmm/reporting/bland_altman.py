"""Agreement of predicted with reference volumes, after Bland and Altman (Lancet 1986; 327: 307-310)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from matplotlib.figure import Figure

from mrigmm.labels import class_colours
from mrigmm.reporting.pictures import Picture, diagram, plain

MIN_STUDIES = 3
_COLUMNS = 3
_NORMAL = 1.96  # 95 % of a normal distribution


@dataclass(frozen=True)
class VolumePairs:
    """Volumes in ml of one class: predicted and reference, one pair per study."""

    predicted: tuple[float, ...]
    reference: tuple[float, ...]

    @property
    def n(self) -> int:
        """Number of studies."""
        return len(self.predicted)

    @property
    def differences(self) -> tuple[float, ...]:
        """Predicted minus reference, in ml."""
        return tuple(p - r for p, r in zip(self.predicted, self.reference, strict=True))

    @property
    def bias(self) -> float:
        """Mean difference in ml."""
        return float(np.mean(self.differences))

    @property
    def limits(self) -> tuple[float, float]:
        """95 % limits of agreement in ml: bias -/+ 1.96 SD of the differences."""
        half = _NORMAL * float(np.std(self.differences, ddof=1))
        return self.bias - half, self.bias + half


def bland_altman_picture(pairs: Mapping[str, VolumePairs]) -> Picture:
    """One panel per class: difference against mean of the two volumes, bias and limits of agreement.

    Args:
        pairs: class name -> volumes of at least `MIN_STUDIES` studies.
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
        axis.scatter(means, volumes.differences, s=26, color=colour, edgecolors="#333333", linewidths=0.6)
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


def paired_volumes(
    studies: Mapping[str, Mapping[str, Sequence[float]]],
) -> dict[str, VolumePairs]:
    """Classes with enough studies to speak of limits.

    Args:
        studies: study -> class -> predicted and reference volume in ml.
    """
    found: dict[str, list[Sequence[float]]] = {}
    for classes in studies.values():
        for name, pair in classes.items():
            found.setdefault(name, []).append(pair)
    return {
        name: VolumePairs(tuple(p for p, _ in rows), tuple(r for _, r in rows))
        for name, rows in found.items()
        if len(rows) >= MIN_STUDIES
    }
