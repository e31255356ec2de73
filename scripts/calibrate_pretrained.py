"""Calibrate what the pretrained networks say of a study: is there an infarct, and how good is the map?

Simulates cohorts (phantom presets, none of which the networks were trained on; each has hearts of its own),
segments every study with nothing, the ventricle, or cavity and wall given, of all sequences and of LGE alone,
and regresses on the features of each segmentation: the presence of an infarct (logistic) and the Dice of the
infarct (linear). Writes `calibration.json`, and beside it `shares.md`: Dice by the share that the networks
have of the label beside the study's own mixture, and by how a class is decided; and `quality.md`: expected
and true Dice, how well infarcts are told from none, and how well conformal intervals of the infarct's volume
hold. Rows are kept in the working folder, by networks: an interrupted run goes on where it stopped.
"""

from __future__ import annotations

import argparse
import json
import zlib
from collections.abc import Callable
from itertools import pairwise, product
from pathlib import Path
from typing import Any

import numpy as np
import torch
from benchmarking import digests_of, short_digest
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.metrics import roc_auc_score

from mrigmm.jobs.common import versions
from mrigmm.jobs.training.judged_studies import CLASSES, LGE, PROTOCOLS, Judged, dice, judge_simulated
from mrigmm.methods.decision import decide
from mrigmm.methods.pretrained import Solved
from mrigmm.methods.study_verdict import FEATURES, linear_score
from mrigmm.phantom import PRESETS
from mrigmm.pretrained.folder import PretrainedFolder, shipped_folder

COHORTS = (
    *("myops-like", "second-centre", "low-contrast", "noisy", "coarse", "fine", "thin-wall", "thick-wall"),
    *("bright-blood", "psir", "motion", "ghosts", "smooth-kernel", "sharp-kernel", "heavy-tails"),
)
THRESHOLD = 0.5  # of the probability, where three of four hearts have an infarct, as here
GIVEN = (
    *("wall_given", "ventricle_given", "lge_alone"),
    *("lge_alone_and_wall", "lge_alone_and_ventricle"),
)
INFARCT_FEATURES = (
    *("log_ml", "certainty", "peak", "mean_probability", "contrast", "slices", "largest", "near_blood"),
    *GIVEN,
)
SHARES = (1.0, 0.5, 0.35, 0.2, 0.0)
RULES: dict[str, Callable[[torch.Tensor], torch.Tensor]] = {
    "most probable class": lambda resp: resp.argmax(dim=0),
    "whole to parts": lambda resp: decide(resp, CLASSES),
}
DICE_FEATURES = (
    *("log_ml", "largest", "certainty", "contrast", "spread", "certainty_of_all", "agreement"),
    *GIVEN,
)


def row_of(judged: Judged, cohort: str) -> dict[str, Any]:
    """Return features and what is true, and Dice by share and rule."""
    row = {"cohort": cohort, **judged.row()}
    if judged.solved is None or judged.tensors is None:
        return row
    return row | {"compared": compared(judged.solved, judged.tensors.region > 0, judged.label)}


def compared(solved: Solved, inside: torch.Tensor, label: torch.Tensor) -> dict[str, list[float | None]]:
    """Return Dice of scar, scar + edema and edema by share and rule."""
    found = {}
    for share in SHARES:
        resp = share * solved.seen.prior + (1 - share) * solved.own
        for rule, decided in RULES.items():
            called = torch.where(inside, decided(resp), -1)
            found[f"{share} {rule}"] = [
                dice(np.isin(called, rows), np.isin(label, rows)) for rows in ((3,), (2, 3), (2,))
            ]
    return found


def shares_table(rows: list[dict[str, Any]]) -> str:
    """Return means over cohorts, and the worst cohort, of studies with an infarct, in Markdown."""
    lines = [
        "| given | networks' share | class by | scar | scar + edema | edema |",
        "|---|---|---|---|---|---|",
    ]
    ill = [r for r in rows if r["true_voxels"]]
    for protocol in (name for name, (_, names) in PROTOCOLS.items() if names is None):
        for key in ill[0]["compared"]:
            means = []
            for part in range(3):
                by_cohort: dict[str, list[float]] = {}
                for r in (r for r in ill if r["protocol"] == protocol):
                    value = r["compared"][key][part]
                    if value is not None:
                        by_cohort.setdefault(r["cohort"], []).append(value)
                # Without T2 there is no edema to be called.
                each = [float(np.mean(v)) for c, v in by_cohort.items() if part == 0 or c != "second-centre"]
                means.append(f"{np.mean(each):.3f}, worst {min(each):.2f}" if each else "–")
            share, rule = key.split(" ", 1)
            lines.append(f"| {protocol} | {share} | {rule} | {' | '.join(means)} |")
    return "\n".join(lines) + "\n"


def collect(options: argparse.Namespace) -> list[dict[str, Any]]:
    """Return the rows of all cohorts; those of cohorts that are done, with the same networks, are read."""
    rows = []
    folder = shipped_folder() if options.networks is None else PretrainedFolder(options.networks)
    key = short_digest([digests_of(folder), PROTOCOLS, FEATURES, versions()["mrigmm"]])
    options.work.mkdir(parents=True, exist_ok=True)
    for seed, cohort in product(options.seeds, options.cohorts):
        file = options.work / f"{cohort}_{seed}_{options.studies}_{key}.json"
        if not file.exists():
            own_seed = hearts_of(cohort, seed)
            judged = judge_simulated(cohort, options.studies, own_seed, networks=options.networks)
            found = [row_of(study, cohort) for study in judged]
            file.write_text(json.dumps(found, indent=1))
            print(f"{cohort}, seed {seed}: {summary(found)}", flush=True)
        rows += [{**row, "seed": seed} for row in json.loads(file.read_text())]
    return rows


def hearts_of(cohort: str, seed: int) -> int:
    """Return a seed of the cohort's own: of one seed most presets would draw the same hearts."""
    return zlib.crc32(f"{cohort} {seed}".encode())


def left_out(rows: list[dict[str, Any]]) -> list[tuple[list[dict[str, Any]], list[dict[str, Any]]]]:
    """Return the rows of one cohort, and those of the others, for all of them: other scanners and hearts."""
    cohorts = sorted({r["cohort"] for r in rows})
    return [([r for r in rows if r["cohort"] == c], [r for r in rows if r["cohort"] != c]) for c in cohorts]


def summary(rows: list[dict[str, Any]]) -> str:
    """Return the figures of some rows in one line."""
    parts = []
    for protocol in PROTOCOLS:
        own = [r for r in rows if r["protocol"] == protocol and "features" in r]
        ill = [r["scar_dice"] for r in own if r["true_voxels"]]
        healthy = [100 * r["found_voxels"] / r["lv_voxels"] for r in own if not r["true_voxels"]]
        refused = sum(r["protocol"] == protocol and "refused" in r for r in rows)
        parts.append(
            f"{protocol}: wall {np.mean([r['wall_dice'] for r in own]) if own else np.nan:.3f}, "
            f"scar {np.mean(ill) if ill else np.nan:.3f} ({len(ill)}), healthy false % of LV "
            f"{np.median(healthy) if healthy else np.nan:.2f} ({len(healthy)}), refused {refused}"
        )
    return "; ".join(parts)


def scaled(rows: list[dict[str, Any]], names: tuple[str, ...]) -> tuple[np.ndarray, dict[str, Any]]:
    """Return features (N, F) of mean 0 and SD 1, and the model's part that says so."""
    x = np.array([[r["features"][name] for name in names] for r in rows])
    mean, sd = x.mean(axis=0), x.std(axis=0)
    sd[sd < 1e-6] = 1.0  # the same in all rows
    return (x - mean) / sd, {"features": list(names), "mean": mean.tolist(), "sd": sd.tolist()}


def fit_infarct(rows: list[dict[str, Any]]) -> dict[str, Any]:
    """Return the logistic model of the presence of an infarct."""
    x, model = scaled(rows, INFARCT_FEATURES)
    y = np.array([r["true_voxels"] > 0 for r in rows])
    fit = LogisticRegression(C=1.0).fit(x, y)
    p = fit.predict_proba(x)[:, 1]
    return {
        **model,
        "weights": fit.coef_[0].tolist(),
        "intercept": float(fit.intercept_[0]),
        "threshold": THRESHOLD,
        "auroc": float(roc_auc_score(y, p)),
        "sensitivity": float((p[y] >= THRESHOLD).mean()),
        "specificity": float((p[~y] < THRESHOLD).mean()),
        "n": [int((~y).sum()), int(y.sum())],
    }


def fit_dice(rows: list[dict[str, Any]], name: str) -> dict[str, Any]:
    """Return the linear model of a Dice."""
    rows = [r for r in rows if r[name] is not None]
    x, model = scaled(rows, DICE_FEATURES)
    y = np.array([r[name] for r in rows])
    fit = Ridge(alpha=1.0).fit(x, y)
    error = np.clip(fit.predict(x), 0, 1) - y
    return {
        **model,
        "weights": fit.coef_.tolist(),
        "intercept": float(fit.intercept_),
        "mean_absolute_error": float(np.abs(error).mean()),
        "n": len(rows),
    }


def quality_table(title: str, rows: list[dict[str, Any]], name: str) -> str:
    """Return expected and true Dice, cohorts left out of their own calibration, in Markdown."""
    expected, true = [], []
    for own, others in left_out(rows):
        model = fit_dice(others, name)
        for r in own:
            if r[name] is not None:
                expected.append(np.clip(linear_score(r["features"], model), 0, 1))
                true.append(r[name])
    expected_dice, true_dice = np.array(expected), np.array(true)
    edges = (0.0, 0.5, 0.6, 0.7, 0.8, 0.9, 1.01)
    lines = [f"| expected Dice of the {title} | maps | true Dice, mean |", "|---|---|---|"]
    for low, high in pairwise(edges):
        inside = (expected_dice >= low) & (expected_dice < high)
        if inside.any():
            shown = f"{low:.1f} to {min(high, 1):.1f}"
            lines.append(f"| {shown} | {inside.sum()} | {true_dice[inside].mean():.2f} |")
    error = np.abs(expected_dice - true_dice).mean()
    auroc = roc_auc_score(true_dice < 0.5, -expected_dice) if (true_dice < 0.5).any() else np.nan
    lines.append(f"\nMean absolute error {error:.3f}; AUROC for a Dice below .5: {auroc:.2f}.\n")
    return "\n".join(lines) + "\n"


def verdicts(rows: list[dict[str, Any]]) -> tuple[float, str]:
    """Return the AUROC of the infarct's probability, cohorts left out of their own calibration, and a table.

    The table says by what was given, in Markdown, how well hearts with and without infarct are told apart.
    """
    parts = left_out(rows)
    rows = [r for own, _ in parts for r in own]
    truth = np.array([r["true_voxels"] > 0 for r in rows])
    models = ((own, fit_infarct(others)) for own, others in parts)
    p = 1 / (1 + np.exp([-linear_score(r["features"], model) for own, model in models for r in own]))
    lines = [
        "| given | infarcts | healthy | AUROC | sensitivity | specificity |",
        "|---|---|---|---|---|---|",
    ]
    for name, (region, names) in PROTOCOLS.items():
        # Of a cohort that has nothing but LGE, "all sequences" are LGE alone.
        alone = float(names == LGE)
        some = np.array(
            [PROTOCOLS[r["protocol"]][0] == region and r["features"]["lge_alone"] == alone for r in rows]
        )
        ill, healthy = some & truth, some & ~truth
        lines.append(
            f"| {name} | {ill.sum()} | {healthy.sum()} | {roc_auc_score(truth[some], p[some]):.3f} "
            f"| {(p[ill] >= THRESHOLD).mean():.2f} | {(p[healthy] < THRESHOLD).mean():.2f} |"
        )
    return float(roc_auc_score(truth, p)), "\n".join(lines) + "\n"


def mass_intervals(rows: list[dict[str, Any]]) -> str:
    """Return how well conformal 95 % intervals of the infarct's volume hold, in Markdown.

    The log of true over found volume is regressed on `DICE_FEATURES`, its absolute residual likewise; the
    interval is the 95th percentile of the residuals in units of the latter. Cohorts are left out
    of their own intervals.
    """
    lines = [
        "| given | studies | intervals that hold, worst cohort to best | width, median |",
        "|---|---|---|---|",
    ]
    for protocol in PROTOCOLS:
        some = [r for r in rows if r["protocol"] == protocol and r["true_voxels"] and r["found_voxels"]]
        held: dict[str, list[bool]] = {}
        widths: list[float] = []
        for own, others in left_out(some):
            (x, error), (new_x, new_error) = mass_errors(others, others), mass_errors(own, others)
            centre = Ridge(alpha=1.0).fit(x, error)
            residual = np.abs(error - centre.predict(x))
            spread = Ridge(alpha=1.0).fit(x, residual)
            reach = np.quantile(residual / spread.predict(x).clip(0.05), 0.95)
            reach = reach * spread.predict(new_x).clip(0.05)
            middle = centre.predict(new_x)
            held.setdefault(own[0]["cohort"], []).extend(np.abs(new_error - middle) <= reach)
            widths += list(np.exp(middle) * 2 * np.sinh(reach))
        holds = [float(np.mean(values)) for values in held.values()]
        lines.append(
            f"| {protocol} | {len(some)} | {min(holds):.0%} to {max(holds):.0%} "
            f"| {np.median(widths):.0%} of the found volume |"
        )
    return "\n".join(lines) + "\n"


def mass_errors(rows: list[dict[str, Any]], reference: list[dict[str, Any]]) -> tuple[np.ndarray, np.ndarray]:
    """Return features (N, F) by the reference rows' mean and SD, and the log of true over found volume."""
    _, scale = scaled(reference, DICE_FEATURES)
    x = np.array([[r["features"][name] for name in DICE_FEATURES] for r in rows])
    return (x - scale["mean"]) / scale["sd"], np.log([r["true_voxels"] / r["found_voxels"] for r in rows])


def main() -> None:
    """Collect rows, fit, write, and say how well it holds on cohorts that are left out."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("-o", "--out", type=Path, required=True, help="calibration.json to write")
    parser.add_argument("--work", type=Path, required=True, help="folder for the rows")
    parser.add_argument("--networks", type=Path, help="folder of mrigmm pretrain (default: those shipped)")
    parser.add_argument("--studies", type=int, default=12, help="per cohort")
    parser.add_argument(
        "--seeds", type=int, nargs="+", default=[900, 902], help="tuning seeds; report with another"
    )
    parser.add_argument("--cohorts", nargs="+", default=[c for c in COHORTS if c in PRESETS])
    options = parser.parse_args()
    torch.set_num_threads(1)
    rows = [r for r in collect(options) if r.get("features")]
    ill = [r for r in rows if r["true_voxels"]]
    unseen = [r for r in rows if PROTOCOLS[r["protocol"]][0] != "wall"]
    calibration = {
        "seeds": options.seeds,
        "cohorts": options.cohorts,
        "studies": options.studies,
        "infarct": fit_infarct(rows),
        "expected_dice": {
            "infarct": fit_dice(ill, "scar_dice"),
            "wall": fit_dice(unseen, "wall_dice"),
        },
    }
    options.out.write_text(json.dumps(calibration, indent=1) + "\n")
    (options.out.parent / "shares.md").write_text(shares_table(rows))
    auroc, told_apart = verdicts(rows)
    (options.out.parent / "quality.md").write_text(
        quality_table("infarct", ill, "scar_dice")
        + quality_table("wall", unseen, "wall_dice")
        + f"{told_apart}\n{mass_intervals(rows)}"
    )
    print(f"AUROC, cohorts left out of their own calibration: {auroc:.3f}")
    shown = ("auroc", "threshold", "sensitivity", "specificity", "n")
    print(json.dumps({name: calibration["infarct"][name] for name in shown}))


if __name__ == "__main__":
    main()
