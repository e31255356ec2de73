from dataclasses import replace

import numpy as np
import pytest
import torch

from mrigmm.labels import Region
from mrigmm.methods import mvo as module
from mrigmm.methods.mvo import cores, with_mvo

from .conftest import CLASSES


@pytest.fixture
def infarct(ring, monkeypatch):
    """LGE with a bright infarct in three sectors, and in it a dark core at the cavity in the first slice."""
    monkeypatch.setattr(module, "MIN_AREA_MM2", 3.0)  # 1.44 mm2 per voxel: at least 3 voxels
    monkeypatch.setattr(module, "BRIDGED_MM", 0.0)
    lge = ring.base()
    lge[ring.sector(0) | ring.sector(1) | ring.sector(2)] = 300
    core = ring.sector(1).clone()
    inside = ring.study.region > 0
    for axis in (0, 1):
        for step in (-1, 1):
            core &= inside.roll(step, axis)  # not at the epicardium
    core[..., 1:] = False
    lge[core] = 60
    return lge, core


def test_a_closed_core_becomes_scar(ring, segment, infarct):
    lge, core = infarct
    study = ring.paint(lge)
    before = segment("otsu", study)
    assert (before.labels[core] == 2).all()
    after = with_mvo(study, before, CLASSES)
    assert int(core.sum()) > 5
    assert torch.equal(after.mvo, core)
    assert (after.labels[core] == 4).all()
    assert (after.resp[CLASSES.index("scar")][core] == 1).all()
    assert (after.resp.sum(0)[study.region > 0] == 1).all()
    assert torch.equal(after.labels[~core], before.labels[~core])
    assert after.details["mvo"]["min_area_mm2"] == 3.0
    # Normal and core: 100 on average but for the core's 60; scar: 300.
    normal = lge[before.labels == 2]
    assert after.details["mvo"]["threshold_lge"] == pytest.approx((float(normal.mean()) + 300) / 2, abs=0.01)


def test_a_core_that_the_method_smoothed_into_scar_is_found_too(ring, segment, infarct):
    lge, core = infarct
    study = ring.paint(lge)
    before = segment("otsu", study)
    labels = before.labels.clone()
    labels[core] = 4
    assert torch.equal(with_mvo(study, replace(before, labels=labels), CLASSES).mvo, core)


def test_obstruction_that_the_method_knows_stays_beside_the_rule(ring, segment, infarct):
    """One core that the rule finds, and two voxels that the method itself calls obstruction."""
    lge, core = infarct
    study = ring.paint(lge)
    before = segment("otsu", study)
    own = torch.zeros_like(core)
    own[tuple(ring.sector(2).nonzero()[-2:].T)] = True
    assert not (own & core).any()
    after = with_mvo(study, replace(before, mvo=own), CLASSES)
    assert torch.equal(after.mvo, core | own)
    assert (after.labels[after.mvo] == 4).all()


def test_dark_wall_that_is_open_stays_normal(ring, segment, infarct):
    lge, _ = infarct
    lge[ring.sector(0)] = 100  # nothing closes the core on this side
    study = ring.paint(lge)
    assert not with_mvo(study, segment("otsu", study), CLASSES).mvo.any()


def test_smaller_cores_are_left(ring, segment, infarct, monkeypatch):
    lge, core = infarct
    study = ring.paint(lge)
    area = int(core.sum()) * 1.2 * 1.2
    monkeypatch.setattr(module, "MIN_AREA_MM2", area + 0.1)
    assert not with_mvo(study, segment("otsu", study), CLASSES).mvo.any()


def test_an_undivided_ventricle_takes_the_methods_blood_for_the_cavity(ring, segment, infarct):
    lge, core = infarct
    study = ring.paint(lge)
    before = segment("otsu", study)
    undivided = torch.where(study.region > 0, int(Region.LV), 0).to(torch.uint8)
    assert torch.equal(with_mvo(replace(study, region=undivided), before, CLASSES).mvo, core)


def test_without_a_cavity_in_the_region_its_hole_closes(ring, segment, infarct):
    lge, core = infarct
    study = ring.paint(lge)
    wall = torch.where(ring.wall, study.region, 0)
    study, classes = replace(study, region=wall), CLASSES[1:]
    assert torch.equal(with_mvo(study, segment("otsu", study, classes=classes), classes).mvo, core)


def test_where_nothing_can_be_looked_for_the_segmentation_stays(ring, segment, infarct):
    lge, _ = infarct
    study = ring.paint(lge, t2=lge)
    before = segment("otsu", study)
    blind = study.observed.clone()
    blind[0] = False
    assert with_mvo(replace(study, observed=blind), before, CLASSES) is before  # no LGE
    undivided = torch.where(study.region > 0, int(Region.LV), 0).to(torch.uint8)
    assert with_mvo(replace(study, region=undivided), before, CLASSES[1:]) is before  # where is the wall?
    assert with_mvo(study, before, ("blood", "scar")) is before  # no normal wall


def slice_of(gap_mm, width_mm=7.5):
    """0.75 mm pixels: left of a wall the cavity, in the wall a core of 10 pixels in a rim with a gap."""
    x, y = np.mgrid[:60, :80]
    cavity, wall = x < 20, (x >= 20) & (x < 50)
    core = (x >= 20) & (x < 30) & (abs(y - 40) < width_mm / 0.75 / 2)
    rim = (x >= 20) & (x < 34) & (abs(y - 40) < 20) & ~core
    rim &= ~((x >= 30) & (abs(y - 40) < gap_mm / 0.75 / 2))
    return rim, wall & ~rim, wall, cavity, core


def test_a_gap_of_partial_volume_is_bridged_a_wider_one_is_open():
    rim, dark, wall, cavity, core = slice_of(gap_mm=1.5)
    found = cores(rim, dark, wall, cavity, (0.75, 0.75))
    assert found[core].all()
    assert (found & ~core).sum() == 3  # of the gap
    rim, dark, wall, cavity, _ = slice_of(gap_mm=3.75)
    assert not cores(rim, dark, wall, cavity, (0.75, 0.75)).any()


def test_normal_wall_in_a_notch_of_scar_at_the_cavity_is_too_small():
    """10 pixels of depth and 5 of width: 50 x 0.5625 = 28 mm2, under the 40 of a core."""
    rim, dark, wall, cavity, core = slice_of(gap_mm=0, width_mm=3.75)
    assert core.sum() * 0.75**2 == pytest.approx(28.125)
    assert not cores(rim, dark, wall, cavity, (0.75, 0.75)).any()


def test_a_study_without_scar_has_none(ring, segment):
    study = ring.paint(ring.base())
    before = segment("otsu", study)
    none = replace(before, labels=before.labels.clamp(max=2))
    after = with_mvo(study, none, CLASSES)
    assert not after.mvo.any()
    assert after.details["mvo"]["threshold_lge"] is None
