import numpy as np
import pytest
import torch

from mrigmm.data.ventricle import closed_ventricle, divided_ventricle, wall_depth, with_convex_cavity
from mrigmm.labels import Region


def probabilities(codes):
    """Certain probabilities (3, X, Y, Z) of a drawing: 0 outside, 1 cavity, 2 wall."""
    return np.stack([codes == code for code in (0, 1, 2)]).astype(np.float32)


def ring(n_slices=3, size=40, inner=6, outer=12):
    """Cavity of 6 and wall to 12 pixels around the middle."""
    x, y = np.indices((size, size)) - size // 2
    r = np.hypot(x, y)
    drawing = np.where(r <= inner, 1, np.where(r <= outer, 2, 0))
    return np.repeat(drawing[..., None], n_slices, axis=2)


def test_a_clean_ring_stays_as_it_is():
    drawing = ring()
    codes = closed_ventricle(probabilities(drawing))
    assert ((codes == Region.CAVITY) == (drawing == 1)).all()
    assert ((codes == Region.WALL) == (drawing == 2)).all()


def test_holes_are_filled_islands_removed_and_gaps_closed():
    drawing = ring()
    damaged = drawing.copy()
    damaged[20, 20, 0] = 0  # a hole in the cavity: a papillary muscle called outside
    damaged[20, 29, 1] = 0  # a hole in the wall
    damaged[2:5, 2:5, :] = 2  # an island, the liver
    damaged[20, 20, 2] = 2  # a papillary muscle called wall
    damaged[36, 36, 2] = 1
    codes = closed_ventricle(probabilities(damaged))
    assert ((codes > 0) == (drawing > 0)).all()
    assert ((codes == Region.CAVITY) == (drawing == 1)).all()
    # Wall is missing on one side: the outermost pixels of the blood become wall.
    drawing[:20] = np.where(drawing[:20] == 2, 0, drawing[:20])
    codes = closed_ventricle(probabilities(drawing))
    outside = codes == Region.OUTSIDE
    touching = np.zeros_like(outside)
    touching[1:] |= outside[:-1]
    touching[:-1] |= outside[1:]
    assert not (touching & (codes == Region.CAVITY)).any()
    assert ((codes > 0) == (drawing > 0)).all()


def test_a_dent_in_the_cavity_is_filled_and_a_wall_stays_around_it():
    drawing = ring()
    whole = closed_ventricle(probabilities(drawing))
    dented = drawing.copy()
    dented[20:, 18:23, 0] = np.where(dented[20:, 18:23, 0] == 1, 2, dented[20:, 18:23, 0])
    dented[..., 2] = np.where(drawing[..., 2] == 1, 2, drawing[..., 2])
    dented[19:22, 20, 2] = 1  # a cavity on a line
    codes = closed_ventricle(probabilities(dented))
    convex = with_convex_cavity(codes)
    # All but its outermost pixel lies between what is left.
    assert int((convex[..., 0] != whole[..., 0]).sum()) == 1
    assert (convex[..., 1] == whole[..., 1]).all()
    assert (convex[..., 2] == codes[..., 2]).all()
    thin = np.where(whole == Region.OUTSIDE, 0, 1)
    assert ((with_convex_cavity(closed_ventricle(probabilities(thin))) > 0) == (whole > 0)).all()


def test_nothing_is_found_in_nothing():
    assert not closed_ventricle(probabilities(np.zeros((8, 8, 2), int))).any()


def test_an_apical_slice_may_have_no_cavity():
    drawing = ring()
    drawing[..., 2] = np.where(ring(1, inner=-1, outer=5)[..., 0] > 0, 2, 0)
    codes = closed_ventricle(probabilities(drawing))
    assert set(np.unique(codes[..., 2])) == {Region.OUTSIDE, Region.WALL}


def ring_of_wall(size=41, inner_mm=5.0, outer_mm=10.0, spacing=(1.0, 1.0)):
    axes = [(torch.arange(size) - size // 2) * s for s in spacing]
    radius = (axes[0][:, None] ** 2 + axes[1][None, :] ** 2).sqrt()
    region = torch.zeros(size, size, 1, dtype=torch.uint8)
    region[radius < outer_mm] = Region.WALL
    region[radius < inner_mm] = Region.CAVITY
    return region


def test_rises_from_epicardium_to_endocardium():
    depth = wall_depth(ring_of_wall(), spacing_mm=(1.0, 1.0, 10.0))[:, 20, 0]  # along a diameter
    wall = depth[11:16]  # radius 9 mm to 5 mm
    assert (wall.diff() > 0).all()
    # 5 mm from the centre: 1 mm from the cavity (radius 4) and 5 mm from the outside (radius 10)
    assert wall[-1].item() == pytest.approx(5 / 6)
    assert wall[0].item() == pytest.approx(1 / 6)
    assert depth[20] == 0


def test_distances_are_in_mm():
    wide = wall_depth(ring_of_wall(spacing=(2.0, 1.0)), spacing_mm=(2.0, 1.0, 8.0))[..., 0]
    # On the row through the centre the second axis has 1 mm pixels, as in the isotropic ring_of_wall.
    assert wide[20, 11].item() == pytest.approx(1 / 6)


def test_a_slice_without_cavity_has_no_depth():
    region = torch.full((8, 8, 1), int(Region.WALL), dtype=torch.uint8)
    assert (wall_depth(region, spacing_mm=(1.0, 1.0, 8.0)) == 0).all()


def test_a_wall_that_touches_the_border_has_an_epicardium_there():
    region = torch.full((9, 9, 1), int(Region.WALL), dtype=torch.uint8)
    region[4, 4] = Region.CAVITY
    depth = wall_depth(region, spacing_mm=(1.0, 1.0, 8.0))[..., 0]
    assert depth[0, 4].item() == pytest.approx(1 / 5)  # 1 mm to the outside, 4 mm to the cavity


def test_a_known_ventricle_is_divided():
    """A hole of papillary muscle is filled, a bay is closed, a spot apart is wall, and so is the border."""
    ventricle = np.zeros((9, 9, 2), bool)
    ventricle[0:9, 0:7] = True
    cavity = np.zeros_like(ventricle)
    cavity[1:5, 0:5, 0] = True  # reaches the border at y = 0
    cavity[2, 2, 0] = cavity[4, 3, 0] = False
    cavity[7, 5, 0] = True
    codes = divided_ventricle(ventricle, cavity)
    assert np.array_equal(codes > 0, ventricle)
    expected = np.zeros_like(cavity)
    expected[1:5, 1:5, 0] = True
    assert np.array_equal(codes == Region.CAVITY, expected)
