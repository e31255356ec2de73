"""Files beside reviewed studies: the tables of quantities, and the manifest of checked maps."""

from __future__ import annotations

import os
import shlex
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mrigmm.data.side_file import SideFile
from mrigmm.errors import InputError
from mrigmm.export.side_files import write_json
from mrigmm.jobs.common import CORRECTED_FILE, LABELS_SUFFIX, QUANTITIES_FILE
from mrigmm.jobs.quantify import write_recorded
from mrigmm.jobs.reading.prediction_folder import predicted_studies, read_side_file


class Tables:
    """Writes the tables of a folder after each save, in a thread of its own: large cohorts take a while.

    Args:
        folder: that `predict` wrote. Tables that are older than a review in it are made again.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._lock = threading.Lock()
        self._waiting: dict[str, bool] = {}
        self._thread: threading.Thread | None = None
        self._failed: InputError | None = None
        for study in self._left_over():
            self.changed(study, anew=True)

    def changed(self, study: str, *, anew: bool) -> None:
        """Write the tables soon, with the review of a study and, `anew`, the numbers that it has now."""
        with self._lock:
            self._waiting[study] = anew or self._waiting.get(study, False)
            if self._thread is None:
                self._thread = threading.Thread(target=self._write)
                self._thread.start()

    def finish(self) -> None:
        """Wait until all is written.

        Raises:
            InputError: it could not be.
        """
        thread = self._thread
        if thread is not None:
            thread.join()
        if self._failed is not None:
            raise self._failed

    def told(self) -> dict[str, Any]:
        """Return what a page says of the tables: what went wrong, and how to train on the checked maps."""
        manifest = checked_manifest(self.folder)
        root = None if manifest is None else _root(manifest, self.folder)
        return {
            "tables_failed": None if self._failed is None else str(self._failed),
            "checked": 0 if manifest is None else len(manifest),
            "train": None if root is None else _command(self.folder / CORRECTED_FILE, root),
        }

    def _write(self) -> None:
        while True:
            with self._lock:
                saved, self._waiting = self._waiting, {}
                if not saved:
                    self._thread = None
                    return
            try:
                write_recorded(self.folder, changed={study for study, anew in saved.items() if anew})
                write_checked(self.folder)
                self._failed = None
            except InputError as error:
                self._failed = error
            except Exception as error:  # the thread must go on, and the user must know
                self._failed = InputError(
                    "the tables could not be written",
                    file=self.folder,
                    got=f"{type(error).__name__}: {error}",
                    remedy="run mrigmm quantify; please report it",
                )

    def _left_over(self) -> list[str]:
        """Return studies that were saved by a server that ended before it could write the tables."""
        table = self.folder / QUANTITIES_FILE
        written = table.stat().st_mtime_ns if table.exists() else 0
        return [
            study
            for study, side in _sides(self.folder).items()
            if side.review is not None and (self.folder / f"{study}.json").stat().st_mtime_ns > written
        ]


def checked_manifest(folder: Path) -> dict[str, SideFile] | None:
    """Return the studies whose label maps somebody corrected or accepted, and did not reject.

    Of studies with other classes than the first, none.
    """
    found = {
        study: side
        for study, side in _sides(folder).items()
        if side.review is not None
        and side.review.verdict != "rejected"
        and (side.review.verdict == "accepted" or side.review.edited_by is not None)
        and side.inputs
    }
    first = next(iter(found.values()), None)
    if first is None:
        return None
    return {study: side for study, side in found.items() if side.classes == first.classes}


def write_checked(folder: Path) -> None:
    """Write the manifest of checked maps, or remove it where there are none.

    Raises:
        InputError: it cannot be written.
    """
    studies = checked_manifest(folder)
    path = folder / CORRECTED_FILE
    if studies is None:
        path.unlink(missing_ok=True)
        return
    root = _root(studies, folder)
    sequences = list(dict.fromkeys(name for side in studies.values() for name in side.inputs))

    def inside(file: Path) -> str:
        return Path(os.path.relpath(file, root)).as_posix()

    def image(side: SideFile, name: str) -> Any:
        file = inside(side.inputs[name])
        return {"file": file, "frame": side.frames[name]} if name in side.frames else file

    entries = [
        {
            "id": study,
            "image": {name: image(side, name) for name in side.inputs},
            "label": inside(folder.resolve() / f"{study}{LABELS_SUFFIX}"),
            **({} if side.patient is None else {"patient": side.patient}),
            **({} if side.visit is None else {"visit": side.visit}),
        }
        for study, side in studies.items()
    ]
    write_json(
        path,
        {
            "name": f"checked label maps of {folder.resolve().name}",
            "modality": {str(index): name for index, name in enumerate(sequences)},
            "labels": {"background": 0, **next(iter(studies.values())).classes},
            "training": entries,
        },
    )


def _sides(folder: Path) -> dict[str, SideFile]:
    """Study -> side file, of those that can be read."""
    found = {}
    for study in predicted_studies(folder):
        try:
            found[study] = read_side_file(folder, study)
        except InputError:
            continue
    return found


def _root(studies: Mapping[str, SideFile], folder: Path) -> Path:
    """Return the folder that holds all images and the label maps."""
    files = [file.resolve().parent for side in studies.values() for file in side.inputs.values()]
    return Path(os.path.commonpath([folder.resolve(), *files]))


def _command(manifest: Path, root: Path) -> str:
    words = ["mrigmm", "train", str(manifest), "--labels", "-o", "corrected_run"]
    elsewhere = [] if root == manifest.resolve().parent else ["--data-root", str(root)]
    return shlex.join([*words, *elsewhere])
