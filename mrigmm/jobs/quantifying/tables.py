"""The tables of `mrigmm quantify`: a row per study, per slice or segment, and per pair of visits."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from mrigmm.data.files import remove
from mrigmm.data.visits import in_order
from mrigmm.errors import Problem
from mrigmm.export.side_files import write_csv, write_json
from mrigmm.jobs.common import (
    DICTIONARY_FILE,
    DISCLAIMER,
    INTERVALS_FILE,
    LONGITUDINAL_FILE,
    QUANTITIES_FILE,
    REDCAP_FILES,
    SEGMENTS_FILE,
    versions,
)
from mrigmm.jobs.quantifying.dictionary import dictionary_rows, redcap_tables
from mrigmm.jobs.quantifying.plausible import EXPECTED
from mrigmm.jobs.reading.prediction_folder import EDITED_COLUMN, Prediction, label_maps, yes_or_no
from mrigmm.quantification.transmurality import BIN_NAMES

_COMPARED = ("infarct_mass_g", "infarct_percent_of_lv_mass", "lv_mass_g", "area_at_risk_mass_g")


def longitudinal_rows(
    volumes: Mapping[str, Mapping[str, Any]], visits: Mapping[str, tuple[str, str]]
) -> tuple[list[dict[str, Any]], list[Problem]]:
    """Return a row per later study of a patient, beside the patient's earliest.

    Args:
        volumes: study -> numbers of its label map; None where they are not known.
        visits: study -> patient and visit.

    Returns:
        The rows, and a warning for each patient whose visits cannot be put in order.
    """
    patients: dict[str, dict[str, str]] = {}
    for study in volumes:
        if study in visits:
            patient, visit = visits[study]
            patients.setdefault(patient, {})[study] = visit
    rows: list[dict[str, Any]] = []
    problems = []
    for patient, studies in patients.items():
        order = in_order(studies)
        if order is None:
            what = f"the visits of the patient {patient} cannot be put in order, so they are not compared"
            problems.append(
                Problem(
                    what,
                    expected="numbers, times such as D8 and M12, dates, or acute and follow-up",
                    got=", ".join(f"{visit} ({study})" for study, visit in studies.items()),
                    remedy="name them so under 'visit' in the manifest",
                    severity="warning",
                )
            )
        else:
            acute, *others = order
            rows += [_row(patient, acute, later, studies, volumes) for later in others]
    return rows, problems


def _row(
    patient: str, acute: str, later: str, visits: Mapping[str, str], volumes: Mapping[str, Mapping[str, Any]]
) -> dict[str, Any]:
    """One later study beside the earliest; None where a number is missing or a share is one of nothing."""
    first, second = ({name: volumes[study].get(name) for name in _COMPARED} for study in (acute, later))
    infarct, left, at_risk = first["infarct_mass_g"], second["infarct_mass_g"], first["area_at_risk_mass_g"]
    change = None if infarct is None or left is None else left - infarct
    return {
        "patient": patient,
        "acute_study": acute,
        "acute_visit": visits[acute],
        "later_study": later,
        "later_visit": visits[later],
        **{f"acute_{name}": first[name] for name in _COMPARED},
        **{f"later_{name}": second[name] for name in _COMPARED[:3]},
        "infarct_change_g": change,
        "infarct_shrinkage_percent": -100 * change / infarct if change is not None and infarct else None,
        "salvage_by_later_infarct_percent": 100 * (at_risk - left) / at_risk
        if at_risk and left is not None
        else None,
    }


SEQUENCES = "sequences"
_LAST = (SEQUENCES, EDITED_COLUMN, "patient", "visit", "review")
# What stands in the second table: all that is of the probabilities.
_OF_PROBABILITIES = (EXPECTED, "interval_", "crps_")


def quantity_files(folder: Path) -> tuple[Path, ...]:
    """The files of a folder that may be written."""
    names = (SEGMENTS_FILE, INTERVALS_FILE, DICTIONARY_FILE, LONGITUDINAL_FILE, *REDCAP_FILES)
    path = folder / QUANTITIES_FILE
    return path, path.with_suffix(".csv"), *(folder / name for name in names)


def visits_of(predictions: Iterable[Prediction]) -> dict[str, tuple[str, str]]:
    """Study -> patient and visit, of the studies whose side files say both."""
    sides = {prediction.study: prediction.side for prediction in predictions}
    return {name: (s.patient, s.visit) for name, s in sides.items() if s.patient and s.visit}


def write_quantities(
    folder: Path,
    rows: Mapping[str, Mapping[str, Any]],
    maps: Mapping[str, Prediction],
    failed: Mapping[str, Problem],
    *,
    visits: Mapping[str, tuple[str, str]] | None = None,
    redcap: bool = False,
) -> list[Problem]:
    """Write the tables; what is empty is not written, and removed where it was.

    Args:
        folder: where they go.
        rows: study -> `Quantities.as_dict`, perhaps with "reference" and "crps" per number; numbers that
            are not known are None; under "sequences" those that the study has.
        maps: study -> label map that was measured.
        failed: study -> why it has no prediction.
        visits: study -> patient and visit; default as the side files say.
        redcap: write the templates for REDCap, too.

    Returns:
        Warnings: visits that cannot be put in order.
    """
    visits = visits_of(maps[name] for name in rows) if visits is None else visits
    later, problems = longitudinal_rows({name: row["volumes"] for name, row in rows.items()}, visits)
    content: dict[str, Any] = {"studies": rows, **label_maps(maps[name] for name in rows)}
    if failed:
        content["no_prediction"] = {name: problem.brief for name, problem in failed.items()}
    agreement = _agreement(rows.values())
    if agreement:
        content["agreement"] = agreement
    if later:
        content["longitudinal"] = later
    write_json(folder / QUANTITIES_FILE, {**content, "disclaimer": DISCLAIMER})
    studies: list[dict[str, Any]] = []
    intervals: list[dict[str, Any]] = []
    for name, row in rows.items():
        columns = columns_of(row)
        review = maps[name].side.review
        verdict = None if review is None else review.verdict
        second = {n: value for n, value in columns.items() if n.startswith(_OF_PROBABILITIES)}
        studies.append(
            {
                "study": name,
                **{n: value for n, value in columns.items() if n not in second},
                SEQUENCES: "+".join(row.get(SEQUENCES, ())),
                EDITED_COLUMN: yes_or_no(maps[name].edited),
                **dict(zip(_LAST[2:4], visits.get(name, ()), strict=False)),
                **({} if verdict is None else {"review": verdict}),
            }
        )
        intervals += [{"study": name, **second}] if second else []
    segments = [
        {"study": name, "slice": None, "segment": None, **part}
        for name, row in rows.items()
        for part in (*row["slices"], *_numbered(row))
    ]
    csv_file = Path(QUANTITIES_FILE).with_suffix(".csv").name
    written = {
        csv_file: _table(folder / csv_file, studies, last=_LAST),
        INTERVALS_FILE: _table(folder / INTERVALS_FILE, intervals),
        SEGMENTS_FILE: _table(
            folder / SEGMENTS_FILE,
            segments,
            head=("study", "slice", "segment", "transmurality_percent", *BIN_NAMES),
        ),
        LONGITUDINAL_FILE: _table(folder / LONGITUDINAL_FILE, later),
    }
    _table(folder / DICTIONARY_FILE, dictionary_rows(written))
    if redcap:
        about = f"mrigmm {versions()['mrigmm']}. {DISCLAIMER}"
        for file, lines in zip(REDCAP_FILES, redcap_tables(studies, written[csv_file], about), strict=True):
            _table(folder / file, lines)
    else:
        for file in REDCAP_FILES:
            remove(folder / file)
    return problems


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


def _table(
    path: Path, rows: Sequence[Mapping[str, Any]], head: Sequence[str] = (), last: Sequence[str] = ()
) -> tuple[str, ...]:
    """Write a CSV file: a column for every name of any row, empty where there is no value.

    Returns:
        The columns; where there are none, no file is written, and an older one removed.
    """
    columns = list(dict.fromkeys([*head, *(name for row in rows for name in row)]))
    columns.sort(key=lambda name: name in last)  # later columns stand after those that were always there
    if not columns:
        remove(path)
        return ()
    write_csv(path, columns, (map(row.get, columns) for row in rows))
    return tuple(columns)


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
                slack = 1e-6 * abs(true)  # sums of float32 probabilities
                figures["covered"] = float(low - slack <= true <= high + slack)
            if name in row["crps"]:
                figures["crps"] = row["crps"][name]
            collected.setdefault(name, []).append(figures)
    return {name: _summary(found) for name, found in collected.items()}


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
