"""Adaptation of the segmenters to a cohort: steps on slices that are simulated as the cohort's were made."""

from __future__ import annotations

from collections.abc import Sequence
from copy import deepcopy
from dataclasses import dataclass
from functools import partial

import numpy as np
import torch
from torch import Tensor

from mrigmm.config_learning import AdaptConfig
from mrigmm.config_pretrain import GeneratorRanges, PretrainConfig
from mrigmm.networks.segmenter import Segmenter, SegmenterInput
from mrigmm.phantom.generator import Backgrounds, Examples, draw_examples
from mrigmm.phantom.generator.cohort import (
    CohortKnobs,
    FloatArray,
    cohort_knobs,
    draw_knobs,
    study_figures,
    with_knobs,
)
from mrigmm.training.callbacks import Track
from mrigmm.training.hardware import Hardware
from mrigmm.training.label_tuning import between, overlaps, with_weights
from mrigmm.training.labelled import OF_CODE, SeenSlices
from mrigmm.training.pretraining import Batch, SegmenterModule, StepFiles, fit_steps, segmenter_batch

_POOL_STREAM, _STEP_STREAM, _JUDGE_STREAM = 4, 5, 6  # of a seed's random numbers; others have 1 to 3
_OWN_SEQUENCES = 0.7  # of the cohort's simulated studies have its sequences; the others any
# Weights between start (0) and the adapted network (1) that are judged; of equal ones the first.
SHARES = (0.5, 1.0)


@dataclass(frozen=True)
class StudyKind:
    """Sequences and region of a study.

    Attributes:
        sequences: channels, of LGE, T2, bSSFP.
        given: `networks.segmenter.GIVEN_*`.
    """

    sequences: tuple[int, ...]
    given: int


@dataclass(frozen=True)
class CohortSimulator:
    """Draws studies as a cohort's were made.

    Attributes:
        knobs: how the cohort's are spread.
        sequences: of each of its studies.
    """

    knobs: CohortKnobs
    sequences: tuple[tuple[int, ...], ...]

    def draw(self, ranges: GeneratorRanges, backgrounds: Backgrounds, rng: np.random.Generator) -> Examples:
        """Draw a study; what the knobs leave open is of the `ranges`."""
        own = self.sequences[rng.integers(len(self.sequences))] if rng.random() < _OWN_SEQUENCES else None
        simulated = ranges.model_copy(update={"real_chance": 0.0})
        return draw_examples(with_knobs(simulated, self.knobs.draw(rng)), backgrounds, rng, sequences=own)


@torch.inference_mode()
def look_once(networks: Sequence[Segmenter], x: SegmenterInput) -> Tensor:
    """Class probabilities (N, K, A, A), mean over networks, each slice seen once."""
    device = next(networks[0].parameters()).device
    seen = SegmenterInput(*(part.to(device) for part in vars(x).values()))
    return torch.stack([network(seen).softmax(dim=1) for network in networks]).mean(dim=0).cpu()


def figures_of(networks: Sequence[Segmenter], x: SegmenterInput, kind: StudyKind) -> FloatArray:
    """Figures (F,) of a study, `study_figures` with what the networks say of it."""
    return study_figures(x.image.numpy(), look_once(networks, x).numpy(), kind.sequences)


def find_knobs(
    networks: Sequence[Segmenter],
    figures: FloatArray,
    kind: StudyKind,
    ranges: GeneratorRanges,
    backgrounds: Backgrounds,
    settings: AdaptConfig,
    track: Track,
) -> CohortKnobs:
    """Estimate the knobs of a cohort from the figures of its studies.

    Args:
        networks: that looked at the cohort's studies.
        figures: (N, F) of studies of one kind.
        kind: the kind.
        ranges: that simulated studies are drawn from.
        backgrounds: real slices.
        settings: how many, and the seed.
        track: progress bar.
    """
    rng = np.random.default_rng([_POOL_STREAM, settings.seed])
    simulated = ranges.model_copy(update={"real_chance": 0.0})
    pool, seen = [], []
    for _ in track(range(settings.pool), "Simulating"):
        pool.append(draw_knobs(ranges, rng))
        of_study = with_knobs(simulated, pool[-1])
        drawn = draw_examples(of_study, backgrounds, rng, sequences=kind.sequences, given=kind.given)
        seen.append(figures_of(networks, _seen(drawn).x, kind))
    return cohort_knobs(np.stack(pool), np.stack(seen), figures)


def adapted_batch(
    config: PretrainConfig,
    cohort: CohortSimulator,
    backgrounds: Backgrounds,
    rehearsed: int,
    pretrained_steps: int,
    seed: int,
    step: int,
) -> Batch:
    """Draw the slices of one step: those of the cohort's simulator, then of the pretraining's.

    Args:
        config: of the pretraining, with the batch of this one.
        cohort: the cohort's simulator.
        backgrounds: real slices.
        rehearsed: slices of the pretraining's ranges.
        pretrained_steps: steps whose slices the network has seen.
        seed: of the ranges, and of everything drawn.
        step: number of the step.
    """
    rng = np.random.default_rng([_STEP_STREAM, seed, step])
    ranges, wanted = config.ranges_of(seed), config.batch - rehearsed
    drawn: list[Examples] = []
    while sum(len(e.codes) for e in drawn) < wanted:
        drawn.append(cohort.draw(ranges, backgrounds, rng))
    names = ("image", "present", "region", "given", "codes")
    own = {
        name: torch.from_numpy(np.concatenate([getattr(e, name) for e in drawn])[:wanted]) for name in names
    }
    if not rehearsed:
        return own
    before = segmenter_batch(
        config.model_copy(update={"batch": rehearsed}), backgrounds, seed, pretrained_steps + step
    )
    return {name: torch.cat([own[name], before[name]]) for name in names}


def adapt_segmenter(
    network: Segmenter,
    config: PretrainConfig,
    cohort: CohortSimulator,
    settings: AdaptConfig,
    *,
    seed: int,
    backgrounds: Backgrounds,
    files: StepFiles,
    hardware: Hardware,
    workers: int,
    track: Track,
) -> dict[str, Tensor]:
    """Train a copy of a segmenter on simulated slices and return its weights.

    Args:
        network: what it starts from; it is left as it is.
        config: of the pretraining, with the ranges of this network.
        cohort: the cohort's simulator.
        settings: of the steps.
        seed: of everything drawn.
        backgrounds: real slices.
        files: log and checkpoint.
        hardware: where it computes.
        workers: processes that draw slices beside the training.
        track: progress bar.
    """
    taken = ("steps", "batch", "learning_rate", "average_decay")
    changed = config.model_copy(update={name: getattr(settings, name) for name in taken})
    module = SegmenterModule(deepcopy(network), changed)
    module.network.train().requires_grad_(True)
    draw = partial(adapted_batch, changed, cohort, backgrounds, settings.rehearsed, config.steps, seed)
    files.log.parent.mkdir(parents=True, exist_ok=True)
    fit_steps(module, draw, files, hardware, workers=workers, track=track)
    return {name: value.detach().clone() for name, value in module.network.state_dict().items()}


def weights_between(network: Segmenter, weights: dict[str, Tensor], share: float) -> Segmenter:
    """The segmenter that is `share` of the way from a network to other weights."""
    moved = with_weights(network, between(network.state_dict(), weights, share))
    assert isinstance(moved, Segmenter)
    return moved


class Judge:
    """Fresh simulated studies of the cohort's simulator and of the pretraining's ranges, labels known.

    Args:
        cohort: the cohort's simulator.
        ranges: of the pretraining.
        backgrounds: real slices.
        settings: how many, and the seed.
    """

    def __init__(
        self,
        cohort: CohortSimulator,
        ranges: GeneratorRanges,
        backgrounds: Backgrounds,
        settings: AdaptConfig,
    ) -> None:
        rng = np.random.default_rng([_JUDGE_STREAM, settings.seed])
        simulated = ranges.model_copy(update={"real_chance": 0.0})
        count = range(settings.judged)
        self.own = [_seen(cohort.draw(ranges, backgrounds, rng)) for _ in count]
        self.before = [_seen(draw_examples(simulated, backgrounds, rng)) for _ in count]

    def scores(self, networks: Sequence[Segmenter]) -> tuple[FloatArray, FloatArray]:
        """Mean Dice (N,) of each study of the cohort's simulator, and of the pretraining's ranges."""
        own, before = ([_score(networks, study) for study in group] for group in (self.own, self.before))
        return np.array(own), np.array(before)


def _seen(drawn: Examples) -> SeenSlices:
    tensors = (torch.from_numpy(a) for a in (drawn.image, drawn.present, drawn.region, drawn.given))
    return SeenSlices(SegmenterInput(*tensors), OF_CODE[torch.from_numpy(drawn.codes).long()])


def _score(networks: Sequence[Segmenter], study: SeenSlices) -> float:
    """Mean Dice over the parts that are known and not given; NaN where there is none."""
    found = [forgiving for _, forgiving in overlaps(look_once(networks, study.x), study).values()]
    return float(np.mean(found)) if found else float("nan")
