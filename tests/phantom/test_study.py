from dataclasses import replace

import numpy as np
import pytest
from numpy.testing import assert_array_equal

from mrigmm.labels import TISSUES
from mrigmm.phantom import PRESETS, simulate_study
from mrigmm.phantom.shape import Tissue

BLOOD, MYOCARDIUM, EDEMA, SCAR = (TISSUES[name].id for name in ("blood", "myocardium", "edema", "scar"))


def _mean(study, sequence, label):
    return study.sequences[sequence][study.label == label].mean()


def _average_ratio(studies, sequence, above, below):
    return np.mean([_mean(study, sequence, above) / _mean(study, sequence, below) for study in studies])


def test_a_study_has_three_sequences_on_the_grid_of_its_label(small_studies):
    for study in small_studies:
        assert list(study.sequences) == ["LGE", "T2", "bSSFP"]
        for image in study.sequences.values():
            assert image.dtype == np.float32
            assert image.shape == study.label.shape == study.region.shape == (80, 80, 3)
            assert np.isfinite(image).all()
            assert image.min() >= 0  # magnitude images
        assert study.label.dtype == study.region.dtype == np.uint8


def test_scar_is_bright_in_lge_and_the_cavity_dark_in_t2_and_bright_in_bssfp(small_studies):
    assert _average_ratio(small_studies, "LGE", SCAR, MYOCARDIUM) > 1.8
    assert _average_ratio(small_studies, "LGE", BLOOD, MYOCARDIUM) > 1.8
    assert _average_ratio(small_studies, "T2", EDEMA, MYOCARDIUM) > 1.2
    assert _average_ratio(small_studies, "T2", BLOOD, MYOCARDIUM) < 0.7
    assert _average_ratio(small_studies, "bSSFP", BLOOD, MYOCARDIUM) > 1.8


def test_every_slice_shows_a_cavity_inside_a_closed_wall(small_studies):
    for study in small_studies:
        for z in range(study.label.shape[2]):
            cavity, inside = study.label[..., z] == BLOOD, study.label[..., z] > 0
            assert cavity.any()
            # no neighbour of the cavity lies outside of the ventricle
            neighbours = np.zeros_like(cavity)
            for axis in (0, 1):
                for step in (-1, 1):
                    neighbours |= np.roll(cavity, step, axis)
            assert inside[neighbours].all()
            assert not inside[[0, -1]].any()
            assert not inside[:, [0, -1]].any()


def test_region_map_agrees_with_the_label(small_config):
    whole = simulate_study(small_config, seed=2, index=0)
    assert_array_equal(whole.region, whole.label > 0)
    split = simulate_study(replace(small_config, region="cavity-wall"), seed=2, index=0)
    assert_array_equal(split.region == 1, split.label == BLOOD)
    assert_array_equal(split.region == 2, split.label > BLOOD)


def test_same_seed_same_study_and_other_index_another_one(small_config):
    first, again, other = (simulate_study(small_config, seed=4, index=index) for index in (1, 1, 2))
    for name, image in first.sequences.items():
        assert_array_equal(image, again.sequences[name])
        assert not np.array_equal(image, other.sequences[name])
    assert_array_equal(first.label, again.label)


def test_scar_and_edema_take_their_drawn_share_of_the_true_wall(small_studies):
    for study in small_studies:
        wall = np.isin(study.tissue, (Tissue.MYOCARDIUM, Tissue.EDEMA, Tissue.SCAR, Tissue.MVO))
        scar = np.isin(study.tissue, (Tissue.SCAR, Tissue.MVO))
        assert scar.sum() / wall.sum() == pytest.approx(study.infarct.scar_share, abs=0.005)
        edema = (study.tissue == Tissue.EDEMA).sum() / wall.sum()
        assert edema == pytest.approx(study.infarct.edema_share, abs=0.005)


def test_a_healthy_study_has_neither_scar_nor_edema(small_config):
    study = simulate_study(replace(small_config, healthy_share=1.0), seed=1, index=0)
    assert study.infarct.kind == "none"
    assert set(np.unique(study.label)) == {0, BLOOD, MYOCARDIUM}
    assert study.mixture.weights[2:].tolist() == [0.0, 0.0]


def test_a_chronic_study_has_scar_without_edema_in_a_thinned_wall(small_config):
    chronic = replace(small_config, chronic_share=1.0, mvo_share=1.0)
    thin = simulate_study(chronic, seed=1, index=0)
    thick = simulate_study(replace(chronic, wall_thinning=0.0), seed=1, index=0)
    assert thin.infarct.kind == "chronic"
    assert (thin.label == SCAR).any()
    assert not (thin.label == EDEMA).any()
    assert not thin.mvo.any()  # no-reflow belongs to the acute infarct
    assert (thin.label > BLOOD).sum() < 0.97 * (thick.label > BLOOD).sum()


def test_scar_is_bright_in_t2_while_acute_and_like_normal_wall_once_chronic(small_config):
    acute, chronic = (
        [
            simulate_study(replace(small_config, chronic_share=share, mvo_share=0.0), seed=1, index=index)
            for index in range(6)
        ]
        for share in (0.0, 1.0)
    )
    for old, new in zip(chronic, acute, strict=True):
        assert old.mixture.means[3, 1] == pytest.approx(old.mixture.means[1, 1])
        assert old.infarct.scar_share == new.infarct.scar_share
    t2_acute, t2_chronic = (_average_ratio(studies, "T2", SCAR, MYOCARDIUM) for studies in (acute, chronic))
    assert t2_chronic < t2_acute - 0.25
    assert _average_ratio(chronic, "LGE", SCAR, MYOCARDIUM) > 1.8


def test_no_reflow_is_a_dark_core_that_counts_as_scar(small_config):
    config = replace(small_config, mvo_share=1.0, observer_border_mm=0.0, observer_lesion_mm=0.0)
    studies = [simulate_study(config, seed=3, index=index) for index in range(6)]
    with_core = [study for study in studies if study.mvo.any()]
    assert len(with_core) >= 2
    for study in with_core:
        assert study.infarct.scar_share > 0.15
        assert np.mean(study.label[study.mvo] == SCAR) > 0.8
        rest = (study.tissue == Tissue.SCAR) & (study.label == SCAR)
        assert study.sequences["LGE"][study.mvo].mean() < study.sequences["LGE"][rest].mean()


def test_phase_sensitive_lge_is_negative_in_normal_wall_only_there(small_config):
    study = simulate_study(replace(small_config, psir=True), seed=5, index=0)
    assert _mean(study, "LGE", MYOCARDIUM) < 0 < _mean(study, "LGE", BLOOD)
    assert study.sequences["T2"].min() >= 0
    assert study.mixture.means[1, 0] < 0


def test_motion_is_recorded_moves_the_heart_and_leaves_lge_alone(small_config):
    quiet = replace(small_config, noise=0.0, psf_mm=0.01, motion_mm=0.0)
    still = simulate_study(quiet, seed=6, index=0)
    moved = simulate_study(replace(quiet, motion_mm=9.0), seed=6, index=0)
    assert not any(shift.any() for shift in still.motion.values())
    assert not moved.motion["LGE"].any()
    assert_array_equal(still.sequences["LGE"], moved.sequences["LGE"])
    for name in ("T2", "bSSFP"):
        reach = np.hypot(*moved.motion[name].T)
        assert reach.max() <= 9.0
        assert reach.max() > 1.0
        assert not np.array_equal(still.sequences[name], moved.sequences[name])
    # the cavity of bSSFP follows the recorded displacement: its centre of brightness moves with it
    bright = moved.sequences["bSSFP"]
    x, y = (np.arange(80) * 1.5,) * 2
    for z in range(3):
        shift = moved.motion["bSSFP"][z]
        cavity = still.label[..., z] == BLOOD
        best, where = -np.inf, (0, 0)
        for dx in range(-7, 8):
            for dy in range(-7, 8):
                mask = np.roll(cavity, (dx, dy), (0, 1))
                ring = np.roll(still.label[..., z] > BLOOD, (dx, dy), (0, 1))
                contrast = bright[..., z][mask].mean() - bright[..., z][ring].mean()
                if contrast > best:
                    best, where = contrast, (dx, dy)
        assert np.hypot(x[1] * where[0] - shift[0], y[1] * where[1] - shift[1]) < 3.0


def test_separate_grids_keep_world_positions(small_config):
    # without motion, the brightest cavity lies at the same place in the world on every grid
    study = simulate_study(replace(small_config, separate_grids=True), seed=7, index=0)
    shapes = {name: image.shape for name, image in study.sequences.items()}
    assert len(set(shapes.values())) == 3
    cavity = np.argwhere(study.label == BLOOD)
    world = cavity @ study.affines["LGE"][:3, :3].T + study.affines["LGE"][:3, 3]
    for name in ("T2", "bSSFP"):
        inverse = np.linalg.inv(study.affines[name])
        index = np.rint(world @ inverse[:3, :3].T + inverse[:3, 3]).astype(int)
        assert set(index[:, 2]) == {0, 1, 2}
        values = study.sequences[name][tuple(index.T)].mean()
        wall = np.argwhere(study.label == MYOCARDIUM)
        wall = wall @ study.affines["LGE"][:3, :3].T + study.affines["LGE"][:3, 3]
        index = np.rint(wall @ inverse[:3, :3].T + inverse[:3, 3]).astype(int)
        ratio = values / study.sequences[name][tuple(index.T)].mean()
        assert ratio < 0.8 if name == "T2" else ratio > 1.4


def test_missing_sequences_are_absent_but_never_lge(small_config):
    config = replace(small_config, missing_probability=0.5)
    kept = [list(simulate_study(config, seed=8, index=index).sequences) for index in range(10)]
    assert all("LGE" in names for names in kept)
    assert any("T2" not in names for names in kept)
    assert any("bSSFP" not in names for names in kept)


def test_affine_is_oblique_and_anisotropic(small_studies):
    for study in small_studies:
        affine = study.affines["LGE"]
        assert np.linalg.norm(affine[:3, :3], axis=0) == pytest.approx([1.5, 1.5, 10.0])
        axes = affine[:3, :3] / np.linalg.norm(affine[:3, :3], axis=0)
        np.testing.assert_allclose(axes.T @ axes, np.eye(3), atol=1e-9)
        assert np.abs(axes).max(axis=0).min() < 0.98  # along no axis of the patient


def test_true_mixture_is_what_pure_tissue_shows(small_config):
    # without any blur, noise, shading or reader's error the voxels of a tissue follow their Gaussian
    plain = replace(
        small_config, spacing_mm=0.75, matrix=160, slices=(4, 4), noise=0.0, psf_mm=0.01, shading=0.0,
        tails=0.0, slice_spread=0.0, slice_thickness_mm=0.0, mvo_share=0.0,
    )  # fmt: skip
    blood, wall = [], []
    for index in range(4):
        study = simulate_study(plain, seed=9, index=index)
        for found, tissue, k in ((blood, Tissue.BLOOD, 0), (wall, Tissue.MYOCARDIUM, 1)):
            values = study.sequences["bSSFP"][study.tissue == tissue]
            width = np.sqrt(study.mixture.covariances[k, 2, 2])
            found.append(((values.mean() - study.mixture.means[k, 2]) / width, values.std() / width))
    for found in (blood, wall):
        offset, width = np.mean(found, axis=0)
        assert abs(offset) < 0.2
        assert width == pytest.approx(1.0, abs=0.12)


@pytest.mark.parametrize("preset", sorted(PRESETS))
def test_every_preset_makes_studies_with_ventricle_in_each_slice(preset):
    config = PRESETS[preset]
    study = simulate_study(config, seed=12, index=3)
    most = config.slices[1]
    assert 1 <= study.label.shape[2] <= most
    assert (study.label > 0).any(axis=(0, 1)).all()
    # the matrix leaves room around the heart for context
    inside = np.argwhere(study.label > 0)
    assert inside[:, :2].min() > 5
    assert inside[:, :2].max() < study.label.shape[0] - 6


def test_thin_slices_cover_the_ventricle():
    study = simulate_study(PRESETS["thin-slices"], seed=12, index=0)
    assert study.label.shape[2] >= 8
    area = (study.label > 0).sum(axis=(0, 1))
    assert area[-1] < 0.75 * area[0]  # tapers to the apex
