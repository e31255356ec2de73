"""Cost of a command before and beside its work: the start, and the threads that it takes.

Start. `mrigmm --help`, `mrigmm info`, `mrigmm segment` of one small simulated study from its files to its
report, and `mrigmm predict` of it by `map-em` and by a default run (random weights: the time does not depend
on them), beside `python -c "import torch"`.

Threads. `mrigmm predict` of several studies with `OMP_NUM_THREADS` unset, 1 and 2.

Every command runs in a process of its own, without a word about threads where nothing else is said, all
commands in turn in each of several rounds. Tables give medians over the rounds of the clock and of the CPU
time; other work on the machine disturbs the latter less. Differences are medians of those within a round.
"""

from __future__ import annotations

import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from benchmark_end_to_end import cohort_of, part_of, random_run
from benchmarking import Ratio, markdown_table, save_numbers, script_parser

IMPORTS = "import torch"
TARGET = 2.0  # CPU time of one study over that of the import
THREADS = ("", "1", "2")
VARIABLES = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")


@dataclass(frozen=True)
class Cost:
    """Seconds of one command: by the clock, and of all cores together."""

    wall: float
    cpu: float


@dataclass(frozen=True)
class Command:
    """A command and the number of threads that it is asked to take; "" says nothing about them."""

    arguments: Sequence[str]
    threads: str = ""

    def run(self, folder: Path) -> Cost:
        """Run it to its end; `{new}` among the arguments is a folder that does not exist yet.

        Raises:
            SystemExit: it failed.
        """
        environment = {name: value for name, value in os.environ.items() if name not in VARIABLES}
        if self.threads:
            environment |= dict.fromkeys(VARIABLES, self.threads)
        with tempfile.TemporaryDirectory(dir=folder) as new:
            arguments = [argument.format(new=f"{new}/out") for argument in self.arguments]
            begin, used = time.perf_counter(), children_cpu_s()
            answer = subprocess.run(
                [sys.executable, *arguments], env=environment, capture_output=True, text=True, check=False
            )
            cost = Cost(time.perf_counter() - begin, children_cpu_s() - used)
        if answer.returncode:
            raise SystemExit(f"{' '.join(arguments)}\n{answer.stderr}")
        return cost


def children_cpu_s() -> float:
    """CPU seconds of all processes that were started and have ended."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def predict_command(manifest: Path, *what: str) -> tuple[str, ...]:
    """`mrigmm predict` of a manifest on the CPU."""
    return ("-m", "mrigmm", "predict", str(manifest), "-o", "{new}", *what, "--device", "cpu", "--quiet")


Rounds = Mapping[str, list[Cost]]


def in_turn(commands: Mapping[str, Command], folder: Path, rounds: int) -> Rounds:
    """Costs of every command in each round, after a round that warms the system's caches."""
    found: dict[str, list[Cost]] = {name: [] for name in commands}
    for n in range(rounds + 1):
        for name, command in commands.items():
            print(f"round {n} of {rounds}: {name}", file=sys.stderr, flush=True)
            cost = command.run(folder)
            if n:
                found[name].append(cost)
    return found


def start_commands(one: Path, run: Path) -> dict[str, Command]:
    """Imports alone, and commands that do little."""
    return {
        f'python -c "{IMPORTS}"': Command(("-c", IMPORTS)),
        "mrigmm --help": Command(("-m", "mrigmm", "--help")),
        "mrigmm info": Command(("-m", "mrigmm", "info")),
        "mrigmm segment": Command(("-m", "mrigmm", "segment", str(one), "-o", "{new}", "--quiet")),
        "mrigmm predict --method map-em": Command(predict_command(one, "--method", "map-em")),
        "mrigmm predict --run (default)": Command(predict_command(one, "--run", str(run))),
    }


def thread_commands(cohort: Path, run: Path) -> dict[str, Command]:
    """Predictions with several numbers of threads."""
    programs = {
        "map-em": ("--method", "map-em"),
        "em-gmm-sklearn": ("--method", "em-gmm-sklearn"),
        "default": ("--run", str(run)),
    }
    return {
        f"{name}, OMP_NUM_THREADS {threads or 'unset'}": Command(predict_command(cohort, *what), threads)
        for name, what in programs.items()
        for threads in THREADS
    }


def start_table(rounds: Rounds) -> str:
    """Median seconds, and the CPU time over that of the import alone (the first command)."""
    imports, *others = rounds
    rows = [[f"`{imports}`", *medians(rounds[imports]), "", ""]]
    base = [cost.cpu for cost in rounds[imports]]
    for name in others:
        ratio = Ratio.of([cost.cpu for cost in rounds[name]], base)
        missed = ", missed" if ratio.median > TARGET else ""
        asked = f"{TARGET:g}{missed}" if "segment" in name or "predict" in name else "–"
        rows.append([f"`{name}`", *medians(rounds[name]), str(ratio), asked])
    return markdown_table(["command", "wall, s", "CPU, s", "CPU over the import's", "asked"], rows)


def thread_table(rounds: Rounds) -> str:
    """Median, smallest and largest seconds."""
    rows = [
        [
            *name.split(", OMP_NUM_THREADS "),
            *(
                f"{np.median(values):.1f} ({min(values):.1f} to {max(values):.1f})"
                for values in ([c.wall for c in costs], [c.cpu for c in costs])
            ),
        ]
        for name, costs in rounds.items()
    ]
    return markdown_table(["program", "`OMP_NUM_THREADS`", "wall, s", "CPU, s"], rows)


def medians(costs: Sequence[Cost]) -> tuple[str, str]:
    """Return the medians of the clock and of the CPU time."""
    return f"{np.median([c.wall for c in costs]):.2f}", f"{np.median([c.cpu for c in costs]):.2f}"


def main() -> None:
    """Parse, measure, print, write."""
    parser = script_parser(__doc__)
    parser.add_argument("-o", "--out", type=Path, help="JSON file for the numbers")
    parser.add_argument("--rounds", type=int, default=5, help="of the start")
    parser.add_argument("--thread-rounds", type=int, default=3, help="of the threads; 0 leaves them out")
    parser.add_argument("--studies", type=int, default=6, help="of the threads' cohort")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        run = random_run(folder / "run")
        cohort = cohort_of(folder / "cohort", max(given.studies, 3))  # as few as one cannot be divided
        start = in_turn(start_commands(part_of(cohort, 1), run), folder, given.rounds)
        print(start_table(start))
        threads: Rounds = {}
        if given.thread_rounds:
            commands = thread_commands(part_of(cohort, given.studies), run)
            threads = in_turn(commands, folder, given.thread_rounds)
            print("\n" + thread_table(threads))
    print(f"\n{os.cpu_count()} cores, load average at the end {os.getloadavg()[0]:.1f}")
    numbers = {
        part: {name: [asdict(cost) for cost in costs] for name, costs in rounds.items()}
        for part, rounds in (("start", start), ("threads", threads))
    }
    save_numbers(given.out, numbers)


if __name__ == "__main__":
    main()
