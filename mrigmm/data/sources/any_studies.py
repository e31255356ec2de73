"""Whose the files of a folder of any naming are: studies, one file per sequence, and their masks.

What is left of names beside the words for sequences tells the studies apart (`file_names`). What cannot be
told is asked, or left out and said.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

from mrigmm.data.cine import CINE_SEQUENCE
from mrigmm.data.manifest import check_study_id
from mrigmm.data.sources.base import LABEL, Entry, Folder, Options, Question, natural_key
from mrigmm.data.sources.contents import Contents, schemes_of
from mrigmm.data.sources.file_names import NamedFile
from mrigmm.data.visits import visit_of
from mrigmm.errors import InputError, Problem, some_of
from mrigmm.labels import SEQUENCES

REGION, IGNORE = "region", "ignore"
# A reading of the names in which more of the files than this have a rival is not the right one; nor one in
# which so many studies lack what others of the same name have.
_MOST_FAULTS = 1 / 3
OPTION = "--images"
# A folder's name that is rather a patient's (P1, Pat-07) than a data set's (images, MyoPS2020).
_OF_A_PATIENT = re.compile(r"[^\W\d_]+[ _-]?\d{1,3}")


@dataclass
class FoundFiles:
    """Files as they have been understood so far."""

    folder: Folder
    options: Options
    contents: Contents
    images: list[NamedFile] = field(default_factory=list)
    masks: list[NamedFile] = field(default_factory=list)
    unreadable: list[tuple[NamedFile, InputError]] = field(default_factory=list)
    left_out: dict[str, list[str]] = field(default_factory=lambda: defaultdict(list))  # why -> files
    notes: list[str] = field(default_factory=list)
    taken: list[str] = field(default_factory=list)
    problems: list[Problem] = field(default_factory=list)
    answers: dict[tuple[str, ...], int | None] = field(default_factory=dict)

    def leave_out(self, why: str, *files: str) -> None:
        """Leave files out, and say why."""
        self.left_out[why] += files

    def ask(self, key: tuple[str, ...], question: Question) -> int | None:
        """Put a question once."""
        if key not in self.answers:
            self.answers[key] = self.options.ask(question)
        return self.answers[key]


def _plain_key(key: Sequence[str]) -> tuple[str, ...]:
    return tuple(re.sub(r"[\s_\-.]+", "_", part.casefold()) for part in key)


@dataclass(frozen=True)
class _Reading:
    """One way to tell studies from names.

    Attributes:
        key: what is left of a file's name.
        common: how many of the first folders all files share.
        level: how many parts of the rest name a study; 0: all files are of one, named by those folders.
    """

    key: Callable[[NamedFile], tuple[str, ...]]
    common: int
    level: int

    def study(self, file: NamedFile) -> tuple[str, ...]:
        """Return the part of a file's key that names its study."""
        key = self.key(file)
        return key[self.common :][: self.level] if self.level else key[: self.common]


def studies_of(found: FoundFiles) -> list[Entry]:
    """The studies, each with one file per sequence and what masks belong to it."""
    reading = _reading(found.images)
    groups: dict[tuple[str, ...], list[NamedFile]] = defaultdict(list)
    written: dict[tuple[str, ...], tuple[str, ...]] = {}
    for file in found.images:
        key = _plain_key(reading.study(file))
        groups[key].append(file)
        written.setdefault(key, reading.study(file))
    visits = _visits(list(groups))
    masks = _masks_by_study(reading, groups, found)
    root = found.folder.root.resolve().name
    around = (root, *reading.key(found.images[0])[: reading.common])[-1]
    entries, numbered = [], []
    for key in sorted(groups, key=lambda key: natural_key("/".join(key))):
        study = re.sub(r'[\\/:*?"<>|]', "_", "_".join(written[key])) or around
        if re.fullmatch(r"[\d_]+", study) and _OF_A_PATIENT.fullmatch(around):
            study = f"{around}_{study}"
            numbered.append(study)
        reason = check_study_id(study)
        images = None if reason else _one_each(study, groups[key], found)
        if reason:
            found.problems.append(Problem(reason, study, got=study, remedy="rename the files"))
        if not images:
            continue
        patient, visit = tuple(written[key]) if visits else visit_of(study) or (study, None)
        entry = Entry(
            study,
            patient,
            {name: file.file for name, file in images.items()},
            split="test",
            frames=dict(_frames(study, images, found)),
            visit=visit,
        )
        region, label = _maps(entry, masks.get(key, []), found)
        entries.append(replace(entry, region=region, label=label))
    if len(numbered) > 1:
        first = next(iter(entries[0].images.items()), None) if entries else None
        how = f": {OPTION} {first[0]}='{first[1].rsplit('/', 1)[-1]}'" if first else ""
        found.notes.append(
            f"{some_of(numbered)} are taken for studies; where they are series of {around}, name one{how}"
        )
    for file, error in found.unreadable:
        key = reading.study(file)
        if file.sequences or (file.mask and _plain_key(key) in groups):
            study = "_".join(key) or around
            found.problems += [replace(problem, study=study) for problem in error.problems]
        else:
            found.leave_out("not readable", file.file)
    return entries


def _reading(images: Sequence[NamedFile]) -> _Reading:
    """The reading with the fewest studies and few faults; else the one that leaves the user to decide."""
    readings = []
    for key in (lambda file: file.whole, lambda file: file.start):
        keys = [_plain_key(key(file)) for file in images]
        depth, common = max(map(len, keys)), 0
        while all(len(k) > common + 1 and k[common] == keys[0][common] for k in keys) and len(images) > 1:
            common += 1
        # Numbers alone are those of series, where the files can be those of one study.
        numbers = all(re.fullmatch(r"[\d_]*", part) for k in keys for part in k[common:])
        levels = range(0 if numbers else 1, max(depth - common, 1) + 1)
        readings += [_Reading(key, common, level) for level in levels]
    faults = {id(found): _faults(found, images) for found in readings}

    def order(found: _Reading) -> tuple[bool, int, int]:
        studies, bare, rivals = faults[id(found)]
        fits = rivals <= _MOST_FAULTS * len(images) and bare < _MOST_FAULTS * studies
        return not fits, 0 if fits else bare, studies if fits else rivals

    return min(readings, key=order)


def _faults(reading: _Reading, images: Sequence[NamedFile]) -> tuple[int, int, int]:
    """Number of studies, of those without the main sequence of their kin, and of files with a rival."""
    by_study: dict[tuple[str, ...], dict[str, list[NamedFile]]] = defaultdict(lambda: defaultdict(list))
    for file in images:
        by_study[_plain_key(reading.study(file))][file.sequences[0]].append(file)
    firsts = [len(_best(files)) for roles in by_study.values() for files in roles.values()]
    present = {role for roles in by_study.values() for role in roles}
    first = next(name for name in (*SEQUENCES, *sorted(present)) if name in present)
    whole = {key for key, roles in by_study.items() if first in roles}
    folders, names = {key[:1] for key in whole}, tuple(f"{'_'.join(key)}_" for key in whole)
    bare = sum(
        key not in whole and (key[:1] in folders or "_".join(key).startswith(names)) for key in by_study
    )
    return len(by_study), bare, sum(number for number in firsts if number > 1)


def _visits(keys: Sequence[tuple[str, ...]]) -> bool:
    """Whether second parts of the keys are visits of patients, and not patients of a centre."""
    return all(len(key) == 2 for key in keys) and len({key[1] for key in keys}) < len(keys)


def _best(files: Sequence[NamedFile]) -> list[NamedFile]:
    """Return the files that go first, of those for one sequence of a study; several are rivals."""

    def order(file: NamedFile) -> tuple[int, bool, bool, bool]:
        return (file.place or 0, file.psir, file.systole, not file.short_axis)

    first = [file for file in files if order(file) == min(map(order, files))]
    packed = {file.file.casefold().removesuffix(".gz"): file for file in sorted(first, key=lambda f: f.file)}
    return list(packed.values())  # of x.nii and x.nii.gz the latter


def _one_each(study: str, files: Sequence[NamedFile], found: FoundFiles) -> dict[str, NamedFile]:
    """One file per sequence; none where the user has to decide."""
    images: dict[str, NamedFile] = {}
    undecided = []
    for name in dict.fromkeys(file.sequences[0] for file in files):
        of_it = [file for file in files if file.sequences[0] == name]
        best = _best(of_it)
        if len(best) > 1:
            chosen = _decide(study, name, best, found)
            if chosen is None:
                undecided.append((name, best))
                continue
            best = [best[chosen]]
        images[name] = best[0]
        others = [file.file for file in of_it if file is not best[0]]
        if others:
            found.leave_out(f"{name} beside the one that is taken{_why(best[0], of_it)}", *others)
    for name, best in undecided:
        found.problems.append(
            Problem(
                f"two files for {name}",
                study,
                str(found.folder.root),
                expected="one file per study and sequence; the study is left out",
                got=" and ".join(file.file for file in best),
                remedy=f"say which, for example {_choice(study, name, best[0])}",
            )
        )
    return {} if undecided else images


def _why(taken: NamedFile, files: Sequence[NamedFile]) -> str:
    if any(file.psir and not taken.psir for file in files):
        return " (magnitude before PSIR)"
    if any(file.systole and not taken.systole for file in files):
        return " (end-diastole before end-systole)"
    if any(taken.short_axis and not file.short_axis for file in files):
        return " (short axis in its name)"
    return ""


def _choice(study: str, name: str, file: NamedFile) -> str:
    return f"{OPTION} {name}='{_of_any_study(study, file)}'"


def _of_any_study(study: str, file: NamedFile) -> str:
    """The name of a file with * where the study's name stands."""
    name = file.file.rsplit("/", 1)[-1]
    start = file.whole[-1] if file.whole else study
    found = [part for part in (study, start) if part and part in name]
    return name.replace(found[0], "*", 1) if found else name


def _decide(study: str, name: str, files: Sequence[NamedFile], found: FoundFiles) -> int | None:
    """Ask which of rivals is meant, once for all studies with files of such names."""
    kinds = tuple(_of_any_study(study, file) for file in files)
    names = tuple(file.file for file in files)
    question = Question(f"which file is the {name} of {study}?", names, _choice(study, name, files[0]))
    return found.ask((name, *kinds), question)


def _frames(study: str, images: Mapping[str, NamedFile], found: FoundFiles) -> Iterator[tuple[str, int]]:
    """The frame of each file with several; of a cine none, as end-diastole is found when it is read."""
    for name, file in images.items():
        count = found.contents.frames(file.file)
        if count > 1 and name == CINE_SEQUENCE:
            found.taken.append(
                f"{study}: of the {count} frames of {file.file} the one at end-diastole is taken"
            )
        elif count > 1:
            found.notes.append(f"{study}: of the {count} volumes of {file.file} ({name}) the first is taken")
            yield name, 0


# --- masks


def _masks_by_study(
    reading: _Reading, studies: Mapping[tuple[str, ...], object], found: FoundFiles
) -> dict[tuple[str, ...], list[NamedFile]]:
    """Masks by the study in whose folder they lie, or whose name theirs begins with."""
    by_name = {"_".join(key): key for key in studies}
    result: dict[tuple[str, ...], list[NamedFile]] = defaultdict(list)
    for mask in found.masks:
        texts = ["_".join(_plain_key(key)) for key in (reading.study(mask), mask.whole, mask.whole[-1:])]
        texts += ["_".join(_plain_key(mask.whole[reading.common :]))]
        fitting = [
            name
            for name in by_name
            if any(text == name or (name and text.startswith(f"{name}_")) for text in texts)
        ]
        if len(by_name) == 1 or fitting:
            result[by_name[max(fitting, key=len, default=next(iter(by_name)))]].append(mask)
        else:
            found.leave_out("masks of no study", mask.file)
    return result


def _maps(entry: Entry, masks: Sequence[NamedFile], found: FoundFiles) -> tuple[str | None, str | None]:
    """Region map and reference label of a study."""
    reference = next(entry.images[name] for name in (*SEQUENCES, *entry.images) if name in entry.images)
    regions, labels = [], []
    for mask in masks:
        told = mask.sequence if mask.place is not None else None
        ids = found.contents.ids(mask.file)
        if ids is None:
            found.leave_out("called masks, but they hold no ids", mask.file)
        elif not found.contents.same_grid(mask.file, reference):
            found.leave_out(f"masks on another grid than {reference.rsplit('/', 1)[-1]}'s", mask.file)
        elif told == LABEL or (told is None and max(ids, default=0) > max(_REGION_IDS)):
            labels.append(mask)
        elif told is None and (why := found.contents.no_region(mask.file, mask.part)):
            found.leave_out(why, mask.file)
        else:
            regions.append(mask)
    return _only(entry.id, REGION, regions, found), _only(entry.id, LABEL, labels, found)


_REGION_IDS = (0, 1, 2)


def _only(study: str, role: str, masks: Sequence[NamedFile], found: FoundFiles) -> str | None:
    """The mask for a role: of several the one with most ids, else the user's choice, else none."""
    if not masks:
        return None
    number = {mask.file: len(found.contents.ids(mask.file) or ()) for mask in masks}
    best = [mask for mask in _best(masks) if number[mask.file] == max(number.values())] or list(masks)
    chosen = 0 if len(best) == 1 else _decide(study, role, best, found)
    rest = [mask.file for mask in masks if chosen is None or mask is not best[chosen]]
    if rest:
        how = (
            "beside the one that is taken"
            if chosen is not None
            else f"several for one study; {OPTION} decides"
        )
        found.leave_out(f"{role} maps, {how}", *rest)
    return None if chosen is None else best[chosen].file


def with_scheme(entries: list[Entry], found: FoundFiles) -> Mapping[str, Sequence[int]]:
    """The scheme of the labels; where their ids do not tell it, they are left out."""
    files = [entry.label for entry in entries if entry.label is not None]
    if found.options.labels or not files:
        return found.options.labels or {}
    ids = sorted({i for file in files for i in found.contents.ids(file) or ()})
    schemes = schemes_of(ids)
    if len(schemes) == 1:
        ((name, scheme),) = schemes.items()
        found.taken.append(f"the ids of {len(files)} label maps are taken for those of {name} (--labels)")
        return scheme
    known = " or ".join(schemes) or "no known scheme"
    found.leave_out(f"label maps with the ids {some_of([str(i) for i in ids])}: {known} (--labels)", *files)
    entries[:] = [replace(entry, label=None) for entry in entries]
    return {}
