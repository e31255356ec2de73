"""Folders of one's own: a pattern per sequence, with `{id}` where the study's name stands."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import replace

from mrigmm.data.sources.base import (
    LABEL,
    Cohort,
    Entry,
    Folder,
    Kind,
    Options,
    assign,
    simple_entries,
    split_of_folders,
)
from mrigmm.errors import InputError

_EXAMPLE = "--image LGE='*/{id}_lge.nii.gz'"


def read(folder: Folder, options: Options) -> Cohort:
    """Studies whose files fit the user's patterns.

    Raises:
        InputError: no pattern for an image, or labels without ids.
    """
    if not options.images:
        raise InputError("no pattern for an image was given", expected=_EXAMPLE)
    if options.label is not None and options.labels is None:
        raise InputError(
            "the label ids of this cohort are not known",
            expected="--labels with a scheme or class=id pairs",
            remedy="for example --labels myops, or --labels blood=1,myocardium=2,scar=3+4",
        )
    patterns = {**options.images, **({LABEL: options.label} if options.label is not None else {})}
    patients: dict[str, str] = {}
    found = []
    for role, pattern in patterns.items():
        for study, patient, file in matching(folder, pattern):
            found.append((study, role, file))
            _remember(patients, study, patient)
    studies = assign(folder, found, looked_for=tuple(patterns.values()))
    entries = simple_entries(
        studies,
        split=lambda _study, file: split_of_folders(file),
        patient=lambda study: patients.get(study, study),
    )
    return Cohort(tuple(options.images), options.labels or {}, entries)


def _remember(patients: dict[str, str], study: str, patient: str | None) -> None:
    if patient is not None and patients.setdefault(study, patient) != patient:
        raise InputError(
            "one study id belongs to two patients",
            study=study,
            got=f"{patients[study]} and {patient}",
            remedy="let {id} stand for more of the name, so that it tells the studies apart",
        )


def with_regions(folder: Folder, entries: Sequence[Entry], pattern: str) -> tuple[Entry, ...]:
    """The entries with the region maps that fit a pattern, for layouts of every kind.

    Raises:
        InputError: no file fits a study, or two fit one.
    """
    found = [(study, "region", file) for study, _, file in matching(folder, pattern)]
    maps = assign(folder, found, looked_for=(pattern,))
    result = tuple(
        replace(entry, region=maps[entry.id]["region"]) if entry.id in maps else entry for entry in entries
    )
    if not any(entry.id in maps for entry in entries):
        raise InputError(
            "the region maps belong to no study",
            file=folder.root,
            expected=f"ids such as {entries[0].id}",
            got=", ".join(list(maps)[:5]),
            remedy="let {id} in --region stand for exactly the study's id",
        )
    return result


def matching(folder: Folder, pattern: str) -> Iterator[tuple[str, str | None, str]]:
    """(study id, patient or None, file) of every file that fits a pattern.

    Raises:
        InputError: a pattern without placeholder.
    """
    expression = compile_pattern(pattern)
    for file in folder.files:
        if match := expression.fullmatch(file):
            groups = match.groupdict()
            patient = groups.get("patient")
            yield groups.get("id") or str(patient), patient, file


def compile_pattern(pattern: str) -> re.Pattern[str]:
    """A glob pattern with `{id}` and `{patient}` as a regular expression of whole relative paths.

    `*` and the placeholders stand for any text within a name, `?` for one character, `**/` for any
    folders. A placeholder that stands twice must be the same text. The ending may be in any case.

    Raises:
        InputError: neither placeholder is there.
    """
    if "{id}" not in pattern and "{patient}" not in pattern:
        raise InputError(
            "the pattern does not say where the study's id stands", got=pattern, expected=_EXAMPLE
        )
    pieces = {"**/": "(?:.*/)?", "**": ".*", "*": "[^/]*", "?": "[^/]"}
    seen: set[str] = set()
    result = ""
    body, ending = re.fullmatch(r"(.*?)((?:\.nii(?:\.gz)?)?)", pattern, re.IGNORECASE | re.DOTALL).groups()  # type: ignore[union-attr]
    for part in re.split(r"(\*\*/|\*\*|\*|\?|\{id\}|\{patient\})", body):
        if part in ("{id}", "{patient}"):
            name = part[1:-1]
            result += f"(?P={name})" if name in seen else f"(?P<{name}>[^/]+?)"
            seen.add(name)
        else:
            result += pieces.get(part, re.escape(part))
    return re.compile(result + (f"(?i:{re.escape(ending)})" if ending else ""))


KIND = Kind(None, read, ("images", "label"))
