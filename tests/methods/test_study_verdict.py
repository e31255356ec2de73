"""What a segmentation says of itself, on the ring of three slices with numbers by hand."""

import math
from dataclasses import replace

import pytest
import torch

from mrigmm.labels import Region
from mrigmm.methods.study_verdict import (
    FEATURES,
    _share_near,
    expected_dice,
    judge_infarct,
    of_other_networks,
    set_aside,
    study_features,
    verdict_numbers,
)
from mrigmm.methods.study_views import what_is_given
from mrigmm.networks.segmenter import GIVEN_WALL

from .conftest import CLASSES, VOXEL_ML


def model(weight, intercept=0.0, name="share", **more):
    """A linear model of one feature as it is."""
    return {
        "features": [name],
        "mean": [0.0],
        "sd": [1.0],
        "weights": [weight],
        "intercept": intercept,
        **more,
    }


CALIBRATION = {
    "infarct": model(10.0, -2.0, threshold=0.5),
    "expected_dice": {"infarct": model(2.0, 0.1), "wall": model(0.0, 0.9)},
}


@pytest.fixture
def segmented(ring):
    """Probability .8 of scar in one sector of two slices, of normal wall elsewhere; the cavity is blood."""
    study = ring.paint(torch.where(ring.sector(1), 160.0, ring.base()))
    scar = ring.sector(1)
    scar[..., 2] = False
    resp = torch.zeros(len(CLASSES), *scar.shape)
    resp[0] = ((study.region > 0) & ~ring.wall).float()
    resp[3] = torch.where(scar, 0.8, 0.0)
    resp[1] = ring.wall * (1 - resp[3])
    return study, resp, scar


def features_of(study, resp, mixture=None):
    by_mixture = resp if mixture is None else mixture
    spread = torch.full(study.region.shape, 0.1)
    return study_features(study, resp, resp, by_mixture, spread, CLASSES, what_is_given(study))


def test_features_by_hand(ring, segmented):
    study, resp, scar = segmented
    n, wall = int(scar.sum()), int(ring.wall.sum())
    found = features_of(study, resp)
    assert tuple(found) == FEATURES
    assert found["log_ml"] == pytest.approx(math.log(n * VOXEL_ML + 0.05), rel=1e-5)
    assert found["share"] == pytest.approx(n / wall)
    assert found["largest"] == 1.0
    assert [found["certainty"], found["peak"]] == pytest.approx([0.8, 0.8])
    assert found["mean_probability"] == pytest.approx(0.8 * n / wall)
    assert found["slices"] == pytest.approx(2 / 3)
    assert found["spread"] == pytest.approx(0.1)
    assert found["agreement"] == 1.0
    normal = ring.wall & ~scar
    lge = study.image[0]
    contrast = (lge[scar].mean() - lge[normal].mean()) / (lge[normal].std() + 1e-3)
    assert found["contrast"] == pytest.approx(float(contrast))


def test_share_of_an_infarct_beside_blood():
    """The first row of 1.5 mm lies beside blood, the next one 3 mm away; a slice without blood has none."""
    infarct, blood = torch.zeros(2, 6, 4, 2, dtype=torch.bool).numpy()
    blood[0] = True
    infarct[1:4] = True  # 3 rows of 4 in both slices
    assert _share_near(infarct, blood, (1.5, 1.5, 10.0)) == pytest.approx(1 / 3)
    blood[..., 1] = False
    assert _share_near(infarct, blood, (1.5, 1.5, 10.0)) == pytest.approx(1 / 6)
    assert _share_near(infarct & False, blood, (1.5, 1.5, 10.0)) == 0.0


def test_networks_and_mixture_that_disagree(segmented):
    study, resp, scar = segmented
    other = resp.clone()
    other[1] += other[3]
    other[3] = 0
    assert features_of(study, resp, other)["agreement"] == 0.0
    half = resp.clone()
    half[:, :, :, 1] = other[:, :, :, 1]  # one of the two slices
    n, m = int(scar.sum()), int(scar[..., 0].sum())
    assert features_of(study, resp, half)["agreement"] == pytest.approx(2 * m / (n + m))


def test_features_say_what_was_given(ring, segmented):
    alone, resp, _ = segmented
    two = ring.paint(ring.base(), ring.base())
    names = ("wall_given", "ventricle_given", "lge_alone", "lge_alone_and_wall", "lge_alone_and_ventricle")
    walls = {
        "cavity and wall": {},
        "ventricle": {"region": (two.region > 0) * Region.LV},
        "found": {"found_region": {}},
    }
    expected = {
        "cavity and wall": [(1, 0, 0, 0, 0), (1, 0, 1, 1, 0)],
        "ventricle": [(0, 1, 0, 0, 0), (0, 1, 1, 0, 1)],
        "found": [(0, 0, 0, 0, 0), (0, 0, 1, 0, 0)],
    }
    for what, changes in walls.items():
        found = [features_of(replace(s, **changes), resp) for s in (two, alone)]
        assert [tuple(f[name] for name in names) for f in found] == expected[what], what
    beside = replace(two, sequences=("LGE", "other", "bSSFP"))  # the networks see LGE alone
    assert [features_of(beside, resp)[name] for name in names] == [1, 0, 1, 1, 0]


def test_no_scar_at_all(segmented):
    study, resp, _ = segmented
    found = features_of(study, set_aside(resp, CLASSES))
    assert found["log_ml"] == pytest.approx(math.log(0.05))
    assert [found[name] for name in ("share", "largest", "certainty", "contrast", "slices")] == [0.0] * 5


def test_without_lge_or_scar_there_is_no_verdict(ring, segmented):
    study, resp, _ = segmented
    t2_alone = ring.paint(torch.zeros(ring.wall.shape), ring.base())
    t2_alone.observed[0] = False
    assert features_of(t2_alone, resp) == {}
    spread = torch.zeros(study.region.shape)
    assert study_features(study, resp[:2], resp[:2], resp[:2], spread, CLASSES[:2], GIVEN_WALL) == {}
    assert judge_infarct({}, CALIBRATION, called_ml=0.0) is None
    assert expected_dice({}, CALIBRATION) == {}


def test_without_calibration_there_is_no_verdict(segmented):
    study, resp, _ = segmented
    assert judge_infarct(features_of(study, resp), None, called_ml=0.0) is None
    assert expected_dice(features_of(study, resp), None) == {}


@pytest.mark.parametrize(("share", "found"), [(0.1, False), (0.2, True), (0.3, True)])
def test_the_threshold_belongs_to_the_infarct(share, found):
    """Logit 10 x share - 2: probability 1/2 at a share of .2."""
    ml = 4.0
    verdict = judge_infarct({"share": share}, CALIBRATION, called_ml=ml)
    assert verdict.probability == pytest.approx(1 / (1 + math.exp(2 - 10 * share)))
    assert verdict.found is found
    told = verdict.describe()
    assert told["set_aside_ml"] == pytest.approx(0.0 if found else ml)
    assert told["found"] is found


def test_of_other_networks_the_verdict_is_not_calibrated_and_no_dice_is_expected():
    other = of_other_networks(CALIBRATION)
    features = {"share": 0.3}
    verdict, own = (judge_infarct(features, c, called_ml=1.0) for c in (other, CALIBRATION))
    assert verdict.probability == own.probability
    assert (verdict.describe()["calibrated"], own.describe()["calibrated"]) == (False, True)
    assert expected_dice(features, other) == {}
    assert expected_dice(features, CALIBRATION) != {}
    assert of_other_networks(other) == other


def test_expected_dice_stays_between_0_and_1():
    assert expected_dice({"share": 0.2}, CALIBRATION) == {"infarct": pytest.approx(0.5), "wall": 0.9}
    assert expected_dice({"share": 0.9}, CALIBRATION)["infarct"] == 1.0


def test_what_is_set_aside_becomes_normal_wall(segmented):
    _, resp, scar = segmented
    changed = set_aside(resp, CLASSES)
    assert changed[3].max() == 0
    assert changed[1][scar].min() == pytest.approx(1.0)
    assert resp[3].max() == pytest.approx(0.8)  # the input stays as it is


def test_numbers_for_tables():
    details = {
        "infarct": {"probability": 0.1, "threshold": 0.5, "found": False, "set_aside_ml": 1.5},
        "expected_dice": {"infarct": 0.6, "wall": 0.9},
    }
    assert verdict_numbers(details) == {
        "infarct_probability": 0.1,
        "infarct_set_aside_ml": 1.5,
        "estimated_dice_infarct": 0.6,
        "estimated_dice_wall": 0.9,
    }
    assert verdict_numbers({}) == {}
