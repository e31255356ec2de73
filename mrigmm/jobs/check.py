"""`mrigmm check`: every problem of every study, before the work starts."""

from __future__ import annotations

import multiprocessing
from collections.abc import Iterator, Mapping
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

import torch

from mrigmm.data import quality
from mrigmm.data.manifest import Manifest, Study
from mrigmm.data.manifest_file import read_manifest
from mrigmm.data.study import read_sequence, reference_sequence
from mrigmm.data.volumes import Volume, read_map
from mrigmm.errors import InputError, Problem
from mrigmm.jobs.common import Outcome, Track, cohort_task, no_progress, region_finder
from mrigmm.labels import BACKGROUND_ID, REGION_FILE_IDS, class_ids
from mrigmm.methods.anatomy import Finder, load_found
from mrigmm.mixture.threads import one_thread


def check(
    manifest: Path | str,
    *,
    data_root: Path | str | None = None,
    prior: Path | str | None = None,
    anatomy: Path | str | None = None,
    num_workers: int = 0,
    track: Track = no_progress,
) -> Outcome:
    """Read every file of every study as training and prediction would, and collect what is wrong.

    Examples:
        >>> mrigmm.check("cohort/manifest.json").problems  # doctest: +SKIP

    Args:
        manifest: the cohort.
        data_root: folder that the manifest's paths resolve against; default the manifest's.
        prior: population prior that will be used; default the shipped one where it fits.
        anatomy: folder of `mrigmm train-anatomy`, which finds the ventricle where no region map is given;
            default the pretrained networks.
        num_workers: processes that read studies at the same time; 0 reads in this one.
        track: progress bar.

    Returns:
        `done` holds the studies without an error.

    Raises:
        InputError: when the manifest is no file, or `anatomy` is no finished run.
    """
    path = Path(manifest)
    try:
        cohort = read_manifest(path, None if data_root is None else Path(data_root))
    except InputError as error:
        if not path.is_file():  # no manifest to check
            raise
        return Outcome(path, (), error.problems)
    finder = region_finder(None if anatomy is None else Path(anatomy), "cpu")
    problems = check_cohort(
        cohort, finder, prior=None if prior is None else Path(prior), num_workers=num_workers, track=track
    )
    bad = {problem.study for problem in problems if problem.severity == "error"}
    good = tuple(study.id for study in cohort.split("all") if study.id not in bad)
    return Outcome(path, good, tuple(problems))


def check_cohort(
    cohort: Manifest,
    finder: Finder | None,
    *,
    prior: Path | None = None,
    num_workers: int = 0,
    track: Track = no_progress,
) -> list[Problem]:
    """Return what is wrong with the studies of a cohort, in their order.

    Args:
        cohort: the studies.
        finder: finds the ventricle of those without a region map; None: of these only the files are checked.
        prior: population prior that will be used; None: the shipped one where it fits.
        num_workers: processes that read studies at the same time; 0 reads in this one.
        track: progress bar.
    """
    problems: list[Problem] = []
    classes = cohort.classes
    try:
        classes = cohort_task(cohort, prior, "cpu").classes
    except InputError as error:
        problems += error.problems
    studies = cohort.split("all")
    # On a busy machine two threads that wait for each other take many times as long as one.
    with one_thread(networks=True):
        found = _all_findings(studies, cohort, classes, finder, num_workers)
        findings = [of_study for _, of_study in zip(track(studies, "Checking"), found, strict=True)]
    problems += [problem for of_study in findings for problem in of_study.problems]
    ids = [study.id for study in studies]
    problems += _cohort_problems(cohort, dict(zip(ids, findings, strict=True)))
    order = {study: place for place, study in enumerate(ids)}
    problems.sort(key=lambda problem: -1 if problem.study is None else order[problem.study])
    return problems


def as_json(result: Outcome) -> dict[str, Any]:
    """A check as plain JSON; the keys stay as they are between versions."""
    counts = {
        f"n_{severity}s": sum(problem.severity == severity for problem in result.problems)
        for severity in ("error", "warning", "note")
    }
    problems = [asdict(problem) for problem in result.problems]
    return {
        "manifest": str(result.output),
        **counts,
        "studies_without_errors": result.done,
        "problems": problems,
    }


@dataclass(frozen=True)
class _Findings:
    """Findings of one study alone, and what the comparison with the others needs.

    Attributes:
        problems: of this study.
        fingerprints: role -> `quality.fingerprint`, of the files that could be read.
        distances_mm: sequence -> as `quality.on_another_grid` takes it.
    """

    problems: tuple[Problem, ...]
    fingerprints: Mapping[str, str | None] = field(default_factory=dict)
    distances_mm: Mapping[str, float | None] = field(default_factory=dict)


def _all_findings(
    studies: tuple[Study, ...],
    cohort: Manifest,
    classes: tuple[str, ...],
    finder: Finder | None,
    num_workers: int,
) -> Iterator[_Findings]:
    """Findings study by study, in order, from this process or from several."""
    # Workers need no list of all studies.
    one = partial(_study_findings, cohort=replace(cohort, splits={}), classes=classes, finder=finder)
    return map(one, studies) if num_workers == 0 else _from_workers(one, studies, num_workers)


def _from_workers(one: Any, studies: tuple[Study, ...], num_workers: int) -> Iterator[_Findings]:
    # Spawned: forking a process that runs threads can hang.
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(
        min(num_workers, len(studies)), context, initializer=torch.set_num_threads, initargs=(1,)
    ) as pool:
        futures = [pool.submit(one, study) for study in studies]
        try:
            for study, future in zip(studies, futures, strict=True):
                try:
                    yield future.result()
                except BrokenProcessPool:
                    yield _Findings((_dead_worker(study),))
        finally:
            pool.shutdown(wait=False, cancel_futures=True)


def _dead_worker(study: Study) -> Problem:
    return Problem(
        "the study could not be checked: a worker process ended",
        study.id,
        got="no result; often the system ended it for want of memory",
        remedy="use fewer workers, or none: --num-workers 0",
    )


def _study_findings(
    study: Study, *, cohort: Manifest, classes: tuple[str, ...], finder: Finder | None
) -> _Findings:
    """All about one study; an error that nobody foresaw must not stop the others."""
    try:
        return _inspect(study, cohort, classes, finder)
    except Exception as error:
        problem = Problem(
            "the study could not be checked: unexpected error",
            study.id,
            got=f"{type(error).__name__}: {error}",
            remedy="please report it, with the headers of the files",
        )
        return _Findings((problem,))


def _inspect(study: Study, cohort: Manifest, classes: tuple[str, ...], finder: Finder | None) -> _Findings:
    """File by file first, so that one bad file does not hide the next; then the study as a whole."""
    problems: list[Problem] = []
    images: dict[str, Volume] = {}
    for name in study.images:
        try:
            images[name] = read_sequence(study, name, cohort.labels)
        except InputError as error:
            problems += error.problems
    maps, map_problems = _read_maps(study, cohort, classes)
    # A cine that looks for end-diastole inside the region has met the region's problems already.
    problems += [problem for problem in map_problems if problem not in problems]
    read = (*images.values(), *maps.values())
    problems += [
        Problem(text, study.id, str(volume.path), severity="warning")
        for volume in read
        for text in volume.warnings
    ]
    fingerprints = {name: quality.fingerprint(volume.data) for name, volume in images.items()}
    if "region" in maps:
        fingerprints["region"] = quality.fingerprint(maps["region"].data)
    if not images or reference_sequence(study.images) not in images:
        return _Findings((*problems, *_grid_problems(study, images)), fingerprints)
    reference = images[reference_sequence(images)].grid
    distances = {
        name: None if volume.grid.same_as(reference) else volume.grid.difference_mm(reference)
        for name, volume in images.items()
        if name != reference_sequence(images)
    }
    # What is wrong with a file has been said; the study is judged without it.
    if not map_problems and (finder is not None or study.region is not None):
        try:
            tensors = load_found(
                replace(study, images={name: study.images[name] for name in images}),
                cohort.sequences,
                classes,
                finder,
                labels=cohort.labels,
                with_label=study.label is not None,
                with_scribbles=True,
                images=images,
            )
            said = {f"no {name}" for name in study.images.keys() - images.keys()}
            said |= {text for volume in read for text in volume.warnings}
            same = quality.same_images({name: volume.data for name, volume in images.items()})
            said |= {problem.what for problem in same}  # errors of the cohort
            problems += [problem for problem in tensors.findings if problem.what not in said]
        except InputError as error:
            problems += [*error.problems, *_grid_problems(study, images)]
    else:
        problems += _grid_problems(study, images)
    return _Findings(tuple(problems), fingerprints, distances)


def _read_maps(
    study: Study, cohort: Manifest, classes: tuple[str, ...]
) -> tuple[dict[str, Volume], list[Problem]]:
    """Region, label and scribble files, as far as they can be read, and what is wrong with the others."""
    files: list[tuple[str, Path, tuple[int, ...]]] = []
    if isinstance(study.region, Path):
        files.append(("region", study.region, REGION_FILE_IDS))
    if study.label is not None and cohort.labels:
        files.append(("label", study.label, tuple(i for ids in cohort.labels.values() for i in ids)))
    if study.scribbles is not None:
        files.append(("scribbles", study.scribbles, (BACKGROUND_ID, *class_ids(classes).values())))
    maps: dict[str, Volume] = {}
    problems: list[Problem] = []
    for role, path, known in files:
        try:
            maps[role] = read_map(path, study=study.id, role=role, known=known)
        except InputError as error:
            problems += error.problems
    return maps, problems


def _grid_problems(study: Study, images: Mapping[str, Volume]) -> Iterator[Problem]:
    """Findings about the grids of the sequences, of a study that cannot be loaded."""
    for problem in quality.grid_problems(images, reference_sequence(study.images)):
        yield replace(problem, study=study.id)


def _cohort_problems(cohort: Manifest, findings: Mapping[str, _Findings]) -> Iterator[Problem]:
    """Findings about names, and those that compare studies."""
    names = (*quality.unknown_classes([*cohort.labels]), *quality.unknown_sequences(cohort.sequences))
    yield from (replace(problem, file=str(cohort.path)) for problem in names)
    split_of = {study.id: split for split, studies in cohort.splits.items() for study in studies}
    yield from quality.patients_in_two_splits(cohort.splits)
    yield from quality.same_content({study: f.fingerprints for study, f in findings.items()}, split_of)
    for name in cohort.sequences:
        found = {study: f.distances_mm[name] for study, f in findings.items() if name in f.distances_mm}
        problem = quality.on_another_grid(name, found)
        if problem is not None:
            yield problem
