"""Does the deep segmentation prior reduce over-segmentation and training time, as it claims?

    python scripts/benchmark_dsp.py -o dsp

clusters simulated studies, once as they are and once as the early-stopped hourglass sees them, and writes
dsp.json (every study and seed) and dsp.md: Dice per class, connected components per class and slice beside
the truth's, and iterations and CPU seconds as ratios of the two. A seed seeds the reconstruction and the
clustering; the studies are the same for all.
"""

from __future__ import annotations

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")

import argparse
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from statistics import mean, stdev
from typing import Any

import numpy as np
import torch
from benchmarking import command_line, publish, script_parser
from numpy.typing import NDArray
from quality.cohorts import PROTOCOLS, SEEDS, Case, read_cases, simulated_cohort
from scipy import ndimage

from mrigmm.data.study_tensors import StudyTensors
from mrigmm.jobs.common import cohort_task, no_progress, versions
from mrigmm.methods.base import Segmentation, Task
from mrigmm.methods.deep_segmentation_prior import Reconstruction
from mrigmm.methods.dsp import reconstructed
from mrigmm.methods.registry import make_method
from mrigmm.methods.settings import ReconstructionSettings
from mrigmm.phantom import PRESETS

METHODS = ("kmeans", "cnn-continuity")
Row = dict[str, Any]


def parse_arguments(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    parser = script_parser(__doc__)
    add = parser.add_argument
    add("-o", "--out", type=Path, required=True, help="folder for dsp.json and dsp.md")
    add("--preset", choices=sorted(PRESETS), default="myops-like", help="default: %(default)s")
    add("--protocol", choices=("lv", "cavity-wall"), default="cavity-wall", help="default: %(default)s")
    add("--tuning", action="store_true", help="the tuning seed's studies instead of the report's")
    add("--studies", type=int, default=12, help="default: %(default)s")
    add("--seeds", type=lambda text: [int(part) for part in text.split(",")], default=[0, 1, 2])
    add("--max-iter", type=int, help="of the reconstruction; default: the method's")
    return parser.parse_args(arguments)


def main(arguments: Sequence[str] | None = None) -> int:
    given = sys.argv[1:] if arguments is None else list(arguments)
    options = parse_arguments(given)
    torch.set_num_threads(1)
    command = command_line(__file__, given)
    with tempfile.TemporaryDirectory() as folder:
        cohort = simulated_cohort(
            Path(folder),
            preset=options.preset,
            seed=SEEDS["tuning" if options.tuning else "report"],
            n_studies=options.studies,
            track=no_progress,
        )
        task = cohort_task(cohort.manifest, None, "cpu")
        cases, unreadable = read_cases(cohort, PROTOCOLS[options.protocol], task.classes, no_progress)
    assert not unreadable, unreadable
    limit = {} if options.max_iter is None else {"max_iter": options.max_iter}
    rows = [row for seed in options.seeds for case in cases for row in compare(case, task, seed, limit)]
    header = {"command": command, "versions": versions(), "cohort": cohort.identity, "classes": task.classes}
    text = markdown(rows, task.classes, command)
    publish(options.out, "dsp", text, {**header, "rows": rows})
    return 0


def compare(case: Case, task: Task, seed: int, limit: dict[str, int]) -> Iterator[Row]:
    """Every method on one study, without and with the reconstruction."""
    study = case.tensors
    settings = ReconstructionSettings(seed=seed, **limit)
    found, seconds = timed(lambda: reconstructed(study, settings, 0, task.device))
    seen = seen_by_hourglass(study, found)
    used = found.n_iter > 0
    for name in METHODS:
        method = make_method(name, task, {"seed": seed})
        row: Row = {"study": study.id, "seed": seed, "method": name, "reconstruction_seconds": seconds}
        row["reconstruction_iterations"] = float(found.n_iter[used].float().mean())
        row["explained_variance"] = float(found.explained[used].mean())
        row["truth_components"] = components(reference(study), task.classes)
        for key, images in (("without", study), ("with", seen)):
            result, taken = timed(partial(method.segment, images))
            row[key] = scores(result, study, task.classes) | {"seconds": taken}
        yield row


def seen_by_hourglass(study: StudyTensors, found: Reconstruction) -> StudyTensors:
    """The study with its reconstruction as images."""
    image = torch.zeros_like(study.image)
    image[study.present] = found.images.permute(1, 2, 3, 0)
    return replace(study, image=image)


def timed(job: Callable[[], Any]) -> tuple[Any, float]:
    """Return a job's result, and its CPU seconds: others may use the machine."""
    start = time.process_time()
    result = job()
    return result, time.process_time() - start


def reference(study: StudyTensors) -> NDArray[np.int64]:
    """Class index from 1 of every voxel of the region, 0 elsewhere."""
    assert study.label is not None
    return np.where(study.region.numpy() > 0, study.label.numpy() + 1, 0)


def scores(result: Segmentation, study: StudyTensors, classes: Sequence[str]) -> Row:
    """Dice and components of every class, and the iterations."""
    found = np.where(study.region.numpy() > 0, result.resp.argmax(dim=0).numpy() + 1, 0)
    truth = reference(study)
    dice = {}
    for index, name in enumerate(classes, start=1):
        size = int((found == index).sum() + (truth == index).sum())
        dice[name] = 2 * int(((found == index) & (truth == index)).sum()) / size if size else None
    return {"dice": dice, "components": components(found, classes), "iterations": result.n_iter}


def components(labels: NDArray[np.int64], classes: Sequence[str]) -> dict[str, float]:
    """Connected components (by edges) of every class, mean over the slices of the region."""
    slices = [part for part in np.moveaxis(labels, 2, 0) if part.any()]
    return {
        name: mean(float(ndimage.label(part == index)[1]) for part in slices)
        for index, name in enumerate(classes, start=1)
    }


def markdown(rows: Sequence[Row], classes: Sequence[str], command: str) -> str:
    """The tables. Means over studies, then mean and SD over seeds."""
    seeds = sorted({row["seed"] for row in rows})

    def over_seeds(method: str, value: Callable[[Row], float | None]) -> str:
        means = []
        for seed in seeds:
            values = [value(row) for row in rows if row["method"] == method and row["seed"] == seed]
            known = [v for v in values if v is not None]
            means.append(mean(known) if known else float("nan"))
        return f"{mean(means):.2f}" + (f" ± {stdev(means):.2f}" if len(means) > 1 else "")

    lines = [f"```\n{command}\n```", "", "| method | images | " + " | ".join(f"{c}: Dice" for c in classes)]
    lines[-1] += " | " + " | ".join(f"{c}: components" for c in classes) + " | iterations |"
    lines.append("|---|---|" + "---|" * (2 * len(classes) + 1))
    first = rows[0]["method"]
    lines.append(
        f"| truth | – |{' – |' * len(classes)} "
        + " | ".join(over_seeds(first, lambda row, c=c: row["truth_components"][c]) for c in classes)
        + " | – |"
    )
    methods = list(dict.fromkeys(row["method"] for row in rows))
    for method in methods:
        for key, title in (("without", "as they are"), ("with", "reconstructed")):
            cells = [over_seeds(method, lambda row, c=c, key=key: row[key]["dice"][c]) for c in classes]
            cells += [
                over_seeds(method, lambda row, c=c, key=key: row[key]["components"][c]) for c in classes
            ]
            cells.append(over_seeds(method, lambda row, key=key: row[key]["iterations"]))
            lines.append(f"| `{method}` | {title} | " + " | ".join(cells) + " |")
    lines += ["", "Reconstructed as a multiple of as they are (mean of the studies' ratios):", ""]
    lines += ["| method | iterations | CPU seconds of the clustering | with those of the reconstruction |"]
    lines += ["|---|---|---|---|"]
    for method in methods:
        ratios = (
            lambda row: row["with"]["iterations"] / row["without"]["iterations"],
            lambda row: row["with"]["seconds"] / row["without"]["seconds"],
            lambda row: (row["with"]["seconds"] + row["reconstruction_seconds"]) / row["without"]["seconds"],
        )
        lines.append(f"| `{method}` | " + " | ".join(over_seeds(method, ratio) for ratio in ratios) + " |")
    iterations = over_seeds(first, lambda row: row["reconstruction_iterations"])
    share = over_seeds(first, lambda row: row["explained_variance"])
    lines += ["", f"Reconstruction: {iterations} iterations, explained variance {share}.", ""]
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(main())
