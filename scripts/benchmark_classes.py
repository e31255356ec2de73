"""A class for edema: infarct mass on the phantom with and without it, by method and sequences.

    python scripts/benchmark_classes.py -o classes.json

Segments the same studies with blood, myocardium, edema and scar, and with blood, myocardium and scar. Prints
Markdown: bias and mean absolute error of the infarct mass in g, Dice of scar and of edema.
"""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from benchmarking import dice, markdown_table, save_numbers, script_parser
from rich.progress import track

from mrigmm.data.manifest_file import read_manifest
from mrigmm.data.study import load_study
from mrigmm.jobs.common import cohort_task
from mrigmm.labels import TISSUES
from mrigmm.methods.registry import METHODS, make_method
from mrigmm.phantom import PRESETS, simulate_cohort
from mrigmm.quantification.volumes import MYOCARDIUM_G_PER_ML

SEQUENCES = (("LGE",), ("LGE", "bSSFP"), ("LGE", "T2"), ("LGE", "T2", "bSSFP"))
CLASSES = (("blood", "myocardium", "edema", "scar"), ("blood", "myocardium", "scar"))


def run(methods: Sequence[str], *, studies: int, seed: int, preset: str, region: str) -> dict[str, object]:
    """Volumes and Dice of every study, method, set of sequences and set of classes."""
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        path = simulate_cohort(
            Path(folder) / "cohort", n_studies=studies, seed=seed, preset=preset, region=region
        )
        cohort = read_manifest(path)
        for study in track(cohort.split("all"), "segmenting"):
            for names in SEQUENCES:
                tensors = load_study(study, names, CLASSES[0], labels=cohort.labels, with_label=True)
                assert tensors.label is not None
                true = tensors.label.numpy()
                gram = MYOCARDIUM_G_PER_ML * tensors.output.grid.voxel_volume_ml
                for classes in CLASSES:
                    task = cohort_task(replace(cohort, sequences=names), None, "cpu", classes)
                    for method in methods:
                        found = make_method(method, task, {}).segment(tensors).labels.numpy()
                        scores = {
                            name: (found == TISSUES[name].id, true == CLASSES[0].index(name))
                            for name in ("scar", "edema")
                        }
                        rows.append(
                            {
                                "study": study.id,
                                "sequences": "+".join(names),
                                "classes": len(classes),
                                "method": method,
                                "infarct_g": gram * int(scores["scar"][0].sum()),
                                "true_g": gram * int(scores["scar"][1].sum()),
                                **{f"dice_{name}": dice(*masks) for name, masks in scores.items()},
                            }
                        )
    return {"seed": seed, "studies": studies, "preset": preset, "region": region, "rows": rows}


def table(report: dict) -> str:
    """Markdown: a row per sequences and method, with and without the class."""
    lines = []
    keys = dict.fromkeys((row["sequences"], row["method"]) for row in report["rows"])
    for key in keys:
        of = [
            [r for r in report["rows"] if (r["sequences"], r["method"]) == key and r["classes"] == n]
            for n in (4, 3)
        ]
        errors = [np.array([row["infarct_g"] - row["true_g"] for row in rows]) for rows in of]
        masses = [f"{e.mean():+.1f}, {np.abs(e).mean():.1f}" for e in errors]
        scar = ", ".join(f"{np.nanmean([row['dice_scar'] for row in rows]):.2f}" for rows in of)
        true = np.mean([row["true_g"] for row in of[0]])
        edema = np.nanmean([row["dice_edema"] for row in of[0]])
        lines.append([*key, f"{true:.1f}", *masses, scar, f"{edema:.2f}"])
    head = ["sequences", "method", "infarct g (true)", "with edema: bias, error", "without: bias, error"]
    return markdown_table([*head, "Dice of scar, with, without", "Dice of edema"], lines)


def main() -> None:
    """Parse, run, print, write."""
    parser = script_parser(__doc__)
    parser.add_argument("-o", "--output", type=Path, help="write the numbers as JSON")
    parser.add_argument("--studies", type=int, default=24)
    parser.add_argument("--seed", type=int, default=7101)
    parser.add_argument("--preset", choices=list(PRESETS), default="myops-like")
    parser.add_argument("--region", choices=["lv", "cavity-wall"], default="cavity-wall")
    parser.add_argument(
        "--methods", nargs="+", choices=list(METHODS), default=["map-em-2step", "map-em", "mrf-gmm", "kmeans"]
    )
    options = parser.parse_args()
    report = run(
        options.methods,
        studies=options.studies,
        seed=options.seed,
        preset=options.preset,
        region=options.region,
    )
    sys.stdout.write(table(report) + "\n")
    save_numbers(options.output, report)


if __name__ == "__main__":
    main()
