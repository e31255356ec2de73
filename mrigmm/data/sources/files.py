"""Folders of one's own: a pattern per sequence, with `{id}` where the study's name stands."""

from __future__ import annotations

import re
import unicodedata
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import NamedTuple

from mrigmm.data.priors.choice import SEQUENCE_ALIASES
from mrigmm.data.sources.base import LABEL, Cohort, Folder, Kind, Options, assign, simple_entries
from mrigmm.errors import InputError, some_of

# Parts of file names that say what a file is, beside the names of sequences.
_ROLE_WORDS = ("label", "labels", "mask", "masks", "seg", "segmentation", "gt", "region", "roi")
REGION = "region"
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
    patterns = {**options.images, **({LABEL: (options.label,)} if options.label is not None else {})}
    patients: dict[str, str] = {}
    visits: dict[str, str | None] = {}
    found = []
    matched = []
    by_pattern: dict[str, Counter[str]] = {role: Counter() for role in patterns}
    for role, alternatives in patterns.items():
        taken: set[str] = set()
        for pattern in alternatives:
            fitting = list(matching(folder, pattern))
            matched.append(_matched(role, pattern, [(m.study, m.file) for m in fitting]))
            new = [match for match in fitting if match.study not in taken]
            for match in new:
                found.append((match.study, role, match.file))
                _remember(patients, match.study, match.patient)
                visits[match.study] = match.visit
            taken |= {match.study for match in new}
            by_pattern[role][pattern] = len({match.study for match in new})
    looked_for = [pattern for alternatives in patterns.values() for pattern in alternatives]
    studies, problems = assign(folder, found, looked_for=looked_for)
    entries = simple_entries(studies, patient=lambda study: patients.get(study, study), visit=visits.get)
    notes = (*_two_roles(found), *_greedy(list(studies), patterns), *_mixed(by_pattern))
    return Cohort(tuple(options.images), options.labels or {}, entries, notes, tuple(matched), problems)


def _mixed(by_pattern: Mapping[str, Mapping[str, int]]) -> Iterator[str]:
    """Sequences whose files come from several patterns, from role -> pattern -> studies."""
    for role, counts in by_pattern.items():
        used = {pattern: count for pattern, count in counts.items() if count}
        if len(used) > 1:
            said = " and ".join(f"'{pattern}' for {count}" for pattern, count in used.items())
            yield (
                f"{role}: {said} of the studies, the first that fits: look whether they are of one kind "
                "(intensities of magnitude and phase-sensitive LGE differ in kind)"
            )


def _matched(role: str, pattern: str, files: Sequence[tuple[str, str]]) -> str:
    """Describe the files that a pattern fits, from pairs (study id, file)."""
    if not files:
        return f"{role}: '{pattern}' fits no file"
    study, file = files[0]
    number = "1 file" if len(files) == 1 else f"{len(files)} files, for example"
    return f"{role}: '{pattern}' fits {number} {file} (id {study})"


def _two_roles(found: Sequence[tuple[str, str, str]]) -> Iterator[str]:
    """Files that two patterns fit, from triples (study id, role, file)."""
    roles: dict[str, list[str]] = {}
    for _, role, file in found:
        roles.setdefault(file, []).append(role)
    twice = {file: names for file, names in roles.items() if len(names) > 1}
    if twice:
        file, names = next(iter(twice.items()))
        yield (
            f"files that fit two patterns: {len(twice)}, for example {file} those of {' and '.join(names)}: "
            "let {id} stand for less of the name"
        )


def _greedy(ids: Sequence[str], patterns: Iterable[str]) -> Iterator[str]:
    """A note where ids have a part that names what is in a file: `{id}` then stands for too much."""
    roles = {*SEQUENCE_ALIASES, *(role.lower() for role in patterns), *_ROLE_WORDS}
    for study in ids:
        part = next((part for part in re.split(r"[^A-Za-z0-9]+", study) if part.lower() in roles), None)
        if part is not None:
            yield (
                f"the id {study} has '{part}' in it, which names a kind of file: write that part outside "
                f"{{id}}, for example '{study.replace(part, '', 1).strip('_-. ') or 'p01'}_{part}.nii.gz' "
                f"as '{{id}}_{part}.nii.gz'"
            )
            return


def _remember(patients: dict[str, str], study: str, patient: str | None) -> None:
    if patient is not None and patients.setdefault(study, patient) != patient:
        raise InputError(
            "one study id belongs to two patients",
            study=study,
            got=f"{patients[study]} and {patient}",
            remedy="let {id} stand for more of the name, so that it tells the studies apart",
        )


def with_regions(folder: Folder, cohort: Cohort, pattern: str) -> Cohort:
    """The cohort with the region maps that fit a pattern, for layouts of every kind.

    Raises:
        InputError: no file fits the pattern or a study.
    """
    entries = cohort.entries
    found = [(match.study, REGION, match.file) for match in matching(folder, pattern)]
    if not found:
        raise InputError(
            "no file fits the pattern of --region",
            file=folder.root,
            expected=f"files named {pattern}",
            got=folder.describe(),
            remedy="write the pattern as the names are, from the folder on: '*/' for a folder between",
        )
    maps, problems = assign(folder, found, looked_for=(pattern,))
    result = tuple(
        replace(entry, region=maps[entry.id][REGION]) if entry.id in maps else entry for entry in entries
    )
    if not any(entry.id in maps for entry in entries):
        raise InputError(
            "the region maps belong to no study",
            file=folder.root,
            expected=f"ids such as {entries[0].id}",
            got=some_of(list(maps)),
            remedy="let {id} in --region stand for exactly the study's id",
        )
    told = _matched(REGION, pattern, [(study, file) for study, _, file in found])
    result = tuple(entry for entry in result if entry.id not in {problem.study for problem in problems})
    problems = (*cohort.problems, *problems)
    return replace(cohort, entries=result, matched=(*cohort.matched, told), problems=problems)


class Match(NamedTuple):
    """A file that fits a pattern: study id, file, and patient and visit where the pattern has them."""

    study: str
    file: str
    patient: str | None
    visit: str | None


def matching(folder: Folder, pattern: str) -> Iterator[Match]:
    """Every file that fits a pattern; without `{id}` patient and visit are the study's id.

    Raises:
        InputError: a pattern without placeholder.
    """
    expression = compile_pattern(pattern)
    for file in folder.files:
        # Accents are one letter or two, depending on the program that wrote the name.
        if match := expression.fullmatch(unicodedata.normalize("NFC", file)):
            groups = match.groupdict()
            patient, visit = groups.get("patient"), groups.get("visit")
            study = groups.get("id") or "_".join(part for part in (patient, visit) if part)
            yield Match(study, file, patient, visit)


def compile_pattern(pattern: str) -> re.Pattern[str]:
    """A glob pattern with `{id}`, `{patient}` and `{visit}` as a regular expression of whole relative paths.

    `*` and the placeholders stand for any text within a name, `?` for one character, `**/` for any
    folders. A placeholder that stands twice must be the same text. The ending may be in any case. Folders may
    be separated as on Windows; names are in the composed form of Unicode (NFC).

    Raises:
        InputError: neither placeholder is there.
    """
    if "{id}" not in pattern and "{patient}" not in pattern:
        raise InputError(
            "the pattern does not say where the study's id stands", got=pattern, expected=_EXAMPLE
        )
    pattern = unicodedata.normalize("NFC", pattern).replace("\\", "/")
    pieces = {"**/": "(?:.*/)?", "**": ".*", "*": "[^/]*", "?": "[^/]"}
    seen: set[str] = set()
    result = ""
    body, ending = re.fullmatch(r"(.*?)((?:\.nii(?:\.gz)?)?)", pattern, re.IGNORECASE | re.DOTALL).groups()  # type: ignore[union-attr]
    for part in re.split(r"(\*\*/|\*\*|\*|\?|\{id\}|\{patient\}|\{visit\})", body):
        if part in ("{id}", "{patient}", "{visit}"):
            name = part[1:-1]
            result += f"(?P={name})" if name in seen else f"(?P<{name}>[^/]+?)"
            seen.add(name)
        else:
            result += pieces.get(part, re.escape(part))
    return re.compile(result + (f"(?i:{re.escape(ending)})" if ending else ""))


KIND = Kind(None, read, ("images", "label"))
