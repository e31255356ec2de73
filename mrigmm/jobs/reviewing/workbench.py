"""The studies of a folder of predictions, as the page of `mrigmm review` shows and saves them.

Positions on the page are indices of the volumes that its viewer shows: to the right, up, slice; (x, y, z)
of the picture, not of the file.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import json
import shutil
import threading
from collections.abc import Iterable, Mapping
from dataclasses import asdict, replace
from datetime import UTC, datetime
from functools import lru_cache
from pathlib import Path
from typing import Any, Literal

import numpy as np
from nibabel.affines import apply_affine
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field

from mrigmm.data.files import atomic, locked
from mrigmm.data.geometry import with_slices_last
from mrigmm.data.side_file import Base, Review, Verdict
from mrigmm.errors import InputError, lines
from mrigmm.export.nifti import write_labels
from mrigmm.export.side_files import finite, write_json
from mrigmm.jobs.common import DISCLAIMER, ORIGINAL_SUFFIX
from mrigmm.jobs.quantify import measure_now
from mrigmm.jobs.quantifying.inputs import maps_of
from mrigmm.jobs.quantifying.insertions import check_place
from mrigmm.jobs.quantifying.plausible import map_problems
from mrigmm.jobs.reading.evaluated import orientation_of
from mrigmm.jobs.reading.predicted import read_predicted_study
from mrigmm.jobs.reading.prediction_folder import (
    Prediction,
    predicted_studies,
    read_prediction,
    read_side_file,
)
from mrigmm.jobs.reporting.study import numbered_by, view_of
from mrigmm.jobs.reviewing.tables import Tables
from mrigmm.labels import BACKGROUND_ID, in_words
from mrigmm.quantification.segments import epicardium_at
from mrigmm.quantification.study import Maps
from mrigmm.quantification.view import View
from mrigmm.reporting.bulls_eye import bulls_eye
from mrigmm.reporting.page import ANSWERS
from mrigmm.reporting.viewer import viewer_classes, viewer_study, voxels_of_viewer

_LONGEST_COMMENT = 5000
# Studies whose images stay in memory: the one that is looked at and its neighbours.
_KEPT = 3
_WITHOUT_IMAGES = "label map"


class ChangedError(Exception):
    """The study is no longer as the page that wants to save had read it."""


class Save(BaseModel):
    """Changes of a study that a page sends.

    Attributes:
        revision: of the study when the page read it.
        labels: class ids in the order of the viewer's volumes, base64; None: as they are.
        verdict: "accepted", "rejected" or None.
        comment: of the reviewer.
        base: "first", "last", or None: as the program finds it.
        insertion: anterior insertion of the right ventricle on the page; None: as the program finds it.
    """

    model_config = ConfigDict(extra="forbid", strict=True)

    revision: str
    labels: str | None = None
    verdict: Verdict | None = None
    comment: str = Field(default="", max_length=_LONGEST_COMMENT)
    base: Base | None = None
    insertion: list[float] | Literal["keep"] | None = "keep"


class Workbench:
    """Reads and saves studies, one at a time; may be called from several threads.

    Args:
        folder: that `predict` wrote.
        by: who reviews.

    Raises:
        InputError: there are no predictions in the folder.
    """

    def __init__(self, folder: Path, by: str) -> None:
        predicted_studies(folder)
        self.folder = folder
        self.by = by
        self.saved: dict[str, None] = {}
        self.tables = Tables(folder)
        self._saving = threading.Lock()
        self._images = lru_cache(maxsize=_KEPT)(self._read_images)

    def has(self, study: str) -> bool:
        """Return whether the folder has a label map of a study."""
        return study in predicted_studies(self.folder)

    def listed(self) -> dict[str, Any]:
        """Return what the page shows before a study is opened."""
        studies = []
        for study in predicted_studies(self.folder):
            try:
                review = read_side_file(self.folder, study).review or Review()
            except InputError:
                review = Review()  # what is wrong is told when it is opened
            studies.append({"id": study, "verdict": review.verdict, "edited": review.edited_by is not None})
        return {"folder": self.folder.resolve().name, "by": self.by, "disclaimer": DISCLAIMER} | {
            "studies": studies,
            **self.tables.told(),
        }

    def shown(self, study: str) -> dict[str, Any]:
        """Return volumes and state of a study.

        Raises:
            InputError: its files cannot be read.
        """
        prediction = read_prediction(self.folder, study)
        view = self._view(prediction)
        images, note = self._images(study)
        labels = _slices_last(prediction, prediction.labels.data)
        shown = images or {_WITHOUT_IMAGES: np.zeros(labels.shape, np.float32)}
        numbers = view.numbers(labels.shape[2])
        volumes = viewer_study(
            {name: view.turn(image) for name, image in shown.items()},
            view.turn(labels),
            spacing_mm=view.spacing_mm,
            numbers=numbers,
            cropped=False,
        ).as_json()
        original = prediction.original()
        turned = None if original is None else view.turn(_slices_last(prediction, original.data))
        down, across, _ = view.spacing_mm
        return {
            **volumes,
            "original": None if turned is None else _in_viewer_order(turned),
            "classes": viewer_classes(prediction.classes),
            "edges": view.edges,
            "base_known": view.base_known,
            "pixel_mm": [across, down],
            "images_note": note,
            **self._state(prediction, view),
        }

    def save(self, study: str, asked: Save) -> dict[str, Any]:
        """Write label map and review of a study; returns its state, measured anew.

        Raises:
            ChangedError: somebody else saved it since it was read.
            InputError: a map that does not fit, an insertion far from the heart, files that cannot be read or
                written.
        """
        with self._saving, locked(self.folder):
            prediction = read_prediction(self.folder, study)
            if asked.revision != _revision(prediction):
                last = prediction.side.review
                raise ChangedError("" if last is None or not last.by else f" by {last.by} at {last.at}")
            view = self._view(prediction)
            before = prediction.side.review or Review()
            now = datetime.now(UTC).isoformat(timespec="seconds")
            review = replace(
                before,
                verdict=asked.verdict,
                comment=asked.comment,
                base=asked.base,
                insertion_mm=before.insertion_mm
                if asked.insertion == "keep"
                else self._insertion_mm(prediction, view, asked.insertion),
                by=self.by,
                at=now,
            )
            labels = None if asked.labels is None else _file_order(asked.labels, prediction, view)
            drawn = labels is not None and bool((labels != prediction.labels.data).any())
            if labels is not None and drawn:
                self._keep_original(prediction)
                write_labels(prediction.labels.path or Path(), labels, prediction.output)
                review = replace(review, edited_by=self.by, edited_at=now)
            side_file = self.folder / f"{study}.json"
            content = json.loads(side_file.read_text(encoding="utf-8"))
            write_json(side_file, {**content, "review": asdict(review)})
            self.saved[study] = None
            state = self._state(read_prediction(self.folder, study), view)
        moved = (review.insertion_mm, review.base) != (before.insertion_mm, before.base)
        self.tables.changed(study, anew=drawn or moved)
        return {**state, **self.tables.told()}

    def body_limit(self, study: str) -> int:
        """Return how many bytes a page can need to save a study.

        Raises:
            InputError: its files cannot be read.
        """
        voxels = read_prediction(self.folder, study).labels.data.size
        return 4 * (voxels // 3 + 1) + 16 * _LONGEST_COMMENT

    def _read_images(self, study: str) -> tuple[Mapping[str, NDArray[np.float32]], str | None]:
        found = read_predicted_study(self.folder, study)
        return found.images, found.note

    def _view(self, prediction: Prediction) -> View:
        """As the program numbered the segments, so that a study never turns while it is reviewed."""
        recorded = read_side_file(self.folder, prediction.study).quantities
        return view_of(prediction, orientation_of(recorded or {}))

    def _state(self, prediction: Prediction, view: View) -> dict[str, Any]:
        """Return numbers and review of a study as its files are now."""
        maps = maps_of(prediction)
        row = measure_now(prediction, maps)
        program = read_side_file(self.folder, prediction.study).quantities or {"volumes": {}}
        review = prediction.side.review or Review()
        warnings = map_problems(prediction.study, maps, divided=True)
        percent = {int(part["segment"]): part["transmurality_percent"] for part in row["segments"]}
        by = orientation_of(row)
        known = [name for name in ANSWERS if name in row["volumes"]]
        return {
            "id": prediction.study,
            "revision": _revision(prediction),
            "edited": prediction.edited,
            "review": asdict(review),
            "quantities": [
                {
                    "title": ANSWERS.get(name, in_words(name)),
                    "value": row["volumes"][name],
                    "program": program["volumes"].get(name),
                }
                for name in known or row["volumes"]
            ],
            "warnings": [*prediction.side.warnings, *lines(warnings, "warning"), *lines(warnings, "error")],
            "notes": row["notes"],
            "bulls_eye": finite(asdict(bulls_eye(percent, numbered_by(by)))) if percent else None,
            "insertion": _insertion(review, maps, view, None if by is None else by.insertion_degrees),
        }

    def _insertion_mm(
        self, prediction: Prediction, view: View, at: Iterable[float] | None
    ) -> tuple[float, float, float] | None:
        """Return a position of the page in RAS+ mm.

        Raises:
            InputError: it is no position, or far from the heart.
        """
        if at is None:
            return None
        place = np.array([*at], dtype=np.float64)
        if place.shape != (3,) or not np.isfinite(place).all():
            raise InputError(
                "the insertion is no position", study=prediction.study, expected="three finite numbers"
            )
        maps = maps_of(prediction)
        index = apply_affine(np.linalg.inv(_to_page(view, maps.labels.shape)), place)
        point = apply_affine(maps.grid.affine, index)
        check_place(point, maps, prediction.study, self.folder / f"{prediction.study}.json")
        x, y, z = (round(float(value), 3) for value in point)
        return x, y, z

    def _keep_original(self, prediction: Prediction) -> None:
        """Copy the program's own map once; where another program has changed it already, there is none."""
        original = self.folder / f"{prediction.study}{ORIGINAL_SUFFIX}"
        if not prediction.edited and not original.exists():
            with atomic(original) as temporary:
                shutil.copyfile(prediction.labels.path or Path(), temporary)


def _insertion(review: Review, maps: Maps, view: View, degrees: float | None) -> dict[str, Any]:
    """Return where on the page the anterior insertion is: in each slice, and the point that was given."""
    to_page = _to_page(view, maps.labels.shape)
    border, given = np.empty((0, 3)), None
    if degrees is not None:
        border = epicardium_at(degrees, maps.cavity, maps.wall, maps.grid.affine)
    if review.insertion_mm is not None:
        index = apply_affine(np.linalg.inv(maps.grid.affine), review.insertion_mm)
        given = apply_affine(to_page, index).tolist()
    return {"slices": apply_affine(to_page, border).tolist() if len(border) else [], "given": given}


def _slices_last(prediction: Prediction, labels: NDArray[Any]) -> NDArray[np.uint8]:
    return with_slices_last(labels.astype(np.uint8), prediction.labels.grid)


def _in_viewer_order(turned: NDArray[np.uint8]) -> str:
    """Return class ids (rows, columns, slices) as the page keeps them, base64."""
    upright = turned[::-1].swapaxes(0, 1)
    return base64.b64encode(upright.tobytes(order="F")).decode()


def _file_order(text: str, prediction: Prediction, view: View) -> NDArray[np.uint8]:
    """Return the class ids (X, Y, Z) that a page sends, in the order of the file.

    Raises:
        InputError: other voxels than those of the label map, or an id of no class.
    """
    grid = prediction.labels.grid
    shape = with_slices_last(prediction.labels.data, grid).shape
    rows, columns = shape[view.down], shape[1 - view.down]
    try:
        turned = voxels_of_viewer(base64.b64decode(text, validate=True), (rows, columns, shape[2]))
    except (binascii.Error, ValueError) as error:
        raise InputError(
            "the label map that was sent is not one of this study",
            study=prediction.study,
            expected=f"{prediction.labels.data.size} voxels of one byte each, base64",
            got=str(error),
        ) from None
    known = (BACKGROUND_ID, *prediction.classes.values())
    unknown = np.setdiff1d(turned, known)
    if unknown.size:
        raise InputError(
            "the label map that was sent has an id of no class",
            study=prediction.study,
            expected=", ".join(map(str, known)),
            got=str(int(unknown[0])),
        )
    return np.ascontiguousarray(np.moveaxis(view.turn_back(turned), -1, grid.slice_axis))


def _to_page(view: View, shape: tuple[int, ...]) -> NDArray[np.float64]:
    """Return the affine (4, 4) from an index (slices last) to a position on the page."""
    to_array = view.index_affine((shape[0], shape[1], shape[2]))
    upright = np.array([[0, 1, 0, 0], [-1, 0, 0, shape[view.down] - 1], [0, 0, 1, 0], [0, 0, 0, 1.0]])
    return np.asarray(upright @ np.linalg.inv(to_array))


def _revision(prediction: Prediction) -> str:
    """Return a digest of all of a study that a page can save."""
    review = json.dumps(asdict(prediction.side.review or Review()), sort_keys=True)
    return hashlib.sha256(f"{prediction.digest} {review}".encode()).hexdigest()


def problem_text(error: InputError) -> str:
    """Return what is wrong as the page shows it."""
    return "\n".join(p.line if p.file is None else f"{p.line} [{Path(p.file).name}]" for p in error.problems)
