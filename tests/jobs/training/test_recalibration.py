"""Calibrations that are rescaled for networks that have learnt more, with numbers by hand."""

import numpy as np
import pytest

from mrigmm.jobs.training.recalibration import rescale
from mrigmm.methods.study_verdict import OTHER_NETWORKS, expected_dice, judge_infarct, linear_score

START = {
    "seeds": [1],
    "infarct": {
        "features": ["log_ml", "wall_given"],
        "mean": [1.0, 0.25],
        "sd": [2.0, 0.5],
        "weights": [3.0, -1.0],
        "intercept": 0.5,
        "threshold": 0.5,
        "auroc": 0.9,
        "n": [3, 4],
    },
    "expected_dice": {
        name: {
            **{"features": ["log_ml"], "mean": [0.0], "sd": [1.0], "weights": [0.1], "intercept": 0.5},
            **{"mean_absolute_error": 0.1, "n": 7},
        }
        for name in ("infarct", "wall")
    },
}


def row(log_ml, ill, *, protocol="nothing", scar=None, wall=None):
    """One segmentation; the wall is given as its protocol says."""
    return {
        "protocol": protocol,
        "features": {
            "log_ml": log_ml,
            "wall_given": float(protocol == "wall"),
            "ventricle_given": float(protocol == "ventricle"),
        },
        "true_voxels": 10 * ill,
        "scar_dice": scar,
        "wall_dice": wall,
    }


def separable(shift):
    """Infarcts whose volume lies above, healthy hearts whose volume lies below, a place on the scale."""
    rng = np.random.default_rng(0)
    return [
        row(shift + value, value > 0, protocol=protocol)
        for protocol in ("nothing", "ventricle", "wall")
        for value in rng.normal(scale=2.0, size=60)
    ]


def test_probabilities_part_the_networks_own_infarcts_from_healthy_hearts():
    """Hearts part at -4 here; the start parts them at 2 / 3 with nothing given: (x - 1) / 2 * 3 + 1 = 0."""
    rows = separable(-4.0)
    rescaled = rescale(START, rows)
    for calibration, right in ((START, 0.6), (rescaled, 0.95)):
        found = [judge_infarct(r["features"], calibration, called_ml=1.0).found for r in rows]
        share = np.mean(np.array(found) == [r["true_voxels"] > 0 for r in rows])
        assert share < right if calibration is START else share > right
    assert rescaled["infarct"]["threshold"] == 0.5


def test_what_is_given_shifts_the_probability():
    """With the wall given hearts part 6 higher than with nothing: a scaled score alone cannot know that."""
    rows = [r for r in separable(-4.0) if r["protocol"] == "nothing"]
    rows += [r for r in separable(2.0) if r["protocol"] == "wall"]
    rescaled = rescale(START, rows)
    right = [
        judge_infarct(r["features"], rescaled, called_ml=1.0).found == (r["true_voxels"] > 0) for r in rows
    ]
    assert np.mean(right) > 0.9


def test_networks_that_are_like_the_start_keep_its_order():
    """Rows that the start tells apart: the score only becomes steeper."""
    rows = separable(2 / 3)
    rescaled = rescale(START, rows)
    order = [
        np.argsort([linear_score(r["features"], c["infarct"]) for r in rows if r["protocol"] == "nothing"])
        for c in (START, rescaled)
    ]
    assert (order[0] == order[1]).all()


def test_expected_dice_lies_on_the_line_of_the_networks_own():
    """Expected .5 + .1 x; true .3 + .05 x: half the slope, and .05 above half of what was expected."""
    rows = [row(x, True, scar=0.3 + 0.05 * x, wall=0.9) for x in np.linspace(-2, 2, 12)]
    rows += [row(x, True, protocol="wall", scar=0.3 + 0.05 * x, wall=1.0) for x in np.linspace(-2, 2, 12)]
    rescaled = rescale(START, rows)
    expected = expected_dice(row(1.0, True)["features"], rescaled)
    assert expected == pytest.approx({"infarct": 0.35, "wall": 0.9})  # walls that were given are not expected
    assert "mean_absolute_error" not in rescaled["expected_dice"]["infarct"]


def test_what_too_few_rows_tell_stays_as_it_is():
    """No healthy heart, and nine Dice: verdict and expected Dice are those of the start."""
    rescaled = rescale(START, [row(1.0, True, scar=0.5, wall=0.5)] * 9)
    assert rescaled["infarct"] == START["infarct"]
    assert rescaled["expected_dice"] == START["expected_dice"]


def test_refused_studies_and_those_without_features_are_left_out():
    rows = separable(-4.0)
    refused = {"protocol": "nothing", "true_voxels": 5, "refused": "no ventricle"}
    without = {**row(0.0, True), "features": {}}
    assert rescale(START, [*rows, refused, without]) == rescale(START, rows)


def test_a_rescaled_calibration_is_the_networks_own():
    other = {**START, "networks": OTHER_NETWORKS, "expected_dice": {}}
    rescaled = rescale(other, separable(-4.0))
    assert judge_infarct(separable(0.0)[0]["features"], rescaled, called_ml=1.0).calibrated
    assert rescaled["rescaled"]["segmentations"] == 180
    assert rescaled["expected_dice"] == {}
