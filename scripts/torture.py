"""Disturb `train`, `predict` and `export` in every way a computer knows, and look what was lost.

On a tiny simulated cohort, with everything drawn from a seed:

kills         kill -9 at random moments; after each, every file under a final name must be whole; then the
              command with --resume must end with the files of the uninterrupted one (times aside), and not
              touch a study that was finished
signals       SIGTERM (exit code 143) and Ctrl-C (130) at random moments
writers       two predict processes on one folder
full-disk     a limit on the size of files, and where mounting is permitted, a file system that is full
little-memory a limit on the address space
memory        peak resident memory of predict over 1, 10 and 40 studies, of train by cache, of predict on
              512 x 512 x 20 voxels
threads       labels with 1 and 2 threads, bytes of the same call twice

What was measured stands in OUT/results.json and OUT/table.md. A part that is there is not done again; kills
go on where they ended.
"""

from __future__ import annotations

import os

# One thread: forks of this process are safe only without threads, and results are compared bit by bit.
os.environ["OMP_NUM_THREADS"] = "1"
os.environ["MKL_NUM_THREADS"] = "1"
os.environ["OPENBLAS_NUM_THREADS"] = "1"

import argparse
import json
import random
import sys
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from importlib import import_module
from pathlib import Path
from typing import Any

import torch
from benchmarking import script_parser
from reliability import faults, measures
from reliability.jobs import Workshop

from mrigmm.data.files import write_text

PARTS = ("kills", "signals", "writers", "full-disk", "little-memory", "memory", "threads")
COMMANDS = ("train", "predict", "export")
# Loaded once for all forks.
PACKAGES = ("mrigmm.jobs.train", "mrigmm.jobs.predict", "mrigmm.jobs.export", "mrigmm.methods.em_gmm")
STUDY_COUNTS, TRAIN_COUNTS, THREADS = (1, 10, 40), (2, 20), (1, 2)
# Share by which the peak may rise from 1 to 40 studies; MiB; one voxel in so many.
FLAT, LARGE_MIB, VOXELS = 0.15, 3072, 10_000


def tallies(part: str, workshop: Workshop, arguments: argparse.Namespace, done: Any) -> Iterator[Any]:
    """Yield the findings of a part, command by command, each as soon as it can be saved."""
    names = [name for name in arguments.commands if name in workshop.jobs]
    found: dict[str, Any] = dict(done or {})
    for name in names if part != "writers" else ("predict",):
        rng = random.Random(f"{arguments.seed} {part} {name} {found.get(name, {}).get('faults', 0)}")
        if part == "kills":
            before = faults.Tally(**found.get(name, {}))
            for tally in faults.kills(workshop, name, arguments.kills, rng, before):
                found[name] = asdict(tally)
                yield found
            continue
        if name in found:
            continue
        if part == "signals":
            found[name] = asdict(faults.signals(workshop, name, arguments.signals, rng))
        elif part == "writers":
            found[name] = asdict(faults.two_writers(workshop, arguments.writers, rng))
        elif part == "little-memory":
            found[name] = asdict(faults.little_memory(workshop, name))
        else:
            found[name] = asdict(faults.full_disk(workshop, name))
            on_tmpfs = faults.full_tmpfs(workshop, name)
            if on_tmpfs is not None:
                found[f"{name} on a full file system"] = asdict(on_tmpfs)
        yield found


def memory(workshop: Workshop, seed: int) -> dict[str, Any]:
    """Peaks in MiB."""
    workshop.reference("train")
    how = ways(workshop)
    few = {name: how[name] for name in ("map-em", "trained run")}
    return {
        "predict": measures.peaks_of_predict(workshop.folder, STUDY_COUNTS, few, seed),
        "train": measures.peaks_of_train(workshop.folder, TRAIN_COUNTS, seed),
        "large": measures.peaks_of_large(workshop.folder, how, seed),
    }


def ways(workshop: Workshop) -> dict[str, Sequence[object]]:
    """How predict can segment."""
    return {
        "map-em": ["--method", "map-em"],
        "map-em-2step": ["--method", "map-em-2step"],
        "trained run": ["--run", workshop.run],
    }


def table(results: dict[str, Any]) -> str:
    """Markdown of everything found."""
    lines = ["| fault | command | cases | faults that met it | lost |", "|---|---|---|---|---|"]
    for part in PARTS[:5]:
        for name, tally in results.get(part, {}).items():
            lost = len(tally["lost"]) or "nothing"
            lines.append(f"| {part} | {name} | {tally['cases']} | {tally['faults']} | {lost} |")
    if "memory" in results:
        peaks = results["memory"]
        lines += ["", "| peak memory, MiB | studies | |", "|---|---|---|"]
        for what in ("predict", "train"):
            for name, by_count in peaks[what].items():
                texts = [f"{count}: {peak:.0f}" for count, peak in by_count.items()]
                values = list(by_count.values())
                rise = f"{100 * (values[-1] / values[0] - 1):+.1f} %"
                lines.append(f"| {what}, {name} | {', '.join(texts)} | {rise} |")
        lines += [f"| predict 512 x 512 x 20, {n} | 1: {p:.0f} | |" for n, p in peaks["large"].items()]
    if "threads" in results:
        lines += ["", "| labels | threads | voxels | other labels than with 1 | same bytes twice |"]
        lines.append("|---|---|---|---|---|")
        for row in results["threads"]:
            same = "yes" if row["same_bytes_twice"] else "no"
            cells = (row["how"], row["threads"], row["voxels"], row["other_labels"], same)
            lines.append(f"| {' | '.join(map(str, cells))} |")
    return "\n".join(lines) + "\n"


def failures(results: dict[str, Any]) -> list[str]:
    """Everything that is not as promised."""
    found = [text for part in PARTS[:5] for tally in results.get(part, {}).values() for text in tally["lost"]]
    peaks = results.get("memory", {})
    for name, by_count in {**peaks.get("predict", {})}.items():
        values = list(by_count.values())
        if max(values) > (1 + FLAT) * values[0]:
            found.append(f"memory of predict ({name}) rises: {by_count}")
    for name, peak in peaks.get("large", {}).items():
        if peak > LARGE_MIB:
            found.append(f"512 x 512 x 20 with {name} takes {peak:.0f} MiB")
    for row in results.get("threads", []):
        if not row["same_bytes_twice"] or row["other_labels"] * VOXELS > row["voxels"]:
            found.append(f"not deterministic: {row}")
    return found


def main(texts: Sequence[str] | None = None) -> int:
    parser = script_parser(__doc__)
    parser.add_argument("out", type=Path, help="folder for everything")
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=PARTS)
    parser.add_argument("--commands", nargs="+", choices=COMMANDS, default=COMMANDS)
    parser.add_argument("--kills", type=int, default=50, help="kills that meet each command")
    parser.add_argument("--signals", type=int, default=20, help="signals to each command")
    parser.add_argument("--writers", type=int, default=20, help="pairs of processes")
    parser.add_argument("--seed", type=int, default=1)
    arguments = parser.parse_args(texts)
    for package in PACKAGES:
        import_module(package)
    torch.set_num_threads(1)
    arguments.out.mkdir(parents=True, exist_ok=True)
    file = arguments.out / "results.json"
    results: dict[str, Any] = json.loads(file.read_text()) if file.exists() else {}
    workshop = Workshop(arguments.out.resolve(), arguments.seed)

    def save(part: str, found: Any) -> None:
        results[part] = found
        write_text(file, json.dumps(results, indent=1) + "\n")

    for part in arguments.parts:
        if part == "memory" and part not in results:
            save(part, memory(workshop, arguments.seed))
        elif part == "threads" and part not in results:
            workshop.reference("train")
            save(part, measures.threads(workshop.folder, ways(workshop), THREADS, arguments.seed))
        elif part not in ("memory", "threads"):
            for found in tallies(part, workshop, arguments, results.get(part)):
                save(part, found)
    text = table(results)
    write_text(arguments.out / "table.md", text)
    print(text)
    problems = failures(results)
    for problem in problems:
        print(problem, file=sys.stderr)
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
