from dataclasses import replace

import numpy as np
import pytest
from nibabel.affines import apply_affine

from mrigmm.quantification.segments import (
    Orientation,
    automatic_orientation,
    base_by_header,
    base_by_rv,
    epicardium_at,
    insertion_by_rv,
    insertion_of_point,
    plane_axes,
    segment_numbers,
    slice_rings,
)
from mrigmm.quantification.study import quantify_maps

from ..conftest import oblique_affine
from .shapes import maps, tube

N, MM = 121, 0.8


def short_axis_affine(*, base_first=True, mirrored=False):
    """A stack as scanners make it: rows to the left and back, columns downwards, slices towards the apex.

    In RAS: the apex lies left, anterior and inferior of the base. `mirrored` flips the first array axis.
    """
    to_apex = np.array([-1.0, 1.0, -1.0]) / np.sqrt(3)
    septum = np.array([1.0, 1.0, 0.0]) / np.sqrt(2)  # right and anterior
    anterior = np.cross(septum, to_apex)
    affine = np.eye(4)
    affine[:3, 0] = (septum if mirrored else -septum) * MM
    affine[:3, 1] = -anterior * MM
    affine[:3, 2] = (to_apex if base_first else -to_apex) * 8
    affine[:3, 3] = (12.0, -40.0, 55.0)
    return affine


def heart(affine, slices=6, *, base_first=True):
    """Tube with its right ventricle, and world directions of its pixels: septum and anterior (N, N) in mm."""
    index = np.stack([*np.meshgrid(np.arange(N), np.arange(N), indexing="ij"), np.zeros((N, N))], axis=-1)
    middle = apply_affine(affine, [(N - 1) / 2, (N - 1) / 2, 0])
    world = apply_affine(affine, index) - middle
    septum = np.array([1.0, 1.0, 0.0]) / np.sqrt(2)
    anterior = np.cross(septum, np.array([-1.0, 1.0, -1.0]) / np.sqrt(3))
    to_septum, to_anterior = world @ septum, world @ anterior
    labels = tube(N, MM, slices)
    rv = np.zeros(labels.shape, bool)
    angle = np.rad2deg(np.arctan2(to_anterior, to_septum))  # 0 septum, 90 anterior
    radius = np.hypot(to_septum, to_anterior)
    for z in range(slices):
        height = z if base_first else slices - 1 - z
        rv[..., z] = (abs(angle) < 60) & (radius > 32) & (radius < 46 - 2 * height)
    return labels, rv, angle


def test_the_rings_are_thirds_from_base_to_apex():
    assert slice_rings(3).tolist() == [0, 1, 2]
    assert slice_rings(5).tolist() == [0, 0, 1, 2, 2]
    assert slice_rings(10).tolist() == [0, 0, 0, 1, 1, 1, 1, 2, 2, 2]


def test_the_sectors_by_hand():
    """From the anterior insertion over the septum: anteroseptal, inferoseptal, inferior, ..., anterior."""
    middles = np.arange(6) * 60.0 + 30
    assert segment_numbers(0, middles).tolist() == [2, 3, 4, 5, 6, 1]
    assert segment_numbers(1, middles).tolist() == [8, 9, 10, 11, 12, 7]
    # Apical: septal around the middle of the septum (60), inferior, lateral, anterior.
    assert segment_numbers(2, np.array([60, 150, 240, 330])).tolist() == [14, 15, 16, 13]
    assert segment_numbers(2, np.array([14.9, 15.1, 104.9, 105.1, 194.9, 195.1])).tolist() == [
        *(13, 14, 14, 15, 15, 16)
    ]
    assert segment_numbers(0, np.array([-0.1, 0.0, 59.9, 360.0])).tolist() == [1, 2, 2, 2]


@pytest.mark.parametrize("order", [(0, 1, 2), (1, 0, 2)])
def test_the_planes_axes_are_right_handed(order):
    affine = oblique_affine((1.2, 1.2, 10), order=order)
    axes, in_plane = plane_axes(affine)
    np.testing.assert_allclose(axes.T @ axes, np.eye(2), atol=1e-12)
    np.testing.assert_allclose(axes @ in_plane, affine[:3, :2], atol=1e-12)
    assert np.cross(*axes.T) @ affine[:3, 2] == pytest.approx(10)


@pytest.mark.parametrize("mirrored", [False, True])
@pytest.mark.parametrize("base_first", [False, True])
def test_a_scar_in_the_anteroseptal_wall_of_the_base(mirrored, base_first):
    """However the file is stored: base first or last, its rows from either side."""
    affine = short_axis_affine(base_first=base_first, mirrored=mirrored)
    labels, rv, angle = heart(affine, base_first=base_first)
    scar = (angle > 0) & (angle < 60)
    basal = [0, 1] if base_first else [4, 5]
    for z in basal:
        labels[scar & (labels[..., z] == 2), z] = 4
    m = maps(labels, affine=affine)
    assert base_by_rv(rv, labels > 0) is base_first
    insertion = insertion_by_rv(rv, m.cavity, m.wall, affine, base_first=base_first)
    found = quantify_maps(m, Orientation(base_first, insertion))
    values = {row["segment"]: row["transmurality_percent"] for row in found.segments}
    assert list(values) == list(range(1, 17))
    assert values.pop(2) > 94  # the border may lie 3 degrees off, a ray of 30
    assert max(values.values()) < 6


@pytest.mark.parametrize("mirrored", [False, True])
@pytest.mark.parametrize("base_first", [False, True])
def test_the_insertion_as_a_point(mirrored, base_first):
    """60 degrees in front of the middle of the septum, 31 mm from the axis, in the third slice."""
    affine = short_axis_affine(base_first=base_first, mirrored=mirrored)
    labels, rv, _ = heart(affine, base_first=base_first)
    m = maps(labels, affine=affine)
    septum = np.array([1.0, 1.0, 0.0]) / np.sqrt(2)
    anterior = np.cross(septum, np.array([-1.0, 1.0, -1.0]) / np.sqrt(3))
    centre = apply_affine(affine, [(N - 1) / 2, (N - 1) / 2, 2])
    point = centre + 31 * (np.cos(np.pi / 3) * septum + np.sin(np.pi / 3) * anterior)
    found = insertion_of_point(point, m.cavity, m.wall, affine)
    by_rv = insertion_by_rv(rv, m.cavity, m.wall, affine, base_first=base_first)
    assert (found - by_rv + 180) % 360 - 180 == pytest.approx(0, abs=2)


def test_the_base_is_not_guessed():
    labels, rv, _ = heart(short_axis_affine())
    assert base_by_rv(np.repeat(rv[..., :1], 6, axis=2), labels > 0) is None  # the same area everywhere
    assert base_by_rv(rv[..., :2], labels[..., :2] > 0) is None
    assert base_by_rv(rv & False, labels > 0) is None


def test_no_insertion_without_right_ventricle_or_cavity():
    affine = short_axis_affine()
    labels, rv, _ = heart(affine)
    m = maps(labels, affine=affine)
    assert insertion_by_rv(rv & False, m.cavity, m.wall, affine, base_first=True) is None
    assert insertion_by_rv(rv, m.cavity & False, m.wall & False, affine, base_first=True) is None
    assert insertion_of_point(np.zeros(3), m.cavity & False, m.wall & False, affine) is None


def test_too_few_slices_are_not_numbered():
    found = quantify_maps(maps(tube(slices=2)), Orientation(True, 0.0))
    assert found.segments == ()
    assert any("2 slices with cavity and wall, 3 are needed" in note for note in found.notes)


def test_slices_without_cavity_lie_beyond_the_apex():
    """Four slices, the last without cavity: the thirds are of the three others."""
    labels = tube(slices=4)
    labels[..., 3][labels[..., 3] == 1] = 2
    labels[..., 2][labels[..., 2] == 2] = 4
    found = quantify_maps(maps(labels), Orientation(True, 0.0))
    apical = [row["transmurality_percent"] for row in found.segments[12:]]
    assert apical == [100] * 4
    assert {row["transmurality_percent"] for row in found.segments[:12]} == {0}


def test_nothing_is_numbered_when_the_orientation_is_unknown():
    found = quantify_maps(maps(tube()))
    assert found.segments == ()
    assert any("not numbered" in note for note in found.notes)


@pytest.mark.parametrize("base_first", [True, False])
@pytest.mark.parametrize("mirrored", [True, False])
def test_automatic_numbering_is_that_of_base_and_insertion(base_first, mirrored):
    """However the array is stored, base and anterior insertion come from ventricles and header."""
    affine = short_axis_affine(base_first=base_first, mirrored=mirrored)
    labels, rv, _ = heart(affine, base_first=base_first)
    given = maps(labels, affine=affine)
    found = automatic_orientation(rv, given.cavity, given.wall, affine)
    assert found.automatic
    assert found.base_first is base_first
    expected = insertion_by_rv(rv, given.cavity, given.wall, affine, base_first=base_first)
    assert found.insertion_degrees == pytest.approx(expected)
    assert found.spread_degrees < 3  # the same arc in all slices, but for voxels
    measured = quantify_maps(replace(given, rv=rv))
    assert [row["segment"] for row in measured.segments] == list(range(1, 17))
    assert measured.segments == quantify_maps(given, Orientation(base_first, expected)).segments
    assert measured.as_dict()["numbering"]["automatic"] is True
    assert "numbered automatically" in measured.notes[-1]


def test_what_automatic_numbering_refuses():
    """Nothing is numbered where header and ventricles contradict each other, or say too little."""
    affine = short_axis_affine()
    labels, rv, _ = heart(affine)
    given = maps(labels, affine=affine)

    def refusal(rv=rv, affine=affine, **options):
        measured = quantify_maps(replace(given, rv=rv, grid=replace(given.grid, affine=affine)), **options)
        assert measured.segments == ()
        assert "numbering" not in measured.as_dict()
        return next(note for note in measured.notes if "AHA" in note)

    # A file that was mirrored without its header: the anterior end comes out below the inferior one.
    assert "not above the inferior one" in refusal(rv=rv[:, ::-1], base_first=False)
    assert "at the other end" in refusal(rv=rv[..., ::-1])
    plain = np.diag([MM, MM, 8.0, 1.0])  # a header without directions
    assert "not above the inferior one" in refusal(affine=plain)
    even = np.repeat(rv[..., :1], rv.shape[2], axis=2)
    assert "neither the header nor the right ventricle" in refusal(rv=even, affine=plain)
    two = rv.copy()
    two[..., 2:] = False
    assert "meet in 2 slices, 3 are needed" in refusal(rv=two)
    askew = rv.copy()
    for z in (1, 3, 5):
        askew[..., z] = np.rot90(rv[..., z])
    assert "degrees (SD) between slices" in refusal(rv=askew)


def test_the_base_by_the_header():
    assert base_by_header(short_axis_affine()) is True
    assert base_by_header(short_axis_affine(base_first=False)) is False
    assert base_by_header(np.diag([MM, MM, 8.0, 1.0])) is None


def test_the_outer_border_at_an_angle_is_the_radius_away():
    """A tube of 30 mm around the middle (48 mm from the first pixel's centre), pixels of 0.8 mm."""
    labels = tube()
    labels[..., 2] = 0
    labels[..., 1][labels[..., 1] == 2] = 0  # a cavity without a wall
    affine = np.diag([0.8, 0.8, 8.0, 1.0])
    (place,) = epicardium_at(30.0, labels == 1, labels == 2, affine)
    x, y = place[:2] * 0.8 - 48.0
    assert np.hypot(x, y) == pytest.approx(30.0, abs=0.8)
    assert np.rad2deg(np.arctan2(y, x)) == pytest.approx(30.0, abs=1e-6)
    assert place[2] == 0
    assert epicardium_at(30.0, labels == 1, labels == 9, affine).shape == (0, 3)
