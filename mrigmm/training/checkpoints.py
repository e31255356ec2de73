"""The state that a training is resumed from, never half on disk."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch.callbacks import ModelCheckpoint
from lightning.pytorch.plugins.io import TorchCheckpointIO

from mrigmm.data.files import atomic
from mrigmm.data.run_folder import RunFolder


class WholeCheckpoints(TorchCheckpointIO):
    """Lightning's checkpoints, written beside their place.

    Lightning itself writes to the system's temporary folder and moves the file, which copies it, and is
    half done when killed, where that folder is on another disk.
    """

    def save_checkpoint(
        self, checkpoint: dict[str, Any], path: Path | str, storage_options: Any = None
    ) -> None:
        """Write a checkpoint in one piece; raises InputError where it cannot be written."""
        content = io.BytesIO()
        torch.save(checkpoint, content)
        with atomic(Path(path)) as temporary:
            temporary.write_bytes(content.getbuffer())


def last_checkpoint(run: RunFolder) -> ModelCheckpoint:
    """A callback that keeps the state after the last epoch."""
    return ModelCheckpoint(
        dirpath=run.checkpoint.parent,
        filename="last",
        save_top_k=1,
        save_on_train_epoch_end=True,
        enable_version_counter=False,
    )
