"""Threads of a computation: one for a study's own fits, all for a network's pass.

EM on a study is many small operations. Shared out over threads, each of them waits for the slowest, and
waiting threads spin: on a busy or a large machine that costs several times the work itself.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

import torch

# Variables by which a user says how many threads there are to be: then that number holds everywhere.
_ASKED_FOR = ("OMP_NUM_THREADS", "MKL_NUM_THREADS")
# What holds outside of `one_thread`; None: not inside of it.
_outside: ContextVar[int | None] = ContextVar("threads outside", default=None)


@contextmanager
def one_thread(*, networks: bool = False) -> Iterator[None]:
    """Compute with one thread of torch, and afterwards with as many as before.

    Does nothing where the environment says how many threads there are to be (`OMP_NUM_THREADS`).

    Args:
        networks: one for the pass of a network, too, which `all_threads` would give all.
    """
    before = torch.get_num_threads()
    if before == 1 or any(os.environ.get(name) for name in _ASKED_FOR):
        yield
        return
    token = _outside.set(None if networks else before)
    try:
        with _threads(1):
            yield
    finally:
        _outside.reset(token)


@contextmanager
def all_threads() -> Iterator[None]:
    """Within `one_thread`: compute with as many threads as outside of it; elsewhere does nothing."""
    outside = _outside.get()
    if outside is None:
        yield
        return
    with _threads(outside):
        yield


@contextmanager
def _threads(number: int) -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(number)
    try:
        yield
    finally:
        torch.set_num_threads(before)
