"""`mrigmm evaluate`: Dice and IoU of label maps against reference labels."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from mrigmm.data.files import require_not_input, write_text
from mrigmm.data.manifest import Manifest, Study, read_manifest
from mrigmm.data.maps import NO_CLASS, read_reference_label, require_grid
from mrigmm.data.provenance import PriorOverlap, prior_overlap
from mrigmm.data.volumes import read_map
from mrigmm.errors import InputError, Problem
from mrigmm.evaluation.cohort import ClassSummary, study_overlaps, summarise
from mrigmm.evaluation.overlap import Overlap, overlap
from mrigmm.export.side_files import write_json
from mrigmm.jobs.common import LABELS_SUFFIX, METRICS_FILE, MVO_SUFFIX, Outcome, Track, no_progress

_MVO = "mvo"


@dataclass(frozen=True)
class Evaluation(Outcome):
    """An evaluated cohort: overlaps per study, and their summary per class and nested region."""

    studies: dict[str, dict[str, Overlap]] | None = None
    summary: dict[str, ClassSummary] | None = None


def evaluate(
    predictions: Path | str,
    manifest: Path | str,
    *,
    split: str = "test",
    data_root: Path | str | None = None,
    out: Path | str | None = None,
    track: Track = no_progress,
) -> Evaluation:
    """Compare the label maps of a folder with the reference labels of a manifest.

    Example:
        >>> mrigmm.evaluate("predictions", "cohort/manifest.json").summary["scar"].dice_mean  # doctest: +SKIP

    Args:
        predictions: folder that `predict` wrote.
        manifest: the cohort, with `labels` and a `label` per study.
        split: the studies to compare.
        data_root: folder that the manifest's paths resolve against; default the manifest's.
        out: JSON file to write, with a CSV table of the same name beside it; default
            `metrics.json` in `predictions`.
        track: progress bar.

    Raises:
        InputError: when no study at all can be compared.
    """
    folder = Path(predictions)
    if not folder.is_dir():
        raise InputError("the folder of predictions does not exist", file=folder, remedy="run mrigmm predict")
    path = folder / METRICS_FILE if out is None else Path(out)
    if path.suffix.lower() == ".csv":
        raise InputError(
            "the metrics are written as JSON, with a CSV table of the same name beside it",
            file=path,
            expected="a name that ends in .json",
            remedy=f"choose -o {path.with_suffix('.json')}",
        )
    require_not_input(path, [Path(manifest)])
    cohort = read_manifest(Path(manifest), None if data_root is None else Path(data_root))
    overlaps: dict[str, dict[str, Overlap]] = {}
    problems: list[Problem] = []
    studies = cohort.split(split)
    for study in track(studies, "Evaluating"):
        try:
            overlaps[study.id] = _evaluate_study(study, folder, cohort)
        except InputError as error:
            problems += error.problems
    if not overlaps:
        raise InputError.from_problems(problems)
    summary = summarise(overlaps)
    seen = _seen_by_prior(cohort, [s for s in cohort.split(split) if s.id in overlaps], folder)
    problems += _prior_notes(seen, len(overlaps))
    write_json(
        path,
        {
            "split": split,
            "summary": {name: figures.as_dict() for name, figures in summary.items()},
            "studies": {
                study: {name: asdict(o) for name, o in found.items()} for study, found in overlaps.items()
            },
            "not_evaluated": [problem.study for problem in problems if problem.severity == "error"],
            "seen_by_prior": asdict(seen),
            # Where the report finds the references, and their ids.
            "references": {s.id: str(s.label.resolve()) for s in studies if s.label and s.id in overlaps},
            "reference_ids": cohort.labels,
        },
    )
    write_text(path.with_suffix(".csv"), _csv(overlaps))
    return Evaluation(path, tuple(overlaps), tuple(problems), overlaps, summary)


def _evaluate_study(study: Study, folder: Path, cohort: Manifest) -> dict[str, Overlap]:
    predicted_ids = _predicted_classes(study.id, folder / f"{study.id}.json")
    prediction = read_map(
        folder / f"{study.id}{LABELS_SUFFIX}",
        study=study.id,
        role="predicted label",
        known=(0, *predicted_ids.values()),
    )
    classes = [name for name in cohort.classes if name in predicted_ids and cohort.labels[name]]
    if not classes:
        raise InputError(
            "prediction and reference have no class in common",
            study=study.id,
            expected=f"one of {', '.join(predicted_ids)} under 'labels' in the manifest",
            got=", ".join(cohort.classes) or "no class",
        )
    reference = read_reference_label(study, prediction.grid, cohort.labels, classes)
    predicted = np.full(prediction.data.shape, NO_CLASS)
    for index, name in enumerate(classes):
        predicted[prediction.data == predicted_ids[name]] = index
    voxel_ml = prediction.grid.voxel_volume_ml
    overlaps = study_overlaps(predicted, reference, classes, voxel_volume_ml=voxel_ml)
    mask = folder / f"{study.id}{MVO_SUFFIX}"
    if cohort.labels.get(_MVO) and mask.exists():
        found = read_map(mask, study=study.id, role="predicted mvo", known=(0, 1))
        require_grid(found, prediction.grid, study.id, "predicted mvo")
        true = read_reference_label(study, prediction.grid, cohort.labels, (_MVO,)) == 0
        overlaps[_MVO] = overlap(found.data > 0, true, voxel_ml)
    return overlaps


def _predicted_classes(study: str, file: Path) -> dict[str, int]:
    """Class name -> id of a prediction, from its side file."""
    try:
        classes = json.loads(file.read_text(encoding="utf-8"))["classes"]
        return {str(name): int(i) for name, i in classes.items()}
    except FileNotFoundError:
        raise InputError(
            "the study has no prediction",
            study=study,
            file=file,
            remedy="run mrigmm predict on this split, or evaluate another one with --split",
        ) from None
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise InputError(
            "the side file of the prediction is damaged", study=study, file=file, got=str(error)
        ) from None


def _seen_by_prior(cohort: Manifest, studies: Sequence[Study], folder: Path) -> PriorOverlap:
    """Evaluated studies whose own labels the population prior of their prediction was made from."""
    sure: list[str] = []
    perhaps: list[str] = []
    for study in studies:
        content = json.loads((folder / f"{study.id}.json").read_text(encoding="utf-8"))
        if isinstance(content.get("prior"), dict):
            found = prior_overlap(content["prior"], cohort, [study])
            sure += found.sure
            perhaps += found.perhaps
    return PriorOverlap(tuple(sure), tuple(perhaps))


def _prior_notes(seen: PriorOverlap, n_studies: int) -> list[Problem]:
    """What to know about the scores of studies that the prior has seen."""
    remedy = "make a prior from the training studies alone (mrigmm prior) and give it with --prior"
    texts = []
    if seen.sure:
        texts.append(
            f"the population prior was made from the reference labels of {len(seen.sure)} of these "
            f"{n_studies} studies ({_some(seen.sure)}): their scores are optimistic; {remedy}"
        )
    if seen.perhaps:
        texts.append(
            f"{len(seen.perhaps)} of these {n_studies} studies ({_some(seen.perhaps)}) have ids of studies "
            f"that the population prior was made from: if they are the same patients, their scores are "
            f"optimistic; {remedy}"
        )
    return [Problem(text, severity="warning") for text in texts]


def _some(ids: Sequence[str]) -> str:
    return ", ".join(ids[:5]) + (", ..." if len(ids) > 5 else "")


def _csv(overlaps: dict[str, dict[str, Overlap]]) -> str:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["study", "class", "dice", "iou", "predicted_ml", "reference_ml"])
    for study, found in overlaps.items():
        for name, o in found.items():
            values: Sequence[float] = (o.dice, o.iou, o.predicted_ml, o.reference_ml)
            writer.writerow([study, name, *("" if np.isnan(v) else f"{v:.6g}" for v in values)])
    return text.getvalue()
