"""Does the anatomy stage know when not to be trusted? Generative head against softmax confidence.

    python scripts/benchmark_unusual.py -o unusual --brain ms_brain_ccby

Two networks per seed, alike but for the head, are trained on 24 labelled simulated studies (seed 3000). 20
other studies (report seed; `--tuning`: seed 1000) are judged as they are and with each corruption; a study's
score is the median quality of its slices. Pixels are judged where the corruption has a place (metal).
Finished trainings are kept.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from benchmark_anatomy import SUPERVISED, cohort_of, unmapped
from benchmarking import command_line, markdown_table, publish, script_parser
from quality.cohorts import Cohort
from rich.progress import track
from sklearn.metrics import average_precision_score, roc_auc_score
from torch import Tensor

import mrigmm
from mrigmm.data.manifest_file import read_manifest
from mrigmm.data.study import read_sequences
from mrigmm.data.study_tensors import StudyTensors
from mrigmm.data.whole import known_anatomy, load_whole
from mrigmm.evaluation.calibration import reliability
from mrigmm.evaluation.overlap import overlap
from mrigmm.jobs.common import versions
from mrigmm.labels import Region
from mrigmm.methods.anatomy import AnatomyFinder, read_anatomy_finder

HEADS = ("softmax", "gmm")
Corruption = Callable[[Tensor, np.random.Generator], tuple[Tensor, Tensor | None]]


def wrong_slot(image: Tensor, rng: np.random.Generator) -> tuple[Tensor, None]:
    """Every sequence in the place of the next."""
    return image.roll(1, dims=0), None


def motion(image: Tensor, rng: np.random.Generator) -> tuple[Tensor, None]:
    """Ghosts of half the strength, a ninth of the image away along the second axis."""
    shift = image.shape[2] // 9
    return (image + 0.5 * (image.roll(shift, dims=2) + image.roll(-shift, dims=2))) / 2, None


def wrap_around(image: Tensor, rng: np.random.Generator) -> tuple[Tensor, None]:
    """The image folded onto itself by half of the first axis."""
    return (image + image.roll(image.shape[1] // 2, dims=1)) / 2, None


def metal(image: Tensor, rng: np.random.Generator) -> tuple[Tensor, Tensor]:
    """A signal void of 20 pixels with a bright rim near the middle of every slice."""
    x, y = (torch.arange(n) - n / 2 - float(rng.uniform(-15, 15)) for n in image.shape[1:3])
    distance = torch.hypot(x[:, None], y)[None, ..., None].expand(image.shape)
    void = torch.where(distance < 20, image.amin(), torch.where(distance < 26, image.amax(), image))
    return void, (distance < 26)[0]


def noise(image: Tensor, rng: np.random.Generator) -> tuple[Tensor, None]:
    """Gaussian noise of one SD of the image."""
    return image + torch.from_numpy(rng.normal(size=image.shape)).float(), None


def no_apex(image: Tensor, rng: np.random.Generator) -> tuple[Tensor, None]:
    """Without the last slice."""
    return image[..., :-1], None


CORRUPTIONS: Mapping[str, Corruption] = {
    "wrong slot": wrong_slot,
    "motion": motion,
    "wrap-around": wrap_around,
    "metal": metal,
    "noise": noise,
    "missing apex": no_apex,
}


def corrupted(study: StudyTensors, corruption: Corruption, seed: int) -> tuple[StudyTensors, Tensor | None]:
    """The study with a corruption, and where that is (X, Y, Z) if it has a place."""
    changed, place = corruption(study.image, np.random.default_rng(seed))
    n = changed.shape[-1]
    return replace(
        study, image=changed, region=study.region[..., :n], observed=study.observed[..., :n]
    ), place


def abnormality(finder: AnatomyFinder, study: StudyTensors) -> tuple[float, Tensor]:
    """Return the score of the study (infinite where no ventricle is seen), and of its pixels (X, Y, Z)."""
    _, typicality, quality = finder.look(study)
    known = quality[~quality.isnan()]
    return float(-known.median()) if len(known) else np.inf, -typicality


def separation(usual: Sequence[float], unusual: Sequence[float]) -> dict[str, float]:
    """AUROC, average precision, and the share of usual ones above the 5th percentile of the unusual."""
    scores = np.array([*usual, *unusual])
    scores = np.where(np.isinf(scores), scores[np.isfinite(scores)].max() + 1, scores)
    truth = np.array([0] * len(usual) + [1] * len(unusual))
    threshold = np.quantile(scores[truth == 1], 0.05, method="lower")
    return {
        "auroc": float(roc_auc_score(truth, scores)),
        "ap": float(average_precision_score(truth, scores)),
        "fpr95": float((scores[truth == 0] >= threshold).mean()),
    }


def brain_studies(folder: Path, sequences: Sequence[str]) -> list[StudyTensors]:
    """MS brains in the heart's slots: FLAIR, T2 and T1."""
    manifest = Path(__file__).parent.parent / "data_manifests" / "ms_brain.json"
    cohort = read_manifest(manifest, folder)
    found = []
    for study in cohort.split("all"):
        images = dict(zip(sequences, (study.images[name] for name in ("FLAIR", "T2", "T1")), strict=True))
        tensors = load_whole(replace(study, images=images), sequences, {})
        middle = slice(tensors.image.shape[-1] // 2 - 2, tensors.image.shape[-1] // 2 + 2)
        image = tensors.image[..., middle]
        region, observed = tensors.region[..., middle], tensors.observed[..., middle]
        found.append(replace(tensors, image=image, region=region, observed=observed))
    return found


def main(arguments: Sequence[str] | None = None) -> int:
    given = sys.argv[1:] if arguments is None else list(arguments)
    parser = script_parser(__doc__)
    add = parser.add_argument
    add("-o", "--out", type=Path, required=True)
    add("--brain", type=Path, help="folder of the MS brains: another organ")
    add("--seeds", type=int, nargs="*", default=[1, 2, 3], help="of the training")
    add("--tuning", action="store_true", help="judge studies of seed 1000 instead of the report's 2026")
    add("--studies", type=int, default=20)
    add("--train-studies", type=int, default=24)
    add("--set", action="append", default=[], metavar="KEY=VALUE", help="change a setting of both heads")
    options = parser.parse_args(given)
    options.out.mkdir(parents=True, exist_ok=True)
    training = cohort_of(options.out / "cohorts", "training", options.train_studies)
    tested = cohort_of(options.out / "cohorts", "tuning" if options.tuning else "report", options.studies)
    manifest = unmapped(training.manifest.path, options.out / "training.json")

    rows: dict[str, dict[str, list[dict[str, float]]]] = {head: {} for head in HEADS}
    for head, seed in track([(head, seed) for seed in options.seeds for head in HEADS], "Heads"):
        run = options.out / "runs" / f"{head}_{seed}"
        settings = [f"{name}={value}" for name, value in SUPERVISED.items()]
        mrigmm.train_anatomy(
            manifest,
            run,
            overrides=[*settings, f"head={head}", f"seed={seed}", *options.set],
            data_root=training.manifest.path.parent,
            device="cpu",
            resume=(run / "config.yaml").exists(),
        )
        finder, _ = read_anatomy_finder(run, torch.device("cpu"))
        for name, row in judge(finder, tested, options.brain).items():
            rows[head].setdefault(name, []).append(row)
    command = command_line(__file__, given)
    text = f"```\n{command}\n```\n\n{markdown(rows)}"
    publish(options.out, "unusual", text, {"command": command, "versions": versions(), "heads": rows})
    return 0


def judge(finder: AnatomyFinder, tested: Cohort, brain: Path | None) -> dict[str, dict[str, float]]:
    """Segmentation and calibration on the studies as they are, and separation from each corruption."""
    studies, dices, probabilities, truths = [], [], [], []
    for study in tested.studies:
        images = read_sequences(study, finder.sequences, tested.manifest.labels)
        codes = known_anatomy(study, tested.manifest.labels, images)
        assert codes is not None
        whole = load_whole(study, finder.sequences, tested.manifest.labels, images=images)
        studies.append(whole)
        truth = whole.turn.apply(codes)
        p = finder.look(whole)[0].numpy()
        label = np.select([truth == Region.CAVITY, truth == Region.WALL], [1, 2], 0)
        dices.append([overlap(p.argmax(axis=0) == i, label == i, 1.0).dice for i in (1, 2)])
        inside = (label > 0) | (p[1:].sum(axis=0) > 0.05)
        probabilities.append(p[:, inside])
        truths.append(label[inside])
    cavity, wall = np.mean(dices, axis=0)
    error = reliability(np.concatenate(probabilities, axis=1), np.concatenate(truths)).error()
    found = {"as they are": {"cavity": float(cavity), "wall": float(wall), "ece": error}}

    usual = [abnormality(finder, study) for study in studies]
    for name, corruption in CORRUPTIONS.items():
        scores, inside_scores, outside_scores = [], [], []
        for index, study in enumerate(studies):
            changed, place = corrupted(study, corruption, index)
            score, pixels = abnormality(finder, changed)
            scores.append(score)
            if place is not None:
                inside_scores.append(pixels[place].numpy()[::50])
                outside_scores.append(pixels[~place].numpy()[::50])
        found[name] = separation([score for score, _ in usual], scores)
        if inside_scores:
            found[f"{name}, pixels"] = separation(
                np.concatenate(outside_scores).tolist(), np.concatenate(inside_scores).tolist()
            )
    if brain is not None:
        scores = [abnormality(finder, study)[0] for study in brain_studies(brain, finder.sequences)]
        found["another organ"] = separation([score for score, _ in usual], scores)
    return found


def markdown(rows: Mapping[str, Mapping[str, Sequence[Mapping[str, float]]]]) -> str:
    """Means over the seeds, both heads side by side."""
    names = list(rows[HEADS[0]])
    segmented = [
        [head, *(_mean(rows[head]["as they are"], key) for key in ("cavity", "wall", "ece"))]
        for head in HEADS
    ]
    judged = [
        [name, head, *(_mean(rows[head][name], key) for key in ("auroc", "ap", "fpr95"))]
        for name in names[1:]
        for head in HEADS
    ]
    first = markdown_table(["head", "cavity", "wall", "ECE"], segmented)
    return f"{first}\n\n{markdown_table(['what is unusual', 'head', 'AUROC', 'AP', 'FPR at 95 %'], judged)}\n"


def _mean(seeds: Sequence[Mapping[str, float]], key: str) -> str:
    values = [row[key] for row in seeds]
    return f"{np.mean(values):.3f} ({min(values):.3f}, {max(values):.3f})"


if __name__ == "__main__":
    sys.exit(main())
