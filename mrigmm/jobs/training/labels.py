"""`mrigmm train --labels`: the pretrained networks go on learning from reference labels, whole or in part."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import torch

from mrigmm.config_learning import LabelsConfig
from mrigmm.errors import Problem, counted
from mrigmm.jobs.training.folds import (
    Choice,
    Division,
    best_choice,
    divisions,
    predict_folds,
    weights_of,
    write_fold,
)
from mrigmm.jobs.training.labelled_studies import Labelled, read_labelled
from mrigmm.jobs.training.learning import LearningJob, Learnt, cohort_name
from mrigmm.networks.segmenter import GIVEN_VENTRICLE, Segmenter
from mrigmm.phantom.generator import read_backgrounds
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

# The worst of two simulated scanners gained most half of the way; one labelled patient may lead astray.
_UNWATCHED_SHARE = 0.5

# Candidates by fold and network.
_Tried = Sequence[Sequence[Sequence[Candidate]]]


def learn_labels(job: LearningJob) -> Learnt:
    """Fine-tune the segmenters on what labels there are.

    Some patients are held out, of two each in turn (`divisions`), and choose how long to train and how far to
    go from the start, which is among the choices; then all are learnt from, as long and as far. With `folds`,
    every labelled patient is held out once; what a fold's networks are is chosen by the other folds, and
    their predictions are written to `folds/predictions`.

    Raises:
        InputError: no study is labelled, or too few for the folds.
    """
    settings = validated(LabelsConfig, job.asked.overrides, source="--set")
    studies, problems = read_labelled(job)
    job.tell(problems)
    tuning = _Tuning(job, settings)
    folds = divisions(settings, studies, job.asked.folds)
    if not folds:
        return tuning.unwatched(studies, problems, "too few labelled patients to hold one out")
    tried = [tuning.try_out(division, n) for n, division in enumerate(folds)]
    if not any(np.isfinite(c.score) for fold in tried for network in fold for c in network):
        return tuning.unwatched(studies, problems, "the labels of held-out studies tell too little")
    before, after = tuning.score_folds(folds, tried)
    if job.asked.folds is not None:
        problems += predict_folds(job, folds)
    choices = [best_choice(network) for network in zip(*tried, strict=True)]
    was, now = (float(np.nanmean([s.score for s in scores])) for scores in (before, after))
    kept = now <= was or all(choice.share == 0 for choice in choices)
    best = ", ".join(f"{_in_words(choice)} (network {k})" for k, choice in enumerate(choices))
    words = "nothing trained was better" if kept else f"the best were {best}"
    why = f"on the held-out studies {words}" + (
        "" if kept else "; then all labelled studies were learnt from"
    )
    held_out = [s for division in folds for s in division.held_out]
    how = "each by networks chosen without it" if len(folds) > 1 else "which also chose the weights"
    cohort = tuning.record(
        studies,
        held_out,
        measured=f"mean Dice, held out: {counted(len(held_out), 'study', 'studies')}, {how}",
        before=_means(before),
        after=_means(after),
        kept_start=kept,
        why=why,
    )
    if kept:
        problems.append(Problem(f"the networks were kept as they were: {why}", severity="note"))
    networks = tuning.starts if kept else tuning.fit(studies, choices)
    return tuning.learnt(networks, cohort, problems)


class _Tuning:
    """Trains the segmenters of a job, and after them the finder, if there is one."""

    def __init__(self, job: LearningJob, settings: LabelsConfig) -> None:
        given, finder = job.start.networks.segmenters, job.start.networks.finder
        n = len(given) if job.asked.seeds is None else job.asked.seeds
        self.job, self.settings, self.backgrounds = job, settings, read_backgrounds()
        self.n_segmenters = n
        self.starts: list[Segmenter] = [given[k % len(given)] for k in range(n)]
        self.starts += [] if finder is None else [finder]
        taken = ("batch", "learning_rate", "average_decay")
        self.config = job.start.networks.config.model_copy(
            update={name: getattr(settings, name) for name in taken}
        )

    def try_out(self, division: Division, n: int) -> list[list[Candidate]]:
        """Candidates of every segmenter, tried on the held-out studies of a division."""
        whole = Choice(self.settings.steps, 1.0)
        return [
            self._tune(k, division.used, held_out, f"tried_{n}_{k}", whole)
            for k, held_out in enumerate(self._held_out(division))
        ]

    def score_folds(
        self, folds: Sequence[Division], tried: _Tried
    ) -> tuple[list[HeldOutScores], list[HeldOutScores]]:
        """Scores of start and tuned networks on each fold, chosen by the others; `--folds` writes them."""
        before, after = [], []
        for n, division in enumerate(folds):
            judges = [fold for other, fold in enumerate(tried) if other != n] or [tried[n]]
            networks = [
                self._network(k, weights_of(tried[n][k], best_choice([fold[k] for fold in judges])))
                for k in range(len(self.starts))
            ]
            held_out = self._held_out(division)
            before.append(self._score(self.starts, held_out))
            after.append(self._score(networks, held_out))
            if self.job.asked.folds is not None:
                words = {"measured": "with the other folds", "why": "chosen by the other folds"}
                cohort = self.record(division.used, division.held_out, **words)
                write_fold(self.job, n, self.learnt(networks, cohort))
        return before, after

    def fit(self, studies: Sequence[Labelled], choices: Sequence[Choice]) -> list[Segmenter]:
        """Train on all studies, as long and as far as was chosen for each network."""
        fitted = []
        for k, choice in enumerate(choices):
            if choice.share == 0:
                fitted.append(self.starts[k])
                continue
            name = "finder" if k == self.n_segmenters else f"segmenter_{k}"
            [end] = self._tune(k, studies, None, name, choice)
            fitted.append(self._network(k, end.weights))
        return fitted

    def unwatched(self, studies: Sequence[Labelled], problems: Sequence[Problem], why: str) -> Learnt:
        """Half of the way that all steps lead, where no study can choose."""
        choice = Choice(self.settings.steps, _UNWATCHED_SHARE)
        cohort = self.record(
            studies, (), measured=f"nothing: {why}", why=f"{_in_words(choice)}, not chosen by any study"
        )
        choices = [choice] * len(self.starts)
        return self.learnt(self.fit(studies, choices), cohort, problems)

    def learnt(
        self, networks: Sequence[Segmenter], cohort: LearntCohort, problems: Sequence[Problem] = ()
    ) -> Learnt:
        """Result with these networks in the place of the starts."""
        n = self.n_segmenters
        finder = networks[n] if len(networks) > n else None
        return Learnt(networks[:n], finder, cohort, self.settings.calibrated_on, tuple(problems))

    def record(
        self, studies: Sequence[Labelled], held_out: Sequence[Labelled], **outcome: object
    ) -> LearntCohort:
        """Record of what was learnt from which studies."""
        ids = tuple(s.slices.id for s in studies)
        cohort = LearntCohort(
            name=cohort_name(s.entry for s in studies),
            use="labels",
            studies=ids,
            labelled=ids,
            held_out=tuple(s.slices.id for s in held_out),
            labels=_told([s.slices for s in studies]),
            settings=self.settings.model_dump(mode="json"),
        )
        return cohort.model_copy(update=outcome)

    def _held_out(self, division: Division) -> list[HeldOut]:
        """Return what judges each network."""
        studies = [s.slices for s in division.held_out]
        segmenters = HeldOut(studies, self.config)
        finder = [HeldOut(studies, self.config, GIVEN_VENTRICLE)] * (len(self.starts) - self.n_segmenters)
        return [segmenters] * self.n_segmenters + finder

    def _score(self, networks: Sequence[Segmenter], held_out: Sequence[HeldOut]) -> HeldOutScores:
        """Score the segmenters together, and the finder."""
        n = self.n_segmenters
        scores = held_out[0].score(networks[:n])
        for finder, judge in zip(networks[n:], held_out[n:], strict=True):
            found = judge.score([finder])
            dice = {f"{name}, by the finder": values for name, values in found.dice.items()}
            known = [score for score in (scores.score, found.score) if np.isfinite(score)]
            scores = HeldOutScores({**scores.dice, **dice}, float(np.mean(known)) if known else float("nan"))
        return scores

    def _network(self, k: int, weights: Mapping[str, torch.Tensor]) -> Segmenter:
        network = with_weights(self.starts[k], weights)
        assert isinstance(network, Segmenter)
        return network

    def _tune(
        self,
        k: int,
        studies: Sequence[Labelled],
        held_out: HeldOut | None,
        name: str,
        choice: Choice,
    ) -> list[Candidate]:
        seed = self.settings.seed + k
        torch.manual_seed(seed)
        seeds = self.config.seeds
        # What the network has learnt from is what it rehearses.
        ranges = (
            self.config.ranges_of_finder()[-1]
            if k == self.n_segmenters
            else self.config.ranges_of(seeds[k % len(seeds)])
        )
        return tune(
            self.starts[k],
            [s.slices for s in studies],
            self.config.model_copy(update={"ranges": ranges, "changed_ranges": {}}),
            steps=self.settings.steps,
            stop=choice.step,
            share=choice.share,
            simulated=self.settings.simulated,
            seed=seed,
            backgrounds=self.backgrounds,
            held_out=held_out,
            files=log_files(self.job.folder.path, name),
            hardware=self.job.hardware,
            track=self.job.track,
        )


def _told(studies: Sequence[LabelledStudy]) -> str:
    """Return in words what labels tell apart: parts, and how many slices say so."""
    counts = sum(len(s.sets) * told_parts(torch.from_numpy(s.sets)).numpy() for s in studies)
    assert isinstance(counts, np.ndarray)
    return ", ".join(f"{name} ({n} slices)" for name, n in zip(PARTS, counts, strict=True) if n)


def _in_words(choice: Choice) -> str:
    if choice.share == 0:
        return "the start"
    return f"{100 * choice.share:.0f} % of the weights after {choice.step} steps"


def _means(scores: Sequence[HeldOutScores]) -> dict[str, float]:
    """Mean Dice by part over the studies of all folds."""
    names = dict.fromkeys(name for score in scores for name in score.dice)
    pooled = {name: [v for score in scores for v in score.dice.get(name, [])] for name in names}
    return HeldOutScores(pooled, float("nan")).means()
