"""BIDS: `sub-*/[ses-*/]anat/*_{LGE,T2w,bssfp}.nii.gz`, labels `*_dseg.nii.gz` among the derivatives."""

from __future__ import annotations

import csv
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from mrigmm.data.priors.choice import SEQUENCE_ALIASES
from mrigmm.data.series_names import PHASE_TYPES, plain, words
from mrigmm.data.sources.base import (
    LABEL,
    NIFTI,
    Cohort,
    Entry,
    Folder,
    Kind,
    Options,
    StudyFiles,
    assign,
    stem,
)
from mrigmm.data.sources.names import labels_of
from mrigmm.errors import InputError, Problem, some_of
from mrigmm.labels import SEQUENCES

_FILE = re.compile(
    rf"(?:.*/)?(?P<sub>sub-[a-z0-9]+)/(?:(?P<ses>ses-[a-z0-9]+)/)?anat/[^/]+{NIFTI}", re.IGNORECASE
)
_REGION = "region"
# A mask of the left ventricle, by its entity `label` or `desc`.
_REGION_NAME = re.compile(r".*_(?:label|desc)-lv_(?:.*_)?mask", re.IGNORECASE)
_TELLING = ("acq", "rec", "desc", "view")  # entities whose values name what an image shows


@dataclass(frozen=True)
class _Found:
    """A file of a study: what it is, and how much of its name says so."""

    study: str
    role: str
    file: str
    ending: str


def read(folder: Folder, options: Options) -> Cohort:
    """One study per subject and session, with the label ids of a `dseg.tsv`.

    Files that are no magnitude (`part-phase`, or by Image Type in the JSON beside them) or show something
    else by their entities (`acq-4ch`) are left out, with a note. Several files for one sequence are not
    chosen between (`run-1` and `run-2`): the study is left out, unless `--rename` names one of them.
    """
    suffixes = {**SEQUENCE_ALIASES, **options.rename}
    found, notes = _usable(folder, list(_files(folder, suffixes)), options.rename)
    found, replaced = _most_named(found)
    example = next((f for f in found if _rivals(f, found)), None)
    studies, problems = assign(
        folder,
        [(f.study, f.role, f.file) for f in found],
        looked_for=(
            "sub-01/[ses-01/]anat/sub-01_LGE.nii.gz (LGE, T2w, bssfp)",
            "derivatives/NAME/sub-01/[ses-01/]anat/sub-01_dseg.nii.gz",
        ),
        remedy="move one of them out of the folder"
        + (f", or name one: --rename {_own_ending(example, found)}={example.role}" if example else ""),
    )
    entries = tuple(
        Entry(
            study,
            study.split("_")[0],
            {role: file for role, file in files.items() if role not in (LABEL, _REGION)},
            files.get(LABEL),
            files.get(_REGION),
            visit=study.partition("_")[2] or None,
        )
        for study, files in studies.items()
    )
    names = {name for entry in entries for name in entry.images}
    sequences = (*(name for name in SEQUENCES if name in names), *sorted(names.difference(SEQUENCES)))
    labelled = any(entry.label is not None for entry in entries)
    labels = options.labels or (_table(folder, options) if labelled else {})
    gone = _without_any_image(folder, notes, studies, [problem.study for problem in problems])
    alone = {problem.file for problem in gone}  # these are errors
    notes = {why: [f for f in files if str(folder.root / f) not in alone] for why, files in notes.items()}
    told = [
        f"left out, {why}: {len(files)} ({some_of(files)})"
        for why, files in (notes | replaced).items()
        if files
    ]
    return Cohort(sequences, labels, entries, tuple(told), problems=(*problems, *gone))


def _files(folder: Folder, suffixes: Mapping[str, str]) -> Iterator[_Found]:
    """Images, labels and region maps; of raw sources (`sourcedata`) nothing."""
    for file in folder.files:
        match = _FILE.fullmatch(file)
        folders = file.lower().split("/")
        if not match or "sourcedata" in folders:
            continue
        named = _role(stem(file), suffixes, derived="derivatives" in folders)
        if named is not None:
            study = "_".join(part for part in (match["sub"], match["ses"]) if part)
            yield _Found(study, named[0], file, named[1])


def _role(name: str, suffixes: Mapping[str, str], *, derived: bool) -> tuple[str, str] | None:
    """Return a file's role, and the end of its name that says so; the longest ending wins."""
    if derived:
        if name.lower().endswith("_dseg"):
            return LABEL, "dseg"
        return (_REGION, "mask") if _REGION_NAME.fullmatch(name) else None
    fitting = [text for text in suffixes if name.lower().endswith("_" + text.lower())]
    return (suffixes[max(fitting, key=len)], max(fitting, key=len)) if fitting else None


def _usable(
    folder: Folder, found: Sequence[_Found], rename: Mapping[str, str]
) -> tuple[list[_Found], dict[str, list[str]]]:
    """Files that are what their ending says, and the others by the reason."""
    kept, others = [], dict[str, list[str]]()
    for one in found:
        why = None if one.role in (LABEL, _REGION) else _another_kind(folder, one, rename)
        if why is None:
            kept.append(one)
        else:
            others.setdefault(why, []).append(one.file)
    return kept, others


def _another_kind(folder: Folder, found: _Found, rename: Mapping[str, str]) -> str | None:
    """Why an image is another one than its ending says; None where the user named it, or nothing says so."""
    # What --rename names with its entities is what the user wants.
    named = found.ending.count("_") if found.ending in rename else 0
    entities = stem(found.file).split("_")[1 : -1 - named]
    for entity, value in (text.split("-", 1) for text in entities if "-" in text):
        if entity.lower() == "part" and value.lower() != "mag":
            return f"no magnitude (part-{value})"
        if entity.lower() in _TELLING and (kinds := words(plain(value), "ignore")):
            return f"{next(iter(kinds))} ({entity}-{value})"
    types = [value for value in _image_type(folder, found.file) if value.upper() in PHASE_TYPES]
    return f"no magnitude (Image Type {types[0]} in the JSON file)" if types and not named else None


def _image_type(folder: Folder, file: str) -> list[str]:
    """Image Type in the JSON file beside an image, from the third value on."""
    beside = re.sub(NIFTI + "$", ".json", file, flags=re.IGNORECASE)
    if beside not in folder.files:
        return []
    try:
        content = json.loads(folder.text(beside))
        return [str(value) for value in content["ImageType"][2:]]
    except (InputError, ValueError, KeyError, TypeError, RecursionError):
        return []  # nothing says it


def _most_named(found: Sequence[_Found]) -> tuple[list[_Found], dict[str, list[str]]]:
    """Return the files with the longest ending for each role of a study; the others by the reason."""
    longest: dict[tuple[str, str], int] = {}
    for one in found:
        key = one.study, one.role
        longest[key] = max(longest.get(key, 0), len(one.ending))
    kept = [one for one in found if len(one.ending) == longest[one.study, one.role]]
    others = [one.file for one in found if one not in kept]
    return kept, {"another file was named with --rename": others} if others else {}


def _rivals(one: _Found, found: Sequence[_Found]) -> list[_Found]:
    """The other images of the same study and sequence."""
    return [
        other
        for other in found
        if other != one
        and (other.study, other.role) == (one.study, one.role)
        and one.role not in (LABEL, _REGION)
    ]


def _own_ending(one: _Found, found: Sequence[_Found]) -> str:
    """The shortest end of a name, in whole entities, that none of its rivals has."""
    parts = stem(one.file).split("_")
    rivals = [stem(other.file) for other in _rivals(one, found)]
    for start in range(len(parts) - 1, 0, -1):
        ending = "_".join(parts[start:])
        if not any(rival.endswith("_" + ending) for rival in rivals):
            return ending
    return "_".join(parts[1:])


def _without_any_image(
    folder: Folder, left_out: Mapping[str, Sequence[str]], studies: StudyFiles, named: Sequence[str | None]
) -> list[Problem]:
    """Studies of which nothing but left-out images is there."""
    problems = []
    for why, files in left_out.items():
        for file in files:
            match = _FILE.fullmatch(file)
            study = "_".join(part for part in (match["sub"], match["ses"]) if part) if match else ""
            if study not in studies and study not in named:
                ending = "_".join(stem(file).split("_")[1:])
                problems.append(
                    Problem(
                        f"the study has no image but what was left out: {why}",
                        study,
                        str(folder.root / file),
                        remedy=f"where that is its LGE, name it: --rename {ending}=LGE",
                    )
                )
    return list({problem.study: problem for problem in reversed(problems)}.values())[::-1]


def _table(folder: Folder, options: Options) -> dict[str, list[int]]:
    """Class name -> ids, from the table that BIDS keeps beside the labels."""
    tables = [file for file in folder.files if re.fullmatch(r"(?:.*[/_])?dseg\.tsv", file)]
    try:
        content = {
            tuple((row["name"], int(row["index"])) for row in csv.DictReader(lines, delimiter="\t"))
            for lines in (folder.text(file).splitlines() for file in tables)
        }
    except (KeyError, ValueError, TypeError, csv.Error) as error:
        raise InputError(
            "the table of label ids cannot be read",
            file=folder.root / tables[0],
            expected="tab-separated columns index and name",
            got=str(error),
        ) from None
    if len(content) != 1:
        raise InputError(
            "the label ids of this cohort are not known",
            file=folder.root,
            expected="one dseg.tsv with the columns index and name",
            got=", ".join(tables) or "none",
            remedy="give them with --labels, for example --labels blood=1,myocardium=2,scar=3",
        )
    return labels_of(content.pop(), options.rename)


KIND = Kind(None, read, ("rename",), mark=_FILE.pattern)
