import numpy as np
import pytest
import torch

from mrigmm.labels import Region
from mrigmm.methods.remote import angular_sectors, dark_cores, find_remote


def found(ring, lge, region=None, **options):
    region = ring.study.region if region is None else region
    return find_remote(lge, region, spacing_mm=ring.study.spacing_mm, **options)


def test_sectors_are_angles_in_mm_around_the_cavity():
    """Pixels of 1 x 2 mm, cavity at (4, 4): (6, 5) lies 45 degrees up in mm, not 27 as in pixels."""
    region = np.full((9, 9, 1), Region.WALL, dtype=np.uint8)
    region[4, 4, 0] = Region.CAVITY
    sectors = angular_sectors(region, spacing_mm=(1, 2, 10))[..., 0]
    # 0 degrees; 63; 116; 180; -116; -63 (voxel (5, 3): 1 mm and -2 mm)
    positions = [(6, 4), (5, 5), (3, 5), (2, 4), (3, 3), (5, 3)]
    assert [int(sectors[p]) for p in positions] == [0, 1, 1, 3, 4, 4]
    assert int(sectors[6, 5]) == 0
    assert int(sectors[6, 3]) == 5


def test_every_slice_has_its_own_centre_and_the_same_angles():
    region = np.zeros((12, 12, 3), dtype=np.uint8)
    for z, shift in enumerate((0, 2)):  # the third slice has no wall
        region[1 + shift : 8 + shift, 1:8, z] = Region.WALL
        region[3 + shift : 6 + shift, 3:6, z] = Region.CAVITY
    sectors = angular_sectors(region, spacing_mm=(1, 1, 8))
    np.testing.assert_array_equal(sectors[1:8, 1:8, 0], sectors[3:10, 1:8, 1])
    assert (sectors[..., 2] == -1).all()


def test_without_a_cavity_the_centre_is_the_walls():
    region = np.zeros((9, 9, 1), dtype=np.uint8)
    region[2:7, 2:7] = Region.WALL
    assert int(angular_sectors(region, spacing_mm=(1, 1, 8))[6, 4, 0]) == 0
    assert int(angular_sectors(region, spacing_mm=(1, 1, 8))[2, 4, 0]) == 3


@pytest.mark.parametrize("darkest", range(6))
def test_the_darkest_sector_is_remote(ring, darkest):
    lge = ring.base()
    lge[ring.sector(darkest)] -= 5
    lge[ring.sector((darkest + 3) % 6)] = 300
    remote = found(ring, lge)
    assert remote.sector == darkest
    assert torch.equal(remote.mask, ring.sector(darkest))
    assert remote.warnings == ()


def test_a_dark_core_closed_in_by_scar_and_cavity_is_no_remote_myocardium():
    """One row: cavity, two dark voxels, bright ones around them; beside it open dark wall."""
    rows = ["wwwwwww", "wbbbwww", "wbdbwdw", "wcccccw", "wwwwwww"]
    codes = np.array([[Region.CAVITY if v == "c" else Region.WALL for v in row] for row in rows], np.uint8)
    bright = np.array([[v == "b" for v in row] for row in rows])
    core = np.array([[v == "d" for v in row] for row in rows])
    core[2, 5] = False  # open to the wall around it
    # Two slices: what is closed in its own slice is a core, whatever lies above.
    cores = dark_cores(np.stack([bright, 0 * bright], -1).astype(bool), np.stack([codes, codes], -1))
    np.testing.assert_array_equal(cores[..., 0], core)
    assert not cores[..., 1].any()


def test_a_sector_full_of_obstruction_is_not_taken(ring):
    """Sector 1 is dark (20) but for a bright rim at the epicardium and at its sides."""
    lge = ring.base()
    lge[ring.sector(4)] -= 5
    infarct = ring.sector(0) | ring.sector(1) | ring.sector(2)
    lge[infarct] = 300
    inside = ring.study.region > 0
    core = ring.sector(1).clone()
    for axis in (0, 1):
        for step in (-1, 1):
            core &= inside.roll(step, axis)  # not at the epicardium
    assert int(core.sum()) > 20
    lge[core] = 20
    assert found(ring, lge).sector == 4


def test_a_sector_with_high_t2_is_left_out(ring):
    lge, t2 = ring.base(), torch.full(ring.wall.shape, 100.0)
    lge[ring.sector(2)] -= 8
    lge[ring.sector(5)] -= 5
    t2[ring.sector(2)] = 180
    assert found(ring, lge).sector == 2
    assert found(ring, lge, t2=t2).sector == 5
    # Where T2 was not acquired it says nothing against a sector.
    assert found(ring, lge, t2=t2, t2_observed=~ring.sector(2)).sector == 2


def test_a_wall_too_small_for_sectors_gives_its_darker_part_and_says_so(ring):
    region = torch.zeros_like(ring.study.region)
    few = ring.wall.nonzero()[:8]
    region[few.unbind(1)] = int(Region.WALL)
    lge = torch.full(region.shape, 100.0)
    lge[few[:3].unbind(1)] = 300
    remote = found(ring, lge, region)
    assert remote.sector is None
    assert int(remote.mask.sum()) == 5
    assert "darker part of the whole wall" in remote.warnings[0]
