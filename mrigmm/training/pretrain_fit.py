"""The Lightning trainer of the pretrained networks."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import lightning
import torch
from lightning.pytorch.callbacks import Callback, EMAWeightAveraging

from mrigmm.training.callbacks import EpochLog, EpochTrack, Track
from mrigmm.training.checkpoints import last_checkpoint
from mrigmm.training.fit import quiet_trainer, run_trainer
from mrigmm.training.hardware import Hardware
from mrigmm.training.pretraining import Batch, StepModule, loader

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
