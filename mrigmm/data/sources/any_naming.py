"""A folder of NIfTI files of any naming: what each file is, by names, values and grids.

Sequence words stand in the names of files or folders (`file_names` in `resources/dicom_sequences.yaml`);
`any_studies` tells whose a file is. What cannot be told is asked, or left out and said.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from fnmatch import fnmatchcase

from mrigmm.data.sources.any_studies import IGNORE, OPTION, REGION, FoundFiles, studies_of, with_scheme
from mrigmm.data.sources.base import LABEL, NIFTI, Cohort, Folder, Kind, Options, Question
from mrigmm.data.sources.contents import Contents
from mrigmm.data.sources.file_names import NamedFile, read_name, sequences_in
from mrigmm.errors import InputError, some_of
from mrigmm.labels import SEQUENCES


def read(folder: Folder, options: Options) -> Cohort:
    """Studies of a folder with names of any kind, all of them under "test".

    Raises:
        InputError: no image in the folder, or nothing says which sequences they are.
    """
    found = FoundFiles(folder, options, Contents(folder.root))
    files = [file for file in folder.files if re.search(NIFTI + "$", file, re.IGNORECASE)]
    if not files:
        raise InputError(
            "there is no NIfTI file in the folder",
            file=folder.root,
            expected="images as .nii or .nii.gz, at any depth",
            got=folder.describe(),
            remedy="unzip archives first; convert other formats, for example with dcm2niix",
        )
    named = _as_told([read_name(file) for file in files], options.images, found)
    _sort(_as_the_folder_says(named, found), found)
    if not found.images:
        raise _nothing(found)
    entries = studies_of(found)
    labels = with_scheme(entries, found)
    names = {name for entry in entries for name in entry.images}
    sequences = (*(name for name in SEQUENCES if name in names), *sorted(names.difference(SEQUENCES)))
    told = [f"left out, {why}: {len(lost)} ({some_of(lost)})" for why, lost in found.left_out.items() if lost]
    gone = tuple(file for lost in found.left_out.values() for file in lost)
    return Cohort(
        sequences,
        labels,
        tuple(entries),
        (*found.notes, *told),
        tuple(found.taken),
        problems=tuple(found.problems),
        left_out=gone,
    )


def _as_told(
    named: Sequence[NamedFile], patterns: Mapping[str, Sequence[str]], found: FoundFiles
) -> list[NamedFile]:
    """The files with what the user's patterns say of them; a sequence with a pattern has no other files."""
    result = []
    used = set()
    for file in named:
        fits = [
            (role, place)
            for role, several in patterns.items()
            for place, pattern in enumerate(several)
            if _fits(file.file, pattern)
        ]
        used |= {(role, place) for role, place in fits}
        if not fits:
            others = tuple(name for name in file.sequences if name not in patterns)
            if file.sequences and not others and not file.mask:
                found.leave_out(f"other {' and '.join(file.sequences)} than {OPTION} names", file.file)
            else:
                result.append(replace(file, sequences=others))
        elif len({role for role, _ in fits}) > 1:
            roles = " and ".join(dict.fromkeys(role for role, _ in fits))
            raise InputError(
                f"the file fits {OPTION} of {roles}", file=file.file, remedy="narrow the patterns"
            )
        elif fits[0][0] == IGNORE:
            found.leave_out(f"as {OPTION} says", file.file)
        else:
            role, place = fits[0]
            result.append(replace(file, sequences=(role,), weak=False, left_out=None, place=place))
    for role, several in patterns.items():
        for place, pattern in enumerate(several):
            if (role, place) not in used:
                raise InputError(
                    f"{OPTION} {role}={pattern} fits no file",
                    file=found.folder.root,
                    got=found.folder.describe(),
                    remedy="* stands for any text; a pattern with / is compared from the folder on",
                )
    return result


def _fits(file: str, pattern: str) -> bool:
    """Whether a file fits a pattern: its name, or with a / in the pattern its whole path; in any case."""
    pattern = re.sub(r"\{\w+\}", "*", pattern.replace("\\", "/")).casefold()
    return fnmatchcase((file if "/" in pattern else file.rsplit("/", 1)[-1]).casefold(), pattern)


def _as_the_folder_says(named: Sequence[NamedFile], found: FoundFiles) -> list[NamedFile]:
    """The files as the one sequence of the folder's own name, where no file or folder in it says any."""
    said = sequences_in(found.folder.root.resolve().name)
    if len(said) != 1 or any(file.sequences for file in named):
        return list(named)
    found.taken.append(f"all images are taken for {said[0]}, which the folder's name says")
    return [file if file.mask else replace(file, sequences=said) for file in named]


def _sort(named: Sequence[NamedFile], found: FoundFiles) -> None:
    """Tell images, masks and other files apart."""
    unknown: list[NamedFile] = []
    for file in named:
        if file.left_out is not None:
            found.leave_out(f"{file.left_out}, by their name", file.file)
            continue
        try:
            several = found.contents.frames(file.file) > 1
            if file.place is not None:
                (found.masks if file.sequence in (REGION, LABEL) else found.images).append(file)
            elif (file.mask or file.part or not file.sequences) and found.contents.ids(file.file) is not None:
                found.masks.append(file)
            elif file.sequence is not None:
                found.images.append(file)
            elif file.mask:
                what = "several frames" if several else "no ids"
                found.leave_out(f"called masks, but they hold {what}", file.file)
            else:
                unknown.append(file)
        except InputError as error:
            found.unreadable.append((file, error))
    _ask_for_sequences(unknown, found)


def _ask_for_sequences(unknown: Sequence[NamedFile], found: FoundFiles) -> None:
    """Ask which sequence images are whose names say none or several; nameless ones only where all are so."""
    for sequences in dict.fromkeys(file.sequences for file in unknown):
        files = [file for file in unknown if file.sequences == sequences]
        names = [file.file for file in files]
        answers = sequences or SEQUENCES
        text = f"which sequence is {names[0]}" + (f" (and {len(names) - 1} more)" if len(names) > 1 else "")
        option = f"{OPTION} {answers[0]}='{_pattern(names)}'"
        chosen = None
        if sequences or not found.images:
            chosen = found.ask(("sequence", *sequences), Question(text, answers, option))
        if chosen is not None:
            found.images += [replace(file, sequences=(answers[chosen],)) for file in files]
        elif sequences:
            why = f"names that say {' and '.join(sequences)}; {option} decides"
            found.leave_out(why, *names)
        else:
            found.leave_out("names that say no sequence", *names)


def _pattern(names: Sequence[str]) -> str:
    """A pattern for files of one kind."""
    return names[0].rsplit("/", 1)[-1] if len(names) == 1 else "*.nii*"


def _nothing(found: FoundFiles) -> InputError:
    """Why there is no image."""
    if found.unreadable:
        problems = [replace(p, study=None) for _, error in found.unreadable for p in error.problems]
        return InputError.from_problems(problems)
    told = [f"{why}: {some_of(files, 3)}" for why, files in found.left_out.items() if files]
    return InputError(
        "nothing says which sequence the images of the folder are",
        file=found.folder.root,
        expected=f"{', '.join(SEQUENCES)} or words for them in the names of files or folders",
        got="; ".join(told) or found.folder.describe(),
        remedy=f"say it with a pattern, for example {OPTION} LGE='*.nii.gz'",
    )


KIND = Kind(None, read, ("images",))
