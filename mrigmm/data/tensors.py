"""Tensors on disk."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from safetensors.torch import save
from torch import Tensor

from mrigmm.data.files import atomic


def write_tensors(path: Path, tensors: Mapping[str, Tensor]) -> None:
    """Write tensors, each in one piece of memory, as safetensors.

    Raises:
        InputError: the folder cannot be written to, or the disk is full.
    """
    with atomic(path) as temporary:
        # `save_file` makes files that nobody else may read, and has words of its own for a full disk.
        temporary.write_bytes(save(dict(tensors)))
