"""Shared by the speed benchmarks: programs run in turn, ratios within a round, tables."""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

Programs = Mapping[str, Callable[[], object]]
Times = dict[str, list[float]]


def in_turn(programs: Programs, repeats: int) -> Times:
    """Milliseconds of CPU time of each program in each round, after a round that warms caches."""
    times: Times = {name: [] for name in programs}
    for repeat in range(repeats + 1):
        for name, program in programs.items():
            begin = time.process_time()
            program()
            if repeat:
                times[name].append(1e3 * (time.process_time() - begin))
    return times


@dataclass(frozen=True)
class Ratio:
    """Quartiles over the rounds of how much longer one program takes than another."""

    low: float
    median: float
    high: float

    @classmethod
    def of(cls, slow: Sequence[float], quick: Sequence[float]) -> Ratio:
        """From the times of the same rounds: `slow / quick` within each round."""
        quotients = np.array(slow) / np.array(quick)
        return cls(*(float(q) for q in np.quantile(quotients, [0.25, 0.5, 0.75])))

    def __str__(self) -> str:
        return f"{self.median:.2f} ({self.low:.2f} to {self.high:.2f})"


def short_digest(content: object) -> str:
    """Name of what results were made with, the same for equal contents."""
    return hashlib.sha256(json.dumps(content, sort_keys=True, default=str).encode()).hexdigest()[:8]


def markdown_table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A table."""
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)
