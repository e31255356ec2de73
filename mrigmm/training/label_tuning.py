"""Training of a segmenter on labels that may leave classes, slices and voxels open."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader

from mrigmm.config_pretrain import PretrainConfig
from mrigmm.labels import ANY_CLASS, SEGMENTER_CLASSES
from mrigmm.networks.segmenter import (
    GIVEN_NOTHING,
    GIVEN_WALL,
    Segmenter,
    SegmenterInput,
    allowed_classes_of,
)
from mrigmm.phantom.generator import Backgrounds
from mrigmm.training.callbacks import Track
from mrigmm.training.hardware import Hardware
from mrigmm.training.labelled import OF_CODE, LabelledStudy, SeenSlices, draw_labelled, whole_view
from mrigmm.training.pretraining import Batch, StepFiles, StepModule, fit_steps, segmenter_batch

_DICE_SMOOTH = 20.0  # pixels
_STREAM = 3  # of a seed's random numbers; the pretraining has 1 and 2
_K = len(SEGMENTER_CLASSES)
_OUTSIDE, _VENTRICLE = SEGMENTER_CLASSES.index("background"), slice(1, _K - 1)
# Sums of classes whose overlap is learnt and scored, as far as labels tell them.
PARTS: Mapping[str, tuple[str, ...]] = {
    "blood": ("blood",),
    "wall": ("myocardium", "edema", "scar", "mvo"),
    "infarct": ("scar", "mvo"),
    "pathology": ("edema", "scar", "mvo"),
    "edema": ("edema",),
    "myocardium": ("myocardium",),
    "rv": ("rv",),
}
_MEMBERS = torch.tensor([[name in names for name in SEGMENTER_CLASSES] for names in PARTS.values()])
SCORED = ("blood", "wall", "infarct", "pathology")
# Weights between start (0) and the trained network (1) that are tried.
SHARES = (0.5, 1.0)
_SMALL = 50.0  # pixels that a score of one study forgives, so that a single pixel does not decide


def known_parts(allowed: Tensor) -> tuple[Tensor, Tensor]:
    """Where each of the `PARTS` is (B, M, A, A) bool, and where it is not, as far as that is known."""
    members = _MEMBERS.to(allowed.device)
    possible = torch.stack([allowed[:, m].any(dim=1) for m in members], dim=1)
    other = torch.stack([allowed[:, ~m].any(dim=1) for m in members], dim=1)
    return possible & ~other, other & ~possible


def told_parts(sets: Tensor) -> Tensor:
    """Which of the `PARTS` (M,) labels (B, A, A) tell apart wherever they say anything."""
    said = (sets != ANY_CLASS)[:, None]
    inside, outside = known_parts(allowed_classes_of(sets))
    return said.any() & ~(said & ~inside & ~outside).any(dim=3).any(dim=2).any(dim=0)


def shows_infarct(sets: Tensor) -> bool | None:
    """Whether labels (B, A, A) show an infarct; None: they do not tell infarcts apart."""
    infarct = list(PARTS).index("infarct")
    if not told_parts(sets)[infarct]:
        return None
    return bool(known_parts(allowed_classes_of(sets))[0][:, infarct].any())


def label_loss(logits: Tensor, sets: Tensor, *, outside_weight: float) -> Tensor:
    """Cross-entropy to sets of classes, and Dice of sums of classes over the batch.

    Args:
        logits: (B, K, A, A); classes that the given region forbids lie far below all others.
        sets: (B, A, A) `labels.class_set`; pixels of `ANY_CLASS` count for nothing.
        outside_weight: weight of pixels that may be background.

    Returns:
        Scalar: weighted mean over pixels of -log sum of the probabilities of the classes that a pixel may be
        of, plus the mean over `PARTS` of 1 - Dice, each where the labels tell it from everything else.
    """
    allowed = allowed_classes_of(sets)
    log_p = logits.log_softmax(dim=1)
    possible = log_p.masked_fill(~allowed, -torch.inf).logsumexp(dim=1).clamp_min(-20)
    far = allowed[:, _OUTSIDE] | ~allowed[:, _VENTRICLE].any(dim=1)
    weight = torch.where(far, outside_weight, 1.0) * (sets != ANY_CLASS)
    entropy = -(weight * possible).sum() / weight.sum().clamp_min(1)

    inside, outside = known_parts(allowed)
    p = torch.einsum("bkxy,mk->bmxy", log_p.exp(), _MEMBERS.to(log_p))
    sums = (0, 2, 3)
    overlap = (p * inside).sum(sums)
    size = (p * (inside | outside)).sum(sums) + inside.sum(sums)
    dice = (2 * overlap + _DICE_SMOOTH) / (size + _DICE_SMOOTH)
    return entropy + (1 - dice).mean()


def label_batch(
    config: PretrainConfig,
    studies: Sequence[LabelledStudy],
    backgrounds: Backgrounds,
    simulated: int,
    seed: int,
    step: int,
) -> Batch:
    """Draw the slices of one step: labelled ones, and simulated ones of the network's own pretraining.

    Args:
        config: of the pretraining; `batch` slices in all.
        studies: that are labelled.
        backgrounds: of simulated slices.
        simulated: how many of the slices are simulated.
        seed: of the ranges and of everything drawn.
        step: number of the step.
    """
    rng = np.random.default_rng([_STREAM, seed, step])
    ranges, wanted = config.ranges_of(seed), config.batch - simulated
    parts: list[SeenSlices] = []
    while (n := sum(len(part.sets) for part in parts)) < wanted:
        study = studies[int(rng.integers(len(studies)))]
        parts.append(draw_labelled(study, ranges, min(ranges.slices[1], wanted - n), rng))
    batches = [{**vars(part.x), "sets": part.sets} for part in parts]
    if simulated:
        of_pretraining = config.model_copy(update={"batch": simulated})
        drawn = segmenter_batch(of_pretraining, backgrounds, seed, config.steps + step)
        batches.append({**drawn, "sets": OF_CODE[drawn.pop("codes").long()]})
    return {name: torch.cat([part[name] for part in batches]) for name in batches[0]}


@dataclass(frozen=True)
class HeldOutScores:
    """How well a network does on held-out studies.

    Attributes:
        dice: part and what was given -> Dice of each study; NaN where a study neither has nor is given it.
        score: mean over studies of a Dice that forgives a few pixels.
    """

    dice: dict[str, list[float]]
    score: float

    def means(self) -> dict[str, float]:
        """Mean Dice by part, without studies that have none of it."""
        known = {name: [v for v in values if not np.isnan(v)] for name, values in self.dice.items()}
        return {name: float(np.mean(values)) for name, values in known.items() if values}


class HeldOut:
    """Held-out studies, each with nothing given and with what its region map gives.

    Args:
        studies: the studies.
        config: of the networks.
        most_given: the finder is never given more than the ventricle.
    """

    def __init__(
        self, studies: Sequence[LabelledStudy], config: PretrainConfig, most_given: int = GIVEN_WALL
    ) -> None:
        matrix, spacing = config.ranges.matrix, config.ranges.spacing_mm
        self.views = [
            [
                whole_view(study, given, matrix, spacing)
                for given in sorted({GIVEN_NOTHING, min(study.given, most_given)})
            ]
            for study in studies
        ]

    @torch.inference_mode()
    def score(self, networks: Sequence[nn.Module]) -> HeldOutScores:
        """Score the mean of networks' probabilities, each slice seen once."""
        device = next(networks[0].parameters()).device
        dice: dict[str, list[float]] = {}
        scores = []
        for views in self.views:
            of_study = []
            for view in views:
                x = SegmenterInput(*(part.to(device) for part in vars(view.x).values()))
                p = torch.stack([network(x).softmax(dim=1) for network in networks]).mean(dim=0).cpu()
                for name, (hard, smooth) in overlaps(p, view).items():
                    dice.setdefault(name, []).append(hard)
                    of_study.append(smooth)
            scores += [float(np.mean(of_study))] if of_study else []
        return HeldOutScores(dice, float(np.mean(scores)) if scores else float("nan"))


def overlaps(p: Tensor, view: SeenSlices) -> dict[str, tuple[float, float]]:
    """Dice, and the Dice that forgives, of the parts that are known and not given."""
    inside, outside = known_parts(allowed_classes_of(view.sets))
    is_told = told_parts(view.sets)
    given = int(view.x.given[0])
    words = ("nothing given", "ventricle given", "wall given")[given]
    found = {}
    for row, (name, names) in enumerate(PARTS.items()):
        told, known = inside[:, row], inside[:, row] | outside[:, row]
        if name not in SCORED or not is_told[row] or (given == GIVEN_WALL and name in ("blood", "wall")):
            continue
        called = (p[:, [SEGMENTER_CLASSES.index(n) for n in names]].sum(dim=1) > 0.5) & known
        both, sizes = int((called & told).sum()), int(called.sum() + told.sum())
        hard = 2 * both / sizes if sizes else float("nan")
        found[f"{name}, {words}"] = hard, (2 * both + _SMALL) / (sizes + _SMALL)
    return found


@dataclass(frozen=True)
class Candidate:
    """Weights that were tried on held-out studies.

    Attributes:
        step: of the training; 0: the start.
        share: of the trained weights, the rest is of the start.
        score: on the held-out studies.
        weights: of the network.
    """

    step: int
    share: float
    score: float
    weights: Mapping[str, Tensor] = field(repr=False)


class LabelModule(StepModule):
    """A segmenter that goes on learning; its batch statistics stay those of the start."""

    def __init__(
        self, network: Segmenter, config: PretrainConfig, steps: int, held_out: HeldOut | None
    ) -> None:
        super().__init__(network, config, steps)
        self.held_out = held_out
        self.start = {name: value.clone() for name, value in network.state_dict().items()}
        self.candidates: list[Candidate] = []

    def on_train_batch_start(self, *_: Any) -> None:
        """Keep the statistics: a few slices of a few patients have others than the pretraining's."""
        for layer in self.network.modules():
            if isinstance(layer, nn.BatchNorm2d):
                layer.eval()

    def training_step(self, batch: Batch, index: int) -> Tensor:
        """Loss of a batch."""
        x = SegmenterInput(batch["image"], batch["present"], batch["region"], batch["given"])
        loss = label_loss(self.network(x), batch["sets"], outside_weight=self.config.outside_weight)
        self.log("objective", loss.detach(), on_step=False, on_epoch=True, batch_size=len(x.image))
        return loss

    def validation_step(self, batch: Any, index: int) -> None:
        """Try the averaged weights of now, and some between them and the start."""
        assert self.held_out is not None
        for share in SHARES:
            weights = between(self.start, self.network.state_dict(), share)
            score = self.held_out.score([with_weights(self.network, weights)]).score
            self.candidates.append(Candidate(self.global_step, share, score, weights))


def between(start: Mapping[str, Tensor], end: Mapping[str, Tensor], share: float) -> dict[str, Tensor]:
    """Weights between two networks; counters are those of the end."""
    return {
        name: torch.lerp(start[name].to(value), value, share) if value.is_floating_point() else value.clone()
        for name, value in ((name, value.detach()) for name, value in end.items())
    }


def with_weights(network: nn.Module, weights: Mapping[str, Tensor]) -> nn.Module:
    """A copy of a network with other weights, for use."""
    copy = deepcopy(network)
    copy.load_state_dict(dict(weights))
    return copy.eval()


def tune(
    network: Segmenter,
    studies: Sequence[LabelledStudy],
    config: PretrainConfig,
    *,
    steps: int,
    stop: int,
    share: float,
    simulated: int,
    seed: int,
    backgrounds: Backgrounds,
    held_out: HeldOut | None,
    files: StepFiles,
    hardware: Hardware,
    track: Track,
) -> list[Candidate]:
    """Train a copy of a segmenter on labelled studies.

    Args:
        network: what it starts from; it is left as it is.
        studies: that are labelled.
        config: of the pretraining, with learning rate, batch and average of this one.
        steps: of the schedule.
        stop: steps that are done of it.
        share: without held-out studies, how far the weights go from the start to the trained ones.
        simulated: simulated slices in each batch.
        seed: of everything drawn.
        backgrounds: of simulated slices.
        held_out: studies that the weights are tried on; None: only the last ones are candidates.
        files: log and checkpoint; those of before are replaced.
        hardware: where it computes.
        track: progress bar.

    Returns:
        The start, if it was tried, and what was tried after it.
    """
    module = LabelModule(deepcopy(network), config, steps, held_out)
    if held_out is not None:
        module.candidates.append(Candidate(0, 0.0, held_out.score([network.eval()]).score, module.start))
    files.checkpoint.unlink(missing_ok=True)
    files.log.parent.mkdir(parents=True, exist_ok=True)
    module.network.train()
    draw = partial(label_batch, config, studies, backgrounds, simulated, seed)
    watch: Any = None if held_out is None else DataLoader([0], batch_size=None)  # type: ignore[arg-type]
    fit_steps(module, draw, files, hardware, workers=0, track=track, stop=stop, watch=watch)
    if held_out is None:
        weights = between(module.start, module.network.state_dict(), share)
        module.candidates.append(Candidate(stop, share, float("nan"), weights))
    files.checkpoint.unlink(missing_ok=True)
    return module.candidates


def log_files(folder: Path, name: str) -> StepFiles:
    """Files of one training beside its weights."""
    return StepFiles(folder / "logs" / f"{name}.csv", folder / "checkpoints" / f"{name}.ckpt")
