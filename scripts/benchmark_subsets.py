"""Dice of a trained run with every subset of the sequences, beside map-em-2step on the same subset.

    python scripts/benchmark_subsets.py benchmark/runs/default_cavity-wall_seed1 -o subsets

The cohort is that of the quality benchmark (report seed); a left-out sequence counts as not acquired. Several
runs (training seeds) are averaged per study first.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import combinations
from pathlib import Path

import numpy as np
import torch
from benchmarking import command_line, markdown_table, publish, script_parser
from quality.cohorts import PROTOCOLS, SEEDS, read_cases, simulated_cohort
from quality.scoring import score
from rich.progress import track

from mrigmm.data.run_folder import RunFolder
from mrigmm.data.study_tensors import StudyTensors
from mrigmm.errors import InputError
from mrigmm.evaluation.intervals import estimate_mean, paired_difference
from mrigmm.jobs.common import cohort_task, no_progress, versions
from mrigmm.methods.base import Method
from mrigmm.methods.registry import make_method, method_of_run

CLASSES = ("myocardium", "edema", "scar", "pathology")


def subsets(sequences: Sequence[str]) -> Iterator[tuple[str, ...]]:
    """All sequences first, single ones last."""
    for size in range(len(sequences), 0, -1):
        yield from combinations(sequences, size)


def only(study: StudyTensors, names: Sequence[str]) -> StudyTensors:
    """The study as if only these sequences had been acquired, without its label."""
    kept = torch.tensor([name in names for name in study.sequences])[:, None, None, None]
    return replace(study, image=study.image * kept, observed=study.observed & kept, label=None)


def main(arguments: Sequence[str] | None = None) -> int:
    given = sys.argv[1:] if arguments is None else list(arguments)
    parser = script_parser(__doc__)
    add = parser.add_argument
    add("runs", type=Path, nargs="+", help="run folders, one per training seed")
    add("-o", "--out", type=Path, required=True)
    add("--protocol", choices=["cavity-wall", "lv"], default="cavity-wall")
    add("--phantom", default="myops-like")
    add("--studies", type=int, default=40)
    options = parser.parse_args(given)

    cohort = simulated_cohort(
        options.out / "cohorts",
        preset=options.phantom,
        seed=SEEDS["report"],
        n_studies=options.studies,
        track=no_progress,
    )
    task = cohort_task(cohort.manifest, None, "cpu")
    cases, _ = read_cases(cohort, PROTOCOLS[options.protocol], task.classes, no_progress)
    methods: dict[str, list[Method]] = {
        "map-em-2step": [make_method("map-em-2step", task, {})],
        "trained": [method_of_run(RunFolder(run), torch.device("cpu")).method for run in options.runs],
    }
    rows: dict[str, dict[str, dict[str, dict[str, float]]]] = {}
    for names in track(list(subsets(task.sequences)), "Subsets"):
        found: dict[str, dict[str, dict[str, float]]] = {}
        for name, seeds in methods.items():
            found[name] = {}
            for case in cases:
                study = only(case.tensors, names)
                try:
                    scored = [score(case, m.segment(study), task.classes, list(task.classes)) for m in seeds]
                except InputError as error:
                    sys.stderr.write(f"{name}, {'+'.join(names)}: {error}\n")
                    continue
                found[name][case.study] = {
                    group: float(np.mean([row[f"dice/{group}"] for row in scored])) for group in CLASSES
                }
        rows["+".join(names)] = found
    command = command_line(__file__, given)
    text = markdown(rows, command)
    publish(
        options.out,
        "subsets",
        text,
        {"command": command, "cohort": cohort.identity, "versions": versions(), "studies": rows},
    )
    return 0


def markdown(rows: dict[str, dict[str, dict[str, dict[str, float]]]], command: str) -> str:
    """Dice of both methods and their paired difference [95 % interval] for every subset."""
    lines = []
    for names, found in rows.items():
        fit, trained = found["map-em-2step"], found["trained"]
        lines.append([names, "`map-em-2step`", *(_dice(fit, group) for group in CLASSES)])
        cells = [f"{_dice(trained, group)} ({_difference(trained, fit, group)})" for group in CLASSES]
        lines.append([names, "trained", *cells])
    return f"```\n{command}\n```\n\n{markdown_table(['sequences', 'method', *CLASSES], lines)}\n"


def _dice(studies: dict[str, dict[str, float]], group: str) -> str:
    return f"{estimate_mean([row[group] for row in studies.values()]).mean:.2f}"


def _difference(trained: dict[str, dict[str, float]], fit: dict[str, dict[str, float]], group: str) -> str:
    mine, its = ({study: row[group] for study, row in table.items()} for table in (trained, fit))
    paired = paired_difference(mine, its)
    return f"{paired.mean:+.2f} [{paired.low:+.2f}, {paired.high:+.2f}]".replace("-", "−")


if __name__ == "__main__":
    sys.exit(main())
