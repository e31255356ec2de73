"""Studies of a training: manifest by manifest, read one by one, some of them held out."""

from __future__ import annotations

import random
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from mrigmm.config import RunConfig
from mrigmm.data.manifest import Manifest, Study
from mrigmm.data.manifest_file import read_manifest
from mrigmm.data.study_tensors import StudyTensors
from mrigmm.errors import InputError, Problem, near_misses
from mrigmm.jobs.common import Track, run_corrections
from mrigmm.methods.anatomy import Finder, load_found
from mrigmm.mixture.threads import one_thread


@dataclass(frozen=True)
class Entry:
    """A study, what the label ids of its manifest mean (for region maps that come from a label), and that
    manifest's name.
    """

    study: Study
    labels: Mapping[str, Sequence[int]]
    cohort: str = ""

    @property
    def patient(self) -> tuple[str, str]:
        """Whom the study shows; a study that does not say stands for itself."""
        study = self.study
        return ("study", study.id) if study.patient is None else ("patient", study.patient)


def training_entries(cohort: Manifest, also: Iterable[Path | str]) -> list[Entry]:
    """Studies under "training" of a manifest and of others.

    Raises:
        InputError: another manifest cannot be read, has no such study, a sequence of another name, or
            the id of a study that is already there.
    """
    entries = [Entry(study, cohort.labels, cohort.name) for study in cohort.split("training")]
    homes = {entry.study.id.casefold(): cohort.path for entry in entries}
    for path in also:
        other = read_manifest(Path(path))
        for name in other.sequences:
            if name not in cohort.sequences:
                raise InputError(
                    f"unknown sequence name '{name}'",
                    file=other.path,
                    expected=f"one of {', '.join(cohort.sequences)}, as in {cohort.path}",
                    remedy=near_misses(name, cohort.sequences),
                )
        for study in other.split("training"):
            key = study.id.casefold()  # case is ignored because some file systems do
            if key in homes:
                raise InputError(
                    "the study id stands in two manifests",
                    study=study.id,
                    file=other.path,
                    expected="an id of its own for each study",
                    got=f"the same id in {homes[key]}",
                    remedy="rename it in one of them, or leave the study out if it is the same one",
                )
            homes[key] = other.path
            entries.append(Entry(study, other.labels, other.name))
    return entries


class StudyReader:
    """Reads studies for a run.

    Args:
        config: with `sequences` and `classes` resolved.
        keep: keep what was read, so that each study is read once; otherwise memory holds one at a time.
        finder: finds the ventricle of studies without a region map; None: they are refused.
    """

    def __init__(self, config: RunConfig, *, keep: bool, finder: Finder | None = None) -> None:
        assert config.sequences is not None
        assert config.classes is not None
        self.sequences, self.classes = config.sequences, config.classes
        self.corrections = run_corrections(config)
        self.keep = keep
        self.finder = finder
        self._kept: dict[str, StudyTensors] = {}

    def __call__(self, entry: Entry) -> StudyTensors:
        """The study's tensors; raises InputError when it cannot be read."""
        if entry.study.id in self._kept:
            return self._kept[entry.study.id]
        tensors = load_found(
            entry.study,
            self.sequences,
            self.classes,
            self.finder,
            labels=entry.labels,
            corrections=self.corrections,
        )
        if self.keep:
            self._kept[entry.study.id] = tensors
        return tensors


@dataclass(frozen=True)
class Readable:
    """Result of reading all studies once.

    Attributes:
        entries: the studies that can be read.
        spacings_mm: voxel spacing of each.
        problems: errors of the others, warnings and notes.
    """

    entries: list[Entry]
    spacings_mm: list[tuple[float, float, float]]
    problems: list[Problem]


@one_thread()
def read_all(entries: Sequence[Entry], read: StudyReader, track: Track) -> Readable:
    """Read every study once; those that cannot be read are left out and reported.

    Raises:
        InputError: when none is left.
    """
    result = Readable([], [], [])
    for entry in track(entries, "Reading"):
        try:
            study = read(entry)
        except InputError as error:
            result.problems.extend(error.problems)
            continue
        result.entries.append(entry)
        result.spacings_mm.append(study.spacing_mm)
        result.problems.extend(study.findings)
    if not result.entries:
        raise InputError.from_problems(result.problems)
    return result


def draw_held_out(entries: Sequence[Entry], config: RunConfig) -> tuple[list[Entry], list[Entry]]:
    """Divide studies into those to train on and those to hold out, by patient.

    The nearest whole number of patients to `held_out_share`, at least one, drawn by `seed`.

    Raises:
        InputError: fewer than two patients to divide.
    """
    if config.held_out_share == 0:
        return list(entries), []
    patients = sorted({entry.patient for entry in entries})
    if len(patients) < 2:
        raise InputError(
            "there are too few patients to hold one out",
            expected="at least 2",
            got=str(len(patients)),
            remedy="train on all: --set held_out_share=0",
        )
    count = max(1, round(config.held_out_share * len(patients)))
    chosen = set(random.Random(config.seed).sample(patients, count))
    return (
        [entry for entry in entries if entry.patient not in chosen],
        [entry for entry in entries if entry.patient in chosen],
    )
