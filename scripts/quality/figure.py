"""The picture of the table: a dot per method with the 95 % interval of its mean."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from statistics import fmean
from typing import Any

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt

from mrigmm.data.files import atomic
from mrigmm.evaluation.intervals import Estimate
from quality.cohorts import PROTOCOLS
from quality.competitors import SUPERVISED
from quality.tables import Summaries, supervised_curve

PATIENT_PANELS = {
    "myocardium": "dice/myocardium",
    "edema": "dice/edema",
    "scar": "dice/scar",
    "scar + edema": "dice/pathology",
    "infarct error": "infarct_error_percent",
}
HEALTHY_PANELS = {
    "edema": "volume_percent/edema",
    "scar": "volume_percent/scar",
    "both": "volume_percent/pathology",
}

_MARKERS = [("#999999", "s"), ("#e69f00", "^"), ("#0072b2", "o"), ("#009e73", "D")]


def draw(summaries: Summaries, path: Path) -> None:
    """One row of panels per protocol; the label-efficiency curve below where there is one."""
    protocols = [p for p, rows in summaries.items() if any(row.metrics for row in rows.values())]
    if not protocols:
        return
    names = list(dict.fromkeys(name for p in protocols for name in summaries[p]))
    curves = {p: supervised_curve(summaries[p], "dice/scar") for p in protocols if not PROTOCOLS[p].healthy}
    curves = {p: curve for p, curve in curves.items() if len(curve) > 1}
    n_rows = len(protocols) + bool(curves)
    figure, axes = plt.subplots(
        n_rows,
        len(PATIENT_PANELS),
        figsize=(14, n_rows * (0.8 + 0.22 * len(names))),
        layout="constrained",
        squeeze=False,
    )
    for line, protocol in zip(axes, protocols, strict=False):
        panels = HEALTHY_PANELS if PROTOCOLS[protocol].healthy else PATIENT_PANELS
        for axis in line:
            axis.set_axis_off()
        for column, (axis, (title, metric)) in enumerate(zip(line, panels.items(), strict=False)):
            axis.set_axis_on()
            _panel(axis, names, {n: row.metrics.get(metric) for n, row in summaries[protocol].items()})
            unit = "Dice" if metric.startswith("dice") else "% of LV mass"
            prefix = "false " if PROTOCOLS[protocol].healthy else ""
            axis.set_title(f"{protocol}: {prefix}{title} ({unit})", fontsize=8)
            if column:
                axis.set_yticklabels([])
    if curves:
        _efficiency(axes[-1], curves, summaries)
    with atomic(path) as temporary:
        figure.savefig(temporary, dpi=90)
    plt.close(figure)


def draw_shifted(summaries: Mapping[str, Mapping[str, Mapping[str, Any]]], path: Path) -> None:
    """Draw the Dice of scar in every shifted cohort: a panel for what was given, means as lines.

    Args:
        summaries: `quality.shifted.Summary` by title of the panel, method and cohort.
        path: Picture to write.
    """
    names = list(dict.fromkeys(name for by_row in summaries.values() for name in by_row))
    cohorts = list(dict.fromkeys(c for rows in summaries.values() for row in rows.values() for c in row))
    figure, axes = plt.subplots(
        1,
        len(summaries),
        figsize=(1.5 + 2.6 * len(summaries), 1.2 + 0.22 * len(cohorts)),
        layout="constrained",
        squeeze=False,
        sharey=True,
    )
    for axis, (title, by_row) in zip(axes[0], summaries.items(), strict=True):
        for number, name in enumerate(names):
            means = {c: summary.dice["scar"].mean for c, summary in by_row.get(name, {}).items()}
            means = {cohort: mean for cohort, mean in means.items() if not math.isnan(mean)}
            if not means:
                continue
            colour, marker = _MARKERS[number % len(_MARKERS)]
            axis.plot(
                list(means.values()), [cohorts.index(c) for c in means], marker, color=colour, label=name
            )
            axis.axvline(fmean(means.values()), color=colour, linewidth=1)
        axis.set_title(f"{title}: scar (Dice)", fontsize=8)
        axis.set_yticks(range(len(cohorts)), cohorts, fontsize=8)
        axis.set_xlim(0, 1)
        axis.tick_params(axis="x", labelsize=8)
        axis.grid(linewidth=0.4)
    axes[0, 0].invert_yaxis()
    figure.legend(*axes[0, 0].get_legend_handles_labels(), loc="outside lower center", ncols=3, fontsize=8)
    with atomic(path) as temporary:
        figure.savefig(temporary, dpi=90)
    plt.close(figure)


def _panel(axis: Any, names: list[str], estimates: Mapping[str, Estimate | None]) -> None:
    for position, name in enumerate(names):
        estimate = estimates.get(name)
        if estimate is None:
            continue
        colour = "#999999" if name == "oracle" or name.startswith(SUPERVISED) else "#0072b2"
        axis.plot([estimate.low, estimate.high], [position, position], color=colour, linewidth=1.5)
        axis.plot(estimate.mean, position, "o", color=colour, markersize=4)
    axis.set_yticks(range(len(names)), names, fontsize=8)
    axis.set_ylim(len(names) - 0.5, -0.5)
    axis.tick_params(axis="x", labelsize=8)
    axis.grid(axis="x", linewidth=0.4)


def _efficiency(line: Any, curves: Mapping[str, dict[int, Estimate]], summaries: Summaries) -> None:
    """Dice of scar over the number of labelled studies; unsupervised methods as horizontal lines."""
    for axis in line[len(curves) :]:
        axis.set_axis_off()
    for axis, (protocol, curve) in zip(line, curves.items(), strict=False):
        counts = list(curve)
        axis.plot(
            counts, [e.mean for e in curve.values()], "o-", color="#999999", label=SUPERVISED, markersize=4
        )
        axis.fill_between(
            counts,
            [e.low for e in curve.values()],
            [e.high for e in curve.values()],
            color="#999999",
            alpha=0.25,
        )
        others = {n: row for n, row in summaries[protocol].items() if not n.startswith(SUPERVISED)}
        for index, (name, row) in enumerate(others.items()):
            if "dice/scar" in row.metrics:
                axis.axhline(row.metrics["dice/scar"].mean, color=f"C{index}", linewidth=1, label=name)
        axis.set_xscale("log")
        axis.set_xticks(counts, [str(count) for count in counts], fontsize=8)
        axis.minorticks_off()
        axis.tick_params(axis="y", labelsize=8)
        axis.set_title(f"{protocol}: scar (Dice) over labelled studies", fontsize=8)
        axis.legend(fontsize=6)
