"""The shifted cohorts: what `predict` gives on each of them, and the mean and the worst over all.

A row is run as a user would run it: `mrigmm.predict` into a folder. Protocols: cavity and wall given, the
whole ventricle given, a manifest without region maps, and LGE alone with and without cavity and wall.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import fmean, median
from typing import Any

import nibabel as nib
import numpy as np
import torch
from numpy.typing import NDArray
from rich.console import Console
from sklearn.metrics import roc_auc_score

import mrigmm
from mrigmm.data.files import write_text
from mrigmm.data.maps import NO_CLASS
from mrigmm.errors import InputError
from mrigmm.evaluation.cohort import study_overlaps
from mrigmm.evaluation.intervals import Estimate, estimate_mean
from mrigmm.export.side_files import write_json
from mrigmm.jobs.common import LABELS_SUFFIX, Track, cohort_task, versions
from mrigmm.labels import KEY_SEQUENCES, NESTED_REGIONS, TISSUES
from mrigmm.methods.base import Task
from mrigmm.methods.registry import DEFAULT_METHOD
from mrigmm.pretrained.folder import PretrainedFolder, shipped_folder
from quality import competitors as rows_of
from quality.cohorts import PROTOCOLS, Cohort, given_to_predict, is_given, simulated_cohort
from quality.figure import draw_shifted
from quality.scoring import Competitor, Result, Store
from quality.tables import NO_VALUE, number, prose, table

SEEDS = {"report": 901, "tuning": 900}
STUDIES = 12
GIVEN = {
    "cavity-wall": "cavity and wall given",
    "lv": "left ventricle given",
    "nothing": "nothing given",
    "lge-wall": "LGE alone, cavity and wall given",
    "lge": "LGE alone, nothing given",
}

CLASSES = tuple(TISSUES)
DICE = {name: f"dice/{name}" for name in ("wall", "blood", "edema", "scar")} | {
    "scar + edema": "dice/pathology"
}
FALSE = "false infarct, %"
AUROCS = {"AUROC of volume": "volume_ml/scar", "AUROC of probability": "probability"}
COLUMNS = (*DICE, FALSE, *AUROCS)
TOGETHER = "all studies together"

LEGEND = (
    "Dice: volumetric per study, mean over studies [95 % bootstrap interval]; of edema and scar over the "
    "studies that have it, a study without result counted as 0; nobody reads edema without T2. False "
    "infarct: % of the LV mass (reference's wall), median over the studies without infarct. AUROC: has the "
    "study an infarct, by the volume that was found, and by the probability where the method gives one."
)

LOG = Console(stderr=True, soft_wrap=True)


@dataclass(frozen=True)
class Row:
    """A method or run: its identity as in the other tables, and the keywords of `mrigmm.predict`."""

    competitor: Competitor
    keywords: Mapping[str, Any]


@dataclass(frozen=True)
class Summary:
    """One row on one cohort, or on all studies together.

    Attributes:
        dice: column -> estimate over studies.
        figures: column -> value: every column, of Dice the mean; NaN where it is not defined.
        healthy: studies without infarct that have a result.
        failures: study id -> why there is no result.
    """

    dice: dict[str, Estimate]
    figures: dict[str, float]
    healthy: int
    failures: dict[str, str]


# row -> cohort -> summary
Summaries = Mapping[str, Mapping[str, Summary]]


def benchmark_shifted(options: argparse.Namespace, command: str, track: Track) -> str:
    """Predict and score what is missing, then write `shifted.json`, `shifted.md` and `shifted.png`.

    Args:
        options: of `benchmark_quality.py`.
        command: as it was typed.
        track: progress bar.

    Returns:
        The Markdown.
    """
    torch.set_num_threads(1)
    seed = options.seed if options.seed is not None else SEEDS["tuning" if options.tuning else "report"]
    cohorts = {
        name: simulated_cohort(
            options.out / "cohorts", preset=name, seed=seed, n_studies=options.studies or STUDIES, track=track
        )
        for name in options.shifted
    }
    rows = _rows(options, cohort_task(next(iter(cohorts.values())).manifest, options.prior, "cpu"))
    found: dict[str, dict[str, dict[str, Result]]] = {}
    text = ""
    for protocol in options.protocols:
        for row in rows:
            for name, cohort in cohorts.items():
                result = _result(options, protocol, row, name, cohort)
                by_row = found.setdefault(protocol, {})
                by_row.setdefault(row.competitor.name, {})[name] = result
            text = _write(options.out, found, command, {"seed": seed, "cohorts": _identities(cohorts)})
    return text


def _rows(options: argparse.Namespace, task: Task) -> list[Row]:
    prior = {} if options.prior is None else {"prior": options.prior}
    keywords = {"device": options.device, **prior}
    rows = [
        Row(competitor, {"method": competitor.name, **keywords})
        for competitor in rows_of.methods(options.methods, task)
    ]
    for text in options.run:
        competitor = rows_of.existing_run(text, task, options.device)
        rows.append(Row(competitor, {"run": text.partition("=")[2], **keywords}))
    return rows


def _result(options: argparse.Namespace, protocol: str, row: Row, name: str, cohort: Cohort) -> Result:
    """From the store, or predicted and scored."""
    circumstances = {"cohort": cohort.identity, "mrigmm": versions()["mrigmm"]}
    if protocol == "nothing" or row.keywords.get("method") == DEFAULT_METHOD:
        circumstances["networks"] = networks_digest(shipped_folder())
    store = Store(options.out / "results" / name)
    result = store.load(protocol, row.competitor, circumstances)
    if result is None:
        # predictions of other circumstances have another folder: what is finished there never stands in
        made_with = json.dumps([circumstances, dict(row.competitor.settings)], sort_keys=True, default=str)
        digest = hashlib.sha256(made_with.encode()).hexdigest()[:8]
        folder = options.out / "predictions" / name / protocol / f"{row.competitor.name}-{digest}"
        result = predict_and_score(cohort, protocol, row.keywords, folder)
        if result.studies:  # not kept where nothing could be done: what stands in the way may be mended
            store.save(protocol, row.competitor, circumstances, result)
        LOG.print(f"{protocol}, {row.competitor.name}, {name}: {len(result.failures)} without result")
    return result


def networks_digest(folder: PretrainedFolder) -> str:
    """Return a digest of the networks and their calibration: they find the ventricle where none is given."""
    files = [file for file in (folder.record, folder.calibration) if file.exists()]
    return hashlib.sha256(b"".join(file.read_bytes() for file in files)).hexdigest()[:16]


def predict_and_score(cohort: Cohort, protocol: str, keywords: Mapping[str, Any], folder: Path) -> Result:
    """Predict a cohort with what a protocol gives, and score every study.

    Args:
        cohort: with reference labels.
        protocol: of `GIVEN`.
        keywords: of `mrigmm.predict`.
        folder: for the predictions; finished studies in it are kept if they were made in the same way.
    """
    manifest = given_to_predict(cohort, protocol, folder.with_name(f"{folder.name}.manifest.json"))
    options = {"split": "test", "data_root": cohort.data_root, **keywords}
    try:
        try:
            outcome = mrigmm.predict(manifest, folder, resume=True, **options)
        except InputError:  # what lies there was made otherwise, by an older program
            outcome = mrigmm.predict(manifest, folder, overwrite=True, **options)
    except InputError as error:
        return Result({}, {study.id: error.problems[0].what for study in cohort.studies})
    reasons = {p.study: p.what for p in outcome.problems if p.severity == "error" and p.study is not None}
    studies, failures, seconds = {}, {}, 0.0
    for study in cohort.studies:
        reference = nib.load(cohort.data_root / study.label)
        label = np.asarray(reference.dataobj)
        path = folder / f"{study.id}{LABELS_SUFFIX}"
        side = folder / f"{study.id}.json"
        probability, predicted = math.nan, None
        if path.exists() and side.exists():
            predicted = np.asarray(nib.load(path).dataobj)
            content = json.loads(side.read_text(encoding="utf-8"))
            probability = content.get("infarct", {}).get("probability", math.nan)
            seconds += content.get("seconds", 0.0)
        else:
            failures[study.id] = reasons.get(study.id, "no label map")
        voxel_ml = float(abs(np.linalg.det(reference.affine[:3, :3]))) / 1000
        sequences = [name for name in study.images if is_given(name, PROTOCOLS[protocol])]
        studies[study.id] = score(predicted, label, sequences, voxel_ml, probability)
    if len(failures) == len(studies):
        return Result({}, failures)
    return Result(studies, failures, round(seconds, 2), len(studies) - len(failures))


def score(
    predicted: NDArray[Any] | None,
    label: NDArray[Any],
    sequences: Sequence[str],
    voxel_ml: float,
    probability: float = math.nan,
) -> dict[str, float]:
    """Figures of one study.

    Args:
        predicted: label map (X, Y, Z) in our ids; None: there is none, and no class is met.
        label: the reference, likewise.
        sequences: of the study.
        voxel_ml: volume of a voxel.
        probability: that there is an infarct, where the method gives one.

    Returns:
        `dice/G` of classes and nested regions, of lesions NaN where the reference has none or nobody reads
        them in these sequences; `volume_ml/scar` and `volume_percent/scar` (of the reference's wall),
        `probability`, and `has_infarct` (0 or 1).
    """
    given = np.zeros_like(label) if predicted is None else predicted
    overlaps = study_overlaps(_indices(given), _indices(label), CLASSES, voxel_volume_ml=voxel_ml)
    row = {}
    for name, found in overlaps.items():
        lesions = set(NESTED_REGIONS.get(name, (name,))) <= set(NESTED_REGIONS["pathology"])
        legible = name != "pathology" or KEY_SEQUENCES["edema"] in sequences
        defined = legible and not (lesions and found.reference_ml == 0)
        row[f"dice/{name}"] = found.dice if defined else math.nan
    infarct_ml = math.nan if predicted is None else overlaps["scar"].predicted_ml
    return row | {
        "volume_ml/scar": infarct_ml,
        "volume_percent/scar": 100 * infarct_ml / overlaps["wall"].reference_ml,
        "probability": probability,
        "has_infarct": float(overlaps["scar"].reference_ml > 0),
    }


def _indices(ids: NDArray[Any]) -> NDArray[np.integer[Any]]:
    """Ids of our label maps (X, Y, Z) -> indices into `CLASSES`."""
    indices = np.full(ids.shape, NO_CLASS)
    for index, name in enumerate(CLASSES):
        indices[ids == TISSUES[name].id] = index
    return indices


def summarise_cohort(studies: Sequence[Mapping[str, float]], failures: Mapping[str, str]) -> Summary:
    """One row on one cohort: `studies` as `score` gives them."""
    dice = {column: estimate_mean([row[metric] for row in studies]) for column, metric in DICE.items()}
    false = [row["volume_percent/scar"] for row in studies if not row["has_infarct"]]
    false = [value for value in false if not math.isnan(value)]
    figures = {column: estimate.mean for column, estimate in dice.items()}
    figures[FALSE] = median(false) if false else math.nan
    figures |= {column: auroc(studies, metric) for column, metric in AUROCS.items()}
    return Summary(dice, figures, len(false), dict(failures))


def auroc(studies: Sequence[Mapping[str, float]], metric: str) -> float:
    """Area under the curve of a figure for having an infarct; NaN without studies of both kinds."""
    known = [row for row in studies if not math.isnan(row[metric])]
    truth = [row["has_infarct"] for row in known]
    if len(set(truth)) < 2:
        return math.nan
    return float(roc_auc_score(truth, [row[metric] for row in known]))


def over_cohorts(by_cohort: Mapping[str, Summary]) -> dict[str, dict[str, float]]:
    """Mean and worst of every column over the cohorts in which it is defined."""
    found: dict[str, dict[str, float]] = {"mean": {}, "worst": {}}
    for column in COLUMNS:
        values = [s.figures[column] for s in by_cohort.values() if not math.isnan(s.figures[column])]
        found["mean"][column] = fmean(values) if values else math.nan
        worst = max if column == FALSE else min
        found["worst"][column] = worst(values) if values else math.nan
    return found


def _identities(cohorts: Mapping[str, Cohort]) -> dict[str, Any]:
    return {name: cohort.identity for name, cohort in cohorts.items()}


def _write(
    out: Path, results: Mapping[str, Mapping[str, Mapping[str, Result]]], command: str, header: dict[str, Any]
) -> str:
    """Write `shifted.json`, `shifted.md` and `shifted.png` of what there is; return the text."""
    summaries = {
        protocol: {name: _with_all(by_cohort) for name, by_cohort in by_row.items()}
        for protocol, by_row in results.items()
    }
    content = {
        protocol: {
            name: {
                "cohorts": {cohort: asdict(summary) for cohort, summary in by_cohort.items()},
                "over_cohorts": over_cohorts(_cohorts_only(by_cohort)),
                "studies": {c: result.studies for c, result in results[protocol][name].items()},
            }
            for name, by_cohort in by_row.items()
        }
        for protocol, by_row in summaries.items()
    }
    write_json(
        out / "shifted.json", {"command": command, "versions": versions(), **header, "protocols": content}
    )
    text = markdown(summaries, f"```\n{command}\n```")
    write_text(out / "shifted.md", text)
    panels = {
        GIVEN[protocol]: {name: _cohorts_only(by_cohort) for name, by_cohort in by_row.items()}
        for protocol, by_row in summaries.items()
    }
    draw_shifted(panels, out / "shifted.png")
    return text


def _with_all(by_cohort: Mapping[str, Result]) -> dict[str, Summary]:
    """Summaries of the cohorts and of all of their studies together; of none where a row does not apply."""
    scored = {name: result for name, result in by_cohort.items() if result.studies}
    if not scored:
        return {}
    summaries = {
        name: summarise_cohort(list(result.studies.values()), result.failures)
        for name, result in scored.items()
    }
    every = [row for result in scored.values() for row in result.studies.values()]
    failures = {f"{name} {s}": why for name, r in scored.items() for s, why in r.failures.items()}
    return {**summaries, TOGETHER: summarise_cohort(every, failures)}


def _cohorts_only(by_cohort: Mapping[str, Summary]) -> dict[str, Summary]:
    return {name: summary for name, summary in by_cohort.items() if name != TOGETHER}


def markdown(summaries: Mapping[str, Summaries], heading: str) -> str:
    """Mean and worst of every row, and a table of the cohorts for each."""
    parts = [heading, prose(LEGEND)]
    for protocol, by_row in summaries.items():
        parts.append(f"### {protocol}: {GIVEN[protocol]}")
        lines = []
        for name, by_cohort in by_row.items():
            if not by_cohort:
                lines.append([f"`{name}`", "not applicable", *([NO_VALUE] * len(COLUMNS))])
                continue
            for what, figures in over_cohorts(_cohorts_only(by_cohort)).items():
                lines.append([f"`{name}`", what, *(number(figures[column]) for column in COLUMNS)])
            together = by_cohort[TOGETHER].figures
            lines.append([f"`{name}`", TOGETHER, *(number(together[column]) for column in COLUMNS)])
        parts.append(table(["method", "over cohorts", *COLUMNS], lines))
        parts += [_of_row(name, by_cohort) for name, by_cohort in by_row.items() if by_cohort]
    return "\n\n".join(parts) + "\n"


def _of_row(name: str, by_cohort: Mapping[str, Summary]) -> str:
    lines = [
        [
            cohort,
            *(_interval(summary.dice[column]) for column in DICE),
            f"{number(summary.figures[FALSE])} ({summary.healthy})",
            *(number(summary.figures[column]) for column in AUROCS),
            str(len(summary.failures)),
        ]
        for cohort, summary in by_cohort.items()
    ]
    header = ["cohort", *DICE, f"{FALSE} (studies)", *AUROCS, "without result"]
    text = table(header, lines)
    return f"<details>\n<summary><code>{name}</code>, each cohort</summary>\n\n{text}\n\n</details>"


def _interval(estimate: Estimate) -> str:
    if math.isnan(estimate.mean):
        return NO_VALUE
    return f"{number(estimate.mean)} [{number(estimate.low)}, {number(estimate.high)}]"
