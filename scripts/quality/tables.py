"""The summaries as Markdown."""

from __future__ import annotations

import math
import re
import textwrap
from collections.abc import Callable, Mapping, Sequence
from functools import partial

from mrigmm.evaluation.intervals import Estimate, PairedDifference
from quality.cohorts import PROTOCOLS
from quality.competitors import SUPERVISED
from quality.summary import BASELINES, MethodSummary, labelled_studies_worth

Summaries = Mapping[str, Mapping[str, MethodSummary]]  # protocol -> row -> summary

GROUPS = ("blood", "myocardium", "edema", "scar", "wall", "pathology")
LESIONS = ("edema", "scar", "pathology")
NO_VALUE = "–"
PAIRED_FURTHER = {"Dice pathology": "dice/pathology", "infarct error, ml": "infarct_error_ml"}


LEGEND = (
    "Below: mean ± SD over studies [95 % interval of the mean]; (n): n studies without such a value, "
    "left out of it."
)


def prose(text: str) -> str:
    """Return a paragraph as pages of the documentation wrap it."""
    return textwrap.fill(text, 100, break_long_words=False, break_on_hyphens=False)


def markdown(summaries: Summaries, heading: Sequence[str]) -> str:
    """The overview and, for each protocol, its tables."""
    parts = [*heading, overview(summaries), prose(LEGEND)]
    for protocol, rows in summaries.items():
        parts += [f"### {protocol}: {PROTOCOLS[protocol].summary}", *_protocol(protocol, rows)]
    parts += label_efficiency(summaries)
    return "\n\n".join(part for part in parts if part) + "\n"


def overview(summaries: Summaries) -> str:
    """One row per method over all protocols: Dice of scar and pathology; false volume in healthy studies."""
    names = list(dict.fromkeys(name for rows in summaries.values() for name in rows))
    columns, cells = [], {name: [] for name in names}
    for protocol, rows in summaries.items():
        metrics = (
            {"false scar, ml": "volume_ml/scar", "false edema, ml": "volume_ml/edema"}
            if PROTOCOLS[protocol].healthy
            else {"scar": "dice/scar", "scar + edema": "dice/pathology"}
        )
        for title, metric in metrics.items():
            columns.append(f"{protocol}: {title}")
            for name in names:
                estimate = rows[name].metrics.get(metric) if name in rows else None
                cells[name].append(number(estimate.mean) if estimate else NO_VALUE)
    return table(["method", *columns], [[f"`{name}`", *cells[name]] for name in names])


def _protocol(protocol: str, rows: Mapping[str, MethodSummary]) -> list[str]:
    scored = {name: row for name, row in rows.items() if row.metrics}
    missing = {name: row for name, row in rows.items() if name not in scored}
    parts = [_notes(scored, missing)]
    if not scored:
        return parts
    counts = {
        estimate.n + estimate.n_undefined for row in scored.values() for estimate in row.metrics.values()
    }
    slices = (
        f", {max(row.n_cases for row in scored.values())} slices" if PROTOCOLS[protocol].per_slice else ""
    )
    parts[0] = f"{max(counts)} studies{slices}. {parts[0]}".strip()
    if PROTOCOLS[protocol].healthy:
        parts.append(_healthy(scored))
        parts.append(_pairs(scored, {f"false {g}, ml": f"volume_ml/{g}" for g in LESIONS}))
        return parts
    parts.append("Dice:")
    parts.append(_estimates(scored, {g: f"dice/{g}" for g in GROUPS}))
    parts.append(
        _estimates(
            scored,
            {
                "infarct volume error, ml": "infarct_error_ml",
                "% of LV mass": "infarct_error_percent",
                "NLL, nats per voxel": "nll",
            },
            extra={"s per study": lambda row: number(row.seconds_per_study)},
        )
    )
    parts.append(_pairs(scored, {f"Dice {g}": f"dice/{g}" for g in GROUPS[1:4]} | PAIRED_FURTHER))
    parts.append(_folded("IoU", _estimates(scored, {g: f"iou/{g}" for g in GROUPS})))
    parts.append(_folded("HD95, mm", _estimates(scored, {g: f"hd95_mm/{g}" for g in GROUPS})))
    if any(len(row.seed_means.get("dice/scar", ())) > 1 for row in scored.values()):
        parts.append(_seeds(scored))
    return parts


def _healthy(rows: Mapping[str, MethodSummary]) -> str:
    metrics = {}
    for group in LESIONS:
        metrics |= {
            f"false {group}, ml": f"volume_ml/{group}",
            f"{group}, % of LV mass": f"volume_percent/{group}",
        }
    # A Dice is undefined where neither has the class: nothing was found in these studies.
    none = {f"studies without false {g}": f"dice/{g}" for g in ("edema", "scar")}
    return _estimates(
        rows,
        metrics | {"NLL": "nll"},
        extra={title: partial(_undefined, metric=metric) for title, metric in none.items()},
    )


def _undefined(row: MethodSummary, *, metric: str) -> str:
    return str(row.metrics[metric].n_undefined) if metric in row.metrics else NO_VALUE


def _estimates(
    rows: Mapping[str, MethodSummary],
    metrics: Mapping[str, str],
    *,
    extra: Mapping[str, Callable[[MethodSummary], str]] | None = None,
) -> str:
    shown = {t: m for t, m in metrics.items() if any(m in row.metrics for row in rows.values())}
    lines = [
        [
            f"`{name}`",
            *(_estimate(row.metrics.get(metric)) for metric in shown.values()),
            *(cell(row) for cell in (extra or {}).values()),
        ]
        for name, row in rows.items()
    ]
    return table(["method", *shown, *(extra or {})], lines)


def _estimate(estimate: Estimate | None) -> str:
    if estimate is None or math.isnan(estimate.mean):
        return NO_VALUE
    text = (
        f"{number(estimate.mean)} ± {number(estimate.sd)} [{number(estimate.low)}, {number(estimate.high)}]"
    )
    return f"{text} ({estimate.n_undefined})" if estimate.n_undefined else text


def _pairs(rows: Mapping[str, MethodSummary], metrics: Mapping[str, str]) -> str:
    """Differences against every baseline; negative is better for volumes."""
    lines = []
    for baseline in BASELINES:
        for name, row in rows.items():
            if baseline not in row.paired:
                continue
            found = [row.paired[baseline].get(metric) for metric in metrics.values()]
            lines.append([f"`{name}`", f"`{baseline}`", *(_pair(pair) for pair in found)])
    if not lines:
        return ""
    title = "Paired differences over the same studies [95 % interval], Wilcoxon p"
    return _folded(title, table(["method", "minus", *metrics], lines))


def _pair(pair: PairedDifference | None) -> str:
    if pair is None or not pair.n:
        return NO_VALUE
    interval = f"[{signed(pair.low)}, {signed(pair.high)}]"
    text = f"{signed(pair.mean)} {interval}, {p_value(pair.p_value)}"
    return f"{text} ({pair.n_unpaired})" if pair.n_unpaired else text


def _seeds(rows: Mapping[str, MethodSummary]) -> str:
    trained = {name: row for name, row in rows.items() if row.seed_means}
    lines = [
        [
            f"`{name}`",
            str(len(row.seed_means["dice/scar"])),
            *(f"{number(row.metrics[f'dice/{g}'].mean)} ± {row.seed_sd(f'dice/{g}'):.3f}" for g in GROUPS),
        ]
        for name, row in trained.items()
    ]
    return "Seeds: mean Dice ± SD over seeds\n\n" + table(["method", "seeds", *GROUPS], lines)


def label_efficiency(summaries: Summaries) -> list[str]:
    """How many labelled studies a supervised network needs to overtake each method."""
    parts = []
    for protocol, rows in summaries.items():
        for metric in ("dice/scar", "dice/pathology"):
            curve = supervised_curve(rows, metric)
            others = {n: r for n, r in rows.items() if not n.startswith(SUPERVISED) and metric in r.metrics}
            if not curve or not others:
                continue
            lines = []
            for name, row in others.items():
                below, above = labelled_studies_worth(
                    {count: e.mean for count, e in curve.items()}, row.metrics[metric].mean
                )
                if above is None:
                    text = f"{below} or more"
                else:
                    text = f"fewer than {above}" if below is None else f"{below} to {above}"
                lines.append([f"`{name}`", number(row.metrics[metric].mean), text])
            title = f"### Label efficiency, {protocol}: {metric.replace('/', ' of ')}"
            parts += [title, table(["method", "Dice", "labelled studies that a U-Net needs"], lines)]
    return parts


def supervised_curve(rows: Mapping[str, MethodSummary], metric: str) -> dict[int, Estimate]:
    """Number of labelled studies -> estimate of the supervised network."""
    curve = {}
    for name, row in rows.items():
        found = re.fullmatch(rf"{SUPERVISED}, (\d+) labelled", name)
        if found and metric in row.metrics:
            curve[int(found[1])] = row.metrics[metric]
    return dict(sorted(curve.items()))


def _notes(scored: Mapping[str, MethodSummary], missing: Mapping[str, MethodSummary]) -> str:
    notes = [
        f"`{name}`: not applicable ({next(iter(row.failures.values()), 'no case')})."
        for name, row in missing.items()
    ]
    notes += [
        f"`{name}`: no result in {len(row.failures)} studies." for name, row in scored.items() if row.failures
    ]
    return prose(" ".join(notes))


def _folded(title: str, text: str) -> str:
    return f"<details>\n<summary>{title}</summary>\n\n{text}\n\n</details>"


def table(header: Sequence[str], lines: Sequence[Sequence[str]]) -> str:
    """A Markdown table."""
    return "\n".join(
        ["| " + " | ".join(header) + " |", "|" + "---|" * len(header)]
        + ["| " + " | ".join(line) + " |" for line in lines]
    )


def number(value: float) -> str:
    """Two digits after the point, one from 10 on."""
    if math.isnan(value):
        return NO_VALUE
    return f"{value:.2f}" if abs(round(value, 2)) < 10 else f"{value:.1f}"


def signed(value: float) -> str:
    """With its sign, and a minus that is one."""
    return NO_VALUE if math.isnan(value) else f"{value:+.2f}".replace("-", "−")


def p_value(value: float) -> str:
    """Not more precise than it deserves."""
    return "p < 0.001" if value < 0.001 else f"p = {value:.3f}" if value < 0.1 else f"p = {value:.2f}"
