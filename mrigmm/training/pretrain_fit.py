"""The Lightning trainer of the pretrained networks."""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import lightning
import torch
from lightning.pytorch.callbacks import Callback, EMAWeightAveraging, ModelCheckpoint
from lightning.pytorch.plugins.environments import LightningEnvironment

from mrigmm.data.files import write_text
from mrigmm.errors import InputError
from mrigmm.training.callbacks import EpochTrack, Track, log_text
from mrigmm.training.checkpoints import WholeCheckpoints
from mrigmm.training.fit import lightning_noises
from mrigmm.training.hardware import Hardware
from mrigmm.training.pretraining import Batch, StepModule, loader

_STEPS_PER_EPOCH = 100  # between two checkpoints


@dataclass(frozen=True)
class StepFiles:
    """Files of one network's training beside its weights."""

    log: Path
    checkpoint: Path


class LogKeeper(Callback):
    """Writes the mean objective of every hundred steps."""

    def __init__(self, file: Path) -> None:
        self.file = file
        self.rows: list[dict[str, float]] = []
        self._started = time.monotonic()

    def state_dict(self) -> dict[str, object]:
        """Rows so far, for a resumed run."""
        return {"rows": self.rows}

    def load_state_dict(self, state_dict: dict[str, list[dict[str, float]]]) -> None:
        """Continue the rows of an interrupted run."""
        self.rows = list(state_dict["rows"])

    def on_train_epoch_end(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        """Log a row; stop a training that diverged."""
        objective = float(trainer.callback_metrics["objective"])
        if not math.isfinite(objective):
            raise InputError(
                "training diverged",
                file=self.file,
                got=f"objective {objective} after {trainer.global_step} steps",
                remedy="lower learning_rate",
            )
        seconds, self._started = time.monotonic() - self._started, time.monotonic()
        self.rows.append(
            {"step": float(trainer.global_step), "objective": objective, "seconds": round(seconds, 1)}
        )
        write_text(self.file, log_text(self.rows))


def fit_steps(
    module: StepModule,
    draw: Callable[[int], Batch],
    files: StepFiles,
    hardware: Hardware,
    *,
    workers: int,
    track: Track,
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
    """
    for name in ("lightning.pytorch", "lightning.fabric"):
        logging.getLogger(name).setLevel(logging.WARNING)  # hardware banners
    per_epoch = math.gcd(module.steps, _STEPS_PER_EPOCH)
    callbacks: list[Callback] = [
        EMAWeightAveraging(decay=module.config.average_decay),
        LogKeeper(files.log),
        ModelCheckpoint(
            dirpath=files.checkpoint.parent,
            filename=files.checkpoint.stem,
            save_top_k=1,
            save_on_train_epoch_end=True,
            enable_version_counter=False,
        ),
        EpochTrack(track),
    ]
    with lightning_noises():
        trainer = lightning.Trainer(
            accelerator=hardware.accelerator,
            devices=hardware.devices if isinstance(hardware.devices, int) else list(hardware.devices),
            precision=hardware.precision,
            max_epochs=module.steps // per_epoch,
            gradient_clip_val=module.config.clip_norm,
            callbacks=callbacks,
            plugins=[WholeCheckpoints(), LightningEnvironment()],
            logger=False,
            num_sanity_val_steps=0,
            enable_progress_bar=False,
            enable_model_summary=False,
        )
        try:
            trainer.fit(
                module,
                loader(draw, module, per_epoch, workers=workers),
                ckpt_path=files.checkpoint if files.checkpoint.exists() else None,
                weights_only=True,
            )
        except SystemExit:  # what Lightning makes of Ctrl-C
            raise KeyboardInterrupt from None
    # The last checkpoint holds the average, also where there was nothing left to train.
    state = torch.load(files.checkpoint, map_location="cpu", weights_only=True)["state_dict"]
    module.load_state_dict(state)
