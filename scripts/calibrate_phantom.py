"""Calibration of the phantom: its figures and the scores of reference methods beside those of real patients.

    python scripts/calibrate_phantom.py -o calibration.json

prints a Markdown table, and ends with exit code 1 if the calibration does not hold.
"""

from __future__ import annotations

import argparse
import json
import sys
import warnings
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from benchmarking import dice, markdown_table, script_parser
from calibration.comparisons import (
    REGIONS,
    Comparison,
    broken_ranks,
    further_comparisons,
    method_comparisons,
    passes,
    population_comparisons,
)
from calibration.figures import class_masks, crop_zscore, lv_zscore, measure, stack_images
from calibration.matching import Tables, Targets, field_autocovariance, match_once
from rich.progress import track
from scipy.ndimage import gaussian_filter
from skimage.filters import threshold_otsu
from sklearn.exceptions import ConvergenceWarning
from sklearn.mixture import GaussianMixture

from mrigmm.labels import BACKGROUND_ID, TISSUES
from mrigmm.mixture import MapPrior, Mixture, fit_gmm, log_gaussian, posterior, safe_log
from mrigmm.phantom import PRESETS, SimulatedStudy, preset_hash, simulate_study, tables
from mrigmm.phantom.config import SEQUENCES
from mrigmm.phantom.population import CLASSES, statistics

TUNING_SEED = 1000  # the knobs and tables of the preset were chosen on studies of this seed
REPORT_SEED = 2026  # the tables in docs/results are on studies of this one

STUDY_STRENGTH = 0.2  # k0 of MAP-EM in the left ventricle
WALL_STRENGTH = 0.05  # k0 of MAP-EM in the wall
SMOOTHING_PX = 2.0  # SD for posteriors in the wall

MATCHED_TABLES = ("MEAN_SHIFT", "WIDTH_FACTOR", "FIELD_SHARES")

# The real scores are of the 20 test studies of MyoPS 2020; the population figures are of its 25 training
# studies, which are harder (the strongest MAP-EM in the wall scores scar .57 there, .70 on the test
# studies). So the contrast in LGE is aimed at the easier end of what the tolerances allow.
EASIER_MEAN = {("scar", "LGE"): 0.10, ("myocardium", "LGE"): -0.07, ("edema", "LGE"): -0.08}
EASIER_WIDTH = {("myocardium", "LGE"): 0.9, ("edema", "LGE"): 0.9}

_IDS = np.array([TISSUES[name].id for name in CLASSES])
_WALL_CLASSES = slice(1, None)


def population_map_prior(classes: slice, strength: float) -> MapPrior:
    """The prior of the population file (LV z-score), all strengths alike."""
    table = statistics()
    weights = torch.tensor(table["lv_volume_fraction"]["mean"][classes], dtype=torch.float64)
    return MapPrior(
        means=torch.tensor(table["lv_z"]["mean"][classes], dtype=torch.float64),
        covariances=torch.tensor(table["lv_z"]["within_study_covariance"][classes], dtype=torch.float64),
        weights=weights / weights.sum(),
        kappa=strength,
        nu=strength,
        a=strength,
    )


def map_em(voxels: np.ndarray, prior: MapPrior) -> np.ndarray:
    """Responsibilities (N, K) of voxels (N, C)."""
    return fit_gmm(torch.tensor(voxels), prior=prior, max_iter=60, tol=1e-6).resp.numpy()


def em_gmm(images: np.ndarray, inside: np.ndarray) -> np.ndarray:
    """Published baseline: diagonal EM per slice from the population means (crop z-score); label map."""
    labels = np.zeros(inside.shape, dtype=np.uint8)
    start = np.array(statistics()["crop_z"]["mean"])
    for z in range(inside.shape[2]):
        voxels = images[:, inside[..., z], z].T
        if len(voxels) < len(CLASSES):
            continue
        model = GaussianMixture(
            len(CLASSES), covariance_type="diag", means_init=start, max_iter=100, tol=2e-4, random_state=0
        )
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ConvergenceWarning)
            labels[inside[..., z], z] = _IDS[model.fit_predict(voxels)]
    return labels


def smooth(resp: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """Responsibilities (N, K) smoothed in plane by normalised convolution inside a mask of N voxels."""
    sigma = (SMOOTHING_PX, SMOOTHING_PX, 0)
    weight = gaussian_filter(mask.astype(float), sigma)[mask]
    planes = np.zeros((resp.shape[1], *mask.shape))
    planes[:, mask] = resp.T
    return np.stack([gaussian_filter(plane, sigma)[mask] / weight for plane in planes], axis=1)


def true_gaussians(voxels: np.ndarray, labels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Responsibilities (N, K) under Gaussians fitted to the reference, and the ids of their classes."""
    ids = np.array([i for i in _IDS if np.count_nonzero(labels == i) > voxels.shape[1] + 1])
    groups = [voxels[labels == i] for i in ids]
    mixture = Mixture(
        torch.tensor([len(group) / len(voxels) for group in groups], dtype=torch.float64),
        torch.tensor(np.stack([group.mean(axis=0) for group in groups])),
        torch.tensor(np.stack([np.cov(group.T) for group in groups])),
    )
    density = log_gaussian(torch.tensor(voxels), mixture.means, mixture.covariances)
    return posterior(safe_log(mixture.weights)[None], density).numpy(), ids


def segment(study: SimulatedStudy) -> dict[str, np.ndarray]:
    """Label map of each reference method; methods in the true wall get the true cavity."""
    images, masks = stack_images(study), class_masks(study)
    inside = study.label != BACKGROUND_ID
    wall = inside & ~masks[0]
    lv = lv_zscore(images, inside)
    in_wall = lv[:, wall].T
    whole = map_em(lv[:, inside].T, population_map_prior(slice(None), STUDY_STRENGTH))
    part = map_em(in_wall, population_map_prior(_WALL_CLASSES, WALL_STRENGTH))
    ceiling, ids = true_gaussians(in_wall, study.label[wall])
    bright = in_wall[:, 0] > threshold_otsu(in_wall[:, 0])

    def paint(mask: np.ndarray, values: np.ndarray) -> np.ndarray:
        labels = np.where(masks[0], _IDS[0], BACKGROUND_ID)
        labels[mask] = values
        return labels

    return {
        "EM-GMM": em_gmm(crop_zscore(images, inside), inside),
        "MAP-EM": paint(inside, _IDS[whole.argmax(axis=1)]),
        "Otsu in wall": paint(wall, np.where(bright, TISSUES["scar"].id, TISSUES["myocardium"].id)),
        "MAP-EM in wall": paint(wall, _IDS[_WALL_CLASSES][smooth(part, wall).argmax(axis=1)]),
        "true Gaussians": paint(wall, ids[smooth(ceiling, wall).argmax(axis=1)]),
    }


def dice_of_regions(predicted: np.ndarray, reference: np.ndarray) -> list[float]:
    """Volumetric Dice per region of `REGIONS`; NaN where both are empty."""
    members = [("edema", "scar") if region == "pathology" else (region,) for region in REGIONS]
    ids = [[TISSUES[name].id for name in names] for names in members]
    return [dice(np.isin(predicted, of_region), np.isin(reference, of_region)) for of_region in ids]


def score_methods(studies: Sequence[SimulatedStudy]) -> dict[str, list[float]]:
    """Dice of each reference method, averaged over studies."""
    scores: dict[str, list[list[float]]] = {}
    for study in track(studies, "reference methods", transient=True):
        for method, labels in segment(study).items():
            scores.setdefault(method, []).append(dice_of_regions(labels, study.label))
    return {method: np.nanmean(values, axis=0).tolist() for method, values in scores.items()}


def markdown(rows: Sequence[Comparison]) -> str:
    """The comparison as a table."""
    lines = [[*_figures(row), f"{row.tolerance:.2f}", "yes" if row.met else "**no**"] for row in rows]
    return markdown_table(["figure", "real", "simulated", "tolerance", "met"], lines)


def _figures(row: Comparison) -> tuple[str, str, str]:
    return f"{row.group}: {row.name}", f"{row.real:.2f}", f"{row.simulated:.2f}"


def plain_markdown(rows: Sequence[Comparison]) -> str:
    """Figures without a tolerance as a table."""
    return markdown_table(["further figure", "real", "simulated"], list(map(_figures, rows)))


def summary(rows: Sequence[Comparison]) -> str:
    """Figures met per group."""
    groups: dict[str, list[bool]] = {}
    for row in rows:
        groups.setdefault(row.group, []).append(row.met)
    lines = ["| group | met | of |", "|---|---|---|"]
    lines += [f"| {group} | {sum(met)} | {len(met)} |" for group, met in groups.items()]
    lines.append(f"| all | {sum(row.met for row in rows)} | {len(rows)} |")
    return "\n".join(lines)


def match_tables(rounds: int, n_studies: int) -> str:
    """New tables for the preset, matched on the tuning seed; Python source for `tables.py`."""
    config, targets = PRESETS["myops-like"], Targets.tabulated()
    for offsets, change in ((EASIER_MEAN, np.add), (EASIER_WIDTH, np.multiply)):
        table = targets.mean if change is np.add else targets.width
        for (name, sequence), amount in offsets.items():
            where = CLASSES.index(name), SEQUENCES.index(sequence)
            table[where] = change(table[where], amount)
    matched, aim, autocovariance = Tables.current(), targets.autocorrelation, None
    for _ in range(rounds):
        studies = [simulate_study(config, seed=TUNING_SEED, index=index) for index in range(n_studies)]
        if autocovariance is None:
            autocovariance = field_autocovariance(
                studies, psf_mm=config.psf_mm, rng=np.random.default_rng(TUNING_SEED)
            )
        figures = [measure(study) for study in studies]
        matched, aim = match_once(matched, figures, targets=targets, aim=aim, autocovariance=autocovariance)
        for name in MATCHED_TABLES:  # the next round simulates with them
            setattr(tables, name, np.round(getattr(matched, name.lower()), 3).tolist())
    return "\n".join(f"{name} = {getattr(tables, name)}" for name in MATCHED_TABLES)


def draw_picture(path: Path, seed: int) -> None:
    """Twelve slices: four studies, three sequences each, with the reference beside them."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt
    from matplotlib.colors import ListedColormap

    colours = ListedColormap([(0.0, 0.0, 0.0), *(np.array(t.colour) / 255 for t in TISSUES.values())])
    figure, axes = plt.subplots(4, 4, figsize=(8, 8), layout="constrained")
    for index, row in enumerate(axes):
        study = simulate_study(PRESETS["myops-like"], seed=seed, index=index)
        z = int(np.argmax((study.label == TISSUES["scar"].id).sum(axis=(0, 1))))
        centre = [int(where.mean()) for where in np.nonzero(study.label[..., z])]
        view = tuple(slice(max(c - 72, 0), c + 72) for c in centre)
        heart = study.label[..., z] > 0
        for axis, (name, image) in zip(row, study.sequences.items(), strict=False):
            top = np.percentile(image[heart, z], 99.5)
            axis.imshow(image[..., z][view].T, cmap="gray", vmin=0, vmax=top)
            axis.set_title(f"{study.id} {name}", fontsize=8)
        row[3].imshow(study.label[..., z][view].T, cmap=colours, vmin=0, vmax=4, interpolation="nearest")
        row[3].set_title("reference", fontsize=8)
    for axis in axes.flat:
        axis.axis("off")
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=75)


def parse_arguments() -> argparse.Namespace:
    parser = script_parser(__doc__)
    parser.add_argument(
        "--preset", default="myops-like", choices=sorted(PRESETS), help="default: %(default)s"
    )
    parser.add_argument(
        "--studies", type=int, default=200, help="how many to simulate (default: %(default)s)"
    )
    parser.add_argument(
        "--seed",
        type=int,
        default=REPORT_SEED,
        help=f"of the cohort (default: %(default)s, the report's; the preset was tuned on {TUNING_SEED})",
    )
    parser.add_argument(
        "--deepsvg",
        type=float,
        nargs=len(REGIONS),
        metavar="DICE",
        help=f"adds the row of the published deepSVG, scored elsewhere: {', '.join(REGIONS)}",
    )
    parser.add_argument("--picture", type=Path, help="only draw twelve simulated slices into this PNG file")
    parser.add_argument(
        "--match",
        type=int,
        metavar="ROUNDS",
        help="only match the tables of myops-like to the real figures, on the tuning seed, and print them",
    )
    parser.add_argument("-o", "--output", type=Path, help="write the figures as JSON")
    return parser.parse_args()


def main() -> int:
    arguments = parse_arguments()
    if arguments.picture:
        draw_picture(arguments.picture, arguments.seed)
        return 0
    if arguments.match:
        sys.stdout.write(match_tables(arguments.match, arguments.studies) + "\n")
        return 0
    config = PRESETS[arguments.preset]
    studies = [
        simulate_study(config, seed=arguments.seed, index=index)
        for index in track(range(arguments.studies), "simulating", transient=True)
    ]
    scores = score_methods(studies)
    if arguments.deepsvg:
        scores["deepSVG"] = arguments.deepsvg
    figures = [measure(study) for study in studies]
    rows = population_comparisons(figures) + method_comparisons(scores)
    further = further_comparisons(figures)
    broken, passed = broken_ranks(scores), passes(rows, scores)
    sys.stdout.write(
        f"preset {arguments.preset} ({preset_hash(config)}), {arguments.studies} studies, "
        f"seed {arguments.seed}\n\n{markdown(rows)}\n\n{summary(rows)}\n\n"
        f"{plain_markdown(further)}\n\n"
        f"ranks broken: {'; '.join(broken) or 'none'}\ncalibration {'holds' if passed else 'FAILS'}\n"
    )
    if arguments.output:
        content = {
            "preset": arguments.preset,
            "preset_hash": preset_hash(config),
            "studies": arguments.studies,
            "seed": arguments.seed,
            "figures": [vars(row) | {"met": row.met} for row in rows],
            "further": [
                {"group": row.group, "name": row.name, "real": row.real, "simulated": row.simulated}
                for row in further
            ],
            "dice": {method: dict(zip(REGIONS, values, strict=True)) for method, values in scores.items()},
            "ranks_broken": broken,
            "passed": passed,
        }
        arguments.output.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
    return 0 if passed else 1


if __name__ == "__main__":
    sys.exit(main())
