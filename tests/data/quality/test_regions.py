import numpy as np
import pytest

from mrigmm.data.quality.regions import (
    cavity_contrast,
    looks_swapped,
    misplaced,
    negative,
    saturated,
    swapped,
    touches_border,
)
from mrigmm.labels import Region

SPACING = (2.0, 2.0, 10.0)
EVERYWHERE = np.ones((40, 40, 2), bool)


def disc(radius, shape=(40, 40), centre=(19.5, 19.5)):
    x, y = np.indices(shape)
    return np.hypot(x - centre[0], y - centre[1]) <= radius


def stack(plane):
    return np.repeat(plane[..., None], 2, axis=2)


LV = stack(disc(14)).astype(np.uint8) * np.uint8(Region.LV)
PARTS = stack(np.where(disc(8), Region.CAVITY, np.where(disc(14), Region.WALL, 0))).astype(np.uint8)


def test_touches_border():
    assert touches_border(LV) is None  # the first and the last slice are no border
    for edge in (np.s_[0, 5, 1], np.s_[-1, 5, 1], np.s_[5, 0, 1], np.s_[5, -1, 1]):
        region = LV.copy()
        region[edge] = 1
        found = touches_border(region)
        assert (found.severity, found.got) == ("warning", "1 of 2 slices")


@pytest.mark.parametrize("region", [LV, PARTS], ids=["lv", "parts"])
@pytest.mark.parametrize("cavity", [1.0, 5.0])
def test_cavity_contrast_is_in_sd_of_the_region(region, cavity):
    values = np.where(stack(disc(8)), cavity, 3).astype(np.float32)
    share = disc(8).sum() / disc(14).sum()
    sd = 2 * np.sqrt(share * (1 - share))
    found = cavity_contrast(values, region, EVERYWHERE, SPACING)
    assert found == pytest.approx((cavity - 3) / sd, rel=1e-5)
    # Units do not matter, nor what lies outside the region.
    outside = np.where(region > 0, 7 * values - 100, 1e6).astype(np.float32)
    assert cavity_contrast(outside, region, EVERYWHERE, SPACING) == pytest.approx(found, rel=1e-4)


def test_without_anything_to_compare_there_is_no_contrast():
    values = np.where(stack(disc(8)), 1, 3).astype(np.float32)
    wall = np.where(PARTS == Region.WALL, PARTS, 0).astype(np.uint8)
    assert cavity_contrast(values, wall, EVERYWHERE, SPACING) is None
    assert cavity_contrast(values * 0, PARTS, EVERYWHERE, SPACING) is None
    assert cavity_contrast(values, PARTS, stack(~disc(8)), SPACING) is None


@pytest.mark.parametrize(
    ("contrasts", "names"),
    [
        ({"LGE": 1.2, "T2": -1.2, "bSSFP": 1.6}, []),
        ({"LGE": -0.4, "T2": -1.2}, []),  # a large scar
        ({"LGE": -0.6}, ["LGE"]),
        ({"LGE": -1.2, "T2": 1.2}, ["LGE", "T2"]),
        ({"T2": 1.2, "bSSFP": 1.6}, ["T2"]),
        ({"T2": 1.2, "bSSFP": -1.6}, ["T2", "bSSFP"]),
        ({"T2": 0.49, "bSSFP": -0.49}, []),
        ({"T2": 0.51}, ["T2"]),
        ({}, []),
    ],
)
def test_swapped(contrasts, names):
    found = list(swapped(contrasts))
    assert [problem.what for problem in found] == [f"{name} does not look like {name}" for name in names]
    assert {problem.severity for problem in found} <= {"warning"}
    assert looks_swapped(found) is bool(names)


@pytest.mark.parametrize(
    ("contrasts", "good"),
    [
        ({"T2": -0.41}, True),
        ({"T2": -0.39}, False),
        ({"T2": 0.1, "bSSFP": 0.3}, False),
        ({"T2": 0.1, "bSSFP": 0.5}, True),  # one that shows the cavity is enough
        ({"T2": 0.6, "bSSFP": 0.3}, True),  # said by `swapped`
        ({"T2": 0.6, "bSSFP": -0.6}, True),
        ({"LGE": 0.26}, True),
        ({"LGE": 0.24}, False),  # LGE alone
        ({"LGE": 0.24, "T2": -0.5}, True),
        ({"LGE": 1.2, "T2": 0.1}, False),
        ({}, True),
    ],
)
def test_misplaced(contrasts, good):
    found = misplaced(contrasts)
    assert (found is None) is good
    if found:
        assert found.severity == "warning"
        assert looks_swapped([found])  # no Dice is expected


def test_a_region_beside_the_ventricle_is_misplaced():
    t2 = np.where(stack(disc(8)), 1, 3).astype(np.float32)
    t2 += np.random.default_rng(0).normal(0, 0.5, t2.shape).astype(np.float32)
    for shift, good in ((0, True), (15, False)):
        moved = stack(disc(10, centre=(19.5, 19.5 + shift))).astype(np.uint8)
        assert (misplaced({"T2": cavity_contrast(t2, moved, EVERYWHERE, SPACING)}) is None) is good


RAMP = np.arange(1000, dtype=np.float32)


@pytest.mark.parametrize(
    ("values", "share"),
    [
        (RAMP, None),
        (np.minimum(RAMP, 899), "10.1 %"),  # 899 and the 100 values above it
        (np.minimum(RAMP, 989), "1.1 %"),
        (np.minimum(RAMP, 991), None),  # 0.9 %
        (np.repeat([0, 1, 2, 3], 250).astype(np.float32), None),  # few levels, none of them a peak
        (np.repeat([0, 1], 500).astype(np.float32), None),  # two levels are a mask
        (np.ones(1000, np.float32), None),  # constant: said elsewhere
        (-np.minimum(RAMP, 899), None),  # cut at the lower end
    ],
)
def test_saturated(values, share):
    found = saturated("LGE", values)
    assert (found is None) is (share is None)
    if found:
        assert (found.severity, found.what) == ("warning", "LGE is saturated")
        assert found.got.startswith(share)


def test_negative():
    assert negative("LGE", RAMP) is None
    found = negative("LGE", RAMP - 250)
    assert (found.severity, found.what) == ("note", "LGE has negative intensities")
    assert found.got.startswith("25.0 % of the region; usual in phase-sensitive LGE")
    assert "phase" not in negative("T2", RAMP - 250).got
