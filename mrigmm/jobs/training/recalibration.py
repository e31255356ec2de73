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
from mrigmm.methods.study_verdict import linear_score
from mrigmm.mixture.threads import one_thread
from mrigmm.pretrained.folder import PretrainedFolder

# Presets of the phantom that differ from what networks are trained on, and a seed for each: other hearts.
COHORTS = {
    **{"second-centre": 903, "low-contrast": 904, "bright-blood": 905},
    **{"thin-wall": 906, "noisy": 907, "psir": 908},
}
# What shifts the verdict on an infarct, beside its score by the start's calibration.
GIVEN = ("wall_given", "ventricle_given")
_LEAST = 10  # rows that a verdict is rescaled on, of either kind
# How well a model fitted what it was made from: another one does not take it over.
OF_THE_FIT = ("auroc", "sensitivity", "specificity", "mean_absolute_error", "n")


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

    The probability of an infarct: a logistic regression on the score that it had (Platt scaling, J. Platt,
    Advances in Large Margin Classifiers, 1999) and on what is given, which shifts it. The expected Dice: a
    line through those that were expected. A verdict with too few rows to learn from stays as it is.

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
    """The logistic model of an infarct's presence, rescaled."""
    y = np.array([row["true_voxels"] > 0 for row in rows], dtype=bool)
    if min(y.sum(), (~y).sum()) < _LEAST:
        return {**model}
    x = [[linear_score(row["features"], model), *(row["features"][name] for name in GIVEN)] for row in rows]
    fit = LogisticRegression(C=1.0).fit(x, y)
    slope, *shifts = fit.coef_[0].tolist()
    return _on_a_line(model, slope, float(fit.intercept_[0]), dict(zip(GIVEN, shifts, strict=True)))


def _rescaled_dice(model: Mapping[str, Any], rows: Sequence[Mapping[str, Any]], name: str) -> dict[str, Any]:
    """The linear model of a Dice, rescaled."""
    rows = [row for row in rows if row[name] is not None]
    if len(rows) < _LEAST:
        return {**model}
    x = [[linear_score(row["features"], model)] for row in rows]
    fit = LinearRegression().fit(x, [row[name] for row in rows])
    return _on_a_line(model, float(fit.coef_[0]), float(fit.intercept_), {})


def _on_a_line(
    model: Mapping[str, Any], slope: float, intercept: float, shifts: Mapping[str, float]
) -> dict[str, Any]:
    """Return the model whose score is `intercept + slope * score + sum of shifts * features`."""
    names = [*model["features"], *(name for name in shifts if name not in model["features"])]
    added = len(names) - len(model["features"])
    sd = [*model["sd"], *[1.0] * added]
    mean = [*model["mean"], *[0.0] * added]
    weights = [slope * weight for weight in (*model["weights"], *[0.0] * added)]
    intercept += slope * model["intercept"]
    for name, shift in shifts.items():
        k = names.index(name)
        weights[k] += shift * sd[k]
        intercept += shift * mean[k]
    return {
        **{key: value for key, value in model.items() if key not in OF_THE_FIT},
        **{"features": names, "mean": mean, "sd": sd, "weights": weights, "intercept": intercept},
    }
