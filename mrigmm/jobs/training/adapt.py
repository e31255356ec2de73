"""`mrigmm train` without labels: the pretrained networks adapt to a cohort, where that pays."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mrigmm.config_learning import AdaptConfig
from mrigmm.data.study_tensors import StudyTensors
from mrigmm.errors import InputError, Problem, counted
from mrigmm.evaluation.intervals import Estimate, estimate_mean
from mrigmm.jobs.common import cohort_task
from mrigmm.jobs.training.learning import LearningJob, Learnt, cohort_name
from mrigmm.jobs.training.studies import Entry
from mrigmm.methods.anatomy import load_found
from mrigmm.methods.network_finder import NetworkFinder
from mrigmm.methods.pretrained import PretrainedMethod, own_fit
from mrigmm.methods.study_views import centred_view, given_view
from mrigmm.mixture.threads import one_thread
from mrigmm.networks.segmenter import Segmenter, SegmenterInput
from mrigmm.phantom.generator import Backgrounds, read_backgrounds
from mrigmm.phantom.generator.cohort import FloatArray
from mrigmm.pretrained.learning import LearntCohort
from mrigmm.settings_yaml import validated
from mrigmm.training.adaptation import (
    SHARES,
    CohortSimulator,
    Judge,
    StudyKind,
    adapt_segmenter,
    figures_of,
    find_knobs,
    weights_between,
)
from mrigmm.training.label_tuning import log_files

OWN, BEFORE, NLL = "Dice, simulated like the cohort", "Dice, simulated as in the pretraining", "NLL_V"


@dataclass(frozen=True)
class _Seen:
    """A study as it is kept.

    Attributes:
        entry: the study.
        kind: what there is of it.
        figures: (F,) `phantom.generator.cohort.study_figures`.
        tensors: its voxels, of as many studies as are measured.
    """

    entry: Entry
    kind: StudyKind
    figures: FloatArray
    tensors: StudyTensors | None


def adapt(job: LearningJob) -> Learnt:
    """Adapt the segmenters to a cohort by slices that are simulated as its studies were made.

    No label is read, and nothing that a network says of a study becomes a label: the studies tell the
    simulator how large hearts are, how thick walls, how far apart and how wide the classes' intensities, and
    how sharp images. Where `decide` finds no gain, the networks
    that it started from are kept.

    Raises:
        InputError: no study can be read.
    """
    settings = validated(AdaptConfig, job.asked.overrides, source="--set")
    start, backgrounds = job.start.networks, read_backgrounds()
    n = len(start.segmenters) if job.asked.seeds is None else job.asked.seeds
    starts = [start.segmenters[k % len(start.segmenters)] for k in range(n)]
    method = PretrainedMethod(cohort_task(job.cohort, None, str(start.device)), {})
    with one_thread():
        studies, problems = _look(job, method, settings)
        job.tell(problems)
        cohort = _simulator(job, studies, settings, backgrounds)
        judge = Judge(cohort, start.config.ranges, backgrounds, settings)
        tensors = [s.tensors for s in studies if s.tensors is not None]
        nll = nll_v(method, starts, tensors)
        was = judge.scores(starts)
    adapted = _train(job, starts, cohort, settings, backgrounds)
    tried = []
    for share in SHARES:
        with one_thread():
            networks = [weights_between(s, w, share) for s, w in zip(starts, adapted, strict=True)]
            tried.append((networks, judge.scores(networks), share))
    networks, now, share = max(tried, key=lambda t: float(np.nanmean(t[1][0]) + np.nanmean(t[1][1])))
    with one_thread():
        then = nll_v(method, networks, tensors)
    decision = decide(now[0] - was[0], now[1] - was[1], then - nll, settings)
    before = {OWN: _mean(was[0]), BEFORE: _mean(was[1]), NLL: nll}
    after = {OWN: _mean(now[0]), BEFORE: _mean(now[1]), NLL: then}
    verdict = "adapted" if decision.taken else "the networks are kept as they were"
    note = Problem(f"{verdict}: {decision.why}", file=str(job.cohort.path), severity="note")
    return Learnt(
        networks if decision.taken else starts,
        start.finder,
        LearntCohort(
            name=cohort_name(s.entry for s in studies),
            use="no labels",
            studies=tuple(s.entry.study.id for s in studies),
            settings={**settings.model_dump(mode="json"), "share of the adapted weights": share},
            measured=f"Dice on simulated studies that nothing was learnt from, {settings.judged} of either "
            f"kind; NLL_V on {counted(len(tensors), 'study', 'studies')} of the cohort",
            before=before,
            after=after,
            kept_start=not decision.taken,
            why=decision.why,
            knobs=cohort.knobs.table(),
        ),
        settings.calibrated_on,
        (*problems, note),
    )


def nll_v(
    method: PretrainedMethod, segmenters: Sequence[Segmenter], studies: Sequence[StudyTensors]
) -> float:
    """Mean negative log-likelihood per voxel of studies, each under its own mixture.

    `-log sum_k pi_k(x) N(x | k)`, with the networks' probabilities as pi; mean over voxels, then studies.

    Args:
        method: of the cohort's task.
        segmenters: the networks.
        studies: the studies.
    """
    method.networks = replace(method.networks, segmenters=tuple(s.eval() for s in segmenters))
    return float(np.mean([own_fit(s, s.region, method.look(s).prior).nll_v for s in studies]))


def _look(
    job: LearningJob, method: PretrainedMethod, settings: AdaptConfig
) -> tuple[list[_Seen], list[Problem]]:
    """Read all studies and describe them; raises InputError where none can be read."""
    networks = job.start.networks
    finder = NetworkFinder(str(networks.device), networks.source.path)
    classes, sequences = method.task.classes, method.task.sequences
    seen: list[_Seen] = []
    problems: list[Problem] = []
    for entry in job.track(job.entries, "Reading"):
        try:
            study = load_found(entry.study, sequences, classes, finder, labels=entry.labels)
        except InputError as error:
            problems += error.problems
            continue
        problems += study.findings
        view = _view(study)
        there = tuple(view.present[0].nonzero()[:, 0].tolist())
        kind = StudyKind(there, int(view.given[0]))
        figures = figures_of(networks.segmenters[:1], view, kind)
        kept = len(seen) < settings.measured
        seen.append(_Seen(entry, kind, figures, study if kept else None))
    if not seen:
        raise InputError.from_problems(problems)
    return seen, problems


def _view(study: StudyTensors) -> SegmenterInput:
    """The slices of a study with what is given of it; a region that was only found is not given."""
    if study.found_region is None:
        return given_view(study).slices
    x, y = (float(c) for c in study.region.nonzero()[:, :2].float().mean(dim=0))
    return centred_view(study, (x, y)).slices


def _simulator(
    job: LearningJob, studies: Sequence[_Seen], settings: AdaptConfig, backgrounds: Backgrounds
) -> CohortSimulator:
    """The simulator by the figures of the studies of the commonest kind."""
    kind = Counter(s.kind for s in studies).most_common(1)[0][0]
    figures = np.stack([s.figures for s in studies if s.kind == kind])
    networks = job.start.networks
    ranges = networks.config.ranges
    # One network tells the figures as well as the mean of several, in half of the time.
    knobs = find_knobs(networks.segmenters[:1], figures, kind, ranges, backgrounds, settings, job.track)
    return CohortSimulator(knobs, tuple(s.kind.sequences for s in studies))


def _train(
    job: LearningJob,
    starts: Sequence[Segmenter],
    cohort: CohortSimulator,
    settings: AdaptConfig,
    backgrounds: Backgrounds,
) -> list[dict[str, Any]]:
    """Weights of every segmenter after its steps."""
    config, adapted = job.start.networks.config, []
    for k, network in enumerate(starts):
        files = log_files(job.folder.path, f"segmenter_{k}")
        # Each rehearses the ranges that it has learnt from, on slices of its own.
        ranges = config.ranges_of(config.seeds[k % len(config.seeds)])
        weights = adapt_segmenter(
            network,
            config.model_copy(update={"ranges": ranges, "changed_ranges": {}}),
            cohort,
            settings,
            seed=settings.seed + k,
            backgrounds=backgrounds,
            files=files,
            hardware=job.hardware,
            workers=_workers(),
            track=job.track,
        )
        files.checkpoint.unlink(missing_ok=True)
        adapted.append(weights)
    return adapted


@dataclass(frozen=True)
class Decision:
    """Whether adapted networks are taken.

    Attributes:
        taken: they are.
        own: gain of Dice on studies of the cohort's simulator, with its 95 % interval.
        before: the same on those of the pretraining's ranges.
        why: in words.
    """

    taken: bool
    own: Estimate
    before: Estimate
    why: str


def decide(
    gain_own: NDArray[np.floating],
    gain_before: NDArray[np.floating],
    rise_of_nll: float,
    settings: AdaptConfig,
) -> Decision:
    """Decide without labels of the cohort whether an adaptation pays.

    It does where simulated studies of the cohort's kind surely gain, those of the pretraining's lose at most
    `most_lost` in the mean, and the cohort's own studies do not become less likely (`most_risen`).

    Args:
        gain_own: (N,) differences of Dice, adapted minus start, on the cohort's simulator.
        gain_before: (N,) the same on the pretraining's ranges.
        rise_of_nll: of the cohort's NLL_V.
        settings: the limits.
    """
    own, before = estimate_mean(gain_own.tolist()), estimate_mean(gain_before.tolist())
    reasons = []
    if not own.low > 0:
        reasons.append(
            f"simulated studies like the cohort's do not surely gain: {own.mean:+.3f} "
            f"[{own.low:+.3f}, {own.high:+.3f}] Dice"
        )
    if not before.mean >= -settings.most_lost:
        reasons.append(f"simulated studies of the pretraining lose: {before.mean:+.3f} Dice")
    if not rise_of_nll <= settings.most_risen:
        reasons.append(f"the cohort's studies become less likely: NLL_V {rise_of_nll:+.3f}")
    gain = (
        f"simulated studies like the cohort's gain {own.mean:+.3f} [{own.low:+.3f}, {own.high:+.3f}] Dice, "
        f"those of the pretraining {before.mean:+.3f}; NLL_V {rise_of_nll:+.3f}"
    )
    return Decision(not reasons, own, before, "; ".join(reasons) or gain)


def _workers() -> int:
    """One process that draws slices, where there is a core for it."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return min(cores - 1, 1)


def _mean(values: FloatArray) -> float:
    return float(np.nanmean(values))
