"""A folder that `mrigmm predict` wrote, read again."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mrigmm.data.geometry import Grid
from mrigmm.data.maps import on_grid, require_grid
from mrigmm.data.nifti_place import moved_to
from mrigmm.data.side_file import SideFile, record_of
from mrigmm.data.study_tensors import OutputGrid
from mrigmm.data.volumes import Volume, read_map, read_probabilities
from mrigmm.errors import InputError, Problem, near_misses
from mrigmm.export.side_files import read_json
from mrigmm.jobs.common import LABELS_SUFFIX, MVO_SUFFIX, ORIGINAL_SUFFIX, PROBABILITIES_SUFFIX, RV_SUFFIX
from mrigmm.jobs.reading.failures import failure_of, failures, no_prediction
from mrigmm.labels import BACKGROUND_ID
from mrigmm.quantification.study import NO_EDEMA

_SAME_MM = 1e-3  # of affines: headers hold float32
EDITED = "the label map was changed after predict"


@dataclass(frozen=True)
class Prediction:
    """One study's results, as they are now.

    Attributes:
        study: id.
        folder: that `predict` wrote.
        labels: class ids (X, Y, Z), in the order of the file that `predict` wrote.
        side: side file; of an edited study without what belonged to the label map before: volumes, clinical
            numbers and mixture.
        mvo: (X, Y, Z) bool, microvascular obstruction; None when it was not looked for.
        sequences: that vary in the region.
        edited: whether somebody has changed the label map since it was predicted.
        edema_sought: False of a method that looks for none: none found is then not none there.
    """

    study: str
    folder: Path
    labels: Volume
    side: SideFile
    mvo: NDArray[np.bool_] | None
    sequences: tuple[str, ...]
    edited: bool
    edema_sought: bool = True

    @property
    def classes(self) -> Mapping[str, int]:
        """Class name -> id."""
        return self.side.classes

    @property
    def method(self) -> str:
        """Return what made the label map."""
        return f"{self.side.method}, corrected by hand" if self.edited else self.side.method

    @property
    def digest(self) -> str:
        """Digest of the label map: figures of a study belong together when they are of the same map."""
        return record_of(self.labels.data, self.labels.grid).sha256

    @property
    def output(self) -> OutputGrid:
        """Return where a map of this study is written to."""
        labels = self.labels
        return OutputGrid(labels.grid, labels.header, labels.stored_shape, labels.path)

    def notes(self) -> list[Problem]:
        """A note where the label map is no longer the one that was predicted."""
        return [Problem(EDITED, self.study, str(self.labels.path), severity="note")] if self.edited else []

    def probabilities(self) -> Volume | None:
        """Class probabilities (X, Y, Z, K); None where none were saved, or an edited map has no more any.

        Raises:
            InputError: they are damaged, or on another grid.
        """
        file = self.folder / f"{self.study}{PROBABILITIES_SUFFIX}"
        if self.edited or not file.exists():
            return None
        found = read_probabilities(file, study=self.study, n_classes=len(self.classes))
        require_grid(found, self.labels.grid, self.study, "probability")
        return found

    def original(self) -> Volume | None:
        """Return the label map that the program wrote; None where an edited one has replaced it.

        Raises:
            InputError: the copy of it is damaged, or on another grid.
        """
        file = self.folder / f"{self.study}{ORIGINAL_SUFFIX}"
        if not self.edited or not file.exists():
            return None if self.edited else self.labels
        found = read_map(
            file, study=self.study, role="original label", known=(BACKGROUND_ID, *self.classes.values())
        )
        return on_grid(found, self.labels.grid, self.study, "original label")

    def right_ventricle(self) -> NDArray[np.bool_] | None:
        """Return where (X, Y, Z) the method found blood of the right ventricle; None where it did not look.

        Raises:
            InputError: the map is damaged, or on another grid.
        """
        return _read_mask(
            self.folder / f"{self.study}{RV_SUFFIX}", self.study, self.labels, "right ventricle"
        )


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
    """Return the folders' own names, or their paths where two have the same name."""
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


def of_other_images(predictions: Sequence[Prediction]) -> list[Problem]:
    """Return a warning where two predictions of a study, by its id, were made on other image files."""
    first, *others = predictions
    digests = first.side.image_digests
    for other in others:
        theirs = other.side.image_digests
        differ = [
            name for name in digests if digests[name] and theirs.get(name, digests[name]) != digests[name]
        ]
        if differ:
            return [
                Problem(
                    f"the predictions are of other images: two files of {differ[0]}",
                    first.study,
                    expected=f"the images of {first.folder}",
                    got=f"others in {other.folder}",
                    remedy="compare predictions of one cohort, whose ids name the same studies",
                    severity="warning",
                )
            ]
    return []


def read_side_file(folder: Path, study: str) -> SideFile:
    """Read `<id>.json`, which `predict` writes last.

    Args:
        folder: folder that `predict` wrote.
        study: study id.

    Raises:
        InputError: missing or damaged.
    """
    failed = failure_of(folder, study)
    return read_json(
        folder / f"{study}.json",
        SideFile.from_json,
        missing="the study has no prediction" + ("" if failed is None else f": {failed.brief}"),
        write_it="run mrigmm predict on it, or choose other studies"
        if failed is None or failed.remedy is None
        else f"{failed.remedy}; then the same mrigmm predict with --resume",
        command="predict",
        damaged="the side file of the prediction is damaged",
        study=study,
    )


def read_prediction(folder: Path, study: str) -> Prediction:
    """Read label map and side file of one study.

    A map that another program saved with flipped or permuted axes is turned back to the order in which it was
    written.

    Raises:
        InputError: one of them is missing or damaged, or they do not fit each other: other ids, another grid.
    """
    side = read_side_file(folder, study)
    labels = read_map(
        folder / f"{study}{LABELS_SUFFIX}",
        study=study,
        role="predicted label",
        known=(BACKGROUND_ID, *side.classes.values()),
    )
    if side.label_map is not None:
        labels = _as_written(labels, side.label_map.grid, study)
    edited = not side.describes(labels)
    mvo = _read_mask(folder / f"{study}{MVO_SUFFIX}", study, labels, "mvo")
    holds = replace(side, volume_ml={}, quantities=None, mixture=None) if edited else side
    sought = side.quantities is None or NO_EDEMA not in side.quantities["notes"]
    return Prediction(study, folder, labels, holds, mvo, side.sequences, edited, sought)


def _as_written(labels: Volume, grid: Grid, study: str) -> Volume:
    """A label map in the order and place in which `predict` wrote it.

    Raises:
        InputError: it has other voxels.
    """
    put = on_grid(labels, grid, study, "predicted label")
    moved = put is not labels or not np.allclose(labels.grid.affine, grid.affine, atol=_SAME_MM)
    if moved:
        put = replace(put, header=moved_to(labels.header, grid), stored_shape=grid.shape)
    return replace(put, grid=grid)


def _read_mask(file: Path, study: str, labels: Volume, what: str) -> NDArray[np.bool_] | None:
    """A mask that `predict` wrote beside the label map, on its grid; None where it wrote none."""
    if not file.exists():
        return None
    found = read_map(file, study=study, role=f"predicted {what}", known=(0, 1))
    return np.asarray(on_grid(found, labels.grid, study, f"predicted {what}").data > 0)


EDITED_COLUMN = "edited"
_DIGESTS = "label_maps"


def label_maps(predictions: Iterable[Prediction]) -> dict[str, Any]:
    """Return what a table says of the label maps behind it: digest of each, and which were edited by hand."""
    listed = list(predictions)
    return {
        _DIGESTS: {prediction.study: prediction.digest for prediction in listed},
        EDITED_COLUMN: [prediction.study for prediction in listed if prediction.edited],
    }


def label_map_digests(content: Mapping[str, Any]) -> dict[str, str]:
    """Study -> digest of the label map that a table is of; empty for tables of older versions."""
    return {str(study): str(digest) for study, digest in content.get(_DIGESTS, {}).items()}


def is_of(digest: str | None, prediction: Prediction) -> bool:
    """Return whether figures are of a study's label map as it is now.

    Args:
        digest: of the map that they are of; None where the table does not say: then of the map that `predict`
            wrote.
        prediction: the study now.
    """
    return not prediction.edited if digest is None else digest == prediction.digest


def yes_or_no(value: bool) -> str:
    """A cell of a table."""
    return "yes" if value else "no"
