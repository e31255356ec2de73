"""Callbacks after each epoch: log, best weights, stop rule, progress."""

from __future__ import annotations

import csv
import io
import math
import time
from collections.abc import Callable, Generator, Iterable, Mapping
from pathlib import Path
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


class EpochLog(Callback):
    """Writes a row of the log after every epoch, also of a resumed training, and stops one that diverged.

    Args:
        file: the log, CSV.
        advice: what to do against divergence.
    """

    def __init__(self, file: Path, advice: str = "lower learning_rate") -> None:
        self.file = file
        self.advice = advice
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

    def add_row(self, trainer: lightning.Trainer, row: Mapping[str, float], **also: float) -> None:
        """Add a row, with the seconds that it took; of several processes, the first writes.

        Args:
            trainer: at the end of an epoch.
            row: begins with where the training is; has the objective.
            **also: further values, the last of which counts in place of the objective.

        Raises:
            InputError: a value is none.
        """
        if not all(math.isfinite(value) for value in (row["objective"], *also.values())):
            name, count = next(iter(row.items()))
            raise InputError(
                "training diverged",
                file=self.file.parent,
                got=f"objective {[row['objective'], *also.values()][-1]} in {name} {count:g}",
                remedy=self.advice,
            )
        self.rows.append({**row, "seconds": round(time.monotonic() - self._started, 3), **also})
        if trainer.is_global_zero:
            write_text(self.file, log_text(self.rows))


class EpochKeeper(EpochLog):
    """Writes the log and the best weights after every epoch and stops when the objective settles.

    The best weights are those of the smallest objective: of the held-out studies, or without any, of
    training. There are two stop rules. The published one: after `min_epochs`, stop when the epoch's
    mean likelihood term changes by less than `stop_tolerance`. With held-out studies: stop after
    `patience` epochs without better weights. Weights are saved whether or not a rule ever fires.
    Of several processes, all decide alike and the first one writes.
    """

    def __init__(self, run: RunFolder, config: RunConfig) -> None:
        super().__init__(run.log, "lower learning_rate, or raise variance_floor")
        self.run = run
        self.config = config

    def on_train_epoch_end(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        """Log, keep the best, decide whether to stop."""
        assert isinstance(pl_module, EpochModule)
        found = {name: float(value) for name, value in trainer.callback_metrics.items()}
        values = {name: found[name] for name in ("objective", self.config.objective)}
        held_out = {HELD_OUT: found[HELD_OUT]} if HELD_OUT in found else {}
        previous = self.rows[-1][self.config.objective] if self.rows else math.inf
        self.add_row(trainer, epoch_row(trainer, values), **held_out)
        course = [row[HELD_OUT if held_out else "objective"] for row in self.rows]
        best = course.index(min(course))
        if trainer.is_global_zero and best == len(course) - 1:
            self.run.write_weights(pl_module.network)
        settled = abs(values[self.config.objective] - previous) < self.config.stop_tolerance
        if trainer.current_epoch >= self.config.min_epochs and settled:
            trainer.should_stop = True
        if held_out and len(course) - 1 - best >= self.config.patience:
            trainer.should_stop = True


def epoch_row(trainer: lightning.Trainer, values: Mapping[str, float]) -> dict[str, float]:
    """Return the row of an epoch: its number, what was measured in it, and its learning rate."""
    rate = float(trainer.optimizers[0].param_groups[0]["lr"])
    return {"epoch": float(trainer.current_epoch), **values, "learning_rate": rate}


def log_text(rows: list[dict[str, float]]) -> str:
    """Return a log of epochs as CSV."""
    text = io.StringIO()
    writer = csv.DictWriter(text, fieldnames=list(rows[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()
