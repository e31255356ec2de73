"""The state that a training is resumed from: never half on disk, and looked at before Lightning takes it."""

from __future__ import annotations

import io
import warnings
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch.callbacks import ModelCheckpoint
from lightning.pytorch.plugins.io import TorchCheckpointIO
from torch import nn

from mrigmm.data.files import atomic
from mrigmm.data.run_folder import RunFolder
from mrigmm.errors import InputError

_PARTS = ("state_dict", "optimizer_states", "epoch", "loops")


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


def last_checkpoint(file: Path) -> ModelCheckpoint:
    """Return a callback that keeps the state after the last epoch."""
    return ModelCheckpoint(
        dirpath=file.parent,
        filename=file.stem,
        save_top_k=1,
        save_on_train_epoch_end=True,
        enable_version_counter=False,
    )


def require_checkpoint(run: RunFolder, module: nn.Module) -> None:
    """Refuse a checkpoint that is missing, damaged, hostile or of another network.

    Args:
        run: folder of the interrupted training.
        module: that its state is for.

    Raises:
        InputError: it cannot be gone on from. Nothing in it has been run.
    """
    if not run.checkpoint.exists():
        raise InputError(
            "there is no training to resume", file=run.checkpoint, remedy="start it without --resume"
        )
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            found: Any = torch.load(run.checkpoint, map_location="cpu", weights_only=True)
        missing = [part for part in _PARTS if part not in found]
        if missing:
            raise ValueError(f"no {', '.join(missing)}")
        expected = {name: tuple(t.shape) for name, t in module.state_dict().items()}
        got = {name: tuple(t.shape) for name, t in found["state_dict"].items()}
    except Exception as error:  # what is no checkpoint fails in any way
        raise InputError(
            "the checkpoint is damaged, or none of a training",
            file=run.checkpoint,
            expected="the file that training wrote; others are not opened",
            got=f"{type(error).__name__}: {str(error).splitlines()[0] if str(error) else ''}".rstrip(": "),
            remedy="train into another folder",
        ) from None
    if expected != got:
        differing = sorted(n for n in expected.keys() | got.keys() if expected.get(n) != got.get(n))
        raise InputError(
            "the checkpoint is of another network",
            file=run.checkpoint,
            expected=f"the network that {run.config.name} describes",
            got=f"{len(differing)} tensors differ: {', '.join(differing[:3])}",
            remedy="train into another folder",
        )
