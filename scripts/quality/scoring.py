"""Numbers of one method on one protocol, study by study, and the files that keep them."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from mrigmm.data.maps import NO_CLASS
from mrigmm.errors import InputError
from mrigmm.evaluation.cohort import study_masks, study_overlaps
from mrigmm.evaluation.surface import surface_agreement
from mrigmm.export.side_files import write_json
from mrigmm.jobs.common import Track
from mrigmm.labels import NESTED_REGIONS, class_ids
from mrigmm.methods.base import Method, Segmentation
from quality.cohorts import Case, Protocol
from quality.refit import refit_nll

INFARCT = "scar"
LESIONS = NESTED_REGIONS["pathology"]


@dataclass(frozen=True)
class Competitor:
    """One row of the table; what trains or starts at random may have one per seed.

    Attributes:
        name: of the row.
        build: makes the method for a protocol; trains first where that is needed.
        settings: what results depend on beside the cohort.
        seed: of the training or of the method's start, or None.
        sees_labels: the method reads the reference label of the study it segments (the oracle only).
        needs_infarct: it is meaningless on healthy studies.
    """

    name: str
    build: Callable[[Protocol], Method]
    settings: Mapping[str, Any]
    seed: int | None = None
    sees_labels: bool = False
    needs_infarct: bool = False


@dataclass(frozen=True)
class Result:
    """Scores of one competitor on one protocol.

    Attributes:
        studies: study id -> metric -> value; NaN where it is not defined. Slices of a study are averaged.
        failures: study id -> why the method could not segment (some of) it.
        seconds: of all its cases together, scoring not included.
        n_cases: studies, or slices, that were segmented.
    """

    studies: dict[str, dict[str, float]]
    failures: dict[str, str] = field(default_factory=dict)
    seconds: float = 0.0
    n_cases: int = 0


def run_competitor(
    competitor: Competitor,
    method: Method,
    cases: Sequence[Case],
    classes: Sequence[str],
    known: Sequence[str],
    track: Track,
) -> Result:
    """Segment and score all cases.

    Args:
        competitor: name, and whether the method may see the label.
        method: that it built.
        cases: with reference labels (indices into `classes`).
        classes: K classes of the task.
        known: those that the reference labels know.
        track: progress bar.
    """
    rows: dict[str, list[dict[str, float]]] = {}
    failures: dict[str, str] = {}
    seconds = 0.0
    for case in track(cases, competitor.name):
        study = case.tensors if competitor.sees_labels else replace(case.tensors, label=None)
        started = time.perf_counter()
        try:
            segmentation = method.segment(study)
        except InputError as error:
            failures[case.study] = error.problems[0].what
            continue
        seconds += time.perf_counter() - started
        rows.setdefault(case.study, []).append(score(case, segmentation, classes, known))
    averaged = {study: _average(found) for study, found in rows.items() if study not in failures}
    return Result(averaged, failures, round(seconds, 2), sum(len(rows[study]) for study in averaged))


def score(
    case: Case, segmentation: Segmentation, classes: Sequence[str], known: Sequence[str]
) -> dict[str, float]:
    """All metrics of one segmented case.

    Keys: `dice/G`, `iou/G`, `hd95_mm/G` and the predicted `volume_ml/G` for every known class and nested
    region G; `volume_percent/G` (of the reference's wall, the LV mass) for the lesions; `infarct_error_ml`,
    `infarct_error_percent`; and `nll` (nats per voxel of a refitted mixture).
    """
    study = case.tensors
    assert study.label is not None
    voxel_ml = study.output.grid.voxel_volume_ml
    predicted = _indices(segmentation.labels.numpy(), known)
    reference = np.full(predicted.shape, NO_CLASS)
    for index, name in enumerate(known):
        reference[(study.label == list(classes).index(name)).numpy()] = index
    overlaps = study_overlaps(predicted, reference, known, voxel_volume_ml=voxel_ml)
    row: dict[str, float] = {}
    for name, (found, true) in study_masks(predicted, reference, known).items():
        row[f"dice/{name}"], row[f"iou/{name}"] = overlaps[name].dice, overlaps[name].iou
        row[f"hd95_mm/{name}"] = surface_agreement(found, true, np.diag(study.spacing_mm)).hd95_mm
        row[f"volume_ml/{name}"] = overlaps[name].predicted_ml
    row |= _infarct_error(overlaps, known)
    wall_ml = sum(overlaps[name].reference_ml for name in known if name in NESTED_REGIONS["wall"])
    for name in (*LESIONS, "pathology"):
        if name in overlaps:
            row[f"volume_percent/{name}"] = _percent(overlaps[name].predicted_ml, wall_ml)
    # Every voxel that all of the study's sequences show: the same ones for every method.
    used = (study.region > 0) & study.observed[study.present].all(dim=0)
    x = study.image[study.present][:, used].T  # (N, C)
    row["nll"] = refit_nll(x, segmentation.resp[:, used].T) if used.any() else math.nan
    return row


def _infarct_error(overlaps: Mapping[str, Any], known: Sequence[str]) -> dict[str, float]:
    """Absolute error of the infarct's volume in ml and in % of the reference's wall (LV mass)."""
    if INFARCT not in overlaps:
        return {}
    wall_ml = sum(overlaps[name].reference_ml for name in known if name in NESTED_REGIONS["wall"])
    error_ml = abs(overlaps[INFARCT].predicted_ml - overlaps[INFARCT].reference_ml)
    return {"infarct_error_ml": error_ml, "infarct_error_percent": _percent(error_ml, wall_ml)}


def _percent(part: float, whole: float) -> float:
    return 100 * part / whole if whole else math.nan


def _indices(labels: np.ndarray, known: Sequence[str]) -> np.ndarray:
    """Class ids (X, Y, Z) of our label maps -> indices into `known`."""
    ids = class_ids(known)
    indices = np.full(labels.shape, NO_CLASS)
    for index, name in enumerate(known):
        indices[labels == ids[name]] = index
    return indices


def _average(rows: Sequence[Mapping[str, float]]) -> dict[str, float]:
    """Mean over the slices of a study where a metric is defined; NaN where it never is."""
    averaged = {}
    for key in rows[0]:
        defined = [row[key] for row in rows if not math.isnan(row[key])]
        averaged[key] = sum(defined) / len(defined) if defined else math.nan
    return averaged


@dataclass(frozen=True)
class Store:
    """Results on disk, one file per (protocol, competitor, seed), so that an interrupted run goes on.

    A result is only taken when cohort, protocol, settings and version are those that it was made with.
    """

    folder: Path

    def load(self, protocol: str, competitor: Competitor, circumstances: Mapping[str, Any]) -> Result | None:
        """The finished result, or None when it has to be computed."""
        try:
            content = json.loads(self._file(protocol, competitor).read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return None
        if content.pop("made_with", None) != _plain(_made_with(protocol, competitor, circumstances)):
            return None
        studies = {
            study: {key: math.nan if value is None else value for key, value in row.items()}
            for study, row in content.pop("studies").items()
        }
        return Result(studies, **content)

    def save(
        self, protocol: str, competitor: Competitor, circumstances: Mapping[str, Any], result: Result
    ) -> None:
        """Keep a finished result."""
        made_with = _made_with(protocol, competitor, circumstances)
        write_json(self._file(protocol, competitor), {"made_with": made_with, **asdict(result)})

    def _file(self, protocol: str, competitor: Competitor) -> Path:
        seed = "" if competitor.seed is None else f"_seed{competitor.seed}"
        return self.folder / protocol / f"{_file_name(competitor.name)}{seed}.json"


def _made_with(protocol: str, competitor: Competitor, circumstances: Mapping[str, Any]) -> dict[str, Any]:
    return {**circumstances, "protocol": protocol, "name": competitor.name, "seed": competitor.seed} | {
        "settings": dict(competitor.settings)
    }


def _plain(content: Mapping[str, Any]) -> Any:
    """As JSON gives it back: tuples are lists, keys are texts."""
    return json.loads(json.dumps(content))


def _file_name(name: str) -> str:
    return "".join(c if c.isalnum() or c in "-_.=" else "_" for c in name)
