"""The map: which series is which sequence, proposed by the program and corrected by the user."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from mrigmm.data.dicom.recognise import IGNORE, Verdict
from mrigmm.data.dicom.series import DicomStudy
from mrigmm.data.files import write_text
from mrigmm.data.manifest import check_study_id
from mrigmm.errors import InputError, Problem, near_misses
from mrigmm.labels import SEQUENCES

_HEADER = """\
# Which series is which sequence. Correct `sequence` (LGE, T2, bSSFP or ignore) and, if you like, `id`; then
# run the same command with --map and this file. Several series under one sequence are joined to one volume.
# `description`, `what` and `why` are for you; the program does not read them.
# Keep this file as private as the DICOM files: it connects their UIDs with the ids of the studies.
"""
_STUDY_KEYS = ("id", "study", "series")
_SERIES_KEYS = ("series", "sequence", "description", "what", "why")


@dataclass(frozen=True)
class MappedStudy:
    """A study of the map: its id, and the sequence (or `IGNORE`) by part key."""

    id: str
    sequences: Mapping[str, str]


def write_map(
    path: Path, studies: Sequence[DicomStudy], ids: Sequence[str], verdicts: Sequence[Mapping[str, Verdict]]
) -> None:
    """Write the proposal for the user to read and correct."""
    content = [
        {
            "id": study_id,
            "study": study.uid,
            "series": [
                {
                    "series": part.key,
                    "sequence": verdict[part.key].sequence,
                    "description": part.header.description or part.header.protocol,
                    "what": part.describe(),
                    "why": verdict[part.key].why,
                }
                for part in study.parts
            ],
        }
        for study, study_id, verdict in zip(studies, ids, verdicts, strict=True)
    ]
    text = yaml.safe_dump({"studies": content}, sort_keys=False, allow_unicode=True, width=200)
    write_text(path, _HEADER + text)


def read_map(path: Path) -> dict[str, MappedStudy]:
    """Read a map strictly.

    Returns:
        Studies by StudyInstanceUID.

    Raises:
        InputError: with every problem found.
    """
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8-sig"))
    except FileNotFoundError:
        raise InputError("the map does not exist", file=path, remedy="check the path") from None
    except (OSError, UnicodeDecodeError, yaml.YAMLError, ValueError, RecursionError) as error:
        raise InputError("the map cannot be read", file=path, expected="YAML", got=str(error)) from None
    problems: list[Problem] = []
    studies: dict[str, MappedStudy] = {}
    ids: set[str] = set()
    for entry in _list(content, "studies", path):
        study = _study(entry, path, problems)
        if study is None:
            continue
        if entry["study"] in studies or study.id.casefold() in ids:
            problems.append(_wrong(path, "a study or an id stands twice in the map", study.id))
        studies[entry["study"]] = study
        ids.add(study.id.casefold())
    if problems:
        raise InputError.from_problems(problems)
    return studies


def _study(entry: Any, path: Path, problems: list[Problem]) -> MappedStudy | None:
    if not _has_keys(entry, _STUDY_KEYS, _STUDY_KEYS, "a study", path, problems):
        return None
    reason = check_study_id(entry["id"])
    if reason or not isinstance(entry["study"], str):
        remedy = None
        if isinstance(entry["id"], int | float):
            remedy = "put the id in quotes: digits alone are a number in YAML, with a leading 0 an octal one"
        what = reason or "a study UID must be a text in quotes"
        problems.append(_wrong(path, what, str(entry["id"]), str(entry["study"]), remedy))
        return None
    sequences: dict[str, str] = {}
    known = (*SEQUENCES, IGNORE)
    for series in entry["series"] if isinstance(entry["series"], list) else [entry["series"]]:
        if not _has_keys(series, ("series", "sequence"), _SERIES_KEYS, "a series", path, problems):
            continue
        key, sequence = str(series["series"]), series["sequence"]
        if sequence not in known:
            remedy = near_misses(str(sequence), known)
            problems.append(
                _wrong(path, f"unknown sequence of series {key}", entry["id"], str(sequence), remedy)
            )
        elif key in sequences:
            problems.append(_wrong(path, f"series {key} stands twice", entry["id"]))
        sequences[key] = str(sequence)
    return MappedStudy(entry["id"], sequences)


def _list(content: Any, key: str, path: Path) -> list[Any]:
    if not isinstance(content, dict) or set(content) != {key} or not isinstance(content[key], list):
        raise InputError(
            "the map has another form",
            file=path,
            expected=f"a list under '{key}', as in the map.yaml that the first run writes",
            remedy="run without --map into a new folder and correct the map written there",
        )
    return content[key]


def _has_keys(
    entry: Any, needed: Iterable[str], known: Sequence[str], what: str, path: Path, problems: list[Problem]
) -> bool:
    if not isinstance(entry, dict):
        problems.append(_wrong(path, f"{what} of the map has another form", got=str(entry)))
        return False
    unknown = [str(key) for key in entry if key not in known]
    missing = [key for key in needed if key not in entry]
    for key in unknown:
        problems.append(_wrong(path, f"unknown key '{key}'", remedy=near_misses(key, known)))
    for key in missing:
        problems.append(_wrong(path, f"{what} of the map has no '{key}'", got=", ".join(map(str, entry))))
    return not unknown and not missing


def _wrong(
    path: Path, what: str, study: str | None = None, got: str | None = None, remedy: str | None = None
) -> Problem:
    return Problem(what, study=study, file=str(path), got=got, remedy=remedy)
