"""Labelled studies of a cohort, read for `mrigmm train --labels`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from mrigmm.data.known_classes import has_labels, known_classes
from mrigmm.data.study import read_sequences, reference_sequence
from mrigmm.data.whole import load_whole
from mrigmm.errors import InputError, Problem
from mrigmm.jobs.training.learning import LearningJob
from mrigmm.jobs.training.studies import Entry
from mrigmm.labels import Region
from mrigmm.methods.network_finder import NetworkFinder
from mrigmm.methods.study_views import NETWORK_SEQUENCES, OTHER, network_channels
from mrigmm.networks.segmenter import GIVEN_NOTHING, GIVEN_VENTRICLE, GIVEN_WALL
from mrigmm.training.labelled import LabelledStudy


@dataclass(frozen=True)
class Labelled:
    """A labelled study: where it stands in its manifest, and its slices."""

    entry: Entry
    slices: LabelledStudy


def read_labelled(job: LearningJob) -> tuple[list[Labelled], list[Problem]]:
    """All labelled studies that can be read; raises InputError where there is none."""
    networks = job.start.networks
    finder = NetworkFinder(str(networks.device), networks.source.path)
    studies: list[Labelled] = []
    problems: list[Problem] = []
    labelled = [entry for entry in job.entries if has_labels(entry.study)]
    for entry in job.track(labelled, "Reading"):
        try:
            found = labelled_study(entry, job.cohort.sequences, finder)
        except InputError as error:
            problems += error.problems
            continue
        if len(found.sets):
            studies.append(Labelled(entry, found))
    if problems and not studies:
        raise InputError.from_problems(problems)
    if not studies:
        raise InputError(
            "no study is labelled",
            file=job.cohort.path,
            expected="'label', 'scribbles' or a drawn 'region' of at least one study under 'training'",
            remedy="leave out --labels to learn without labels",
        )
    without = len(job.entries) - len(labelled)
    if without:
        text = f"studies without labels were not learnt from: {without}"
        problems.append(Problem(text, file=str(job.cohort.path), severity="note"))
    return studies, problems


def labelled_study(entry: Entry, sequences: Sequence[str], finder: NetworkFinder) -> LabelledStudy:
    """The slices of a study of which anything is known.

    Args:
        entry: the study, and what the ids of its labels mean.
        sequences: of the cohort.
        finder: finds the ventricle where neither label nor region map tells where it is.

    Raises:
        InputError: a file cannot be read or does not fit.
    """
    wanted = [name for name in (*NETWORK_SEQUENCES, OTHER) if name in sequences]
    if not wanted:
        raise InputError(
            "the networks know none of the sequences",
            study=entry.study.id,
            expected=f"one of {', '.join((*NETWORK_SEQUENCES, OTHER))}",
            got=", ".join(sequences),
        )
    images = read_sequences(entry.study, wanted, entry.labels)
    whole = load_whole(entry.study, wanted, entry.labels, images=images)
    known = known_classes(entry.study, whole, images, reference_sequence(images), entry.labels)
    image, present = network_channels(whole, whole.image.permute(3, 0, 1, 2))
    region = torch.zeros_like(whole.region) if known.region is None else known.region
    chosen = known.slices
    return LabelledStudy(
        entry.study.id,
        image[chosen].numpy(),
        present.numpy(),
        known.sets.permute(2, 0, 1)[chosen].numpy(),
        region.permute(2, 0, 1)[chosen].numpy(),
        _given(known.region),
        (whole.spacing_mm[0], whole.spacing_mm[1]),
        _centre(region) if region.any() else finder.locate(whole).centre,
    )


def _given(region: torch.Tensor | None) -> int:
    """The most that can be given of a region."""
    if region is None:
        return GIVEN_NOTHING
    return GIVEN_VENTRICLE if bool((region == Region.LV).any()) else GIVEN_WALL


def _centre(region: torch.Tensor) -> tuple[float, float]:
    """Centre of mass in voxels of X and Y."""
    x, y = (float(c) for c in region.nonzero()[:, :2].float().mean(dim=0))
    return x, y
