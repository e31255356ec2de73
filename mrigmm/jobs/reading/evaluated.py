"""Files beside the predictions that a report reads: `metrics.json` and `quantities.json`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter
from pydantic.dataclasses import dataclass as pydantic_dataclass

from mrigmm.errors import InputError, Problem, some_of
from mrigmm.evaluation.overlap import empty_remark
from mrigmm.export.side_files import read_json
from mrigmm.jobs.common import METRICS_FILE, QUANTITIES_FILE
from mrigmm.jobs.reading.prediction_folder import is_of, label_map_digests, read_prediction
from mrigmm.labels import ComparedClass
from mrigmm.quantification.segments import Orientation
from mrigmm.reporting.page import MetricsTable

_FIGURES = (
    "dice_mean",
    "dice_sd",
    "iou_mean",
    "n",
    "false_positive_studies",
    "missed_studies",
    "correct_negative_studies",
)


@pydantic_dataclass(frozen=True)
class StudyOverlap:
    """One class of one study: Dice (None: neither has it) and volumes in ml."""

    dice: float | None
    predicted_ml: float
    reference_ml: float

    def remark(self, name: str) -> str | None:
        """Return why there is no Dice, or a bare 0, where one of the two is empty."""
        return empty_remark(name, self.predicted_ml, self.reference_ml)


@dataclass(frozen=True)
class ReadEvaluation:
    """An evaluated folder; older files name no references.

    Attributes:
        table: summary by class and nested region; None where it does not hold any more.
        studies: study -> class or nested region -> overlap.
        references: study -> reference label map.
        reference_ids: class name -> ids in those maps.
        label_maps: study -> digest of the label map that was evaluated.
    """

    table: MetricsTable | None
    studies: Mapping[str, Mapping[str, StudyOverlap]]
    references: Mapping[str, Path]
    reference_ids: Mapping[str, tuple[int, ...]]
    label_maps: Mapping[str, str]


def read_evaluation(folder: Path) -> ReadEvaluation:
    """The evaluation of a folder of predictions.

    Raises:
        InputError: there is no such folder, it has not been evaluated, or the file is damaged.
    """
    if not folder.is_dir():
        raise InputError(
            "the folder of predictions does not exist",
            file=folder,
            remedy="check the path, or run mrigmm predict",
        )
    return read_json(
        folder / METRICS_FILE,
        lambda content: _evaluation(folder.resolve().name, content),
        command="evaluate",
        missing="the folder has not been evaluated",
        damaged="the evaluation cannot be read",
    )


def _evaluation(name: str, content: Mapping[str, Any]) -> ReadEvaluation:
    return ReadEvaluation(
        table=MetricsTable(
            name,
            [
                {
                    "name": str(region),
                    "title": _title(str(region), content.get("counted_as", {}).get(region)),
                    **{figure: figures[figure] for figure in _FIGURES},
                }
                for region, figures in content["summary"].items()
            ],
        ),
        studies=TypeAdapter(dict[str, dict[str, StudyOverlap]]).validate_python(content["studies"]),
        references=TypeAdapter(dict[str, Path]).validate_python(content.get("references", {})),
        reference_ids=TypeAdapter(dict[str, tuple[int, ...]]).validate_python(
            content.get("reference_ids", {})
        ),
        label_maps=label_map_digests(content),
    )


def without_stale(evaluation: ReadEvaluation, folder: Path) -> tuple[ReadEvaluation, list[Problem]]:
    """Leave out of an evaluation what is of other label maps than a folder has now.

    Returns:
        The evaluation without those studies, and then without its summary; and a warning that names them.
    """
    stale = [study for study in evaluation.studies if not _evaluated_now(study, evaluation, folder)]
    if not stale:
        return evaluation, []
    what = (
        f"the evaluation is of label maps that have changed since ({some_of(stale)}): their figures and its "
        "summary are left out; run mrigmm evaluate again"
    )
    current = {study: found for study, found in evaluation.studies.items() if study not in stale}
    left = replace(evaluation, table=None, studies=current)
    return left, [Problem(what, file=str(folder / METRICS_FILE), severity="warning")]


def _evaluated_now(study: str, evaluation: ReadEvaluation, folder: Path) -> bool:
    try:
        return is_of(evaluation.label_maps.get(study), read_prediction(folder, study))
    except InputError:  # moved away, or damaged: there is no other map that could be shown beside the figures
        return True


def _title(name: str, counted: Mapping[str, Sequence[str]] | None) -> str:
    """A class with what else counts as it; older files do not say."""
    if counted is None:
        return name
    return ComparedClass(tuple(counted["predicted"]), tuple(counted["reference"])).with_others(name)


@dataclass(frozen=True)
class StudyQuantities:
    """The numbers of `mrigmm quantify` on one study.

    Attributes:
        values: name -> number, None where it is not defined.
        intervals: name -> its bounds.
        transmurality: segment -> percent of the wall's thickness, None where it is not defined.
        numbering: what the segments are numbered by; None where they are not, or by an older version.
        notes: what to know about them.
        label_map: digest of the label map that they are of.
    """

    values: Mapping[str, float | None] = field(default_factory=dict)
    intervals: Mapping[str, tuple[float, float]] = field(default_factory=dict)
    transmurality: Mapping[int, float | None] = field(default_factory=dict)
    numbering: Orientation | None = None
    notes: tuple[str, ...] = ()
    label_map: str | None = None


def read_quantities(folder: Path) -> Mapping[str, StudyQuantities]:
    """The quantities of each study, none where the folder has not been quantified.

    Raises:
        InputError: the file is damaged.
    """
    path = folder / QUANTITIES_FILE
    if not path.exists():
        return {}
    return read_json(
        path,
        _studies_quantities,
        command="quantify",
        missing="the folder has not been quantified",
        damaged="the quantities cannot be read",
    )


def _studies_quantities(content: Mapping[str, Any]) -> dict[str, StudyQuantities]:
    digests = label_map_digests(content)
    return {
        str(study): replace(_quantities(found), label_map=digests.get(str(study)))
        for study, found in content["studies"].items()
    }


def _quantities(found: Mapping[str, Any]) -> StudyQuantities:
    return StudyQuantities(
        values={str(name): _number(value) for name, value in found["volumes"].items()},
        intervals={
            str(name): (float(bounds[0]), float(bounds[1]))
            for name, bounds in found.get("intervals", {}).items()
            if bounds is not None
        },
        transmurality={
            _segment(part["segment"]): _number(part["transmurality_percent"])
            for part in found.get("segments", ())
        },
        numbering=orientation_of(found),
        notes=tuple(str(text) for text in found.get("notes", ())),
    )


def orientation_of(row: Mapping[str, Any]) -> Orientation | None:
    """Return what the segments of a study's quantities are numbered by; None where they are not."""
    found = row.get("numbering")
    if not found:
        return None
    return Orientation(
        bool(found["base_first"]), float(found["insertion_degrees"]), _number(found["spread_degrees"])
    )


def _segment(number: Any) -> int:
    if int(number) not in range(1, 17):
        raise ValueError(f"segment {number}")
    return int(number)


def _number(value: Any) -> float | None:
    return None if value is None else float(value)
