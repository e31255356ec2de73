"""Labelled studies held out of a training: who, what they choose, and the runs and predictions of folds."""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch

from mrigmm.config_learning import LabelsConfig
from mrigmm.data.files import sole_writer
from mrigmm.errors import InputError, Problem
from mrigmm.jobs.options import PredictOptions
from mrigmm.jobs.predicting.finished import make_request
from mrigmm.jobs.predicting.segmented_study import segment_to_files, write_tables
from mrigmm.jobs.predicting.segmenter import choose_segmenter
from mrigmm.jobs.training.labelled_studies import Labelled
from mrigmm.jobs.training.learning import LearningJob, Learnt, write_run
from mrigmm.pretrained.folder import PretrainedFolder
from mrigmm.training.label_tuning import Candidate, shows_infarct

FOLDS, PREDICTIONS = "folds", "predictions"

_Patient = tuple[str, str]  # `Entry.patient`


@dataclass(frozen=True)
class Division:
    """Studies that are learnt from, and those that are held out of it."""

    used: list[Labelled]
    held_out: list[Labelled]


@dataclass(frozen=True)
class Choice:
    """Which weights are taken: those after `step` steps, `share` of the way from the start to them."""

    step: int
    share: float


def divisions(settings: LabelsConfig, studies: Sequence[Labelled], n_folds: int | None) -> list[Division]:
    """Who is held out of what, by patient: each once, or a share once; of two each once, of one nobody.

    Patients with an infarct are spread over the groups, since a network that learns from healthy hearts
    alone forgets infarcts. So nobody is held out of two patients one of whom has no infarct, either.
    """
    patients = sorted({s.entry.patient for s in studies})
    random.Random(settings.seed).shuffle(patients)
    if n_folds is not None and (n_folds < 2 or len(patients) < n_folds):
        raise InputError(
            "there are not enough labelled patients for these folds",
            expected=f"2 folds or more, and {max(n_folds, 2)} labelled patients or more",
            got=f"--folds {n_folds}, and {len(patients)} labelled patients",
            remedy="fewer folds, or leave out --folds",
        )
    shown = [(s.entry.patient, shows_infarct(torch.from_numpy(s.slices.sets))) for s in studies]
    infarcts = {patient for patient, shows in shown if shows}
    patients.sort(key=lambda patient: patient not in infarcts)
    if n_folds is not None:
        groups = _dealt(patients, n_folds)
    elif len(patients) > 2:
        groups = [_some_of(patients, settings.held_out_share, n_infarcts=len(infarcts))]
    else:  # one patient alone would judge by chance
        healthy = {patient for patient, shows in shown if shows is False} - infarcts
        can_judge = len(patients) == 2 and not (infarcts and healthy)
        groups = _dealt(patients, 2) if can_judge else []
    return [
        Division(
            [s for s in studies if s.entry.patient not in group],
            [s for s in studies if s.entry.patient in group],
        )
        for group in groups
    ]


def _dealt(patients: Sequence[_Patient], n: int) -> list[set[_Patient]]:
    """Patients in n groups, dealt in turn."""
    return [{*patients[k::n]} for k in range(n)]


def _some_of(patients: Sequence[_Patient], share: float, *, n_infarcts: int) -> set[_Patient]:
    """A share of the patients, of whom those with an infarct come first; a single infarct is not among it."""
    n = max(1, round(share * len(patients)))
    if n_infarcts < 2:
        return {*patients[-n:]}
    return {patients[round(k * len(patients) / n)] for k in range(n)}


def best_choice(folds: Sequence[Sequence[Candidate]]) -> Choice:
    """The step and share of the best mean score over folds; of equal ones the nearest to the start."""
    scores: dict[Choice, list[float]] = {}
    for fold in folds:
        for candidate in fold:
            scores.setdefault(Choice(candidate.step, candidate.share), []).append(candidate.score)
    means = {
        choice: float(np.nanmean(values)) for choice, values in scores.items() if np.isfinite(values).any()
    }
    return max(means, key=means.__getitem__) if means else Choice(0, 0.0)


def weights_of(candidates: Sequence[Candidate], choice: Choice) -> Mapping[str, torch.Tensor]:
    """The weights of a choice."""
    return next(c.weights for c in candidates if (c.step, c.share) == (choice.step, choice.share))


def write_fold(job: LearningJob, n: int, learnt: Learnt) -> None:
    """Write the networks of a fold as a run of its own."""
    folder = _fold(job, n)
    folder.path.mkdir(parents=True, exist_ok=True)
    write_run(folder, job, learnt)


def _fold(job: LearningJob, n: int) -> PretrainedFolder:
    return PretrainedFolder(job.folder.path / FOLDS / f"fold_{n}")


def predict_folds(job: LearningJob, folds: Sequence[Division]) -> list[Problem]:
    """Predict every labelled study by the networks that have not seen it."""
    out = job.folder.path / FOLDS / PREDICTIONS
    problems: list[Problem] = []
    classes: tuple[str, ...] = ()
    with sole_writer(out):
        for n, division in enumerate(folds):
            studies = tuple(s.entry.study for s in division.held_out)
            cohort = replace(job.cohort, splits={"test": studies})
            options = PredictOptions(
                run=_fold(job, n).path, device=job.asked.device or "auto", overwrite=True
            )
            segmenter = choose_segmenter(cohort, options)
            classes = segmenter.classes
            request = make_request(segmenter, studies, options)
            for study in job.track(studies, f"Predicting fold {n}"):
                try:
                    problems += segment_to_files(study, out, request, ())
                except InputError as error:
                    problems += error.problems
        problems += write_tables(out, classes)
    return problems
