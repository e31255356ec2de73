"""The tables of `mrigmm quantify`: one row per study, one per slice or segment, and how well they agree."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from mrigmm.data.files import write_text
from mrigmm.errors import Problem
from mrigmm.export.side_files import write_json
from mrigmm.jobs.common import DISCLAIMER, QUANTITIES_FILE, SEGMENTS_FILE
from mrigmm.jobs.reading.label_maps import EDITED_COLUMN, label_maps, yes_or_no
from mrigmm.jobs.reading.prediction_folder import Prediction
from mrigmm.quantification.transmurality import BIN_NAMES

EXPECTED = "expected_"
SEQUENCES = "sequences"


def quantity_files(folder: Path) -> tuple[Path, Path, Path]:
    """The three files of a folder: JSON, table of studies, table of slices and segments."""
    path = folder / QUANTITIES_FILE
    return path, path.with_suffix(".csv"), folder / SEGMENTS_FILE


def write_quantities(
    folder: Path,
    rows: Mapping[str, Mapping[str, Any]],
    maps: Mapping[str, Prediction],
    failed: Mapping[str, Problem],
) -> None:
    """Write the three files.

    Args:
        folder: where they go.
        rows: study -> `Quantities.as_dict`, perhaps with "reference" and "crps" per number; numbers that
            are not known are None; under "sequences" those that the study has.
        maps: study -> label map that was measured.
        failed: study -> why it has no prediction.
    """
    as_json, as_csv, segments = quantity_files(folder)
    content: dict[str, Any] = {"studies": rows, **label_maps(maps[name] for name in rows)}
    if failed:
        content["no_prediction"] = {name: problem.brief for name, problem in failed.items()}
    agreement = _agreement(rows.values())
    if agreement:
        content["agreement"] = agreement
    write_json(as_json, {**content, "disclaimer": DISCLAIMER})
    write_text(
        as_csv,
        _table(
            (
                {
                    "study": name,
                    **columns_of(row),
                    SEQUENCES: "+".join(row.get(SEQUENCES, ())),
                    EDITED_COLUMN: yes_or_no(maps[name].edited),
                }
                for name, row in rows.items()
            ),
            last=(SEQUENCES, EDITED_COLUMN),
        ),
    )
    write_text(
        segments,
        _table(
            (
                {"study": name, "slice": None, "segment": None, **part}
                for name, row in rows.items()
                for part in (*row["slices"], *_numbered(row))
            ),
            head=("study", "slice", "segment", "transmurality_percent", *BIN_NAMES),
        ),
    )


def _numbered(row: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The rows of a study's segments, with what they were numbered by."""
    by = row.get("numbering")
    if by is None:  # of an older version
        return [dict(part) for part in row["segments"]]
    kind = "automatic" if by["automatic"] else "given"
    return [
        {**part, "numbering": kind, "insertion_spread_degrees": by["spread_degrees"]}
        for part in row["segments"]
    ]


def columns_of(row: Mapping[str, Any]) -> dict[str, float | None]:
    """A study's line of the table, in an order that does not depend on the study."""
    columns = dict(row["volumes"])
    for name, (low, high) in row["intervals"].items():
        columns |= {f"interval_low_{name}": low, f"interval_high_{name}": high}
    for kind in ("reference", "crps"):
        columns |= {f"{kind}_{name}": value for name, value in row.get(kind, {}).items()}
    return columns


def _table(rows: Iterable[Mapping[str, Any]], head: Sequence[str] = (), last: Sequence[str] = ()) -> str:
    """CSV text; a column for every name of any row, empty where there is no number."""
    listed = list(rows)
    text = io.StringIO()
    columns = list(dict.fromkeys([*head, *(name for row in listed for name in row)])) or ["study"]
    columns.sort(key=lambda name: name in last)  # later columns stand after those that were always there
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(columns)
    for row in listed:
        values = (row.get(name) for name in columns)
        writer.writerow(["" if v is None else f"{v:.6g}" if isinstance(v, float) else v for v in values])
    return text.getvalue()


def _agreement(rows: Iterable[Mapping[str, Any]]) -> dict[str, dict[str, float]]:
    """Errors, coverage and CRPS of each number over the studies that have a reference for it."""
    collected: dict[str, list[dict[str, float]]] = {}
    for row in rows:
        for name, true in row.get("reference", {}).items():
            value = row["volumes"].get(name)
            if true is None or value is None:
                continue
            figures = {"error": value - true}
            expected = row["volumes"].get(f"{EXPECTED}{name}")
            if expected is not None:
                figures["expected_error"] = expected - true
            if name in row["intervals"]:
                low, high = row["intervals"][name]
                figures["covered"] = float(_inside(true, low, high))
            if name in row["crps"]:
                figures["crps"] = row["crps"][name]
            collected.setdefault(name, []).append(figures)
    return {name: _summary(found) for name, found in collected.items()}


def _inside(true: float, low: float, high: float) -> bool:
    slack = 1e-6 * abs(true)  # sums of float32 probabilities
    return low - slack <= true <= high + slack


def _summary(found: Sequence[Mapping[str, float]]) -> dict[str, float]:
    def mean(name: str, size: bool = False) -> float:
        values = [abs(row[name]) if size else row[name] for row in found if name in row]
        return float(np.mean(values)) if values else math.nan

    return {
        "n": len(found),
        "mean_error": mean("error"),
        "mean_absolute_error": mean("error", size=True),
        "mean_absolute_error_expected": mean("expected_error", size=True),
        "mean_crps": mean("crps"),
        "interval_coverage_percent": 100 * mean("covered"),
    }
