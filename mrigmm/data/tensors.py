"""Tensors on disk."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from safetensors import SafetensorError
from safetensors.torch import save_file
from torch import Tensor

from mrigmm.data.files import atomic


def write_tensors(path: Path, tensors: Mapping[str, Tensor]) -> None:
    """Write tensors, each in one piece of memory, as safetensors.

    Raises:
        InputError: the folder cannot be written to, or the disk is full.
    """
    with atomic(path) as temporary:
        try:
            save_file(dict(tensors), temporary)
        except SafetensorError as error:  # what it makes of a full disk
            raise OSError(str(error)) from None
