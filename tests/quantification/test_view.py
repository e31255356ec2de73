"""How slices are shown, whatever the order and direction of a file's axes."""

from itertools import permutations, product

import numpy as np
import pytest
from nibabel.affines import apply_affine

from mrigmm.data.geometry import Grid, slices_last_grid, with_slices_last
from mrigmm.quantification.segments import Orientation
from mrigmm.quantification.study import Maps, quantify_maps
from mrigmm.quantification.view import short_axis_view
from mrigmm.reporting.bulls_eye import bulls_eye

from ..conftest import oblique_affine

IDS = {"blood": 1, "myocardium": 2, "edema": 3, "scar": 4}
# A short-axis stack as a scanner writes it (RAS+): across to the patient's left and back, down to the feet.
ACROSS = np.array([-0.5, -0.866, 0.0])
TO_APEX = np.array([-0.76, 0.44, -0.48]) / np.linalg.norm([-0.76, 0.44, -0.48])
DOWN = np.cross(ACROSS, TO_APEX)
DOWN /= np.linalg.norm(DOWN)
ACROSS = np.cross(TO_APEX, DOWN)
N, DEEP, MM, BETWEEN_MM = 41, 6, 2.0, 8.0


def heart():
    """Labels and right ventricle (across, down, from the base): the inferior wall is infarcted."""
    across, down = np.meshgrid(*(np.arange(N) - (N - 1) / 2,) * 2, indexing="ij")
    radius = np.hypot(across, down)
    plane = np.where(radius <= 7, 1, np.where(radius <= 12, 2, 0)).astype(np.uint8)
    plane[(plane == 2) & (down > np.abs(across) * 2)] = 4
    labels = np.repeat(plane[..., None], DEEP, axis=2)
    # Along 120 degrees of the septum, narrowing to the apex.
    beside = (np.hypot(across + 14, down) <= 13.75) & (plane == 0)
    rv = np.stack([beside & (across >= 1.2 * z - 20) for z in range(DEEP)], axis=2)
    affine = np.eye(4)
    affine[:3, :3] = np.stack([ACROSS * MM, DOWN * MM, TO_APEX * BETWEEN_MM], axis=1)
    affine[:3, 3] = (40.0, -20.0, 70.0)
    return labels, rv, affine


def stored(order, flips):
    """The same heart in a file with other axes: labels and right ventricle (X, Y, Z), and the affine."""
    labels, rv, affine = heart()
    to_heart = np.zeros((4, 4))
    to_heart[3, 3] = 1
    flipped = [axis for axis in range(3) if flips[axis] < 0]
    for axis, source in enumerate(order):
        to_heart[source, axis] = flips[axis]
        to_heart[source, 3] = labels.shape[source] - 1 if flips[axis] < 0 else 0
    turned = (np.flip(array.transpose(order), flipped) for array in (labels, rv))
    return (*turned, affine @ to_heart)


def seen(order, flips, **known):
    """Labels and right ventricle as they are shown, the view, and the maps that are measured."""
    labels, rv, affine = stored(order, flips)
    grid = Grid(labels.shape, affine)
    maps = Maps(with_slices_last(labels, grid), IDS, slices_last_grid(grid), rv=with_slices_last(rv, grid))
    view = short_axis_view(maps.grid.affine, **known)
    return view.turn(maps.labels), view.turn(maps.rv), view, maps


ALL_48 = [*product(permutations(range(3)), product((-1, 1), repeat=3))]


@pytest.mark.parametrize(("order", "flips"), ALL_48)
def test_picture_and_bulls_eye_of_an_inferior_infarct_agree_in_every_orientation(order, flips):
    shown, rv, view, maps = seen(order, flips)
    upright, right_ventricle, _ = heart()
    # As it was made: rows down, columns across, from base to apex.
    np.testing.assert_array_equal(shown, upright.swapaxes(0, 1))
    np.testing.assert_array_equal(rv, right_ventricle.swapaxes(0, 1))
    assert view.base_known
    assert view.edges == ("SL", "PL", "IR", "AR")
    assert view.spacing_mm == pytest.approx((MM, MM, BETWEEN_MM))
    areas = maps.rv.sum(axis=(0, 1))[[number - 1 for number in view.numbers(DEEP)]]
    np.testing.assert_array_equal(areas, right_ventricle.sum(axis=(0, 1)))
    measured = quantify_maps(maps)
    assert measured.orientation.automatic
    percent = {int(part["segment"]): part["transmurality_percent"] for part in measured.segments}
    wedges = bulls_eye(percent, "").wedges
    weights = np.array([wedge.value for wedge in wedges])
    x, y = weights @ np.array([(w.x, w.y) for w in wedges]) / weights.sum()
    # Below the middle in the bull's eye, as in the picture; rows count downwards there, too.
    rows, columns = (where - (N - 1) / 2 for where in np.nonzero(shown == IDS["scar"])[:2])
    assert rows.mean() > 7
    assert y > 30
    assert abs(columns.mean()) < 1
    assert abs(x) < 12
    # The same view from what the measurement found, which the report uses.
    by = {"base_first": measured.orientation.base_first}
    by["insertion_degrees"] = measured.orientation.insertion_degrees
    np.testing.assert_array_equal(short_axis_view(maps.grid.affine, **by).turn(maps.labels), shown)


@pytest.mark.parametrize("quarter", range(4))
def test_a_given_insertion_turns_the_picture_as_the_bulls_eye(quarter):
    """Whatever the header says: the insertion is up and to the left."""
    labels = np.zeros((9, 9, 3))
    place = [(1, 7), (7, 7), (7, 1), (1, 1)][quarter]
    labels[place] = 1
    degrees = float(np.rad2deg(np.arctan2(place[1] - 4, place[0] - 4)))
    for base_first in (True, False):
        by = Orientation(base_first, degrees)
        view = short_axis_view(
            np.diag([1.0, 1.0, 8.0, 1.0]), base_first=by.base_first, insertion_degrees=by.insertion_degrees
        )
        row, column = np.argwhere(view.turn(labels)[..., 0])[0]
        assert (row, column) in ((1, 1), (1, 7), (7, 1))  # 135 degrees, or the nearest that turns allow
        assert (row, column) == (1, 1)
        assert (2 in view.flipped) == (not base_first)


@pytest.mark.parametrize(
    ("columns", "edges", "known"),
    [
        (((1, 0, 0), (0, 1, 0), (0, 0, 1)), ("A", "L", "P", "R"), False),  # axial: from the feet
        (((1, 0, 0), (0, 0, 1), (0, 1, 0)), ("S", "L", "I", "R"), False),  # coronal: from the front
        (((0, 1, 0), (0, 0, 1), (1, 0, 0)), ("S", "P", "I", "A"), True),  # sagittal: from the left
    ],
)
def test_slices_of_any_direction_are_shown_as_radiologists_show_them(columns, edges, known):
    affine = np.eye(4)
    affine[:3, :3] = np.array(columns, float).T * (1.0, 1.0, 6.0)
    view = short_axis_view(affine)
    assert view.edges == edges
    assert view.spacing_mm == (1.0, 1.0, 6.0)
    assert view.base_known == known


@pytest.mark.parametrize(("order", "flips"), ALL_48[::7])
def test_turned_back_and_index_by_index(order, flips):
    affine = oblique_affine((1.0, 1.2, 8.0), order=order, flips=flips)
    array = np.arange(4 * 5 * 3).reshape(4, 5, 3)
    view = short_axis_view(affine)
    turned = view.turn(array)
    np.testing.assert_array_equal(view.turn_back(turned), array)
    index = np.argwhere(turned >= 0)
    back = apply_affine(view.index_affine(array.shape), index).astype(int)
    np.testing.assert_array_equal(array[tuple(back.T)], turned[tuple(index.T)])
