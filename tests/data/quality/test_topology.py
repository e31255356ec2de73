"""Discs and rings with pixels of 2 x 2 mm and slices 10 mm apart: cavity of radius 16 mm, wall to 28 mm."""

import numpy as np
import pytest

from mrigmm.data.quality import exchanged, slice_shapes
from mrigmm.data.quality.topology import _solidity, doubtful_parts
from mrigmm.labels import Region

SPACING = (2.0, 2.0, 10.0)
N = 5


def disc(radius, centre=(19.5, 19.5), shape=(40, 40)):
    x, y = np.indices(shape)
    return np.hypot(x - centre[0], y - centre[1]) <= radius


def heart(slices=N):
    plane = np.where(disc(8), Region.CAVITY, np.where(disc(14), Region.WALL, 0)).astype(np.uint8)
    return np.repeat(plane[..., None], slices, axis=2)


def told(codes, **options):
    shapes = slice_shapes(codes, SPACING)
    assert exchanged(shapes) == []
    return [(p.severity, p.what, p.got) for p in doubtful_parts(shapes, SPACING[2], **options)]


def wedge(codes, z, angle):
    """Set to 0 the wall of a slice within an angle (rad) of the first axis."""
    x, y = np.indices(codes.shape[:2]) - 19.5
    codes[..., z][(np.abs(np.arctan2(y, x)) < angle) & (codes[..., z] == Region.WALL)] = 0


def test_shapes_in_mm():
    shape = slice_shapes(heart(), SPACING)[0]
    assert shape.cavity == pytest.approx(np.pi * 16**2, rel=0.05)
    assert shape.area == pytest.approx(np.pi * 28**2, rel=0.05)
    assert shape.border == 4 * 16 * 2  # of a digital disc 16 pixels of 2 mm wide
    assert (shape.open, shape.apart, shape.hole) == (0, 0, 0)
    assert shape.solidity > 0.95
    assert shape.elongation == pytest.approx(1)


@pytest.mark.parametrize(("cut", "expected"), [((), 1), ((0, 0), 3 / 3.5), ((1, 1), 8 / 9)])
def test_solidity_by_hand(cut, expected):
    """Squares of 2 and 3 pixels: without a corner the hull lacks half a pixel, without the middle nothing."""
    side = 3 if cut == (1, 1) else 2
    mask = np.zeros((6, 7), dtype=bool)
    mask[1 : 1 + side, 2 : 2 + side] = True
    if cut:
        mask[1 + cut[0], 2 + cut[1]] = False
    assert _solidity(mask) == pytest.approx(expected)


@pytest.mark.parametrize("spacing", [(2.0, 2.0, 10.0), (1.0, 2.0, 10.0)])
def test_elongation_is_in_mm(spacing):
    region = np.zeros((40, 40, 1), np.uint8)
    region[10:30, 10:20] = Region.LV
    expected = 2 if spacing[0] == 2.0 else 1
    assert slice_shapes(region, spacing)[0].elongation == pytest.approx(expected)


def test_a_heart_is_no_finding():
    assert told(heart()) == []
    undivided = np.where(heart() > 0, Region.LV, 0).astype(np.uint8)
    assert told(undivided) == []


def test_exchanged_ids():
    swap = np.array([0, 1, Region.CAVITY, Region.WALL], np.uint8)
    assert exchanged(slice_shapes(swap[heart()], SPACING)) == [1, 2, 3, 4, 5]
    one = heart()
    one[..., 2] = swap[one[..., 2]]
    assert exchanged(slice_shapes(one, SPACING)) == [3]
    open_rings = swap[heart()]
    for z in range(N):
        open_rings[18:22, 26:, z] = 0
    assert exchanged(slice_shapes(open_rings, SPACING)) == [1, 2, 3, 4, 5]


def test_papillary_muscles_without_a_wall_are_not_exchanged_ids():
    codes = heart()
    codes[..., 0] = np.where(disc(8), Region.CAVITY, 0)
    codes[18:21, 18:21, 0] = Region.WALL
    assert exchanged(slice_shapes(codes, SPACING)) == []


def test_cavity_that_lies_open():
    """0.6 rad at either side are 16 x 1.2 = 19 mm of the border: at the ends an outflow tract, else a gap."""
    codes = heart()
    wedge(codes, 0, 0.6)
    assert told(codes) == [("note", "the cavity is not enclosed by wall", "slice 1 (from 1)")]
    wedge(codes, 2, 0.6)
    assert told(codes) == [
        ("warning", "the cavity is not enclosed by wall", "slice 3 (from 1)"),
        ("note", "the cavity is not enclosed by wall", "slice 1 (from 1)"),
    ]
    wedge(codes, 4, 2.5)  # most of it
    assert told(codes)[0] == ("warning", "the cavity is not enclosed by wall", "slices 3, 5 (from 1)")


def test_cavity_without_wall():
    codes = heart()
    codes[..., 4] = np.where(disc(14), Region.CAVITY, 0)
    assert told(codes) == [("warning", "the region has cavity without wall", "slice 5 (from 1)")]
    everywhere = np.where(heart() > 0, Region.CAVITY, 0).astype(np.uint8)
    assert told(everywhere) == [("warning", "the region has cavity without wall", "slices 1 to 5 (from 1)")]


def wall_alone(codes, *slices, radius=14):
    for z in slices:
        codes[..., z] = np.where(disc(radius), Region.WALL, 0)
    return codes


def test_wall_without_cavity_belongs_to_the_apex():
    what = "the region has wall without cavity away from the apex"
    assert told(wall_alone(heart(), 4)) == []
    assert told(wall_alone(heart(), 3, 4)) == []
    assert told(wall_alone(heart(), 2, 3, 4)) == [("warning", what, "slices 3 to 5 (from 1)")]
    assert told(wall_alone(heart(), 2)) == [("warning", what, "slice 3 (from 1)")]
    assert told(wall_alone(heart(), *range(5))) == [("warning", what, "slices 1 to 5 (from 1)")]
    assert told(wall_alone(heart(), *range(5)), with_cavity=False) == []


def test_the_apex_is_where_the_ventricle_is_smaller():
    codes = heart()
    codes[..., 4] = np.where(disc(4), Region.CAVITY, np.where(disc(9), Region.WALL, 0))
    wall_alone(codes, 0)
    assert [got for _, _, got in told(codes)] == ["slice 1 (from 1)"]
    assert told(codes[..., ::-1])[0][2] == "slice 5 (from 1)"


def test_parts_and_gaps():
    codes = heart()
    codes[:4, :4, 1] = Region.WALL  # 16 pixels of 4 mm2
    codes[0, 0, 3] = Region.WALL
    assert told(codes) == [
        ("warning", "the region has two parts or more in one slice", "slice 2 (from 1)"),
        ("note", "the region has single voxels beside the ventricle", "slice 4 (from 1)"),
    ]
    codes = heart()
    codes[..., 2] = 0
    ((severity, what, got),) = told(codes)
    assert (severity, got) == ("warning", "slice 3 (from 1)")
    assert "gap" in what


def test_a_ring_is_a_wall_without_its_cavity():
    ring = np.where(heart() == Region.WALL, Region.LV, 0).astype(np.uint8)
    ((severity, what, got),) = told(ring)
    assert (severity, what, got) == (
        "warning",
        "the region is a ring: is it the wall alone?",
        "slices 1 to 5 (from 1)",
    )
    codes = heart()
    codes[..., 1][codes[..., 1] == Region.CAVITY] = 0
    codes[19, 19, 1] = Region.CAVITY
    assert (
        "warning",
        "the region encloses voxels that are neither cavity nor wall",
        "slice 2 (from 1)",
    ) in told(codes)


@pytest.mark.parametrize("code", [Region.LV, Region.CAVITY])
def test_the_right_ventricle(code):
    """A crescent beside the left one, alone or with the ring of the left one's wall."""
    crescent = disc(17, (26, 19.5)) & ~disc(14.9, (16, 19.5))
    plane = np.where(crescent, code, 0).astype(np.uint8)
    codes = np.repeat(plane[..., None], N, axis=2)
    assert any("not round" in what for _, what, _ in told(codes))
    if code == Region.CAVITY:
        ring = disc(14, (16, 19.5)) & ~disc(8, (16, 19.5))
        codes[ring] = Region.WALL
        assert any("cavity lies beside the ring" in what for _, what, _ in told(codes))
