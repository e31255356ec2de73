"""Training of the pretrained networks on slices that are drawn as they are needed."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import lightning
import numpy as np
import torch
from lightning.pytorch.callbacks import Callback, EMAWeightAveraging
from torch import Tensor
from torch.nn.functional import binary_cross_entropy_with_logits
from torch.utils.data import DataLoader, Dataset, Sampler

from mrigmm.config_pretrain import GeneratorRanges, PretrainConfig
from mrigmm.networks.segmenter import Locator, Segmenter, SegmenterInput
from mrigmm.phantom.generator import Backgrounds, allowed_table, draw_examples, draw_whole_slices
from mrigmm.phantom.generator.codes import N_CLASSES, Code
from mrigmm.training.callbacks import EpochLog, EpochTrack, Track
from mrigmm.training.checkpoints import last_checkpoint
from mrigmm.training.fit import quiet_trainer, run_trainer
from mrigmm.training.hardware import Hardware

_DICE_SMOOTH = 20.0  # pixels
_LOCATOR_STREAM, _SEGMENTER_STREAM, _FINDER_STREAM = 1, 2, 6  # of a seed's random numbers

Batch = dict[str, Tensor]


def segmenter_batch(config: PretrainConfig, backgrounds: Backgrounds, seed: int, step: int) -> Batch:
    """Draw the slices of one step of a segmenter; the same for the same seed and step."""
    rng = np.random.default_rng([_SEGMENTER_STREAM, seed, step])
    return _drawn(config, config.ranges_of(seed), backgrounds, rng)


def second_batch(config: PretrainConfig, backgrounds: Backgrounds, seed: int, step: int) -> Batch:
    """Draw the slices of one step of a segmenter's second cycle: those that follow the first cycle's."""
    return segmenter_batch(config, backgrounds, seed, config.steps + step)


def finder_batch(part: int, config: PretrainConfig, backgrounds: Backgrounds, seed: int, step: int) -> Batch:
    """Draw the slices of one step of a training of the finder; the same for the same seed and step."""
    rng = np.random.default_rng([_FINDER_STREAM, seed, step])
    return _drawn(config, config.ranges_of_finder()[part], backgrounds, rng)


def _drawn(
    config: PretrainConfig, ranges: GeneratorRanges, backgrounds: Backgrounds, rng: np.random.Generator
) -> Batch:
    drawn, n = [], 0
    while n < config.batch:
        drawn.append(draw_examples(ranges, backgrounds, rng))
        n += len(drawn[-1].codes)
    names = ("image", "present", "region", "given", "codes")
    return {
        name: torch.from_numpy(np.concatenate([getattr(e, name) for e in drawn])[: config.batch])
        for name in names
    }


def locator_batch(config: PretrainConfig, backgrounds: Backgrounds, seed: int, step: int) -> Batch:
    """Draw the slices of one step of the locator; the same for the same seed and step."""
    rng = np.random.default_rng([_LOCATOR_STREAM, seed, step])
    slices = draw_whole_slices(config.locator_batch, backgrounds, rng)
    return {"image": torch.from_numpy(slices.image), "cavity": torch.from_numpy(slices.cavity).float()}


class Steps(Dataset[Batch]):
    """The batches of a training by the number of the step, from 0."""

    def __init__(self, draw: Callable[[int], Batch], n: int) -> None:
        self.draw = draw
        self.n = n

    def __len__(self) -> int:
        return self.n

    def __getitem__(self, step: int) -> Batch:
        return self.draw(step)


class StepsFrom(Sampler[int]):
    """The steps that are left, in order: a resumed training goes on with the slices it would have seen."""

    def __init__(self, module: StepModule, per_epoch: int) -> None:
        self.module = module
        self.per_epoch = per_epoch

    def __len__(self) -> int:
        return self.per_epoch

    def __iter__(self) -> Iterator[int]:
        first = self.module.current_epoch * self.per_epoch
        return iter(range(first, first + self.per_epoch))


class StepModule(lightning.LightningModule):
    """A network under AdamW with a one-cycle schedule over all steps."""

    def __init__(self, network: torch.nn.Module, config: PretrainConfig, steps: int) -> None:
        super().__init__()
        self.network = network
        self.config = config
        self.steps = steps

    def configure_optimizers(self) -> Any:
        """AdamW, one cycle."""
        config = self.config
        optimiser = torch.optim.AdamW(
            self.network.parameters(), lr=config.learning_rate, weight_decay=config.weight_decay
        )
        schedule = torch.optim.lr_scheduler.OneCycleLR(
            optimiser, max_lr=config.learning_rate, total_steps=self.steps + 1, pct_start=0.15
        )
        return {"optimizer": optimiser, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}


class SegmenterModule(StepModule):
    """The segmenter: cross-entropy to what is known of a pixel, and Dice over the batch."""

    def __init__(self, network: Segmenter, config: PretrainConfig) -> None:
        super().__init__(network, config, config.steps)
        self.register_buffer("table", torch.from_numpy(allowed_table()), persistent=False)

    def training_step(self, batch: Batch, index: int) -> Tensor:
        """Loss of a batch."""
        x = SegmenterInput(batch["image"], batch["present"], batch["region"], batch["given"])
        assert isinstance(self.table, Tensor)
        loss = segmenter_loss(
            self.network(x), batch["codes"], self.table, outside_weight=self.config.outside_weight
        )
        self.log("objective", loss.detach(), on_step=False, on_epoch=True, batch_size=len(x.image))
        return loss


class LocatorModule(StepModule):
    """The locator: cross-entropy and Dice of the cavity."""

    def __init__(self, network: Locator, config: PretrainConfig) -> None:
        super().__init__(network, config, config.locator_steps)

    def training_step(self, batch: Batch, index: int) -> Tensor:
        """Loss of a batch."""
        logits, cavity = self.network(batch["image"]), batch["cavity"]
        probability = logits.sigmoid()
        overlap = 2 * (probability * cavity).sum() + _DICE_SMOOTH
        dice = overlap / (probability.sum() + cavity.sum() + _DICE_SMOOTH)
        loss = binary_cross_entropy_with_logits(logits, cavity) + 1 - dice
        self.log("objective", loss.detach(), on_step=False, on_epoch=True, batch_size=len(logits))
        return loss


def segmenter_loss(logits: Tensor, codes: Tensor, table: Tensor, *, outside_weight: float) -> Tensor:
    """Cross-entropy to sets of classes plus soft Dice of the ventricle's classes over the batch.

    Args:
        logits: (B, K, A, A); classes that the given region forbids lie far below all others.
        codes: (B, A, A) of `phantom.generator.Code`.
        table: (codes, K) bool, the classes that each code stands for.
        outside_weight: weight of pixels that are no part of the left ventricle.

    Returns:
        Scalar: mean over pixels of -log sum of the probabilities of the classes that a pixel may be of,
        plus the mean of 1 - Dice over the classes that occur.
    """
    allowed = table[codes.long()].movedim(-1, 1)  # (B, A, A, K) -> (B, K, A, A)
    log_p = logits.log_softmax(dim=1)
    possible = log_p.masked_fill(~allowed, -torch.inf).logsumexp(dim=1).clamp_min(-20)
    outside = (codes == Code.BACKGROUND) | (codes == Code.RV) | (codes == Code.OUTSIDE)
    weight = torch.where(outside, outside_weight, 1.0) * (codes != Code.UNKNOWN)
    entropy = -(weight * possible).sum() / weight.sum().clamp_min(1)

    known = codes < N_CLASSES
    target = torch.nn.functional.one_hot(torch.where(known, codes, 0).long(), N_CLASSES).movedim(-1, 1)
    target = target * known[:, None]
    p = log_p.exp() * known[:, None]
    sums = (0, 2, 3)
    size = target.sum(sums)
    dice = (2 * (p * target).sum(sums) + _DICE_SMOOTH) / (p.sum(sums) + size + _DICE_SMOOTH)
    return entropy + (1 - dice[1:]).mean()


def loader(
    draw: Callable[[int], Batch], module: StepModule, per_epoch: int, *, workers: int
) -> DataLoader[Batch]:
    """The batches of a training, drawn by worker processes beside it."""
    return DataLoader(
        Steps(draw, module.steps),
        batch_size=None,
        sampler=StepsFrom(module, per_epoch),
        num_workers=workers,
        persistent_workers=False,
        worker_init_fn=_one_thread if workers else None,
        prefetch_factor=4 if workers else None,
    )


def _one_thread(worker: int) -> None:
    torch.set_num_threads(1)


_STEPS_PER_EPOCH = 100  # between two checkpoints


@dataclass(frozen=True)
class StepFiles:
    """Files of one network's training beside its weights."""

    log: Path
    checkpoint: Path


class LogKeeper(EpochLog):
    """Writes the mean objective of every hundred steps."""

    def on_train_epoch_end(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        """Log a row."""
        objective = float(trainer.callback_metrics["objective"])
        self.add_row(trainer, {"step": float(trainer.global_step), "objective": objective})


def fit_steps(
    module: StepModule,
    draw: Callable[[int], Batch],
    files: StepFiles,
    hardware: Hardware,
    *,
    workers: int,
    track: Track,
    stop: int | None = None,
    watch: Any = None,
) -> None:
    """Train a network and leave it with the moving average of its weights.

    A checkpoint of an interrupted training is gone on from.

    Args:
        module: network, loss, optimiser.
        draw: the batch of a step.
        files: log and checkpoint.
        hardware: what to train on.
        workers: processes that draw slices beside the training.
        track: progress bar.
        stop: steps that are done of the schedule; None: all.
        watch: loader of what the averaged weights are validated on, every hundred steps.
    """
    stop = module.steps if stop is None else stop
    per_epoch = math.gcd(stop, math.gcd(module.steps, _STEPS_PER_EPOCH))
    callbacks: list[Callback] = [
        EMAWeightAveraging(decay=module.config.average_decay),
        LogKeeper(files.log),
        last_checkpoint(files.checkpoint),
        EpochTrack(track),
    ]
    trainer = quiet_trainer(
        hardware, callbacks, max_epochs=stop // per_epoch, clip_norm=module.config.clip_norm
    )
    batches = loader(draw, module, per_epoch, workers=workers)
    run_trainer(trainer, module, batches, watch, checkpoint=files.checkpoint)
    # The last checkpoint holds the average, also where there was nothing left to train.
    state = torch.load(files.checkpoint, map_location="cpu", weights_only=True)["state_dict"]
    module.load_state_dict(state)
