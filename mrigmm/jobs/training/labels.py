"""`mrigmm train --labels`: the pretrained networks go on learning from reference labels, whole or in part."""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch

from mrigmm.config_learning import LabelsConfig
from mrigmm.data.files import sole_writer
from mrigmm.data.known_classes import has_labels, known_classes
from mrigmm.data.study import read_sequences, reference_sequence
from mrigmm.data.whole import load_whole
from mrigmm.errors import InputError, Problem, counted
from mrigmm.jobs.options import PredictOptions
from mrigmm.jobs.predicting.finished import make_request
from mrigmm.jobs.predicting.segmented_study import segment_to_files, write_tables
from mrigmm.jobs.predicting.segmenter import choose_segmenter
from mrigmm.jobs.training.learning import LearningJob, Learnt, cohort_name, write_run
from mrigmm.jobs.training.studies import Entry
from mrigmm.labels import Region
from mrigmm.methods.network_finder import NetworkFinder
from mrigmm.methods.study_views import NETWORK_SEQUENCES, OTHER, network_channels
from mrigmm.networks.segmenter import GIVEN_NOTHING, GIVEN_VENTRICLE, GIVEN_WALL, Segmenter
from mrigmm.phantom.generator import Backgrounds, read_backgrounds
from mrigmm.pretrained.folder import PretrainedFolder
from mrigmm.pretrained.learning import LearntCohort
from mrigmm.settings_yaml import validated
from mrigmm.training.label_tuning import (
    PARTS,
    Candidate,
    HeldOut,
    HeldOutScores,
    log_files,
    told_parts,
    tune,
    with_weights,
)
from mrigmm.training.labelled import LabelledStudy

# With fewer labelled patients nobody is held out: one of two would cost half of what there is to learn from.
_LEAST_TO_HOLD_OUT = 3
FOLDS, PREDICTIONS = "folds", "predictions"


@dataclass(frozen=True)
class _Labelled:
    """A labelled study: where it stands in its manifest, and its slices."""

    entry: Entry
    slices: LabelledStudy


@dataclass(frozen=True)
class _Division:
    """Studies that are learnt from, and those that are held out of it."""

    used: list[_Labelled]
    held_out: list[_Labelled]


@dataclass(frozen=True)
class _Choice:
    """Which weights are taken: those after `step` steps, `share` of the way from the start to them."""

    step: int
    share: float


def learn_labels(job: LearningJob) -> Learnt:
    """Fine-tune the segmenters on what labels there are.

    With three labelled patients or more, some are held out and choose how long to train and how far to go
    from the start, which is among the choices; then all are learnt from, as long and as far. With `folds`,
    every labelled patient is held out once; what a fold's networks are is chosen by the other folds, and
    their predictions are written to `folds/predictions`.

    Raises:
        InputError: no study is labelled, or too few for the folds.
    """
    settings = validated(LabelsConfig, job.asked.overrides, source="--set")
    studies, problems = _read(job)
    job.tell(problems)
    tuning = _Tuning(job, settings, read_backgrounds())
    folds = _divisions(settings, studies, job.asked.folds)
    if not folds:
        return _unwatched(
            tuning, studies, problems, "with fewer than three labelled patients none is held out"
        )

    tried = [tuning.try_out(division, n) for n, division in enumerate(folds)]
    if not any(np.isfinite(c.score) for fold in tried for network in fold for c in network):
        return _unwatched(tuning, studies, problems, "the labels of held-out studies tell too little")
    n_networks = len(tried[0])
    before, after = [], []
    for n, division in enumerate(folds):
        judges = [other for other in range(len(folds)) if other != n] or [n]
        networks = [
            tuning.network(k, _weights(tried[n][k], _best([tried[j][k] for j in judges])))
            for k in range(n_networks)
        ]
        held_out = HeldOut([s.slices for s in division.held_out], job.start.networks.config)
        before.append(held_out.score(tuning.starts))
        after.append(held_out.score(networks))
        if job.asked.folds is not None:
            _write_fold(job, n, networks, _record(settings, division.used, division.held_out))
    choices = [_best([fold[k] for fold in tried]) for k in range(n_networks)]
    was, now = (float(np.nanmean([s.score for s in scores])) for scores in (before, after))
    kept = now <= was or all(choice.share == 0 for choice in choices)
    if job.asked.folds is not None:
        problems += _predict_folds(job, folds)
    segmenters = tuning.starts if kept else tuning.fit_all([s.slices for s in studies], choices)
    held_out_studies = [s for division in folds for s in division.held_out]
    words = "nothing trained was better" if kept else _in_words(choices)
    cohort = _record(settings, studies, held_out_studies).model_copy(
        update={
            "measured": f"mean Dice, held out: {counted(len(held_out_studies), 'study', 'studies')}"
            + (
                ", each by networks chosen without it" if len(folds) > 1 else ", which also chose the weights"
            ),
            "before": _means(before),
            "after": _means(before if kept else after),
            "kept_start": kept,
            "why": f"on the held-out studies {words}; then all labelled studies were learnt from"
            if not kept
            else f"on the held-out studies {words}",
        }
    )
    if kept:
        problems.append(Problem(f"the networks were kept as they were: {cohort.why}", severity="note"))
    return Learnt(segmenters, cohort, tuple(problems))


class _Tuning:
    """Trains the segmenters of a job."""

    def __init__(self, job: LearningJob, settings: LabelsConfig, backgrounds: Backgrounds) -> None:
        given = job.start.networks.segmenters
        n = len(given) if job.asked.seeds is None else job.asked.seeds
        self.job, self.settings, self.backgrounds = job, settings, backgrounds
        self.starts: list[Segmenter] = [given[k % len(given)] for k in range(n)]
        self.config = job.start.networks.config.model_copy(
            update={
                "batch": settings.batch,
                "learning_rate": settings.learning_rate,
                "average_decay": settings.average_decay,
            }
        )

    def network(self, k: int, weights: Mapping[str, torch.Tensor]) -> Segmenter:
        """Segmenter k with other weights."""
        network = with_weights(self.starts[k], weights)
        assert isinstance(network, Segmenter)
        return network

    def try_out(self, division: _Division, n: int) -> list[list[Candidate]]:
        """Candidates of every segmenter, tried on the held-out studies of a division."""
        held_out = HeldOut([s.slices for s in division.held_out], self.config)
        used = [s.slices for s in division.used]
        return [self._tune(k, used, held_out, f"tried_{n}_{k}") for k in range(len(self.starts))]

    def fit_all(self, studies: Sequence[LabelledStudy], choices: Sequence[_Choice]) -> list[Segmenter]:
        """Train on all studies, as long and as far as was chosen for each segmenter."""
        fitted = []
        for k, choice in enumerate(choices):
            if choice.share == 0:
                fitted.append(self.starts[k])
                continue
            [end] = self._tune(k, studies, None, f"segmenter_{k}", stop=choice.step, share=choice.share)
            fitted.append(self.network(k, end.weights))
        return fitted

    def fit_few(self, studies: Sequence[LabelledStudy]) -> list[Segmenter]:
        """Train on the studies of one or two patients: few steps, small ones."""
        self.config = self.config.model_copy(update={"learning_rate": self.settings.few_learning_rate})
        steps = self.settings.few_steps
        ends = [
            self._tune(k, studies, None, f"segmenter_{k}", steps=steps)[0] for k in range(len(self.starts))
        ]
        return [self.network(k, end.weights) for k, end in enumerate(ends)]

    def _tune(
        self,
        k: int,
        studies: Sequence[LabelledStudy],
        held_out: HeldOut | None,
        name: str,
        *,
        steps: int | None = None,
        stop: int | None = None,
        share: float = 1.0,
    ) -> list[Candidate]:
        settings = self.settings
        torch.manual_seed(settings.seed + k)
        seeds = self.config.seeds
        # What the network has learnt from is what it rehearses.
        ranges = self.config.ranges_of(seeds[k % len(seeds)])
        steps = settings.steps if steps is None else steps
        return tune(
            self.starts[k],
            studies,
            self.config.model_copy(update={"ranges": ranges, "changed_ranges": {}}),
            steps=steps,
            stop=steps if stop is None else stop,
            share=share,
            simulated=settings.simulated,
            seed=settings.seed + k,
            backgrounds=self.backgrounds,
            held_out=held_out,
            files=log_files(self.job.folder.path, name),
            hardware=self.job.hardware,
            track=self.job.track,
        )


def _unwatched(
    tuning: _Tuning, studies: Sequence[_Labelled], problems: Sequence[Problem], why: str
) -> Learnt:
    """Few small steps, where no study can choose."""
    segmenters = tuning.fit_few([s.slices for s in studies])
    words = {
        "measured": f"nothing: {why}",
        "why": f"{tuning.settings.few_steps} small steps, not chosen by any study",
    }
    cohort = _record(tuning.settings, studies, ()).model_copy(update=words)
    return Learnt(segmenters, cohort, tuple(problems))


def _read(job: LearningJob) -> tuple[list[_Labelled], list[Problem]]:
    """All labelled studies that can be read; raises InputError where there is none."""
    networks = job.start.networks
    finder = NetworkFinder(str(networks.device), networks.source.path)
    studies: list[_Labelled] = []
    problems: list[Problem] = []
    labelled = [entry for entry in job.entries if has_labels(entry.study)]
    for entry in job.track(labelled, "Reading"):
        try:
            found = labelled_study(entry, job.cohort.sequences, finder)
        except InputError as error:
            problems += error.problems
            continue
        if len(found.sets):
            studies.append(_Labelled(entry, found))
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


def _divisions(settings: LabelsConfig, studies: Sequence[_Labelled], n_folds: int | None) -> list[_Division]:
    """Who is held out of what, by patient: every one once, or a share once; nobody of one or two patients."""
    patients = sorted({s.entry.patient for s in studies})
    random.Random(settings.seed).shuffle(patients)
    least = _LEAST_TO_HOLD_OUT if n_folds is None else max(n_folds, 2)
    if n_folds is not None and (n_folds < 2 or len(patients) < n_folds):
        raise InputError(
            "there are not enough labelled patients for these folds",
            expected=f"2 folds or more, and {least} labelled patients or more",
            got=f"--folds {n_folds}, and {len(patients)} labelled patients",
            remedy="fewer folds, or leave out --folds",
        )
    if len(patients) < least:
        return []
    if n_folds is not None:
        groups = [set(patients[n::n_folds]) for n in range(n_folds)]
    else:
        groups = [set(patients[: max(1, round(settings.held_out_share * len(patients)))])]
    return [
        _Division(
            [s for s in studies if s.entry.patient not in group],
            [s for s in studies if s.entry.patient in group],
        )
        for group in groups
    ]


def _best(folds: Sequence[Sequence[Candidate]]) -> _Choice:
    """The step and share of the best mean score over folds; of equal ones the nearest to the start."""
    scores: dict[_Choice, list[float]] = {}
    for fold in folds:
        for candidate in fold:
            scores.setdefault(_Choice(candidate.step, candidate.share), []).append(candidate.score)
    means = {
        choice: float(np.nanmean(values)) for choice, values in scores.items() if np.isfinite(values).any()
    }
    return max(means, key=means.__getitem__) if means else _Choice(0, 0.0)


def _weights(candidates: Sequence[Candidate], choice: _Choice) -> Mapping[str, torch.Tensor]:
    """The weights of a choice."""
    return next(c.weights for c in candidates if (c.step, c.share) == (choice.step, choice.share))


def _record(
    settings: LabelsConfig, studies: Sequence[_Labelled], held_out: Sequence[_Labelled]
) -> LearntCohort:
    """Return the record of the studies learnt from, before anything is known of the outcome."""
    return LearntCohort(
        name=cohort_name(s.entry for s in studies),
        use="labels",
        studies=tuple(s.slices.id for s in studies),
        labelled=tuple(s.slices.id for s in studies),
        held_out=tuple(s.slices.id for s in held_out),
        labels=_told([s.slices for s in studies]),
        settings=settings.model_dump(mode="json"),
    )


def _told(studies: Sequence[LabelledStudy]) -> str:
    """Return in words what labels tell apart: parts, and how many slices say so."""
    counts = sum(len(s.sets) * told_parts(torch.from_numpy(s.sets)).numpy() for s in studies)
    assert isinstance(counts, np.ndarray)
    told = [f"{name} ({n} slices)" for name, n in zip(PARTS, counts, strict=True) if n]
    return ", ".join(told)


def _in_words(choices: Sequence[_Choice]) -> str:
    """Return in words the choice for each network."""
    words = [
        "the start"
        if choice.share == 0
        else f"{100 * choice.share:.0f} % of the weights after {choice.step} steps"
        for choice in choices
    ]
    return "the best were " + ", ".join(f"{text} (network {k})" for k, text in enumerate(words))


def _means(scores: Sequence[HeldOutScores]) -> dict[str, float]:
    """Mean Dice by part over the studies of all folds."""
    names = dict.fromkeys(name for score in scores for name in score.dice)
    pooled = {name: [v for score in scores for v in score.dice.get(name, [])] for name in names}
    return HeldOutScores(pooled, float("nan")).means()


def _write_fold(job: LearningJob, n: int, networks: Sequence[Segmenter], cohort: LearntCohort) -> None:
    """Write the networks of a fold as a run of its own."""
    folder = _fold(job, n)
    folder.path.mkdir(parents=True, exist_ok=True)
    words = {"measured": "with the other folds", "why": "chosen by the other folds"}
    write_run(folder, job.start, Learnt(networks, cohort.model_copy(update=words)))


def _fold(job: LearningJob, n: int) -> PretrainedFolder:
    return PretrainedFolder(job.folder.path / FOLDS / f"fold_{n}")


def _predict_folds(job: LearningJob, folds: Sequence[_Division]) -> list[Problem]:
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
