"""The HTML report: one file, no script, no external address; every text from files is escaped."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined


@dataclass(frozen=True)
class StudySection:
    """One study in the report; `figure` is a PNG in base64, or None."""

    id: str
    volume_ml: Mapping[str, float]
    warnings: Sequence[str]
    figure: str | None


@dataclass(frozen=True)
class MetricsTable:
    """One evaluated folder: its name, rows by class, and the Dice of each study by class."""

    name: str
    rows: Sequence[Mapping[str, Any]]
    dice: Mapping[str, Mapping[str, float | None]]


def render_report(
    *,
    folder: str,
    methods: Sequence[str],
    version: str,
    disclaimer: str,
    classes: Sequence[str],
    metrics: Sequence[MetricsTable],
    studies: Sequence[StudySection],
) -> str:
    """Fill the template."""
    environment = Environment(
        loader=PackageLoader("mrigmm.reporting"), autoescape=True, undefined=StrictUndefined, trim_blocks=True
    )
    environment.filters["number"] = _number
    return environment.get_template("report.html.j2").render(
        folder=folder,
        methods=methods,
        version=version,
        disclaimer=disclaimer,
        classes=classes,
        metrics=metrics,
        studies=studies,
    )


def _number(value: object, digits: int = 3) -> str:
    if not isinstance(value, int | float) or not math.isfinite(value):
        return "–"
    return f"{value:.{digits}f}"
