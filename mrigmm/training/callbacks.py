"""Callbacks after each epoch: log, best weights, stop rule, progress."""

from __future__ import annotations

import csv
import io
import math
import time
from collections.abc import Callable, Generator, Iterable
from typing import Any

import lightning
from lightning.pytorch.callbacks import Callback

from mrigmm.config import RunConfig
from mrigmm.data.files import write_text
from mrigmm.data.run_folder import RunFolder
from mrigmm.errors import InputError
from mrigmm.training.module import HELD_OUT, EpochModule

# Wraps an iterable for a progress bar: (items, description) -> items.
Track = Callable[[Iterable[Any], str], Iterable[Any]]


class EpochTrack(Callback):
    """Shows the epochs as the caller shows its other loops; of several processes, the first one does."""

    def __init__(self, track: Track) -> None:
        self.track = track
        self._epochs = iter(())

    def on_train_start(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        """Begin with the first epoch that is to be trained."""
        if trainer.is_global_zero:
            todo = range(trainer.current_epoch, trainer.max_epochs or 0)
            self._epochs = iter(self.track(todo, "Training"))
            next(self._epochs, None)

    def on_train_epoch_end(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        """One more."""
        next(self._epochs, None)

    def on_train_end(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        """Training may stop early: the bar goes."""
        self._close()

    def on_exception(
        self, trainer: lightning.Trainer, pl_module: lightning.LightningModule, exception: BaseException
    ) -> None:
        """Before anything is said about it."""
        self._close()

    def _close(self) -> None:
        if isinstance(self._epochs, Generator):
            self._epochs.close()


class EpochKeeper(Callback):
    """Writes the log and the best weights after every epoch and stops when the objective settles.

    The best weights are those of the smallest objective: of the held-out studies, or without any, of
    training. There are two stop rules. The published one: after `min_epochs`, stop when the epoch's
    mean likelihood term changes by less than `stop_tolerance`. With held-out studies: stop after
    `patience` epochs without better weights. Weights are saved whether or not a rule ever fires.
    Of several processes, all decide alike and the first one writes.
    """

    def __init__(self, run: RunFolder, config: RunConfig) -> None:
        self.run = run
        self.config = config
        self.rows: list[dict[str, float]] = []
        self._started = time.monotonic()

    def state_dict(self) -> dict[str, Any]:
        """Return rows so far, for a resumed run."""
        return {"rows": self.rows}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Continue the rows of an interrupted run."""
        self.rows = list(state_dict["rows"])

    def on_train_epoch_start(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        """Start the clock."""
        self._started = time.monotonic()

    def on_train_epoch_end(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        """Log, keep the best, decide whether to stop."""
        assert isinstance(pl_module, EpochModule)
        row = {
            "epoch": float(trainer.current_epoch),
            "objective": float(trainer.callback_metrics["objective"]),
            self.config.objective: float(trainer.callback_metrics[self.config.objective]),
            "learning_rate": float(trainer.optimizers[0].param_groups[0]["lr"]),
            "seconds": round(time.monotonic() - self._started, 3),
        }
        judged = "objective"
        if HELD_OUT in trainer.callback_metrics:
            judged = HELD_OUT
            row[HELD_OUT] = float(trainer.callback_metrics[HELD_OUT])
        if not all(math.isfinite(row[name]) for name in ("objective", judged)):
            raise InputError(
                "training diverged",
                file=self.run.path,
                got=f"objective {row[judged]} in epoch {trainer.current_epoch}",
                remedy="lower learning_rate, or raise variance_floor",
            )
        previous = self.rows[-1][self.config.objective] if self.rows else math.inf
        self.rows.append(row)
        values = [r[judged] for r in self.rows]
        best = values.index(min(values))
        if trainer.is_global_zero:
            write_text(self.run.log, log_text(self.rows))
            if best == len(values) - 1:
                self.run.write_weights(pl_module.network)
        settled = abs(row[self.config.objective] - previous) < self.config.stop_tolerance
        if trainer.current_epoch >= self.config.min_epochs and settled:
            trainer.should_stop = True
        if judged == HELD_OUT and len(values) - 1 - best >= self.config.patience:
            trainer.should_stop = True


def log_text(rows: list[dict[str, float]]) -> str:
    """Return a log of epochs as CSV."""
    text = io.StringIO()
    writer = csv.DictWriter(text, fieldnames=list(rows[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()
