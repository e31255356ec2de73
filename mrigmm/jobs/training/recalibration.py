"""Verdicts of networks that have learnt more: the start's calibration, rescaled on simulated studies."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from sklearn.linear_model import LinearRegression, LogisticRegression

from mrigmm.data.files import write_text
from mrigmm.jobs.common import Track
from mrigmm.jobs.training.judged_studies import PROTOCOLS, judge_simulated
from mrigmm.methods.study_verdict import linear_score, standardised
from mrigmm.mixture.threads import one_thread
from mrigmm.pretrained.folder import PretrainedFolder

# Presets of the phantom that differ from what networks are trained on, and a seed for each: other hearts.
COHORTS = {
    **{"second-centre": 903, "low-contrast": 904, "bright-blood": 905},
    **{"thin-wall": 906, "noisy": 907, "psir": 908},
}
_LEAST = 10  # rows that a verdict is rescaled on, of either kind
# How well a model fitted what it was made from: another one does not take it over.
_OF_THE_FIT = ("auroc", "sensitivity", "specificity", "mean_absolute_error", "n")


def recalibrate(
    run: PretrainedFolder, start: Mapping[str, Any], n_studies: int, *, device: str, track: Track
) -> None:
    """Write the start's calibration into a run, rescaled on simulated studies that its networks segment.

    Args:
        run: finished.
        start: calibration of the networks that it started from.
        n_studies: of each of `COHORTS`.
        device: where the networks are computed.
        track: progress bar.
    """
    with one_thread():
        rows = [
            judged.row()
            for preset, seed in track([*COHORTS.items()], "Calibrating")
            for judged in judge_simulated(preset, n_studies, seed, networks=run.path, device=device)
        ]
    write_text(run.calibration, json.dumps(rescale(start, rows), indent=1) + "\n")


def rescale(calibration: Mapping[str, Any], rows: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Return a calibration of the same form whose scores fit the rows.

    The probability of an infarct: a logistic regression on the score that it had (Platt scaling: J. Platt,
    Advances in Large Margin Classifiers, 1999) and on the features of that score, both with a ridge, so that
    few rows leave it near the scaled score. The expected Dice: a line through those that were expected. A
    verdict with too few rows to learn from stays as it is.

    Args:
        calibration: of the networks that a run started from.
        rows: `Judged.row()` of its own networks.
    """
    rows = [row for row in rows if row.get("features")]
    ill = [row for row in rows if row["true_voxels"]]
    unseen = [row for row in rows if PROTOCOLS[row["protocol"]][0] != "wall"]
    judged = {"infarct": (ill, "scar_dice"), "wall": (unseen, "wall_dice")}
    return {
        **{key: value for key, value in calibration.items() if key != "networks"},
        "rescaled": {"cohorts": COHORTS, "segmentations": len(rows)},
        "infarct": _rescaled_infarct(calibration["infarct"], rows),
        "expected_dice": {
            name: _rescaled_dice(model, *judged[name]) for name, model in calibration["expected_dice"].items()
        },
    }


def _rescaled_infarct(model: Mapping[str, Any], rows: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """The logistic model of an infarct's presence, corrected."""
    y = np.array([row["true_voxels"] > 0 for row in rows], dtype=bool)
    if min(y.sum(), (~y).sum()) < _LEAST:
        return {**model}
    scores = [linear_score(row["features"], model) for row in rows]
    x = np.column_stack([scores, [standardised(row["features"], model) for row in rows]])
    fit = LogisticRegression(C=1.0, max_iter=1000).fit(x, y)
    slope, *weights = fit.coef_[0].tolist()
    return _corrected(model, slope, float(fit.intercept_[0]), weights)


def _rescaled_dice(model: Mapping[str, Any], rows: Sequence[Mapping[str, Any]], name: str) -> dict[str, Any]:
    """The linear model of a Dice, on a line through what it expected."""
    rows = [row for row in rows if row[name] is not None]
    if len(rows) < _LEAST:
        return {**model}
    x = [[linear_score(row["features"], model)] for row in rows]
    fit = LinearRegression().fit(x, [row[name] for row in rows])
    return _corrected(model, float(fit.coef_[0]), float(fit.intercept_), [0.0] * len(model["weights"]))


def _corrected(
    model: Mapping[str, Any], slope: float, intercept: float, weights: Sequence[float]
) -> dict[str, Any]:
    """The model whose score is `intercept + slope * score + sum_f weight_f * standardised feature_f`."""
    added = zip(model["weights"], weights, strict=True)
    return {
        **{key: value for key, value in model.items() if key not in _OF_THE_FIT},
        "weights": [slope * before + more for before, more in added],
        "intercept": intercept + slope * model["intercept"],
    }
