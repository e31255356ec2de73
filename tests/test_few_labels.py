"""scripts/few_labels.py: the smallest curve, and its table by hand."""

import json
import math

import few_labels
import pytest


def test_a_table_by_hand():
    """Two studies: .5 and .7 after .4 and .5, against .4 and .4 from random weights; a part that none has."""
    wall, infarct = "wall, nothing given", "infarct, wall given"
    arms = {
        "pretrained": {0: {wall: [0.4, 0.5]}, 1: {wall: [0.5, 0.7], infarct: [math.nan, math.nan]}},
        "random": {1: {wall: [0.4, 0.4]}},
        "anatomy": {2: {wall: [0.25, 0.75]}},
    }
    rows = few_labels.markdown("coarse", arms).splitlines()
    header = f"| labelled | start | {wall} | {infarct} |"
    assert rows[1:4] == ["coarse:", "", header]
    assert rows[5:9] == [
        "| 0 | pretrained | 0.45 | – |",
        "| 1 | pretrained | 0.60 (+0.15 [+0.10, +0.20]) | – |",
        "| 1 | random | 0.40 (-0.05 [-0.10, +0.00]) | – |",
        "| 2 | anatomy | 0.50 (+0.05 [-0.15, +0.25]) | – |",
    ]
    assert rows[12] == header
    assert rows[14:] == ["| 1 | random | +0.20 [+0.10, +0.30] | – |"]


def test_a_table_of_the_whole_program_by_hand():
    """Two infarcts and a healthy heart, in which an infarct is found with one label and nothing given."""
    nan = math.nan

    def found(scar, false):
        columns = {"wall, nothing given": [0.8, 0.8, 0.9]}
        for given in ("nothing given", "wall given"):
            columns[f"infarct, {given}"] = [*scar, nan]
            columns[f"infarct in healthy hearts, {given}"] = [nan, nan, false]
        return {f"program: {name}": values for name, values in columns.items()}

    start = {0: found([0.2, 0.4], 0.0), 1: found([0.3, 0.5], 1.0)}
    rows = few_labels.markdown("coarse", {"pretrained": start}).splitlines()
    place = rows.index("The whole program:")
    assert rows[place + 2].startswith("| labelled | wall, nothing given | infarct, nothing given |")
    assert "share of healthy hearts with an infarct, wall given |" in rows[place + 2]
    none, one = rows[place + 4 :]
    assert none == "| 0 | 0.83 | 0.30 | 0.30 | 0.00 | 0.00 |"
    gain = "0.40 (+0.10 [+0.10, +0.10])"
    assert one.startswith(f"| 1 | 0.83 (+0.00 [+0.00, +0.00]) | {gain} | {gain} | 1.00")


def test_other_draws_of_few(tmp_path):
    """The cohort's own order; not more than there are."""
    cohort = few_labels.simulated(tmp_path, "small", 901, 3, 1).training
    first, second, third = cohort.split("all")
    for some, expected in ((slice(0, 2), (first, second)), (slice(2, 4), (third,)), (slice(3, 4), ())):
        assert few_labels.part_of(cohort, some).split("all") == expected


@pytest.mark.gate
def test_the_smallest_curve_and_that_it_is_kept(tmp_path, capsys):
    command = ["-o", str(tmp_path), "--cohorts", "small", "--counts", "0", "1", "--studies", "1"]
    command += ["--train-studies", "2", "--arms", "pretrained", "random", "--random-steps", "1"]
    command += [f"--set={setting}" for setting in ("steps=1", "batch=2", "simulated=1", "calibrated_on=0")]
    assert few_labels.main(command) == 0
    first = capsys.readouterr().out
    content = json.loads((tmp_path / "few_labels.json").read_text())
    assert content["seed"] == 901
    assert set(content["cohorts"]["small"]) == {"pretrained", "random"}
    none, one = (content["cohorts"]["small"]["pretrained"][n] for n in "01")
    assert none.keys() == one.keys()
    assert none != one
    assert {"program: wall, nothing given", "program: infarct, wall given"} <= one.keys()
    for weights in tmp_path.rglob("segmenter_0.safetensors"):
        weights.unlink()  # nothing is computed again
    assert few_labels.main(command) == 0
    assert capsys.readouterr().out == first
