"""Manifest of the source that `mrigmm segment` was given, whatever that is."""

from __future__ import annotations

import json
import os
import zipfile
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath
from typing import Any

from mrigmm.data.files import write_text
from mrigmm.data.manifest import SPLITS, Manifest, Study, check_study_id
from mrigmm.data.manifest_file import parse_manifest, read_manifest
from mrigmm.data.sources.any_studies import REGION
from mrigmm.data.sources.base import (
    LABEL,
    Ask,
    Cohort,
    Entry,
    Folder,
    Options,
    Question,
    list_folder,
    nobody,
    stem,
)
from mrigmm.data.sources.names import label_ids
from mrigmm.data.sources.table import KINDS, marked
from mrigmm.data.splits import Division
from mrigmm.errors import InputError, Problem, told
from mrigmm.jobs.common import LABELS_SUFFIX, Track, no_progress
from mrigmm.jobs.manifest import content_of, manifest_dicom, unknown_kind, unused_images, usable_studies
from mrigmm.jobs.shown import ShownTable

ANY, DICOM = "any", "dicom"
MANIFEST_FILE = "manifest.json"
_NIFTI = (".nii", ".nii.gz")
_MOST_SNIFFED = 500  # files without a telling name that are looked into for DICOM's mark
Source = Path | str | Sequence[Path | str] | Mapping[str, Path | str]


@dataclass(frozen=True)
class Understood:
    """A source, and the manifest made of it.

    Attributes:
        how: what it was taken for.
        manifest: the file that says so.
        data_root: what its paths resolve against when it is not its own folder.
        cohort: its studies.
        problems: what was left out, chosen, or cannot be used.
    """

    how: str
    manifest: Path
    data_root: Path | None
    cohort: Manifest
    problems: tuple[Problem, ...] = ()

    def table(self) -> ShownTable:
        """Studies by sequences and maps, each with the name of its file."""
        studies = self.cohort.split("all")
        maps = [role for role in (REGION, LABEL) if any(getattr(study, role) for study in studies)]
        rows = [
            (
                study.id,
                *(_cell(study.images.get(name), study, name) for name in self.cohort.sequences),
                *(_cell(getattr(study, role), study, role) for role in maps),
            )
            for study in studies
        ]
        return ShownTable(("study", *self.cohort.sequences, *maps), tuple(rows), self.how)


def _cell(file: object, study: Study, role: str) -> str:
    if not isinstance(file, Path):
        return "–" if file is None else "from the label"
    frame = f" (frame {study.frames[role]})" if role in study.frames else ""
    return f"{stem(file.name)}{frame}"


@dataclass(frozen=True)
class Reading:
    """The user's options about the source.

    Attributes:
        kind: layout, a key of `KINDS` or "dicom"; None: it is recognised.
        images: sequence, "region", "label" or "ignore" -> patterns of files.
        labels: scheme of label ids, by name or as class=id pairs.
        data_root: folder that a given manifest's paths resolve against.
        ask: whom to ask between two readings.
    """

    kind: str | None = None
    images: Mapping[str, Sequence[str]] | None = None
    labels: str | None = None
    data_root: Path | None = None
    ask: Ask = nobody


def understand(
    source: Source, out: Path, reading: Reading, *, replaces: bool = False, track: Track = no_progress
) -> Understood:
    """Recognise what was given, and write it down as `out/manifest.json`; a manifest is taken as it is.

    Args:
        source: a folder, a manifest, several files and folders, or the files of one study by role.
        out: folder of the results.
        reading: what the user says of it.
        replaces: whether another manifest that is there may be replaced.
        track: progress bar.

    Raises:
        InputError: no study is found, or nobody decides between two readings.
    """
    if reading.kind is not None and reading.kind not in (*KINDS, DICOM):
        raise unknown_kind(reading.kind)
    told_of_folder = [
        name
        for name, said in (
            ("--kind", reading.kind),
            ("--images", reading.images),
            ("--labels", reading.labels),
        )
        if said
    ]
    if isinstance(source, Mapping):
        _require_none([name for name in told_of_folder if name != "--labels"], "--image")
        folder, cohort = _one_study({role: Path(file) for role, file in source.items()}, reading)
        return _written("the files of one study", folder, cohort, out, replaces)
    sources = [Path(source)] if isinstance(source, Path | str) else [Path(path) for path in source]
    manifest = _given_manifest(sources, inside=not told_of_folder)
    if manifest is not None:
        _require_none(told_of_folder, f"the manifest {manifest}")
        cohort_given = read_manifest(manifest, reading.data_root)
        return Understood(f"as {manifest} says", manifest, reading.data_root, cohort_given)
    if reading.data_root is not None:
        raise InputError("a data root belongs to a manifest", got=", ".join(map(str, sources)))
    folder, notes = _listed(sources, out)
    kind = reading.kind or _kind(folder, reading)
    if kind == DICOM:
        return _converted(sources, out, reading, track=track)
    options = Options(
        {name: tuple(patterns) for name, patterns in (reading.images or {}).items()},
        labels=None if reading.labels is None else label_ids(reading.labels),
        ask=reading.ask,
    )
    if options.images and "images" not in KINDS[kind].options:
        raise InputError(f"--images belongs to names of any kind, not to {kind}", remedy=f"--kind {ANY}")
    try:
        cohort = usable_studies(KINDS[kind].read(folder, options), folder)
    except InputError as error:
        if reading.kind is not None or kind == ANY:
            raise
        marks = Problem(
            f"the folder has the marks of {kind}", remedy=f"--kind {ANY} reads the files by their names"
        )
        raise InputError.from_problems([*error.problems, marks]) from None
    how = f"a folder as {KINDS[kind].title or kind} has them" if kind != ANY else "files by their names"
    understood = _written(how, folder, cohort, out, replaces)
    return replace(understood, problems=(*notes, *understood.problems))


def _require_none(options: Sequence[str], source: str) -> None:
    """Refuse options that say how a folder is to be read.

    Raises:
        InputError: there are some.
    """
    if options:
        raise InputError(f"{' and '.join(options)} belong to a folder, not to {source}")


def _given_manifest(sources: Sequence[Path], *, inside: bool) -> Path | None:
    """The manifest that was given, or that a given folder holds where `inside` allows to look."""
    if len(sources) != 1:
        return None
    (path,) = sources
    if path.suffix.lower() == ".json":
        return path
    held = path / MANIFEST_FILE
    if not inside or not held.is_file():
        return None
    try:
        content = json.loads(held.read_text(encoding="utf-8-sig"))
    except (OSError, ValueError, RecursionError):
        return None
    ours = isinstance(content, dict) and "modality" in content and any(name in content for name in SPLITS)
    return held if ours else None


def _listed(sources: Sequence[Path], out: Path) -> tuple[Folder, list[Problem]]:
    """All files of the sources, without results of this program, below the folder that they share."""
    for path in sources:
        if not path.exists():
            raise InputError("there is no such file or folder", file=path, remedy="check the path")
        if path.is_file() and zipfile.is_zipfile(path):
            raise InputError("this is an archive", file=path, expected="a folder", remedy="unzip it first")
    root = sources[0] if len(sources) == 1 and sources[0].is_dir() else _common(sources)
    files: list[str] = []
    for path in sources:
        inside = PurePosixPath(os.path.relpath(path.absolute(), root.absolute()).replace(os.sep, "/"))
        listed = list_folder(path).files if path.is_dir() else (".",)
        files += [str(inside / file) if file != "." else str(inside) for file in listed]
    if out.resolve() == root.resolve():
        raise InputError("the results would lie among the images", file=out, remedy="choose another -o")
    results = [out.resolve()]
    results += [(root / file).resolve().parent for file in files if file.endswith("labels_itksnap.txt")]
    kept = [file for file in files if not _lies_in((root / file).resolve(), results)]
    gone = sum(file.lower().endswith(_NIFTI) for file in files) - sum(
        f.lower().endswith(_NIFTI) for f in kept
    )
    notes = told([f"{gone} NIfTI files of earlier results are passed over"] if gone else [], "note")
    return Folder(root, tuple(dict.fromkeys(kept))), notes


def _common(paths: Iterable[Path]) -> Path:
    folders = [str(path.absolute() if path.is_dir() else path.absolute().parent) for path in paths]
    return Path(os.path.commonpath(folders))


def _lies_in(file: Path, folders: Sequence[Path]) -> bool:
    return any(file.is_relative_to(folder) for folder in folders)


def _kind(folder: Folder, reading: Reading) -> str:
    """The layout of a folder, by its marks; the user's where it has several.

    Raises:
        InputError: nothing to read, or nobody decides.
    """
    if reading.images:
        return ANY
    kinds = marked(folder)
    nifti = any(file.lower().endswith(_NIFTI) for file in folder.files)
    if not kinds and nifti:
        kinds = [ANY]
    if _holds_dicom(folder):
        kinds.append(DICOM)
    if len(kinds) == 1:
        return kinds[0]
    if not kinds:
        raise InputError(
            "there are no images in the folder",
            file=folder.root,
            expected="NIfTI files (.nii, .nii.gz) or DICOM files, at any depth",
            got=folder.describe(),
            remedy="check the path; unzip archives first",
        )
    question = Question(f"how is {folder.root} to be read?", tuple(kinds), f"--kind {kinds[0]}")
    chosen = reading.ask(question)
    if chosen is None:
        raise InputError(
            "the folder can be read in several ways",
            file=folder.root,
            got=" or ".join(kinds),
            remedy=f"say which, for example {question.option}",
        )
    return kinds[chosen]


def _holds_dicom(folder: Folder) -> bool:
    """Whether a file begins as DICOM files do."""
    others = [file for file in folder.files if not file.lower().endswith((*_NIFTI, ".json", ".txt", ".csv"))]
    for file in others[:_MOST_SNIFFED]:
        try:
            with (folder.root / file).open("rb") as stream:
                if stream.read(132)[128:] == b"DICM":
                    return True
        except OSError:
            continue
    return False


def _converted(sources: Sequence[Path], out: Path, reading: Reading, *, track: Track) -> Understood:
    """DICOM series, converted into the folder of the results: by the map of a first run, where that is."""
    if len(sources) > 1:
        raise InputError(
            "DICOM files are read from one folder", remedy="give the folder that holds all of them"
        )
    manifest = out / MANIFEST_FILE
    first = out / "map.yaml"
    map_file = first if first.is_file() else None
    made = manifest_dicom(sources[0], manifest, map_file=map_file, labels=reading.labels, track=track)
    return Understood("DICOM series by their tags", manifest, None, read_manifest(manifest), made.problems)


def _one_study(files: Mapping[str, Path], reading: Reading) -> tuple[Folder, Cohort]:
    """One study, given by the files of its roles."""
    root = _common(files.values())
    inside = {
        role: os.path.relpath(file.absolute(), root).replace(os.sep, "/") for role, file in files.items()
    }
    images = {name: file for name, file in inside.items() if name not in (REGION, LABEL)}
    if not images:
        raise InputError("no image was given", expected="at least one --image NAME=FILE")
    study = stem(images.get("LGE") or next(iter(images.values())))
    reason = check_study_id(study)
    if reason:
        raise InputError(reason, got=study, remedy="rename the file")
    entry = Entry(study, study, images, inside.get(LABEL), inside.get(REGION), split="test")
    labels = {} if reading.labels is None else label_ids(reading.labels)
    return Folder(root, tuple(inside.values())), Cohort(tuple(images), labels, (entry,))


def _written(how: str, folder: Folder, cohort: Cohort, out: Path, replaces: bool) -> Understood:
    """Write the manifest of a cohort.

    Raises:
        InputError: another one is there, and may not be replaced.
    """
    path, root = out / MANIFEST_FILE, folder.root
    within = root.resolve().is_relative_to(out.resolve())
    prefix = PurePosixPath(root.resolve().relative_to(out.resolve()).as_posix() if within else ".")
    splits = {
        name: tuple(entry for entry in cohort.entries if entry.split == name)
        for name in SPLITS
        if any(entry.split == name for entry in cohort.entries)
    }
    content = content_of(root.resolve().name, cohort, Division("", splits), prefix, None)
    parsed = parse_manifest(content, path, out if within else root)
    text = json.dumps(content, indent=1, ensure_ascii=False) + "\n"
    if path.exists() and not replaces and path.read_text(encoding="utf-8", errors="replace") != text:
        raise InputError(
            "another manifest is there than the folder gives now",
            file=path,
            expected=f"none, or the same; {LABELS_SUFFIX} files of its studies lie beside it",
            remedy=f"mrigmm segment {path} --data-root {root} takes it as it is; --overwrite replaces it and "
            "the results, --resume replaces it and keeps the results",
        )
    write_text(path, text)
    problems = [*cohort.problems, *told(cohort.notes, "warning"), *told(cohort.matched, "note")]
    problems += unused_images(folder, cohort, problems)
    return Understood(how, path, None if within else root, parsed, tuple(problems))


def as_json(understood: Understood) -> dict[str, Any]:
    """Return the source, as it was understood, as plain JSON."""
    root = understood.data_root
    return {
        "understood_as": understood.how,
        "manifest": str(understood.manifest),
        "data_root": None if root is None else str(root),
    }
