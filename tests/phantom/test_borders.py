"""What hides a ventricle's borders: its size in mm, and that the ventricle itself stays as it is."""

from dataclasses import replace

import numpy as np
import pytest

from mrigmm.phantom.borders import Borders, waves_around
from mrigmm.phantom.config import PRESETS
from mrigmm.phantom.pathology import draw_infarct
from mrigmm.phantom.shape import Tissue, draw_heart

NONE = Borders(
    fat=-1.0,
    apical_fat=0.0,
    fat_waves=(),
    pericardium=0.0,
    closing=0.0,
    trabeculae=0.0,
    ridges=((8.0, 0.0),),
    strands=0.0,
    strand_waves=((0.5, 0.0, 0.0),),
)


@pytest.fixture(scope="module")
def heart():
    """A round heart of 36 mm with a wall of 12 mm."""
    rng = np.random.default_rng(1)
    infarct = draw_infarct(PRESETS["healthy"], length_mm=90, heights_mm=np.array([30.0]), rng=rng)
    drawn = draw_heart(length_mm=90, infarct=infarct, thinning=0.0, rng=rng)
    return replace(
        drawn,
        epi_radius=36.0,
        wall=12.0,
        epi_waves=(),
        wall_waves=(),
        tilt=(0.0, 0.0),
        papillary_radius=0.0,
        liver_level=44.0,
        chest_level=50.0,
        chest_angle=float(np.pi / 2),
    )


def tissue(heart, x, y, z=0.0):
    """The tissue at one point, mm."""
    return heart.locate(*(np.full((1, 1, 1), value, np.float32) for value in (x, y, z))).tissue.item()


def square(heart, z):
    """The tissues of a slice of 160 mm, pixels of 2 mm."""
    steps = np.arange(-80.0, 80.0, 2.0, dtype=np.float32)
    return heart.locate(steps[:, None, None], steps[None, :, None], np.full((1, 1, 1), z, np.float32)).tissue[
        ..., 0
    ]


def test_borders_of_no_size_change_nothing(heart):
    for z in (0.0, 40.0, 80.0):
        np.testing.assert_array_equal(square(replace(heart, borders=NONE), z), square(heart, z))


def test_fat_and_pericardium_lie_around_the_free_wall(heart):
    seen = replace(heart, borders=replace(NONE, fat=3.0, pericardium=2.0))
    # The lateral wall lies at positive x: 36 mm, then 3 mm of fat and 2 mm that are dark.
    assert [tissue(seen, x, 0.0) for x in (35.5, 36.5, 38.5, 39.5, 40.5)] == [
        Tissue.MYOCARDIUM,
        Tissue.FAT,
        Tissue.FAT,
        Tissue.LUNG,
        Tissue.LUNG,
    ]
    assert tissue(seen, -36.5, 0.0) in (Tissue.RV_BLOOD, Tissue.RV_WALL)  # the septum has none


def test_fat_grows_towards_the_apex():
    borders = replace(NONE, fat=1.0, apical_fat=4.0)
    heights = np.array([0.0, 0.5, 1.0])
    np.testing.assert_allclose(borders.fat_mm(np.zeros(3), heights), [1.0, 3.0, 5.0])
    assert NONE.fat_mm(np.zeros(1), np.zeros(1)) == 0


def test_the_chest_follows_the_ventricle_to_the_apex(heart):
    # At s = .5 the radius is 36 * sqrt(1 - .88 / 4) = 31.79 mm: 4.21 mm less than at the base.
    closed = replace(heart, borders=replace(NONE, closing=1.0))
    for seen, level in ((heart, 50.0), (closed, 45.79)):
        assert tissue(seen, 0.0, -(level - 0.3), 45.0) == Tissue.LUNG
        assert tissue(seen, 0.0, -(level + 0.3), 45.0) == Tissue.FAT
    assert tissue(closed, 0.0, -50.3) == Tissue.FAT  # at the base it stays
    assert tissue(closed, 0.0, -49.7) == Tissue.LUNG


def test_trabeculae_are_ridges_of_the_cavity(heart):
    borders = replace(NONE, trabeculae=4.0)
    angle = np.linspace(0, 2 * np.pi, 1000)
    ridge = borders.ridge_mm(angle, np.zeros(1000))
    assert ridge.min() == 0
    assert ridge.max() == pytest.approx(4.0)
    before, after = square(heart, 20.0), square(replace(heart, borders=borders), 20.0)
    changed = before != after
    assert changed.any()
    assert set(before[changed]) == {Tissue.BLOOD}
    assert set(after[changed]) == {Tissue.PAPILLARY}


def test_strands_cross_the_right_ventricle_only(heart):
    before, after = square(heart, 60.0), square(replace(heart, borders=replace(NONE, strands=0.8)), 60.0)
    changed = before != after
    assert changed.any()
    assert set(before[changed]) == {Tissue.RV_BLOOD}
    assert set(after[changed]) == {Tissue.RV_WALL}


def test_waves_count_from_their_first_order():
    angle = np.array([0.0, np.pi / 2, np.pi])
    np.testing.assert_allclose(waves_around(((2.0, 0.0),), angle, first=1), [2, 0, -2], atol=1e-12)
    np.testing.assert_allclose(waves_around(((2.0, 0.0),), angle), [2, -2, 2], atol=1e-12)
