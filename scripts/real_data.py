"""Run the main job on the redistributable real data and write what docs/results/networks.md quotes.

MS brain (T1, T2, FLAIR, T1 post-contrast; 3 patients): `deepsvg` without labels or prior, K = 4, beside
EM-GMM; the lesion class is the component that is brightest in T2 + FLAIR; lesions also as outliers.
Sunnybrook (end-diastolic bSSFP; 4 patients): `deepsvg`, K = 2, trained on three patients, tested on the
fourth, beside EM-GMM.
Clusters: lesions of the MS brains again, by the methods that cluster or smooth, with several seeds each.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from benchmarking import script_parser
from rich.progress import track
from sklearn.metrics import average_precision_score, roc_auc_score

import mrigmm
from mrigmm.data.manifest_file import read_manifest
from mrigmm.data.study import load_study
from mrigmm.evaluation.overlap import overlap
from mrigmm.labels import class_ids
from mrigmm.methods.base import Task
from mrigmm.methods.registry import METHODS as REGISTRY
from mrigmm.methods.registry import make_method

MANIFESTS = Path(__file__).resolve().parent.parent / "data_manifests"
BRAIN_FOLDER, HEART_FOLDER = "ms_brain_ccby", "sunnybrook_hfi_cc0"
METHODS = ("em-gmm", "em-gmm-sklearn")
CLUSTERING = (
    "kmeans",
    "slic-kmeans",
    "mrf-gmm",
    "em-svgmm",
    "consensus",
    "kmeans-refined",
    "cnn-superpixels",
    "cnn-continuity",
    "dsp-kmeans",
    "dsp-gmm",
    "dsp-cnn",
)
SEEDS = (1, 2, 3)
# One mixture per volume, and the same start for all: k-means++ where there is no prior.
EM_SETTINGS = ("scope=study", "seed=1")
# What docs/results/networks.md was measured with. The preset has got the published units and augmentation.
DEEP_SETTINGS = ("standardise=region", "published_augmentation=false")


def main() -> None:
    parser = script_parser(__doc__)
    parser.add_argument("--data", type=Path, required=True, help="folder with the two data sets")
    parser.add_argument("-o", "--out", type=Path, required=True, help="new folder for runs and results")
    parser.add_argument("--part", choices=("brain", "clusters", "heart", "all"), default="all")
    parser.add_argument("--set", dest="overrides", action="append", default=[], help="key=value for training")
    args = parser.parse_args()
    results = {"overrides": args.overrides}
    if args.part in ("brain", "all"):
        results["brain"] = brain(args.data / BRAIN_FOLDER, args.out / "brain", args.overrides)
    if args.part in ("clusters", "all"):
        results["clusters"] = brain_clusters(args.data / BRAIN_FOLDER)
    if args.part in ("heart", "all"):
        results["heart"] = heart(args.data / HEART_FOLDER, args.out / "heart", args.overrides)
    args.out.mkdir(parents=True, exist_ok=True)
    path = args.out / f"real_data_{args.part}.json"
    path.write_text(json.dumps(results, indent=1) + "\n")
    print(f"results: {path}")


def brain(data: Path, out: Path, overrides: Sequence[str]) -> dict[str, dict[str, float]]:
    """Lesion Dice per patient and method, and AUROC and average precision of the outlier score."""
    manifest = MANIFESTS / "ms_brain.json"
    order = "order_by=[T2, FLAIR]"
    train(manifest, out / "run", ("mean_regulariser=0", order, *overrides), data)
    table: dict[str, dict[str, float]] = {}
    mrigmm.predict(
        manifest,
        out / "deepsvg",
        run=out / "run",
        split="training",
        data_root=data,
        device="cpu",
        overwrite=True,
    )
    for method in METHODS:
        mrigmm.predict(
            manifest,
            out / method,
            method=method,
            split="training",
            data_root=data,
            overrides=(order, *EM_SETTINGS),
            overwrite=True,
        )
    for name in ("deepsvg", *METHODS):
        found = mrigmm.evaluate(out / name, manifest, split="training", data_root=data)
        mrigmm.report(out / name)
        table[name] = {study: round(o["lesion"].dice, 3) for study, o in (found.studies or {}).items()}
    table |= outliers(manifest, data)
    print_table("MS brain: lesion", table)
    return table


def brain_clusters(data: Path) -> dict[str, dict[str, list[float]]]:
    """Lesion Dice per patient and method, one value for every seed."""
    cohort = read_manifest(MANIFESTS / "ms_brain.json", data)
    classes = ("component_1", "component_2", "component_3", "lesion")
    labels = {**cohort.labels, **{name: () for name in classes if name not in cohort.labels}}
    task = Task(classes, cohort.sequences, None, order_by=("T2", "FLAIR"))
    table: dict[str, dict[str, list[float]]] = {}
    for study in cohort.split("training"):
        tensors = load_study(study, cohort.sequences, classes, labels=labels, with_label=True)
        for name in CLUSTERING:
            seeds = SEEDS if "seed" in REGISTRY[name].fields else (None,)
            for seed in seeds:
                method = make_method(name, task, {} if seed is None else {"seed": seed})
                found = method.segment(tensors).labels == class_ids(classes)["lesion"]
                score = overlap(found.numpy(), (tensors.label == classes.index("lesion")).numpy(), 1.0).dice
                table.setdefault(name, {}).setdefault(study.id, []).append(round(score, 4))
    print("\n| MS brain: lesion | " + " | ".join(next(iter(table.values()))) + " | mean | SD of seeds |")
    for name, row in table.items():
        means = np.mean(list(row.values()), axis=0)  # (seeds,)
        cells = [f"{np.mean(scores):.3f}" for scores in row.values()]
        spread = f"{means.std(ddof=1):.3f}" if len(means) > 1 else "–"
        print(f"| {name} | {' | '.join(cells)} | {means.mean():.3f} | {spread} |", flush=True)
    return table


def train(manifest: Path, run: Path, overrides: Sequence[str], data: Path) -> None:
    """Train `deepsvg`; an interrupted training goes on, a finished one is kept."""
    mrigmm.train(
        manifest,
        run,
        preset="deepsvg",
        overrides=(*DEEP_SETTINGS, *overrides),
        data_root=data,
        device="cpu",
        resume=(run / "checkpoints" / "last.ckpt").exists(),
        track=track,
    )


def outliers(manifest: Path, data: Path) -> dict[str, dict[str, float]]:
    """How far a lesion is an outlier of a 3-component mixture of T2 and FLAIR, per patient.

    The score is minus the log density; the area under the ROC curve is .5 for a score that knows nothing,
    the average precision is then the lesion's share of the voxels.
    """
    sequences, classes = ("T2", "FLAIR"), ("component_1", "component_2", "component_3")
    cohort = read_manifest(manifest, data)
    labels = {**cohort.labels, "other": ()}
    settings = {"scope": "study", "covariance": "full", "seed": 1}
    method = make_method("em-gmm", Task(classes, sequences, None), settings)
    rows: dict[str, dict[str, float]] = {"outlier AUROC": {}, "outlier AP": {}, "lesion share": {}}
    for study in cohort.split("training"):
        tensors = load_study(study, sequences, classes, labels=cohort.labels)
        truth = load_study(study, sequences, ("lesion", "other"), labels=labels, with_label=True)
        inside = tensors.region > 0
        score = -method.segment(tensors).log_likelihood[inside].numpy()
        lesion = (truth.label[inside] == 0).numpy()
        rows["outlier AUROC"][study.id] = round(float(roc_auc_score(lesion, score)), 3)
        rows["outlier AP"][study.id] = round(float(average_precision_score(lesion, score)), 3)
        rows["lesion share"][study.id] = round(float(lesion.mean()), 4)
    return rows


def heart(data: Path, out: Path, overrides: Sequence[str]) -> dict[str, dict[str, float]]:
    """Dice of cavity and wall of each left-out patient."""
    content = json.loads((MANIFESTS / "sunnybrook_ed.json").read_text())
    patients = content["training"]
    table: dict[str, dict[str, float]] = {}
    out.mkdir(parents=True, exist_ok=True)
    for left_out in patients:
        fold = out / left_out["id"]
        fold.mkdir(exist_ok=True)
        manifest = fold / "manifest.json"
        rest = [patient for patient in patients if patient is not left_out]
        manifest.write_text(json.dumps({**content, "training": rest, "test": [left_out]}))
        train(manifest, fold / "run", overrides, data)
        mrigmm.predict(
            manifest, fold / "deepsvg", run=fold / "run", data_root=data, device="cpu", overwrite=True
        )
        for method in METHODS:
            mrigmm.predict(
                manifest, fold / method, method=method, data_root=data, overrides=EM_SETTINGS, overwrite=True
            )
        for name in ("deepsvg", *METHODS):
            found = mrigmm.evaluate(fold / name, manifest, data_root=data)
            mrigmm.report(fold / name)
            for tissue, title in (("blood", "cavity"), ("myocardium", "wall")):
                dice = (found.studies or {})[left_out["id"]][tissue].dice
                table.setdefault(f"{name}, {title}", {})[left_out["id"]] = round(dice, 3)
    print_table("Sunnybrook: leave one patient out", table)
    return table


def print_table(title: str, table: dict[str, dict[str, float]]) -> None:
    columns = list(next(iter(table.values())))
    print(f"\n| {title} | {' | '.join(columns)} | mean |\n|---|{'---|' * (len(columns) + 1)}")
    for name, row in table.items():
        cells = [f"{row[column]:.3f}" for column in columns]
        print(f"| {name} | {' | '.join(cells)} | {np.mean(list(row.values())):.3f} |")


if __name__ == "__main__":
    main()
