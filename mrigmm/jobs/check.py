"""`mrigmm check`: every problem of every study, before the work starts."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from mrigmm.data.manifest import Manifest, Study, read_manifest
from mrigmm.data.study import load_study, reference_sequence
from mrigmm.data.volumes import read_image, read_map
from mrigmm.errors import InputError, Problem
from mrigmm.jobs.common import Outcome, Track, cohort_task, no_progress, warnings_of
from mrigmm.labels import REGION_FILE_IDS


def check(
    manifest: Path | str,
    *,
    data_root: Path | str | None = None,
    prior: Path | str | None = None,
    track: Track = no_progress,
) -> Outcome:
    """Read every file of every study as training and prediction would, and collect what is wrong.

    Example:
        >>> mrigmm.check("cohort/manifest.json").problems  # doctest: +SKIP

    Args:
        manifest: the cohort.
        data_root: folder that the manifest's paths resolve against; default the manifest's.
        prior: population prior that will be used; default the shipped one where it fits.
        track: progress bar.

    Returns:
        `done` holds the studies without an error.

    Raises:
        InputError: when the manifest does not exist.
    """
    path = Path(manifest)
    if not path.exists():
        raise InputError("the manifest does not exist", file=path, remedy="check the path")
    try:
        cohort = read_manifest(path, None if data_root is None else Path(data_root))
    except InputError as error:
        return Outcome(path, (), error.problems)
    problems: list[Problem] = []
    classes = cohort.classes
    try:
        classes = cohort_task(cohort, None if prior is None else Path(prior), "cpu").classes
    except InputError as error:
        problems += error.problems
    done = []
    for study in track(cohort.split("all"), "Checking"):
        found = list(_study_problems(study, cohort, classes))
        problems += found
        if all(problem.severity == "warning" for problem in found):
            done.append(study.id)
    return Outcome(path, tuple(done), tuple(problems))


def _study_problems(study: Study, cohort: Manifest, classes: tuple[str, ...]) -> Iterator[Problem]:
    """File by file first, so that one bad file does not hide the next; then the study as a whole."""
    found: list[Problem] = []
    readable: dict[str, Path] = {}
    maps_readable = True
    for role, path in study.images.items():
        try:
            read_image(path, study=study.id, role=role)
            readable[role] = path
        except InputError as error:
            found += error.problems
    maps: list[tuple[str, Path, tuple[int, ...]]] = []
    if isinstance(study.region, Path):
        maps.append(("region", study.region, REGION_FILE_IDS))
    if study.label is not None and cohort.labels:
        maps.append(("label", study.label, tuple(i for ids in cohort.labels.values() for i in ids)))
    for role, path, known in maps:
        try:
            read_map(path, study=study.id, role=role, known=known)
        except InputError as error:
            found += error.problems
            maps_readable = False
    # What is wrong with a file has been said; the others are judged without it.
    if maps_readable and study.images and reference_sequence(study.images) in readable:
        try:
            tensors = load_study(
                replace(study, images=readable),
                cohort.sequences,
                classes,
                labels=cohort.labels,
                with_label=study.label is not None,
            )
            said = {f"no {name}" for name in study.images.keys() - readable.keys()}
            found += warnings_of(study.id, [text for text in tensors.warnings if text not in said])
        except InputError as error:
            found += error.problems
    yield from found
