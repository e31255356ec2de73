"""Simulated studies that networks segment, and what is true of them."""

import numpy as np
import pytest
import torch

from mrigmm.jobs.training.judged_studies import CLASSES, Judged, dice, judge_simulated
from mrigmm.methods.study_verdict import FEATURES


@pytest.fixture(scope="module")
def judged():
    return [*judge_simulated("small", 1, 7)]


def test_a_study_is_judged_with_everything_given_and_nothing_of_all_sequences_and_of_one(judged):
    assert [j.protocol for j in judged] == [
        *("nothing", "ventricle", "wall"),
        *("LGE alone, nothing", "LGE alone, ventricle", "LGE alone, wall"),
    ]
    assert len({j.id for j in judged}) == 1
    for j in judged:
        row = j.row()
        assert set(row["features"]) == set(FEATURES)
        assert row["features"]["lge_alone"] == float("LGE" in j.protocol)
        assert row["features"]["wall_given"] == float(j.protocol.endswith("wall"))
        label = j.label.numpy()
        assert row["true_voxels"] == int((label == CLASSES.index("scar")).sum())
        assert row["lv_voxels"] == int(((label >= 0) & (label < 4)).sum())


def test_a_wall_that_is_given_is_right(judged):
    rows = {j.protocol: j.row() for j in judged}
    assert rows["wall"]["wall_dice"] == 1
    assert 0.5 < rows["nothing"]["wall_dice"] < 1


def test_a_study_that_is_refused_has_no_features():
    label = torch.full((2, 2, 1), -1)
    label[0, 0] = 3
    row = Judged("a", "nothing", label, None, None, "no ventricle was found").row()
    assert row == {
        **{"study": "a", "protocol": "nothing", "true_voxels": 1, "lv_voxels": 1},
        "refused": "no ventricle was found",
    }


def test_dice_by_hand():
    a, b = np.array([True, True, False]), np.array([True, False, False])
    assert dice(a, b) == pytest.approx(2 / 3)
    assert dice(~a, a) == 0
    assert dice(a & ~a, a & ~a) is None
