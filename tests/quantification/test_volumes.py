import numpy as np
import pytest

from mrigmm.data.geometry import Grid
from mrigmm.quantification.study import quantify_maps
from mrigmm.quantification.volumes import clinical_numbers, tissues

from ..conftest import oblique_affine
from .shapes import IDS, maps, polar, tube


def test_hand_computed_by_counting():
    """Voxels of 1 x 2 x 10 mm are 0.02 ml: 50 blood, 100 normal, 30 edema, 20 scar, 5 of it obstruction."""
    labels = np.zeros((20, 20, 1), np.uint8)
    flat = labels.reshape(-1)
    flat[:50], flat[50:150], flat[150:180], flat[180:200] = 1, 2, 3, 4
    mvo = np.zeros(labels.shape, bool)
    mvo.reshape(-1)[180:185] = True
    found = quantify_maps(maps(labels, (1.0, 2.0, 10.0), mvo=mvo)).volumes
    assert found == pytest.approx(
        {
            "lv_cavity_ml": 1.0,
            "lv_mass_g": 3.15,  # 150 voxels, 3 ml
            "infarct_mass_g": 0.42,  # 20 voxels, the obstruction among them
            "infarct_percent_of_lv_mass": 100 * 20 / 150,
            "mvo_mass_g": 0.105,
            "mvo_percent_of_lv_mass": 100 * 5 / 150,
            "edema_mass_g": 0.63,
            "edema_percent_of_lv_mass": 20.0,
            "area_at_risk_mass_g": 1.05,  # edema and scar; the obstruction once
            "salvage_percent_of_area_at_risk": 60.0,  # 30 of 50
        }
    )


@pytest.mark.parametrize("mm", [0.5, 1.0])
def test_a_cylinder_shell(mm):
    """Radii 20 and 30 mm, 4 slices of 8 mm: 400 pi 32 mm3 = 40.21 ml blood, 500 pi 32 = 50.27 ml wall."""
    found = quantify_maps(maps(tube(round(80 / mm) + 1, mm, 4), (mm, mm, 8.0))).volumes
    assert found["lv_cavity_ml"] == pytest.approx(40.212, rel=0.01)
    assert found["lv_mass_g"] == pytest.approx(1.05 * 50.265, rel=0.01)


def test_slices_with_gaps_and_a_sheared_grid():
    """The distance between the slices counts, and along a sheared axis only what is perpendicular to them."""
    labels = np.full((2, 2, 2), 2, np.uint8)
    affine = oblique_affine((1.0, 1.0, 10.0))
    affine[:3, 2] += 5 * affine[:3, 0]  # 5 mm sideways per slice: still 10 mm apart
    found = quantify_maps(maps(labels, affine=affine)).volumes
    assert found["lv_mass_g"] == pytest.approx(8 * 0.01 * 1.05)


def test_probabilities_count_in_part():
    """4 voxels of 0.01 ml that are scar by 0.25 each: 1 voxel expected, none by hard labels."""
    resp = np.zeros((4, 4, 1, 1), np.float32)
    resp[1], resp[3] = 0.75, 0.25
    found = quantify_maps(maps(np.full((4, 1, 1), 2, np.uint8), (1.0, 1.0, 10.0), resp=resp)).volumes
    assert found["infarct_mass_g"] == 0
    assert found["expected_infarct_mass_g"] == pytest.approx(0.0105)
    assert found["expected_infarct_percent_of_lv_mass"] == pytest.approx(25)
    assert found["expected_lv_mass_g"] == pytest.approx(0.042)


def test_no_area_at_risk_has_no_salvage():
    found = quantify_maps(maps(tube(slices=1)))
    assert found.volumes["infarct_percent_of_lv_mass"] == 0
    assert np.isnan(found.volumes["salvage_percent_of_area_at_risk"])
    assert np.isnan(found.volumes["mvo_mass_g"])  # not looked for


@pytest.mark.parametrize(("slices", "said"), [(1, "1 slice over 10"), (2, "2 slices over 20"), (6, None)])
def test_masses_of_a_part_of_the_ventricle_say_so(slices, said):
    found = quantify_maps(maps(tube(slices=slices), (0.8, 0.8, 10.0)))
    told = [note for note in found.notes if note.startswith("a part of the ventricle")]
    assert told == ([f"a part of the ventricle: {said} mm, which is no whole stack"] if said else [])


def test_nothing_labelled():
    found = quantify_maps(maps(np.zeros((5, 5, 2), np.uint8)))
    assert found.volumes["lv_mass_g"] == 0
    assert np.isnan(found.volumes["infarct_percent_of_lv_mass"])
    assert found.slices == ()
    assert "the label map has no wall" in found.notes


def test_a_map_without_edema_says_so():
    ids = {"blood": 1, "myocardium": 2, "scar": 4}
    found = quantify_maps(maps(tube(slices=1), ids=ids))
    assert np.isnan(found.volumes["edema_mass_g"])
    assert np.isnan(found.volumes["area_at_risk_mass_g"])
    assert found.volumes["infarct_mass_g"] == 0
    assert "no class edema: what needs it is not measured" in found.notes


def test_a_method_that_knows_no_edema():
    """Edema without any probability anywhere is no measurement of 0 g, and salvage not 0 %."""
    labels = tube(slices=1)
    labels[polar(121, 0.8)[1] < 90] *= 2  # 2 and 4 in one quarter
    resp = np.stack([labels == i for i in IDS.values()]).astype(np.float32)
    found = quantify_maps(maps(labels, resp=resp))
    assert np.isnan(found.volumes["edema_mass_g"])
    assert np.isnan(found.volumes["salvage_percent_of_area_at_risk"])
    assert found.volumes["infarct_mass_g"] > 0
    assert "edema_mass_g" not in found.intervals
    assert any("edema counts as not looked for" in note for note in found.notes)


def test_other_organs_have_volumes_only():
    labels = np.zeros((4, 4, 2), np.uint8)
    labels[0] = 2
    found = quantify_maps(maps(labels, (1.0, 1.0, 5.0), ids={"white matter": 1, "lesion": 2}))
    assert found.volumes == pytest.approx({"white matter_ml": 0.0, "lesion_ml": 0.04})
    assert (found.slices, found.segments) == ((), ())
    assert "volumes only" in found.notes[0]


def test_tissues_need_their_classes():
    assert tissues(["myocardium", "scar"]) == {"infarct": ("scar",), "wall": ("myocardium", "scar")}
    assert "wall" not in tissues(["blood", "scar"])  # the rest of the wall is not there
    assert "area_at_risk" not in tissues(["myocardium", "scar"])


def test_draws_are_measured_one_by_one():
    draws = {"wall": np.array([1.0, 2.0]), "infarct": np.array([0.0, 1.0])}
    found = clinical_numbers(draws, ventricle=True)
    np.testing.assert_allclose(found["infarct_percent_of_lv_mass"], [0, 50])
    assert np.isnan(found["edema_mass_g"]).all()


def test_voxel_volume_is_that_of_the_grid():
    assert Grid((1, 1, 1), oblique_affine((1.2, 1.2, 10))).voxel_volume_ml == pytest.approx(0.0144)
