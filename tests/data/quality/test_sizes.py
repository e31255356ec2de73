import numpy as np
import pytest

from mrigmm.data.quality import implausible_size
from mrigmm.data.quality.grids import part_of_a_ventricle, wall_thickness_mm
from mrigmm.labels import Region


def disc(radius, shape):
    x, y = np.indices(shape)
    return np.hypot(x - (shape[0] - 1) / 2, y - (shape[1] - 1) / 2) <= radius


def stack(plane, n=2):
    return np.repeat(plane[..., None], n, axis=2)


def found(codes, spacing):
    return implausible_size(codes, spacing, float(np.prod(spacing)) / 1000)


@pytest.mark.parametrize(
    ("radius_mm", "good"), [(28, True), (12, False), (13, True), (64, True), (66, False)]
)
def test_diameter(radius_mm, good):
    region = stack(disc(radius_mm, (140, 140)) * np.uint8(Region.LV))
    problem = found(region, (1.0, 1.0, 10.0))
    assert (problem is None) is good
    if problem is not None:
        assert problem.severity == "warning"
        assert problem.expected == "diameter 25 to 130 mm"
        assert float(problem.got.split()[1]) == pytest.approx(2 * radius_mm, rel=0.01)


def test_the_diameter_is_that_of_the_largest_slice():
    region = np.zeros((40, 40, 3), np.uint8)
    region[:10, :10, 0], region[:5, :4, 1] = Region.LV, Region.LV
    assert found(region, (2.0, 1.5, 10.0)).got == "diameter 19.5 mm"  # 300 mm2


@pytest.mark.parametrize(
    ("slices", "distance", "got"),
    [
        (8, 10.0, None),  # 197 ml
        (12, 20.0, "length 240 mm"),  # 591 ml
        (15, 10.0, None),
        (2, 0.5, None),  # 2.5 ml of a short stack
        (100, 0.8, None),  # 80 mm
    ],
)
def test_length_and_volume(slices, distance, got):
    region = stack(disc(28, (60, 60)) * np.uint8(Region.LV), slices)
    problem = found(region, (1.0, 1.0, distance))
    assert (problem.got if problem else None) == got


def test_volumes_have_a_lower_limit_in_a_whole_stack_only():
    region = stack(disc(13, (60, 60)) * np.uint8(Region.LV), 7)
    assert found(region, (1.0, 1.0, 10.0)).got.startswith("volume 37.")  # 530 mm2 x 70 mm
    assert found(region[..., :5], (1.0, 1.0, 10.0)) is None


@pytest.mark.parametrize(
    ("inner", "outer", "scale", "wrong"),
    [
        (18, 28, 1.0, {}),  # 10 mm and 123 g
        (26, 28, 1.0, {"wall thickness": 2}),
        (24, 64, 1.0, {"volume": 1029, "wall thickness": 40, "mass": 929}),
        (18, 28, 0.3, {"diameter": 16.8, "volume": 17.7, "mass": 10.9}),  # and 3 mm
    ],
)
def test_wall_and_mass(inner, outer, scale, wrong):
    """Eight slices of rings, 10 mm apart."""
    shape = (140, 140)
    plane = np.where(disc(inner, shape), Region.CAVITY, np.where(disc(outer, shape), Region.WALL, 0))
    problem = found(stack(plane.astype(np.uint8), 8), (scale, scale, 10.0))
    parts = [] if problem is None else [part.rsplit(" ", 2) for part in problem.got.split(", ")]
    assert {name: float(value) for name, value, _ in parts} == pytest.approx(wrong, rel=0.02)


def test_wall_thickness_is_that_of_circles_of_the_same_areas():
    plane = np.where(disc(18, (80, 80)), Region.CAVITY, np.where(disc(28, (80, 80)), Region.WALL, 0))
    assert wall_thickness_mm(stack(plane.astype(np.uint8)), 4.0) == pytest.approx(20, rel=0.01)
    assert wall_thickness_mm(stack(disc(18, (80, 80)) * np.uint8(Region.WALL)), 1.0) is None


@pytest.mark.parametrize(
    ("drawn", "distance", "got"),
    [
        ([2], 10.0, "1 slice of 10 mm"),
        ([1, 2], 12.0, "2 slices over 24 mm"),
        ([0, 2], 10.0, None),
        ([0, 1], 15.0, None),
    ],
)
def test_a_part_of_a_ventricle(drawn, distance, got):
    region = np.zeros((4, 4, 8), np.uint8)
    region[..., drawn] = Region.LV
    problem = part_of_a_ventricle(region, distance)
    assert (problem and (problem.severity, problem.got)) == (got and ("warning", got))
