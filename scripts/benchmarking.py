"""Shared by the scripts: command lines, tables and files; of the speed benchmarks, programs run in turn."""

from __future__ import annotations

import argparse
import hashlib
import json
import platform
import shlex
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from mrigmm.data.files import write_text
from mrigmm.evaluation.overlap import overlap
from mrigmm.export.side_files import write_json
from mrigmm.pretrained.folder import PretrainedFolder

Programs = Mapping[str, Callable[[], object]]
Times = dict[str, list[float]]


def in_turn(programs: Programs, repeats: int, clock: Callable[[], float] = time.process_time) -> Times:
    """Milliseconds, by default of CPU time, of each program in each round, after one that warms caches."""
    times: Times = {name: [] for name in programs}
    for repeat in range(repeats + 1):
        for name, program in programs.items():
            begin = clock()
            program()
            if repeat:
                times[name].append(1e3 * (clock() - begin))
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


def digests_of(networks: PretrainedFolder) -> list[str]:
    """SHA-256 of each network of a folder, in its order."""
    return [file.sha256 for file in networks.read()[1].files]


def markdown_table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A table."""
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def script_parser(doc: str | None) -> argparse.ArgumentParser:
    """Return a parser whose help is the script's docstring, as it stands."""
    return argparse.ArgumentParser(description=doc, formatter_class=argparse.RawDescriptionHelpFormatter)


def command_line(file: str, given: Sequence[str]) -> str:
    """Return the command that a script was started with, as it stands above its tables."""
    return f"python scripts/{Path(file).name} {shlex.join(given)}"


def machine() -> dict[str, str]:
    """Return what times depend on."""
    return {
        "torch": torch.__version__,
        "python": platform.python_version(),
        "processor": platform.machine(),
        "cpu_capability": torch.backends.cpu.get_cpu_capability(),
    }


def peak_mib() -> float:
    """Highest resident memory of this process since ``forget_peak``, in MiB."""
    status = Path("/proc/self/status").read_text()
    return float(next(line for line in status.splitlines() if line.startswith("VmHWM")).split()[1]) / 1024


def forget_peak() -> None:
    """Start a new peak at what is resident now (Linux)."""
    Path("/proc/self/clear_refs").write_text("5")


def dice(predicted: NDArray[np.bool_], reference: NDArray[np.bool_]) -> float:
    """Return the Dice of two masks; NaN where both are empty."""
    return overlap(predicted, reference, 1.0).dice


def save_numbers(file: Path | None, numbers: Any) -> None:
    """Write numbers as JSON, where a file was asked for."""
    if file is not None:
        write_json(file, numbers)


def publish(folder: Path, name: str, text: str, numbers: Mapping[str, Any]) -> None:
    """Print tables, and write them and their numbers to `NAME.md` and `NAME.json`."""
    write_json(folder / f"{name}.json", numbers)
    write_text(folder / f"{name}.md", text)
    sys.stdout.write(text)
