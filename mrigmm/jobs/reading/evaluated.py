"""What a report reads of the files beside the predictions: `metrics.json` and `quantities.json`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mrigmm.errors import InputError
from mrigmm.evaluation.overlap import empty_remark
from mrigmm.jobs.common import METRICS_FILE, QUANTITIES_FILE
from mrigmm.jobs.reading.json_files import read_json
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


@dataclass(frozen=True)
class StudyOverlap:
    """One class of one study: Dice (None: neither has it) and volumes in ml."""

    dice: float | None
    predicted_ml: float
    reference_ml: float

    def remark(self, name: str) -> str | None:
        """Why there is no Dice, or a bare 0, where one of the two is empty."""
        return empty_remark(name, self.predicted_ml, self.reference_ml)


@dataclass(frozen=True)
class ReadEvaluation:
    """An evaluated folder; older files name no references.

    Attributes:
        table: summary by class and nested region.
        studies: study -> class or nested region -> overlap.
        references: study -> reference label map.
        reference_ids: class name -> ids in those maps.
    """

    table: MetricsTable
    studies: Mapping[str, Mapping[str, StudyOverlap]]
    references: Mapping[str, Path]
    reference_ids: Mapping[str, tuple[int, ...]]


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
        missing="the folder has not been evaluated",
        damaged="the evaluation cannot be read",
        write_it="run mrigmm evaluate on it",
        write_again="run mrigmm evaluate again",
    )


def _evaluation(name: str, content: Mapping[str, Any]) -> ReadEvaluation:
    return ReadEvaluation(
        table=MetricsTable(
            name,
            [
                {"name": str(region), **{figure: figures[figure] for figure in _FIGURES}}
                for region, figures in content["summary"].items()
            ],
        ),
        studies={
            str(study): {
                str(region): StudyOverlap(
                    _number(found["dice"]), float(found["predicted_ml"]), float(found["reference_ml"])
                )
                for region, found in regions.items()
            }
            for study, regions in content["studies"].items()
        },
        references={str(study): Path(file) for study, file in content.get("references", {}).items()},
        reference_ids={
            str(region): tuple(int(i) for i in found)
            for region, found in content.get("reference_ids", {}).items()
        },
    )


@dataclass(frozen=True)
class StudyQuantities:
    """The numbers of `mrigmm quantify` on one study.

    Attributes:
        values: name -> number, None where it is not defined.
        intervals: name -> its bounds.
        transmurality: segment -> percent of the wall's thickness, None where it is not defined.
        notes: what to know about them.
    """

    values: Mapping[str, float | None] = field(default_factory=dict)
    intervals: Mapping[str, tuple[float, float]] = field(default_factory=dict)
    transmurality: Mapping[int, float | None] = field(default_factory=dict)
    notes: tuple[str, ...] = ()


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
        lambda content: {str(study): _quantities(found) for study, found in content["studies"].items()},
        missing="the folder has not been quantified",
        damaged="the quantities cannot be read",
        write_it="run mrigmm quantify on it",
        write_again="run mrigmm quantify again",
    )


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
        notes=tuple(str(text) for text in found.get("notes", ())),
    )


def _segment(number: Any) -> int:
    if int(number) not in range(1, 17):
        raise ValueError(f"segment {number}")
    return int(number)


def _number(value: Any) -> float | None:
    return None if value is None else float(value)
