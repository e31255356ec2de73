"""The Lightning trainer of the anatomy stage."""

from __future__ import annotations

import logging
import math
import time

import lightning
from lightning.pytorch.callbacks import Callback
from lightning.pytorch.plugins.environments import LightningEnvironment

from mrigmm.config_anatomy import AnatomyConfig
from mrigmm.data.files import write_text
from mrigmm.data.run_folder import RunFolder
from mrigmm.errors import InputError
from mrigmm.training.anatomy_module import AnatomyModule
from mrigmm.training.callbacks import EpochTrack, Track, log_text
from mrigmm.training.checkpoints import WholeCheckpoints, last_checkpoint, require_checkpoint
from mrigmm.training.fit import lightning_noises
from mrigmm.training.hardware import Hardware


class AnatomyKeeper(Callback):
    """Writes log and weights after every epoch.

    The last weights are kept: choosing the best would need labels that are held out, and there are few.
    """

    def __init__(self, run: RunFolder) -> None:
        self.run = run
        self.rows: list[dict[str, float]] = []
        self._started = time.monotonic()

    def state_dict(self) -> dict[str, object]:
        """Return rows so far, for a resumed run."""
        return {"rows": self.rows}

    def load_state_dict(self, state_dict: dict[str, list[dict[str, float]]]) -> None:
        """Continue the rows of an interrupted run."""
        self.rows = list(state_dict["rows"])

    def on_train_epoch_start(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        """Start the clock."""
        self._started = time.monotonic()

    def on_train_epoch_end(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        """Log, and keep the weights."""
        assert isinstance(pl_module, AnatomyModule)
        terms = {name: float(value) for name, value in trainer.callback_metrics.items()}
        if not math.isfinite(terms["objective"]):
            raise InputError(
                "training diverged",
                file=self.run.path,
                got=f"objective {terms['objective']} in epoch {trainer.current_epoch}",
                remedy="lower learning_rate",
            )
        self.rows.append(
            {
                "epoch": float(trainer.current_epoch),
                **terms,
                "learning_rate": float(trainer.optimizers[0].param_groups[0]["lr"]),
                "seconds": round(time.monotonic() - self._started, 3),
            }
        )
        write_text(self.run.log, log_text(self.rows))
        self.run.write_weights(pl_module.network)


def fit_anatomy(
    module: AnatomyModule,
    config: AnatomyConfig,
    run: RunFolder,
    hardware: Hardware,
    *,
    resume: bool,
    track: Track,
) -> None:
    """Train and leave the weights in the run folder.

    Raises:
        InputError: a damaged checkpoint, or training diverged.
    """
    if resume and run.checkpoint.exists():
        require_checkpoint(run, module)
    for name in ("lightning.pytorch", "lightning.fabric"):
        logging.getLogger(name).setLevel(logging.WARNING)  # hardware banners
    callbacks: list[Callback] = [
        AnatomyKeeper(run),
        last_checkpoint(run),
        EpochTrack(track),
    ]
    with lightning_noises():
        trainer = lightning.Trainer(
            accelerator=hardware.accelerator,
            devices=hardware.devices if isinstance(hardware.devices, int) else list(hardware.devices),
            max_epochs=config.epochs,
            gradient_clip_val=config.clip_norm,
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
                ckpt_path=run.checkpoint if resume and run.checkpoint.exists() else None,
                weights_only=True,
            )
        except SystemExit:  # what Lightning makes of Ctrl-C
            raise KeyboardInterrupt from None
