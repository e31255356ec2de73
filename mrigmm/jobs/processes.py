"""A cohort shared out over the processes that torchrun started, or over jobs of their own."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from itertools import chain
from typing import TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import distributed

from mrigmm.errors import InputError
from mrigmm.mixture import PARTIAL_SUMS
from mrigmm.training.hardware import slurm_tasks

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

    def summands(self, items: Sequence[T]) -> list[tuple[int, T]]:
        """This process's part where something is added up with `mixture.StudySums`: positions and items."""
        own = set(self.share(range(PARTIAL_SUMS)))
        return [(i, item) for i, item in enumerate(items) if i % PARTIAL_SUMS in own]

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

    def add_up(self, values: NDArray[np.float64]) -> NDArray[np.float64]:
        """Elementwise sum of the arrays of all processes, for each of them."""
        if self.count == 1:
            return values
        total = torch.from_numpy(values.copy())
        distributed.all_reduce(total)
        return total.numpy()

    def gather(self, items: Sequence[T]) -> list[T]:
        """The items of all processes, for each of them; waits until every process is here."""
        if self.count == 1:
            return list(items)
        parts: list[Sequence[T]] = [()] * self.count
        distributed.all_gather_object(parts, items)
        return list(chain.from_iterable(parts))


ALONE = Processes()


def part_of(items: Sequence[T], part: str) -> Sequence[T]:
    """One part of a job; each item is in exactly one of the N parts.

    Args:
        items: of the whole job.
        part: "K/N", part K of N, counted from 1.

    Raises:
        InputError: no such part, or one without any item.
    """
    numbers = [number.strip() for number in part.split("/")]
    if len(numbers) != 2 or not all(n.isascii() and n.isdigit() and len(n) < 10 for n in numbers):
        raise InputError("--part must be K/N", got=part, remedy="for example --part 3/100")
    k, n = map(int, numbers)
    if not 1 <= k <= n:
        raise InputError(
            "there is no such part",
            expected=f"--part 1/{n} to {n}/{n}" if n else "at least one part",
            got=f"--part {part}",
            remedy="count from 1: in a SLURM array, --array=1-100",
        )
    if k > len(items):
        raise InputError(
            "this part has no study",
            expected=f"at most {len(items)} parts",
            got=f"--part {part}",
            remedy="use fewer parts, or another --split",
        )
    return items[k - 1 :: n]


@contextmanager
def joined_processes(*, apart: bool = False) -> Iterator[Processes]:
    """The processes that torchrun started, connected; one alone without torchrun.

    Args:
        apart: tasks of srun are jobs of their own, each with a part of the studies.

    Raises:
        InputError: the environment speaks of several processes, but not as torchrun does.
    """
    if slurm_tasks() > 1 and not apart:
        raise InputError(
            "srun started several tasks, and each of them would do the whole job",
            expected="one task; or torchrun, as one task on each node",
            got=f"{slurm_tasks()} tasks",
            remedy="see docs/scale.md; for tasks of their own use --part, or unset SLURM_STEP_NUM_TASKS",
        )
    if os.environ.get("WORLD_SIZE", "1") == "1":
        yield ALONE
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
