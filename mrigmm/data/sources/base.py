"""Shared by the readers of folders: the listing of a folder, entries, and errors in them.

Paths are POSIX texts relative to the folder, as they stand in a manifest.
"""

from __future__ import annotations

import os
import re
import unicodedata
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from mrigmm.errors import InputError, Problem

# End of every pattern for images and labels.
NIFTI = r"\.nii(?:\.gz)?"
# Role of a file that holds the reference label; every other role is the name of a sequence.
LABEL = "label"
StudyFiles = dict[str, dict[str, str]]  # study id -> role -> file


@dataclass(frozen=True)
class Entry:
    """One study as its files name it.

    Attributes:
        id: study id.
        patient: studies of one patient never come into different splits.
        images: sequence name -> file; a missing sequence is absent.
        label: reference label.
        region: region map.
        split: where the layout itself puts the study.
        visit: which of the patient's visits, where the layout says so.
        frames: sequence name -> frame, from 0, of a file with several that is no cine.
    """

    id: str
    patient: str
    images: Mapping[str, str]
    label: str | None = None
    region: str | None = None
    split: str = "training"
    visit: str | None = None
    frames: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True)
class Question:
    """Two readings of a folder, which the user decides between.

    Attributes:
        text: what is asked.
        answers: the readings.
        option: what decides on the command line, when nobody can be asked.
    """

    text: str
    answers: tuple[str, ...]
    option: str


# Puts a question to the user; returns the place of the answer, or None where nobody answers.
Ask = Callable[[Question], int | None]


def nobody(question: Question) -> None:
    """An `Ask` without a user."""


@dataclass(frozen=True)
class Cohort:
    """Content of a folder.

    Attributes:
        sequences: in channel order.
        labels: class name -> ids.
        entries: sorted by id.
        notes: what the user should know.
        matched: what each of the user's patterns fits.
        problems: studies that cannot be entered; the others go on.
        left_out: files that the notes speak of.
    """

    sequences: tuple[str, ...]
    labels: Mapping[str, Sequence[int]]
    entries: tuple[Entry, ...]
    notes: tuple[str, ...] = ()
    matched: tuple[str, ...] = ()
    problems: tuple[Problem, ...] = ()
    left_out: tuple[str, ...] = ()


@dataclass(frozen=True)
class Folder:
    """The files below a folder, hidden ones left out."""

    root: Path
    files: tuple[str, ...]

    def text(self, file: str) -> str:
        """Content of a small text file.

        Raises:
            InputError: it cannot be read.
        """
        try:
            return (self.root / file).read_text(encoding="utf-8-sig")
        except (OSError, UnicodeDecodeError) as error:
            raise InputError("the file cannot be read", file=self.root / file, got=str(error)) from None

    def describe(self) -> str:
        """Return a line on the content, for the message that nothing fits."""
        if not self.files:
            return "no file"
        shown = ", ".join(self.files[:5])
        return f"{len(self.files)} files: {shown}{', ...' if len(self.files) > 5 else ''}"


@dataclass(frozen=True)
class Options:
    """The user's options about a folder beside its layout.

    Attributes:
        images: sequence name -> patterns, of which the first that fits a study counts (`files` and `any`).
        label: pattern of the reference labels (`files` only).
        labels: class name -> ids; None: those of the data set.
        rename: name in the folder -> name in the manifest (`nnunet` and `bids`).
        ask: whom to ask between two readings (`any` only).
    """

    images: Mapping[str, Sequence[str]] = field(default_factory=dict)
    label: str | None = None
    labels: Mapping[str, Sequence[int]] | None = None
    rename: Mapping[str, str] = field(default_factory=dict)
    ask: Ask = nobody


@dataclass(frozen=True)
class Kind:
    """A layout of folders.

    Attributes:
        title: name of the data set; None for a format that any data set may have.
        read: folder and options to cohort.
        options: names of the `Options` that it uses beside `labels`.
        mark: pattern of a file, from the folder on, that no other layout has; any case.
    """

    title: str | None
    read: Callable[[Folder, Options], Cohort]
    options: tuple[str, ...] = ()
    mark: str | None = None


def list_folder(root: Path) -> Folder:
    """All files below a folder, without hidden files and folders (`._x`, `.DS_Store`, `__MACOSX`).

    Raises:
        InputError: no such folder.
    """
    if not root.is_dir():
        raise InputError("the folder does not exist", file=root, remedy="check the path, unzip the download")

    def refuse(error: OSError) -> None:
        raise error

    files = []
    for parent, folders, names in os.walk(root, onerror=refuse):
        folders[:] = [name for name in folders if not name.startswith((".", "__MACOSX"))]
        inside = Path(parent).relative_to(root)
        files += [(inside / name).as_posix() for name in names if not name.startswith(".")]
    return Folder(root, tuple(sorted(files, key=natural_key)))


def natural_key(text: str) -> list[tuple[int, int, str]]:
    """Sort key that puts patient2 before patient10."""
    parts = re.findall(r"[0-9]+|[^0-9]+", text)
    return [(0, int(part), "") if part.isdecimal() else (1, 0, part.casefold()) for part in parts]


def study_pattern(body: str) -> re.Pattern[str]:
    """Pattern of NIfTI files at any depth, from a pattern with the groups `id` and `role`."""
    return re.compile(rf"(?:.*/)?{body}{NIFTI}", re.IGNORECASE)


def files_by_study(
    folder: Folder, pattern: re.Pattern[str], roles: Mapping[str, str], *, looked_for: Sequence[str]
) -> tuple[StudyFiles, tuple[Problem, ...]]:
    """Files by study id and by role, and the studies that are left out, as `assign`.

    Args:
        folder: the files.
        pattern: of whole paths, with the groups `id` and `role`.
        roles: text of the group `role` in lower case -> sequence name, or `LABEL`.
        looked_for: the pattern in the user's words.

    Raises:
        InputError: no study is left.
    """
    matches = ((file, pattern.fullmatch(file)) for file in folder.files)
    return assign(
        folder, [(m["id"], roles[m["role"].lower()], file) for file, m in matches if m], looked_for=looked_for
    )


def assign(
    folder: Folder,
    found: Iterable[tuple[str, str, str]],
    *,
    looked_for: Sequence[str],
    remedy: str = "move one of them out of the folder",
) -> tuple[StudyFiles, tuple[Problem, ...]]:
    """Files by study id and by role, from triples (study id, role, file).

    Ids are in the composed form of Unicode (NFC), in whichever form the names are.

    Args:
        folder: the files.
        found: the triples.
        looked_for: what names files have, for the message that there are none.
        remedy: where two files have one role.

    Returns:
        The studies, and an error for each that is left out since two files have one role in it.

    Raises:
        InputError: no study is left.
    """
    studies: StudyFiles = {}
    problems: list[Problem] = []
    for name, role, file in found:
        study = unicodedata.normalize("NFC", name)
        other = studies.setdefault(study, {}).setdefault(role, file)
        if other != file:
            problems.append(
                Problem(
                    f"two files for {role}",
                    study,
                    str(folder.root),
                    expected="one file per study and sequence; the study is left out",
                    got=f"{other} and {file}",
                    remedy=remedy,
                )
            )
    left_out = {problem.study for problem in problems}
    studies = {study: files for study, files in studies.items() if study not in left_out}
    if problems and not studies:
        raise InputError.from_problems(problems)
    if not studies:
        raise InputError(
            "no study was found in the folder",
            file=folder.root,
            expected="files named " + " or ".join(looked_for),
            got=folder.describe(),
            remedy="give the folder of the unzipped download, or describe your own names: "
            "mrigmm manifest files",
        )
    return {study: studies[study] for study in sorted(studies, key=natural_key)}, tuple(problems)


def simple_entries(
    studies: Mapping[str, Mapping[str, str]],
    *,
    split: Callable[[str, str], str] = lambda _study, file: split_of_folders(file),
    patient: Callable[[str], str] = str,
    visit: Callable[[str], str | None] = lambda _study: None,
) -> tuple[Entry, ...]:
    """Entries of studies whose roles are sequences and `LABEL`.

    Args:
        studies: files by study id and by role.
        split: (study id, one of its files) -> split; default what the folders say.
        patient: study id -> patient.
        visit: study id -> which of the patient's visits.
    """
    return tuple(
        Entry(
            study,
            patient(study),
            {role: file for role, file in files.items() if role != LABEL},
            files.get(LABEL),
            split=split(study, next(iter(files.values()))),
            visit=visit(study),
        )
        for study, files in studies.items()
    )


def split_of_folders(file: str) -> str:
    """Split that the folders of a file name: train..., val... or test...; else training."""
    for part in reversed(file.lower().split("/")[:-1]):
        for start, split in (("train", "training"), ("val", "validation"), ("test", "test")):
            if part.startswith(start):
                return split
    return "training"


def stem(file: str) -> str:
    """File name without folders and without .nii or .nii.gz."""
    return re.sub(NIFTI + "$", "", file.rsplit("/", 1)[-1], flags=re.IGNORECASE)
