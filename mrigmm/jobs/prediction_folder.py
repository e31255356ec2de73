"""What stands in a folder that `predict` wrote."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

from mrigmm.data.volumes import Volume, read_map
from mrigmm.errors import InputError
from mrigmm.jobs.common import LABELS_SUFFIX


def require_predictions(folder: Path) -> None:
    """Refuse a folder of predictions that is not there.

    Raises:
        InputError: `folder` is no folder.
    """
    if not folder.is_dir():
        raise InputError("the folder of predictions does not exist", file=folder, remedy="run mrigmm predict")


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


def predicted_classes(study: str, folder: Path) -> dict[str, int]:
    """Class name -> id of a prediction, from its side file.

    Raises:
        InputError: it is missing or damaged.
    """
    file = folder / f"{study}.json"
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


def read_prediction(study: str, folder: Path, ids: Mapping[str, int]) -> Volume:
    """The label map of a study, with the ids of its side file.

    Raises:
        InputError: it is missing, damaged, or has other ids.
    """
    file = folder / f"{study}{LABELS_SUFFIX}"
    return read_map(file, study=study, role="predicted label", known=(0, *ids.values()))
