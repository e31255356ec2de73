"""`mrigmm evaluate`: label maps against reference labels."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from mrigmm.data.files import require_not_input, require_own
from mrigmm.data.manifest import Manifest, Study
from mrigmm.data.manifest_file import read_manifest
from mrigmm.data.provenance import PriorOverlap, prior_overlap
from mrigmm.errors import InputError, Problem, some_of
from mrigmm.evaluation.calibration import Reliability, pooled
from mrigmm.evaluation.cohort import CaseLevel, ClassSummary, case_level, summarise
from mrigmm.evaluation.intervals import Estimate
from mrigmm.evaluation.scores import Scores, estimates
from mrigmm.evaluation.volume_agreement import MeasuredAgreement, measured_agreement
from mrigmm.export.side_files import write_csv, write_json
from mrigmm.jobs.common import METRICS_FILE, Outcome, Track, no_progress
from mrigmm.jobs.reading.failures import failures
from mrigmm.jobs.reading.prediction_folder import (
    EDITED_COLUMN,
    Prediction,
    label_maps,
    read_prediction,
    require_predictions,
    yes_or_no,
)
from mrigmm.jobs.scored_study import score_study, study_reliability, with_reference
from mrigmm.jobs.shown import ShownTable, figure
from mrigmm.labels import NESTED_REGIONS, ComparedClass

# A patient has them or has not.
_LESIONS = (*NESTED_REGIONS["pathology"], "pathology", "mvo")
_COLUMNS = ("dice", "iou", "predicted_ml", "reference_ml", "hd95_mm", "nsd_2mm", "hd95_3d_mm", "nsd_3d_2mm")


@dataclass(frozen=True, repr=False)
class Evaluation(Outcome):
    """An evaluated cohort.

    Attributes:
        studies: study id -> class or nested region -> scores.
        summary: class -> Dice and IoU over the studies, and how often it was found or missed.
        estimates: class -> metric -> mean over the studies with its bootstrap interval.
        volumes: class -> agreement of the volumes.
        cases: lesion -> sensitivity and specificity over studies.
        calibration: study id -> reliability of its probabilities, where they were saved.
        compared: class -> the classes of prediction and reference that count as it (docs/evaluation.md).
    """

    studies: dict[str, dict[str, Scores]] = field(default_factory=dict)
    summary: dict[str, ClassSummary] = field(default_factory=dict)
    estimates: dict[str, dict[str, Estimate]] = field(default_factory=dict)
    volumes: dict[str, MeasuredAgreement] = field(default_factory=dict)
    cases: dict[str, CaseLevel] = field(default_factory=dict)
    calibration: dict[str, Reliability] = field(default_factory=dict)
    compared: dict[str, ComparedClass] = field(default_factory=dict)

    def tables(self) -> tuple[ShownTable, ...]:
        """A row per class: what `summary` and `estimates` hold in full."""
        columns = ("class", "Dice", "95 % interval", "IoU", "studies", "HD95 mm", "studies")
        return (ShownTable(columns, tuple(self._row(name) for name in self.summary)),)

    def one_sided(self) -> tuple[str, ...]:
        """A line for each class that only prediction or reference has in some studies, whose Dice is 0."""
        lines = []
        for name in self.summary:
            found = {study: scores[name] for study, scores in self.studies.items() if name in scores}
            extra = [study for study, s in found.items() if s.reference_ml == 0 < s.predicted_ml]
            missed = [study for study, s in found.items() if s.predicted_ml == 0 < s.reference_ml]
            for which, studies in (("reference has none", extra), ("prediction has none", missed)):
                if studies:
                    lines.append(f"{name}: Dice 0 where the {which} ({some_of(studies)})")
        return tuple(lines)

    def title(self, name: str) -> str:
        """A class as the tables name it, with what else counts as it."""
        return self.compared[name].with_others(name) if name in self.compared else name

    def _row(self, name: str) -> tuple[str, ...]:
        found, metrics = self.summary[name], self.estimates[name]
        low, high = figure(metrics["dice"].low), figure(metrics["dice"].high)
        overlaps = figure(found.dice_mean), f"{low} to {high}", figure(found.iou_mean), str(found.n)
        hd95 = metrics["hd95_mm"]  # of the studies where both have the class
        return (self.title(name), *overlaps, figure(hd95.mean, 1), str(hd95.n))


def evaluate(
    predictions: Path | str,
    manifest: Path | str,
    *,
    split: str = "test",
    data_root: Path | str | None = None,
    out: Path | str | None = None,
    minimum_ml: float = 0.0,
    track: Track = no_progress,
) -> Evaluation:
    """Compare the label maps of a folder with the reference labels of a manifest.

    Examples:
        >>> mrigmm.evaluate("predictions", "cohort/manifest.json").summary["scar"].dice_mean  # doctest: +SKIP

    Args:
        predictions: folder that `predict` wrote.
        manifest: the cohort, with `labels` and a `label` per study.
        split: the studies to compare.
        data_root: folder that the manifest's paths resolve against; default the manifest's.
        out: JSON file to write, with a CSV table of the same name beside it; default
            `metrics.json` in `predictions`.
        minimum_ml: predicted volume of a lesion from which on the patient counts as having it; 0: any
            voxel.
        track: progress bar.

    Returns:
        Scores per study (`studies`) and per class (`summary`, `estimates`), agreement of `volumes`, `cases`;
        studies that failed are among its problems.

    Raises:
        InputError: when no study at all can be compared, none has a reference label, or a file to write is
            there and no evaluation.
    """
    folder = Path(predictions)
    require_predictions(folder)
    if not (math.isfinite(minimum_ml) and minimum_ml >= 0):
        raise InputError("the minimum volume is no volume", expected="0 ml or more", got=f"{minimum_ml:g}")
    path = folder / METRICS_FILE if out is None else Path(out)
    if path.suffix.lower() == ".csv":
        raise InputError(
            "the metrics are written as JSON, with a CSV table of the same name beside it",
            file=path,
            expected="a name that ends in .json",
            remedy=f"choose -o {path.with_suffix('.json')}",
        )
    require_not_input(path, inputs=[Path(manifest)])
    require_own(path, mark='"summary"')
    require_own(path.with_suffix(".csv"), mark="study,class,")
    cohort = read_manifest(manifest, data_root)
    scores: dict[str, dict[str, Scores]] = {}
    evaluated: dict[str, Prediction] = {}
    calibration: dict[str, Reliability] = {}
    compared: dict[str, ComparedClass] = {}
    asked_for = cohort.split(split)
    studies, problems = with_reference(asked_for)
    for study in track(studies, "Evaluating"):
        try:
            prediction = read_prediction(folder, study.id)
            scored = score_study(study, prediction, cohort)
        except InputError as error:
            problems += error.problems
            continue
        scores[study.id] = scored.scores
        evaluated[study.id] = prediction
        problems += [*scored.doubts, *prediction.notes()]
        for name, classes in scored.compared.items():
            compared[name] = compared.get(name, classes).union(classes)
        try:
            reliability = study_reliability(study, prediction, cohort)
        except InputError as error:  # the label map can be judged all the same
            problems += [replace(problem, severity="warning") for problem in error.problems]
            continue
        if reliability is not None:
            calibration[study.id] = reliability
    if not scores:
        raise InputError.from_problems(problem for problem in problems if problem.severity == "error")
    seen = _seen_by_prior(cohort, studies, evaluated)
    problems += _prior_notes(seen, len(scores))
    names = dict.fromkeys(name for found in scores.values() for name in found)
    by_class = {name: [found[name] for found in scores.values() if name in found] for name in names}
    failed = failures(folder)
    result = Evaluation(
        path,
        tuple(scores),
        tuple(problems),
        studies=scores,
        summary=summarise(scores),
        estimates=estimates(scores),
        volumes={
            name: measured_agreement([o.predicted_ml for o in found], [o.reference_ml for o in found])
            for name, found in by_class.items()
        },
        cases={
            name: case_level(by_class[name], minimum_ml=minimum_ml) for name in _LESIONS if name in by_class
        },
        calibration=calibration,
        compared=compared,
    )
    write_json(
        path,
        {
            "split": split,
            **_measured(result),
            "not_evaluated": [study.id for study in asked_for if study.id not in scores],
            "no_prediction": {s.id: failed[s.id].brief for s in asked_for if s.id in failed},
            "seen_by_prior": asdict(seen),
            **label_maps(evaluated.values()),
            # Where the report finds the references, and their ids.
            "references": {s.id: str(s.label.resolve()) for s in studies if s.label and s.id in scores},
            "reference_ids": cohort.labels,
        },
    )
    rows = (
        (study, name, *map(found.as_dict().get, _COLUMNS), yes_or_no(evaluated[study].edited))
        for study, by_name in scores.items()
        for name, found in by_name.items()
    )
    write_csv(path.with_suffix(".csv"), ("study", "class", *_COLUMNS, EDITED_COLUMN), rows)
    return result


def _measured(result: Evaluation) -> dict[str, Any]:
    """The figures of `metrics.json` (docs/evaluation.md)."""
    every = pooled(result.calibration.values())
    return {
        "summary": {
            name: {
                **figures.as_dict(),
                "estimates": {metric: asdict(e) for metric, e in result.estimates[name].items()},
            }
            for name, figures in result.summary.items()
        },
        "counted_as": {name: asdict(classes) for name, classes in result.compared.items()},
        "volume_agreement": {
            name: {key if key in ("n", "icc") else f"{key}_ml": value for key, value in asdict(found).items()}
            for name, found in result.volumes.items()
        },
        "case_level": {name: asdict(cases) for name, cases in result.cases.items()},
        "calibration": {
            "error": every.error(),
            "studies": {study: r.error() for study, r in result.calibration.items()},
            "bins": every.table(),
        }
        if result.calibration
        else None,
        "studies": {
            study: {name: o.as_dict() for name, o in found.items()} for study, found in result.studies.items()
        },
    }


def _seen_by_prior(
    cohort: Manifest, studies: Sequence[Study], predictions: Mapping[str, Prediction]
) -> PriorOverlap:
    """Evaluated studies whose own labels the population prior of their prediction was made from."""
    sure: list[str] = []
    perhaps: list[str] = []
    for study in studies:
        prior = predictions[study.id].side.prior if study.id in predictions else None
        if prior is not None:
            found = prior_overlap(prior, cohort, [study])
            sure += found.sure
            perhaps += found.perhaps
    return PriorOverlap(tuple(sure), tuple(perhaps))


def _prior_notes(seen: PriorOverlap, n_studies: int) -> list[Problem]:
    """Return what to know about the scores of studies that the prior has seen."""
    remedy = "make a prior from the training studies alone (mrigmm prior) and give it with --prior"
    texts = []
    if seen.sure:
        texts.append(
            f"the population prior was made from the reference labels of {len(seen.sure)} of these "
            f"{n_studies} studies ({some_of(seen.sure)}): their scores are optimistic; {remedy}"
        )
    if seen.perhaps:
        texts.append(
            f"{len(seen.perhaps)} of these {n_studies} studies ({some_of(seen.perhaps)}) have ids of studies "
            f"that the population prior was made from: if they are the same patients, their scores are "
            f"optimistic; {remedy}"
        )
    return [Problem(text, severity="warning") for text in texts]
