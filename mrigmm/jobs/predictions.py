"""A folder that `mrigmm predict` wrote, read again."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from mrigmm.data.maps import require_grid
from mrigmm.data.study import OutputGrid
from mrigmm.data.volumes import Volume, read_map
from mrigmm.errors import InputError, near_misses
from mrigmm.jobs.common import LABELS_SUFFIX, MVO_SUFFIX
from mrigmm.labels import BACKGROUND_ID

_AGAIN = "run mrigmm predict again"


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


def predicted_studies(folder: Path, asked_for: Sequence[str] = ()) -> tuple[str, ...]:
    """Ids of the studies that a folder has label maps of, or those of them that are asked for.

    Raises:
        InputError: no such folder, no label map in it, or none of a study that is asked for.
    """
    if not folder.is_dir():
        raise InputError("the folder of predictions does not exist", file=folder, remedy="run mrigmm predict")
    found = sorted(path.name.removesuffix(LABELS_SUFFIX) for path in folder.glob(f"*{LABELS_SUFFIX}"))
    if not found:
        raise InputError(
            "there are no label maps in the folder",
            file=folder,
            expected=f"files <id>{LABELS_SUFFIX}",
            remedy="give a folder that mrigmm predict wrote",
        )
    missing = [study for study in asked_for if study not in found]
    if missing:
        raise InputError(
            "the study has no prediction",
            study=missing[0],
            file=folder,
            remedy=near_misses(missing[0], found),
        )
    return tuple(asked_for) or tuple(found)


def read_prediction(folder: Path, study: str) -> Prediction:
    """Label map and side file of one study.

    Raises:
        InputError: one of them is missing or damaged, or they do not fit each other.
    """
    classes, method = _read_side_file(folder / f"{study}.json", study)
    known = (BACKGROUND_ID, *classes.values())
    labels = read_map(folder / f"{study}{LABELS_SUFFIX}", study=study, role="predicted label", known=known)
    mvo = None
    if (folder / f"{study}{MVO_SUFFIX}").exists():
        found = read_map(folder / f"{study}{MVO_SUFFIX}", study=study, role="predicted mvo", known=(0, 1))
        require_grid(found, labels.grid, study, "predicted mvo")
        mvo = found.data > 0
    return Prediction(study, labels, classes, mvo, method)


def _read_side_file(path: Path, study: str) -> tuple[dict[str, int], str]:
    """Class name -> id, and the method's name."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        classes = {str(name): int(i) for name, i in content["classes"].items()}
        if not classes or len(set(classes.values())) < len(classes):
            raise ValueError(f"classes {classes}")
        return classes, str(content["method"])
    except FileNotFoundError:
        raise InputError(
            "the prediction is not finished: its side file is missing", study=study, file=path, remedy=_AGAIN
        ) from None
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise InputError(
            "the side file of the prediction is damaged",
            study=study,
            file=path,
            got=f"{type(error).__name__}: {error}",
            remedy=_AGAIN,
        ) from None
