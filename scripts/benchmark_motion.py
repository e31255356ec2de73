"""Motion between sequences and bias field: what the optional steps of loading regain on the phantom.

    python scripts/benchmark_motion.py -o motion.json

Simulates the same patients without and with motion, reads them without and with registration, and those
without motion with bias correction too. Compares the motion found with the true one, and the Dice of two
methods. Prints Markdown.
"""

from __future__ import annotations

import json
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from unittest.mock import patch

import numpy as np
from benchmarking import save_numbers, script_parser
from rich.progress import track

from mrigmm.data.manifest import Manifest, Study
from mrigmm.data.manifest_file import read_manifest
from mrigmm.data.registration import SliceMotion
from mrigmm.data.study import Corrections, load_study
from mrigmm.data.study_tensors import StudyTensors
from mrigmm.evaluation.cohort import study_overlaps
from mrigmm.jobs.common import cohort_task
from mrigmm.methods.registry import make_method
from mrigmm.phantom import PRESETS, simulate_cohort

REPORT_SEED = 2026  # constants of registration and N4 were chosen on studies of seed 1000
PRESET = "hard-acquisition"
METHODS = ("map-em", "map-em-2step")
ROWS = ("blood", "myocardium", "edema", "scar", "pathology")
# Arm -> largest motion in mm, steps of loading.
ARMS = {
    "no motion": (0.0, Corrections()),
    "motion": (PRESETS[PRESET].motion_mm, Corrections()),
    "motion, registered": (PRESETS[PRESET].motion_mm, Corrections(registration=True)),
    "no motion, registered": (0.0, Corrections(registration=True)),
    "no motion, bias-corrected": (0.0, Corrections(bias_correction=True)),
}


@dataclass(frozen=True)
class SliceError:
    """One slice of one sequence: root mean square displacement over the region in mm that was and is left."""

    study: str
    sequence: str
    slice: int
    before_mm: float
    after_mm: float
    degrees: float


def cohort(folder: Path, *, motion_mm: float, studies: int, seed: int, region: str) -> Manifest:
    """The preset's patients with slices that move by up to so many mm."""
    name = f"{PRESET}-{motion_mm:g}mm"
    with patch.dict(PRESETS, {name: replace(PRESETS[PRESET], motion_mm=motion_mm)}):
        path = simulate_cohort(folder / name, n_studies=studies, seed=seed, preset=name, region=region)
    return read_manifest(path)


def slice_errors(manifest: Path, tensors: StudyTensors, region: np.ndarray) -> list[SliceError]:
    """Motion that was found against the true one, over the region (X, Y, Z) of the file."""
    truth = json.loads((manifest.parent / "truth" / f"{tensors.id}.json").read_text())["motion_mm"]
    errors = []
    for name, slices in tensors.motion.items():
        for z, found in enumerate(slices):
            voxels = np.argwhere(region[..., z])
            if not voxels.size:
                continue
            points = (voxels - voxels.mean(axis=0)) * tensors.output.grid.spacing_mm[:2]
            before = _left(points, SliceMotion(), truth[name][z])
            after = _left(points, found, truth[name][z])
            errors.append(SliceError(tensors.id, name, z + 1, before, after, found.degrees))
    return errors


def _left(points: np.ndarray, found: SliceMotion, true_mm: Sequence[float]) -> float:
    angle = np.deg2rad(found.degrees)
    turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    error = points @ (turn - np.eye(2)).T + found.shift_mm - np.asarray(true_mm)
    return float(np.sqrt((error**2).sum(axis=1).mean()))


def dice(study: Study, manifest: Manifest, tensors: StudyTensors) -> dict[str, dict[str, float]]:
    """Method -> class or nested region -> Dice."""
    task = cohort_task(manifest, None, "cpu")
    assert tensors.label is not None
    scores = {}
    for name in METHODS:
        predicted = make_method(name, task, {}).segment(tensors).labels.numpy() - 1  # ids to indices
        overlaps = study_overlaps(
            predicted,
            tensors.label.numpy(),
            task.classes,
            voxel_volume_ml=tensors.output.grid.voxel_volume_ml,
        )
        scores[name] = {row: overlaps[row].dice for row in ROWS}
    return scores


def run(studies: int, seed: int, region: str) -> dict[str, object]:
    """All arms on all studies."""
    errors: list[SliceError] = []
    left: list[str] = []
    scores: dict[str, list[dict[str, dict[str, float]]]] = {arm: [] for arm in ARMS}
    seconds: dict[str, list[float]] = {arm: [] for arm in ARMS}
    with tempfile.TemporaryDirectory() as folder:
        cohorts = {
            motion: cohort(Path(folder), motion_mm=motion, studies=studies, seed=seed, region=region)
            for motion in {motion for motion, _ in ARMS.values()}
        }
        classes = cohort_task(cohorts[0.0], None, "cpu").classes
        jobs = [(arm, index) for index in range(studies) for arm in ARMS]
        for arm, index in track(jobs, "segmenting"):
            motion, corrections = ARMS[arm]
            manifest = cohorts[motion]
            study = manifest.split("all")[index]
            started = time.process_time()
            tensors = load_study(
                study,
                manifest.sequences,
                classes,
                labels=manifest.labels,
                with_label=True,
                corrections=corrections,
            )
            seconds[arm].append(time.process_time() - started)
            scores[arm].append(dice(study, manifest, tensors))
            if motion and corrections.registration:
                codes = tensors.to_input_grid(tensors.region[None])[0]
                errors += slice_errors(manifest.path, tensors, codes > 0)
                left += [f"{study.id}: {text}" for text in tensors.warnings if "unregistered" in text]
    return {
        "seed": seed,
        "studies": studies,
        "preset": PRESET,
        "region": region,
        "errors": [vars(error) for error in errors],
        "left": left,
        "dice": {arm: means(rows) for arm, rows in scores.items()},
        "dice_per_study": scores,
        "cpu_seconds_to_read_a_study": {arm: float(np.median(values)) for arm, values in seconds.items()},
    }


def means(rows: Sequence[dict[str, dict[str, float]]]) -> dict[str, dict[str, float]]:
    """Method -> class -> mean over the studies where it is defined, and over classes."""
    result = {}
    for method in METHODS:
        values = {row: float(np.nanmean([study[method][row] for study in rows])) for row in ROWS}
        result[method] = {**values, "mean of classes": float(np.mean([values[row] for row in ROWS[:4]]))}
    return result


def tables(report: dict) -> str:
    """Markdown."""
    lines = [
        "| sequence | slices | before: median, 90 % | after: median, 90 %, worst (mm) |",
        "|---|---|---|---|",
    ]
    for name in dict.fromkeys(error["sequence"] for error in report["errors"]):
        of_name = [error for error in report["errors"] if error["sequence"] == name]
        before, after = (np.array([error[key] for error in of_name]) for key in ("before_mm", "after_mm"))
        lines.append(
            f"| {name} | {len(of_name)} | {np.median(before):.2f}, {np.percentile(before, 90):.2f} "
            f"| {np.median(after):.2f}, {np.percentile(after, 90):.2f}, {after.max():.2f} |"
        )
    lines += [f"\n{len(report['left'])} slices left unregistered.", *report["left"], ""]
    columns = (*ROWS, "mean of classes")
    for method in METHODS:
        lines += [f"| {method} | {' | '.join(columns)} |", "|---" * (len(columns) + 1) + "|"]
        for arm, values in report["dice"].items():
            lines.append(f"| {arm} | {' | '.join(f'{values[method][c]:.3f}' for c in columns)} |")
        still, moved, back = (report["dice"][arm][method] for arm in list(ARMS)[:3])
        regained = [
            f"{100 * (back[c] - moved[c]) / (still[c] - moved[c]):.0f} %" if still[c] > moved[c] else "–"
            for c in columns
        ]
        lines += [f"| regained of what motion cost | {' | '.join(regained)} |", ""]
    lines.append("CPU seconds to read a study (median):")
    lines += [f"{arm} {spent:.1f}" for arm, spent in report["cpu_seconds_to_read_a_study"].items()]
    return "\n".join(lines)


def main() -> None:
    """Parse, run, print, write."""
    parser = script_parser(__doc__)
    parser.add_argument("-o", "--output", type=Path, help="write the numbers as JSON")
    parser.add_argument("--studies", type=int, default=24)
    parser.add_argument("--seed", type=int, default=REPORT_SEED)
    parser.add_argument("--region", choices=["lv", "cavity-wall"], default="lv")
    options = parser.parse_args()
    report = run(options.studies, options.seed, options.region)
    sys.stdout.write(tables(report) + "\n")
    save_numbers(options.output, report)


if __name__ == "__main__":
    main()
