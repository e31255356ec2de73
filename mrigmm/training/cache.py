"""Training studies on disk, for cohorts that do not fit into memory."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from shutil import rmtree
from typing import Literal, overload

from safetensors import SafetensorError
from safetensors.torch import load_file

from mrigmm.data.run_folder import write_tensors
from mrigmm.errors import InputError
from mrigmm.training.batches import TrainingStudy

Cache = Literal["memory", "disk"]


class DiskStudies(Sequence[TrainingStudy]):
    """Training studies in a folder, one safetensors file each, mapped into memory when asked for.

    Only paths are kept, so that memory holds what is in use and worker processes start at no cost.

    Args:
        folder: for the files; old ones of the same studies are replaced.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.files: list[Path] = []

    def append(self, study: TrainingStudy) -> None:
        """Write a study.

        Raises:
            InputError: the folder cannot be written to, or the disk is full.
        """
        file = self.folder / f"{study.id}.safetensors"
        tensors = {
            # Slices first, so that a slice lies in one piece.
            "image": study.image.movedim(-1, 0).contiguous(),
            "region": study.region.movedim(-1, 0).contiguous(),
            "present": study.present,
        }
        write_tensors(file, tensors)
        self.files.append(file)

    def __len__(self) -> int:
        return len(self.files)

    @overload
    def __getitem__(self, index: int) -> TrainingStudy: ...

    @overload
    def __getitem__(self, index: slice) -> Sequence[TrainingStudy]: ...

    def __getitem__(self, index: int | slice) -> TrainingStudy | Sequence[TrainingStudy]:
        if isinstance(index, slice):
            return [self._read(file) for file in self.files[index]]
        return self._read(self.files[index])

    def _read(self, file: Path) -> TrainingStudy:
        study = file.name.removesuffix(".safetensors")
        try:
            tensors = load_file(file)
            return TrainingStudy(
                study, tensors["image"].movedim(0, -1), tensors["region"].movedim(0, -1), tensors["present"]
            )
        except (OSError, SafetensorError, KeyError) as error:
            raise InputError(
                "the prepared study cannot be read back",
                study=study,
                file=file,
                got=str(error),
                remedy="leave the run folder's cache alone while it trains; continue with --resume",
            ) from None


StudyStore = list[TrainingStudy] | DiskStudies


@contextmanager
def study_store(cache: str, folder: Path) -> Iterator[StudyStore]:
    """An empty store for prepared studies: a list, or files in `folder` that are deleted at the end."""
    if cache == "memory":
        yield []
        return
    try:
        yield DiskStudies(folder)
    finally:
        rmtree(folder, ignore_errors=True)
        for parent in list(folder.parents)[:2]:  # of this process, of all: gone with the last one's files
            with suppress(OSError):
                parent.rmdir()
