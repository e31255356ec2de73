"""The checkpoint that an interrupted training goes on from, looked at before Lightning takes it."""

from __future__ import annotations

import warnings
from typing import Any

import torch
from torch import nn

from mrigmm.data.run_folder import RunFolder
from mrigmm.errors import InputError

_PARTS = ("state_dict", "optimizer_states", "epoch", "loops")


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
