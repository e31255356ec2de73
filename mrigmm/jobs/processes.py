"""A cohort shared out over the processes that torchrun started."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from itertools import chain
from typing import TypeVar

import torch
from torch import distributed

from mrigmm.errors import InputError

T = TypeVar("T")

# What torchrun tells each process; the last two are where the processes meet.
_VARIABLES = ("RANK", "WORLD_SIZE", "LOCAL_RANK", "MASTER_ADDR", "MASTER_PORT")
# The first process to finish waits for the others.
_PATIENCE = timedelta(days=7)


@dataclass(frozen=True)
class Processes:
    """This process among those that share a job.

    Attributes:
        rank: 0 for the one that speaks for all.
        count: of the processes.
        local_rank: rank among those on this computer.
    """

    rank: int = 0
    count: int = 1
    local_rank: int = 0

    @property
    def first(self) -> bool:
        """Whether this process speaks for all."""
        return self.rank == 0

    def share(self, items: Sequence[T]) -> Sequence[T]:
        """This process's part of a job; each item is in exactly one part."""
        return items[self.rank :: self.count]

    def device(self, name: str) -> str:
        """A device by name, where "auto" and "cuda" give the processes on one computer its GPUs in turn."""
        n_gpus = torch.cuda.device_count()
        if self.count > 1 and n_gpus and name in ("auto", "cuda"):
            return f"cuda:{self.local_rank % n_gpus}"
        return name

    def wait(self) -> None:
        """Until every process is here."""
        if self.count > 1:
            distributed.barrier()

    def gather(self, items: Sequence[T]) -> list[T]:
        """The items of all processes, for each of them; waits until every process is here."""
        if self.count == 1:
            return list(items)
        parts: list[Sequence[T]] = [()] * self.count
        distributed.all_gather_object(parts, items)
        return list(chain.from_iterable(parts))


@contextmanager
def joined_processes() -> Iterator[Processes]:
    """The processes that torchrun started, connected; one alone without torchrun.

    Raises:
        InputError: the environment speaks of several processes, but not as torchrun does.
    """
    if os.environ.get("WORLD_SIZE", "1") == "1":
        yield Processes()
        return
    values = {name: os.environ.get(name, "") for name in _VARIABLES}
    numbers = [values[name] for name in _VARIABLES if name != "MASTER_ADDR"]
    if not all(number.isascii() and number.isdigit() for number in numbers) or not values["MASTER_ADDR"]:
        raise InputError(
            "the environment speaks of several processes, but not as torchrun does",
            expected=f"{', '.join(_VARIABLES)}, or none of them",
            got=", ".join(f"{name}={value}" for name, value in values.items()),
            remedy="start the command with torchrun, or unset WORLD_SIZE",
        )
    distributed.init_process_group("gloo", timeout=_PATIENCE)
    try:
        yield Processes(int(values["RANK"]), int(values["WORLD_SIZE"]), int(values["LOCAL_RANK"]))
    finally:
        distributed.destroy_process_group()
