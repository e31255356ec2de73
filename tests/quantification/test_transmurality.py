import numpy as np
import pytest

from mrigmm.quantification.study import quantify_maps
from mrigmm.quantification.transmurality import BIN_NAMES, ray_transmurality, summarise_rays

from ..conftest import oblique_affine
from .shapes import maps, polar, tube

# A border may be drawn a third of a pixel (0.27 mm) off in a wall of 10 mm, at either side.
TOLERANCE_PERCENT = 3


def slices_of(labels, **more):
    found = quantify_maps(maps(labels, **more))
    return found.slices, found.notes


def test_a_scar_of_half_the_wall_all_around():
    labels = tube(slices=1)
    labels[(polar(121, 0.8)[0] <= 25)[..., None] & (labels == 2)] = 4
    (row,), _ = slices_of(labels)
    assert row["slice"] == 1
    assert row["transmurality_percent"] == pytest.approx(50, abs=TOLERANCE_PERCENT)
    assert row["rays_percent_25_50"] + row["rays_percent_50_75"] == pytest.approx(100)


@pytest.mark.parametrize(("depth_mm", "percent", "bin_name"), [(6.5, 65, "50_75"), (2.0, 20, "0_25")])
def test_a_subendocardial_scar_in_a_quarter(depth_mm, percent, bin_name):
    """A quarter of the circumference has it: three quarters of the rays at 0, the mean a quarter of it."""
    radius, angle = polar(121, 0.8)
    labels = tube(slices=1)
    labels[((radius <= 20 + depth_mm) & (angle > 30) & (angle < 120))[..., None] & (labels == 2)] = 4
    (row,), _ = slices_of(labels)
    assert row["transmurality_percent"] == pytest.approx(percent / 4, abs=TOLERANCE_PERCENT / 4)
    assert row["rays_percent_at_0"] == pytest.approx(75, abs=1.5)
    assert row[f"rays_percent_{bin_name}"] == pytest.approx(25, abs=1.5)


def test_a_transmural_scar_is_100_percent():
    labels = tube(slices=2)
    labels[..., 1][labels[..., 1] == 2] = 4
    rows, _ = slices_of(labels)
    assert [row["transmurality_percent"] for row in rows] == [0, 100]
    assert rows[1]["rays_percent_75_100"] == 100
    assert rows[0]["rays_percent_at_0"] == 100


def test_lengths_count_in_mm_on_pixels_that_are_not_square():
    """Pixels of 0.5 x 1.5 mm: a ring of 20 to 30 mm is one in mm, not in pixels."""
    x, y = np.meshgrid((np.arange(161) - 80) * 0.5, (np.arange(55) - 27) * 1.5, indexing="ij")
    radius = np.hypot(x, y)
    labels = np.select([radius <= 20, radius <= 25, radius <= 30], [1, 4, 2], 0)[..., None].astype(np.uint8)
    (row,), _ = slices_of(labels, spacing_mm=(0.5, 1.5, 8.0))
    assert row["transmurality_percent"] == pytest.approx(50, abs=TOLERANCE_PERCENT)


def test_a_sheared_plane():
    """The same pixels on axes at 60 degrees are an ellipse; the share along each ray stays."""
    labels = tube(slices=1)
    labels[(polar(121, 0.8)[0] <= 25)[..., None] & (labels == 2)] = 4
    affine = oblique_affine((0.8, 0.8, 8.0))
    affine[:3, 1] = 0.5 * affine[:3, 0] + np.sqrt(0.75) * affine[:3, 1]
    (row,), _ = slices_of(labels, affine=affine)
    assert row["transmurality_percent"] == pytest.approx(50, abs=TOLERANCE_PERCENT)


def test_papillary_muscles_and_islands_of_blood_change_nothing():
    labels = tube(slices=1)
    labels[(polar(121, 0.8)[0] <= 25)[..., None] & (labels == 2)] = 4
    (before,), _ = slices_of(labels)
    labels[60:64, 70:74] = 2  # inside the cavity
    labels[60, 95] = 1  # 28 mm from the centre, in the normal wall
    (after,), _ = slices_of(labels)
    assert after == before


def test_slices_without_cavity_or_wall():
    labels = tube(slices=3)
    labels[..., 1][labels[..., 1] == 1] = 2  # the apex: wall all over
    labels[..., 2] = 0
    rows, notes = slices_of(labels)
    assert [row["slice"] for row in rows] == [1, 2]
    assert np.isnan([rows[1]["transmurality_percent"], rows[1][BIN_NAMES[0]]]).all()
    assert "slice 2: no cavity inside the wall, so no transmurality" in notes


def test_a_cavity_that_is_no_class_is_the_hole_in_the_wall():
    labels = tube(slices=1)
    labels[labels == 1] = 0
    labels[(polar(121, 0.8)[0] <= 25)[..., None] & (labels == 2)] = 4
    (row,), _ = slices_of(labels, ids={"myocardium": 2, "scar": 4})
    assert row["transmurality_percent"] == pytest.approx(50, abs=TOLERANCE_PERCENT)


def test_an_open_wall_is_told():
    labels = tube(slices=1)
    labels[(polar(121, 0.8)[1] < 90)[..., None] & (labels == 2)] = 0
    labels[labels == 2] = 4
    (row,), notes = slices_of(labels)
    assert row["transmurality_percent"] == 100  # of the rays that meet wall
    assert any(note.startswith("slice 1: the wall is open, 2") for note in notes)


def test_one_pixel_of_cavity_at_the_edge_of_the_array():
    cavity, wall = np.zeros((2, 3, 3), bool)
    cavity[0, 0] = True
    wall[0, 1] = wall[1, 0] = wall[1, 1] = True
    found = ray_transmurality(cavity, wall, wall, np.eye(2))
    assert np.nanmin(found) == 100
    assert np.isnan(found).mean() > 0.5  # towards the edge there is no wall


def test_bins_by_hand():
    found = summarise_rays(np.array([0, 0, 0.1, 25, 25.1, 50, 75, 100, np.nan, 100]))
    assert found["transmurality_percent"] == pytest.approx(375.2 / 9)
    shares = [found[name] * 9 / 100 for name in BIN_NAMES]
    assert shares == pytest.approx([2, 2, 2, 1, 2])
