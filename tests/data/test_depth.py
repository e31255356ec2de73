import pytest
import torch

from mrigmm.data.depth import wall_depth
from mrigmm.labels import Region


def ring(size=41, inner_mm=5.0, outer_mm=10.0, spacing=(1.0, 1.0)):
    axes = [(torch.arange(size) - size // 2) * s for s in spacing]
    radius = (axes[0][:, None] ** 2 + axes[1][None, :] ** 2).sqrt()
    region = torch.zeros(size, size, 1, dtype=torch.uint8)
    region[radius < outer_mm] = Region.WALL
    region[radius < inner_mm] = Region.CAVITY
    return region


def test_rises_from_epicardium_to_endocardium():
    depth = wall_depth(ring(), spacing_mm=(1.0, 1.0, 10.0))[:, 20, 0]  # along a diameter
    wall = depth[11:16]  # radius 9 mm to 5 mm
    assert (wall.diff() > 0).all()
    # 5 mm from the centre: 1 mm from the cavity (radius 4) and 5 mm from the outside (radius 10)
    assert wall[-1].item() == pytest.approx(5 / 6)
    assert wall[0].item() == pytest.approx(1 / 6)
    assert depth[20] == 0


def test_distances_are_in_mm():
    wide = wall_depth(ring(spacing=(2.0, 1.0)), spacing_mm=(2.0, 1.0, 8.0))[..., 0]
    # On the row through the centre the second axis has 1 mm pixels, as in the isotropic ring.
    assert wide[20, 11].item() == pytest.approx(1 / 6)


def test_a_slice_without_cavity_has_no_depth():
    region = torch.full((8, 8, 1), int(Region.WALL), dtype=torch.uint8)
    assert (wall_depth(region, spacing_mm=(1.0, 1.0, 8.0)) == 0).all()


def test_a_wall_that_touches_the_border_has_an_epicardium_there():
    region = torch.full((9, 9, 1), int(Region.WALL), dtype=torch.uint8)
    region[4, 4] = Region.CAVITY
    depth = wall_depth(region, spacing_mm=(1.0, 1.0, 8.0))[..., 0]
    assert depth[0, 4].item() == pytest.approx(1 / 5)  # 1 mm to the outside, 4 mm to the cavity
