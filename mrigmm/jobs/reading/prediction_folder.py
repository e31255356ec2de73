"""A folder that `mrigmm predict` wrote, read again."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mrigmm.data.maps import require_grid
from mrigmm.data.study_tensors import OutputGrid
from mrigmm.data.volumes import Volume, read_map
from mrigmm.errors import InputError, near_misses
from mrigmm.jobs.common import LABELS_SUFFIX, MVO_SUFFIX
from mrigmm.jobs.reading.failures import failure_of, failures, no_prediction
from mrigmm.jobs.reading.json_files import Content, read_json
from mrigmm.labels import BACKGROUND_ID


@dataclass(frozen=True)
class Prediction:
    """One study's results.

    Attributes:
        study: id.
        labels: class ids (X, Y, Z) in file order.
        classes: class name -> id.
        mvo: (X, Y, Z) bool, microvascular obstruction; None when it was not looked for.
        method: name of what segmented it.
    """

    study: str
    labels: Volume
    classes: Mapping[str, int]
    mvo: NDArray[np.bool_] | None
    method: str

    @property
    def output(self) -> OutputGrid:
        """Where a map of this study is written to."""
        labels = self.labels
        return OutputGrid(labels.grid, labels.header, labels.stored_shape, labels.path)


def require_predictions(folder: Path) -> None:
    """Refuse a folder that is not there, or has no predictions.

    Raises:
        InputError: `folder` is no folder, or holds no label map; where predict failed on all studies, why.
    """
    if not folder.is_dir():
        raise InputError("the folder of predictions does not exist", file=folder, remedy="run mrigmm predict")
    if not any(folder.glob(f"*{LABELS_SUFFIX}")):
        failed = failures(folder)
        if failed:
            raise InputError.from_problems(replace(p, severity="error") for p in no_prediction(failed))
        raise InputError(
            "there are no label maps in the folder",
            file=folder,
            expected=f"files <id>{LABELS_SUFFIX}",
            remedy="give a folder that mrigmm predict wrote",
        )


def require_different(folders: Sequence[Path]) -> None:
    """Refuse a folder that is given twice: it agrees with itself.

    Raises:
        InputError: two of the folders are one, links followed.
    """
    seen: set[Path] = set()
    for folder in folders:
        if folder.resolve() in seen:
            raise InputError("a folder is given twice", file=folder, expected="different folders")
        seen.add(folder.resolve())


def folder_names(folders: Sequence[Path]) -> tuple[str, ...]:
    """How the folders are called: by their own names, or by their paths where two have the same name."""
    names = [folder.resolve().name for folder in folders]
    return tuple(names if len(set(names)) == len(names) else map(str, folders))


def predicted_studies(folder: Path, asked_for: Sequence[str] = ()) -> tuple[str, ...]:
    """Ids of the studies that a folder has label maps of, or those of them that are asked for.

    Raises:
        InputError: no such folder, no label map in it, or none of a study that is asked for.
    """
    require_predictions(folder)
    found = sorted(path.name.removesuffix(LABELS_SUFFIX) for path in folder.glob(f"*{LABELS_SUFFIX}"))
    missing = [study for study in asked_for if study not in found]
    if missing:
        raise InputError(
            "the study has no prediction",
            study=missing[0],
            file=folder,
            remedy=near_misses(missing[0], found),
        )
    return tuple(asked_for) or tuple(found)


def read_side_file(folder: Path, study: str, parse: Callable[[Mapping[str, Any]], Content]) -> Content:
    """What a caller needs of `<id>.json`, which `predict` writes last.

    Args:
        folder: folder that `predict` wrote.
        study: study id.
        parse: takes its content; a KeyError, TypeError or ValueError says that it is damaged.

    Raises:
        InputError: missing or damaged.
    """
    failed = failure_of(folder, study)
    return read_json(
        folder / f"{study}.json",
        parse,
        missing="the study has no prediction" + ("" if failed is None else f": {failed.brief}"),
        write_it="run mrigmm predict on it, or choose other studies"
        if failed is None or failed.remedy is None
        else f"{failed.remedy}; then the same mrigmm predict with --resume",
        damaged="the side file of the prediction is damaged",
        write_again="run mrigmm predict again",
        study=study,
    )


def class_ids_of(content: Mapping[str, Any]) -> dict[str, int]:
    """Class name -> id of a side file."""
    classes = {str(name): int(i) for name, i in content["classes"].items()}
    if not classes or len(set(classes.values())) < len(classes):
        raise ValueError(f"classes {classes}")
    return classes


def read_labels(folder: Path, study: str, classes: Mapping[str, int]) -> Volume:
    """The label map of a study.

    Raises:
        InputError: missing, damaged, or with other ids than those of `classes` (name -> id) and 0.
    """
    return read_map(
        folder / f"{study}{LABELS_SUFFIX}",
        study=study,
        role="predicted label",
        known=(BACKGROUND_ID, *classes.values()),
    )


def read_mvo(folder: Path, study: str, labels: Volume) -> NDArray[np.bool_] | None:
    """Where `predict --mvo` found microvascular obstruction, on the grid of the label map; else None.

    Raises:
        InputError: damaged, or on another grid.
    """
    file = folder / f"{study}{MVO_SUFFIX}"
    if not file.exists():
        return None
    found = read_map(file, study=study, role="predicted mvo", known=(0, 1))
    require_grid(found, labels.grid, study, "predicted mvo")
    return np.asarray(found.data > 0)


def _classes_and_method(content: Mapping[str, Any]) -> tuple[dict[str, int], str]:
    # Label maps of other programs can be judged with a side file that names their classes only.
    return class_ids_of(content), str(content.get("method", "unknown"))


def read_prediction(folder: Path, study: str) -> Prediction:
    """Label map and side file of one study.

    Raises:
        InputError: one of them is missing or damaged, or they do not fit each other.
    """
    classes, method = read_side_file(folder, study, _classes_and_method)
    labels = read_labels(folder, study, classes)
    return Prediction(study, labels, classes, read_mvo(folder, study, labels), method)
