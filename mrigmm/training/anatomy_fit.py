"""The Lightning trainer of the anatomy stage."""

from __future__ import annotations

import lightning

from mrigmm.config_anatomy import AnatomyConfig
from mrigmm.data.run_folder import RunFolder
from mrigmm.training.anatomy_module import AnatomyModule
from mrigmm.training.callbacks import EpochLog, EpochTrack, Track, epoch_row
from mrigmm.training.checkpoints import last_checkpoint, require_checkpoint
from mrigmm.training.fit import quiet_trainer, run_trainer
from mrigmm.training.hardware import Hardware


class AnatomyKeeper(EpochLog):
    """Writes log and weights after every epoch.

    The last weights are kept: choosing the best would need labels that are held out, and there are few.
    """

    def __init__(self, run: RunFolder) -> None:
        super().__init__(run.log)
        self.run = run

    def on_train_epoch_end(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        """Log, and keep the weights."""
        assert isinstance(pl_module, AnatomyModule)
        terms = {name: float(value) for name, value in trainer.callback_metrics.items()}
        self.add_row(trainer, epoch_row(trainer, terms))
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
    callbacks = [AnatomyKeeper(run), last_checkpoint(run.checkpoint), EpochTrack(track)]
    trainer = quiet_trainer(hardware, callbacks, max_epochs=config.epochs, clip_norm=config.clip_norm)
    run_trainer(trainer, module, checkpoint=run.checkpoint if resume else None)
