import math

import numpy as np
import pytest

from mrigmm.evaluation.agreement import study_agreement, summarise_agreement

#                 all  2 of 3  2 of 3 none  background wins
MAPS = [np.array([0, 0, 1, -1, -1]), np.array([0, 0, 1, -1, 1]), np.array([0, 1, 0, -1, -1])]
MAPS = [m[:, None, None] for m in MAPS]


def test_share_dice_and_volumes_of_three_maps():
    found = study_agreement(MAPS, ("scar", "edema"), voxel_volume_ml=0.5)
    assert found.share[:, 0, 0].tolist() == pytest.approx([1, 2 / 3, 2 / 3, 0, 2 / 3])
    assert found.share.dtype == np.float32
    assert found.mean == pytest.approx((1 + 3 * 2 / 3) / 4)
    assert found.unanimous == pytest.approx(1 / 4)
    scar = found.dice["scar"]  # voxels 0 1, 0 1 and 0 2
    assert scar[0, 1] == scar[1, 0] == 1
    assert scar[0, 2] == scar[1, 2] == pytest.approx(2 * 1 / 4)
    assert found.mean_dice("scar") == pytest.approx((1 + 0.5 + 0.5) / 3)
    assert found.volume_ml["edema"].tolist() == [0.5, 1, 0.5]
    assert list(found.dice) == ["scar", "edema", "wall", "pathology"]


def test_maps_that_are_all_empty():
    empty = np.full((2, 2, 1), -1)
    found = study_agreement([empty, empty], ("scar",), voxel_volume_ml=1)
    assert not found.share.any()
    assert math.isnan(found.mean)
    assert math.isnan(found.mean_dice("scar"))


def test_a_class_that_one_of_three_does_not_find():
    """Dice is 0 for two pairs with it, 1 for the third; neither pair is left out."""
    some, none = np.zeros((2, 1, 1), int), np.full((2, 1, 1), -1)
    assert study_agreement([some, some, none], ("scar",), voxel_volume_ml=1).mean_dice("scar") == (
        pytest.approx(1 / 3)
    )
    assert study_agreement([some, none, none], ("scar",), voxel_volume_ml=1).mean_dice("scar") == 0


def test_over_studies():
    """Volumes (1, 2), (2, 3), (3, 4) ml: ICC 2/3 (test_volume_agreement)."""
    studies = {}
    for n in (1, 2, 3):
        line = np.arange(5)[:, None, None]
        maps = [np.where(line < count, 0, -1) for count in (n, n + 1)]
        studies[str(n)] = study_agreement(maps, ("scar",), voxel_volume_ml=1)
    found = summarise_agreement(studies)["scar"]
    assert found.dice.mean == pytest.approx((2 / 3 + 4 / 5 + 6 / 7) / 3)
    assert found.dice.n == 3
    assert found.volume_icc.value == pytest.approx(2 / 3)
