"""Does the density of a generative head find wrong maps better than what the program uses?

    python scripts/quality_scores.py -o quality_scores

Fits class-conditional mixtures (GMMSeg's head, by Sinkhorn EM) on features of the first shipped segmenter, on
simulated training slices alone, and segments shifted cohorts of seed 901 with nothing given and with the wall
given. Every score of a study is judged by its AUROC for a Dice of the infarct below .5 among
studies with an infarct. Regressed scores are fitted without the cohort that they are judged on; the
expected Dice as shipped was fitted on seed 900. Rows are kept in the output folder: an interrupted run goes
on. The table is `scores.md`.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import torch
from benchmarking import digests_of, script_parser, short_digest
from calibrate_pretrained import COHORTS, DICE_FEATURES
from quality.shifted import SEEDS
from rich.progress import track
from sklearn.linear_model import Ridge
from sklearn.metrics import roc_auc_score
from torch import Tensor

from mrigmm.config_pretrain import PretrainConfig
from mrigmm.data.study_tensors import StudyTensors
from mrigmm.jobs.common import versions
from mrigmm.jobs.training.judged_studies import CLASSES, Judged, judge_simulated
from mrigmm.labels import SEGMENTER_CLASSES
from mrigmm.methods.decision import decide
from mrigmm.methods.study_verdict import expected_dice
from mrigmm.methods.study_views import given_view
from mrigmm.networks.gmm_head import GMMHead
from mrigmm.networks.segmenter import Segmenter, SegmenterInput
from mrigmm.phantom.generator import allowed_table, read_backgrounds
from mrigmm.phantom.generator.codes import N_CLASSES
from mrigmm.pretrained.folder import shipped_folder
from mrigmm.pretrained.networks import shipped_networks
from mrigmm.training.pretraining import segmenter_batch, segmenter_loss

PROTOCOLS = ("nothing", "wall")
HEAD_SEED = 79
BOOTSTRAP = 2000
SCORES = {  # of a row, high where the map is good
    "softmax confidence in the infarct": lambda row: row["features"]["certainty"],
    "agreement of networks and own mixture": lambda row: row["features"]["agreement"],
    "spread over networks and symmetries": lambda row: -row["features"]["spread"],
    "generative head: density in the infarct": lambda row: row["features"]["density_infarct"],
    "generative head: density in the ventricle": lambda row: row["features"]["density_ventricle"],
}
REGRESSED = {
    "expected Dice, fitted again": DICE_FEATURES,
    "expected Dice with both densities": (*DICE_FEATURES, "density_infarct", "density_ventricle"),
}


def features_of(network: Segmenter, x: SegmenterInput) -> Tensor:
    """Return the features (B, F, A, A) that the segmenter's last layer sees."""
    unet = network.unet
    return unet.merged(unet.encode(x.planes()))[-1]


def fit_head(network: Segmenter, steps: int) -> GMMHead:
    """Fit the head on frozen features of simulated slices: mixtures by Sinkhorn EM, embedding by labels."""
    torch.manual_seed(HEAD_SEED)
    config, backgrounds = PretrainConfig(), read_backgrounds()
    head = GMMHead(config.filters, len(SEGMENTER_CLASSES))
    optimiser = torch.optim.AdamW(head.parameters(), lr=5e-3)
    table, generator = torch.from_numpy(allowed_table()), torch.Generator().manual_seed(HEAD_SEED)
    for step in track(range(steps), description="head"):
        batch = segmenter_batch(config, backgrounds, HEAD_SEED, step)
        x = SegmenterInput(batch["image"], batch["present"], batch["region"], batch["given"])
        with torch.no_grad():
            features = features_of(network, x)
        codes = batch["codes"].long()
        loss = segmenter_loss(head(features), codes, table, outside_weight=0.15)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        known = torch.nn.functional.one_hot(codes.clamp_max(N_CLASSES - 1), N_CLASSES).movedim(-1, 1)
        head.learn(features, (known * (codes < N_CLASSES)[:, None]).float(), generator)
    return head.eval()


@torch.inference_mode()
def log_density(network: Segmenter, head: GMMHead, study: StudyTensors) -> tuple[Tensor, Tensor]:
    """Return log p(features | infarct), and of the likeliest class, (X, Y, Z); nan beyond the square."""
    view = given_view(study)
    each = head.class_log_density(head.embedded(features_of(network, view.slices)))  # (Z, A, A, K)
    scar, mvo = (SEGMENTER_CLASSES.index(name) for name in ("scar", "mvo"))
    maps = torch.stack([each[..., [scar, mvo]].amax(dim=-1), each.amax(dim=-1)], dim=1)
    infarct, likeliest = view.view.to_study_grid(maps.permute(1, 2, 3, 0))
    return infarct, likeliest


def row_of(judged: Judged, cohort: str, head: GMMHead) -> dict[str, Any] | None:
    """Return scores, and the true Dice of the infarct (None without one); None for a refused study."""
    row, study = judged.row(), judged.tensors
    if judged.solved is None or study is None:
        return None
    inside = study.region > 0
    scar = inside & (decide(judged.solved.resp, CLASSES) == CLASSES.index("scar"))
    infarct, likeliest = log_density(shipped_networks("cpu").segmenters[0], head, study)
    densities = {
        "density_infarct": float(infarct[scar if bool(scar.any()) else inside].mean()),
        "density_ventricle": float(likeliest[inside].mean()),
    }
    return {
        "cohort": cohort,
        "study": judged.id,
        "protocol": judged.protocol,
        "features": row["features"] | densities,
        "dice": row["scar_dice"] if row["true_voxels"] else None,
    }


def left_out(rows: list[dict[str, Any]], names: tuple[str, ...]) -> np.ndarray:
    """Return the expected Dice of every row, by a ridge regression on the other cohorts."""
    x = np.array([[row["features"][name] for name in names] for row in rows])
    x = (x - x.mean(axis=0)) / (x.std(axis=0) + 1e-6)
    y, cohorts = np.array([row["dice"] for row in rows]), np.array([row["cohort"] for row in rows])
    found = np.zeros(len(rows))
    for cohort in np.unique(cohorts):
        own = cohorts == cohort
        found[own] = Ridge(alpha=1.0).fit(x[~own], y[~own]).predict(x[own])
    return found


def table_of(rows: list[dict[str, Any]]) -> str:
    """Return the AUROC of every score, and its 95 % bootstrap interval over studies, in Markdown."""
    lines = ["| score | nothing given | wall given | both |", "|---|---|---|---|"]
    ill = [row for row in rows if row["dice"] is not None]
    values = {name: np.array([score(row) for row in ill]) for name, score in SCORES.items()}
    shipped = shipped_networks("cpu").calibration
    values["expected Dice, as shipped"] = np.array(
        [expected_dice(row["features"], shipped)["infarct"] for row in ill]
    )
    values |= {name: left_out(ill, names) for name, names in REGRESSED.items()}
    wrong = np.array([row["dice"] < 0.5 for row in ill])
    protocol = np.array([row["protocol"] for row in ill])
    parts = [protocol == "nothing", protocol == "wall", np.full(len(ill), True)]
    for name, value in values.items():
        cells = [auroc(wrong[part], -value[part]) for part in parts]
        lines.append(f"| {name} | {' | '.join(cells)} |")
    counts = ", ".join(f"{wrong[part].sum()} of {part.sum()}" for part in parts)
    return "\n".join(lines) + f"\n\nMaps with a Dice of the infarct below .5: {counts}.\n"


def auroc(wrong: np.ndarray, score: np.ndarray) -> str:
    """Return AUROC and its interval."""
    if wrong.all() or not wrong.any():
        return "–"
    rng, drawn = np.random.default_rng(0), []
    for _ in range(BOOTSTRAP):
        some = rng.integers(len(wrong), size=len(wrong))
        if wrong[some].any() and not wrong[some].all():
            drawn.append(roc_auc_score(wrong[some], score[some]))
    low, high = np.quantile(drawn, [0.025, 0.975])
    return f"{roc_auc_score(wrong, score):.2f} ({low:.2f} to {high:.2f})"


def main() -> None:
    """Fit the head, score the cohorts that are not done yet, and write the table."""
    parser = script_parser(__doc__)
    parser.add_argument("-o", "--out", type=Path, required=True)
    parser.add_argument("--studies", type=int, default=12, help="per cohort")
    parser.add_argument("--steps", type=int, default=400, help="of the head")
    parser.add_argument("--cohorts", nargs="+", default=list(COHORTS))
    parser.add_argument("--tuning", action="store_true", help="seed 900 instead of the report's 901")
    options = parser.parse_args()
    seed = SEEDS["tuning" if options.tuning else "report"]
    torch.set_num_threads(1)
    options.out.mkdir(parents=True, exist_ok=True)
    key = short_digest([digests_of(shipped_folder()), options.steps, versions()["mrigmm"]])
    weights = options.out / f"head_{key}.pt"
    if weights.exists():
        head = GMMHead(PretrainConfig().filters, len(SEGMENTER_CLASSES)).eval()
        head.load_state_dict(torch.load(weights, weights_only=True))
    else:
        head = fit_head(shipped_networks("cpu").segmenters[0], options.steps)
        torch.save(head.state_dict(), weights)
    rows: list[dict[str, Any]] = []
    for cohort in options.cohorts:
        file = options.out / f"{cohort}_{seed}_{options.studies}_{key}.json"
        if not file.exists():
            judged = judge_simulated(cohort, options.studies, seed, protocols=PROTOCOLS)
            found = [row for study in judged if (row := row_of(study, cohort, head)) is not None]
            file.write_text(json.dumps(found, indent=1))
        rows += json.loads(file.read_text())
    (options.out / "scores.md").write_text(table_of(rows))
    print(table_of(rows))


if __name__ == "__main__":
    main()
