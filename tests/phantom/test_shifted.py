"""The shifted cohorts: each knob does what it says, and the second centre shows its figures."""

import json
from dataclasses import replace

import nibabel as nib
import numpy as np
import pytest

from mrigmm.labels import TISSUES
from mrigmm.phantom import PRESETS, PhantomConfig, simulate_cohort, simulate_study
from mrigmm.phantom.acquisition import Grid, acquire
from mrigmm.phantom.appearance import draw_appearance
from mrigmm.phantom.config import SHIFTED
from mrigmm.phantom.pathology import draw_infarct
from mrigmm.phantom.population import population
from mrigmm.phantom.shape import draw_heart

BLOOD, MYOCARDIUM, EDEMA, SCAR = (TISSUES[name].id for name in ("blood", "myocardium", "edema", "scar"))


def _kinds(config, count):
    heights = np.array([20.0, 40.0])
    return [
        draw_infarct(
            config, length_mm=90, heights_mm=heights, rng=np.random.default_rng(number), number=number
        ).kind
        for number in range(count)
    ]


def test_a_quarter_to_a_third_of_few_studies_have_no_infarct():
    assert all(config.dealt for config in SHIFTED.values())
    kinds = _kinds(SHIFTED["noisy"], 20)
    # every fourth, and of the others every fifth
    assert [number for number, kind in enumerate(kinds) if kind == "none"] == [3, 7, 11, 15, 19]
    assert [number for number, kind in enumerate(kinds) if kind == "chronic"] == [5, 12, 18]
    assert _kinds(SHIFTED["second-centre"], 12) == ["acute", "acute", "none"] * 4


def test_dealing_changes_nothing_but_the_kind():
    dealt, drawn = (
        draw_infarct(
            replace(SHIFTED["noisy"], dealt=dealt, healthy_share=0.0, chronic_share=0.0),
            length_mm=90,
            heights_mm=np.array([20.0, 40.0]),
            rng=np.random.default_rng(4),
        )
        for dealt in (True, False)
    )
    assert (dealt.scar_share, dealt.angle, dealt.height) == (drawn.scar_share, drawn.angle, drawn.height)


# Anatomy


def test_radii_and_wall_follow_their_factors():
    heights = np.array([20.0, 40.0])
    infarct = draw_infarct(
        PRESETS["myops-like"], length_mm=90, heights_mm=heights, rng=np.random.default_rng(1)
    )
    heart, changed = (
        draw_heart(length_mm=90, infarct=infarct, thinning=0.0, rng=np.random.default_rng(2), **factors)
        for factors in ({}, {"radius_factor": 1.1, "wall_factor": 0.6})
    )
    assert changed.epi_radius == pytest.approx(1.1 * heart.epi_radius)
    assert changed.rv_radius == pytest.approx(1.1 * heart.rv_radius)
    assert changed.wall == pytest.approx(0.6 * heart.wall)


# Signal


def _appearances(**changes):
    plain = PRESETS["myops-like"]
    return (
        draw_appearance(config, n_slices=2, chronic=False, rng=np.random.default_rng(3))
        for config in (plain, replace(plain, **changes))
    )


def test_contrast_brings_the_class_means_closer():
    plain, changed = _appearances(contrast=0.6)
    np.testing.assert_allclose(np.diff(changed.mean, axis=0), 0.6 * np.diff(plain.mean, axis=0), rtol=1e-9)
    np.testing.assert_allclose(changed.mean.mean(axis=0), plain.mean.mean(axis=0))
    np.testing.assert_array_equal(changed.covariance, plain.covariance)


def test_blood_becomes_as_bright_as_scar_in_lge_only():
    plain, changed = _appearances(blood_to_scar=1.0)
    assert changed.mean[0, 0] == pytest.approx(plain.mean[3, 0])
    half = list(_appearances(blood_to_scar=0.5))[1]
    assert half.mean[0, 0] == pytest.approx((plain.mean[0, 0] + plain.mean[3, 0]) / 2)
    np.testing.assert_array_equal(changed.mean[1:], plain.mean[1:])
    np.testing.assert_array_equal(changed.mean[0, 1:], plain.mean[0, 1:])


# Scanner


def _acquired(signal, **changes):
    neutral = {"noise": 0.0, "psf_mm": 0.01, "shading": 0.0}
    grid = Grid(64, 1.0, (-31.5, -31.5), (0.0, 10.0, 30.0))
    return acquire(
        np.broadcast_to(np.float32(signal), grid.shape),
        grid=grid,
        config=PhantomConfig(**(neutral | changes)),
        signed=True,
        gain=1.0,
        zero=0.0,
        rng=np.random.default_rng(5),
    )


def test_noise_grows_towards_the_apex():
    noise = _acquired(0.0, noise=0.1, apex_noise=2.0).std(axis=(0, 1))
    # heights 0, 10 and 30 mm
    np.testing.assert_allclose(noise, [0.1, 0.1 * 4 / 3, 0.2], rtol=0.05)
    np.testing.assert_allclose(_acquired(0.0, noise=0.1).std(axis=(0, 1)), 0.1, rtol=0.05)


def test_each_slice_has_a_shading_of_its_own():
    shaded = np.log(_acquired(1.0, slice_drift=(0.0, 0.0, 0.2)))
    slope = np.stack([np.diff(shaded, axis=axis).mean(axis=(0, 1)) for axis in (0, 1)])  # per mm
    np.testing.assert_allclose(np.diff(shaded, n=2, axis=0), 0, atol=1e-5)  # a plane
    assert (np.abs(slope) < 4 * 0.2 / 40).all()
    assert np.ptp(slope, axis=1).min() > 0.02 / 40
    np.testing.assert_array_equal(_acquired(1.0), 1.0)


def test_contrast_and_offset_of_slices_reach_the_image():
    drifted = _acquired(1.0, slice_drift=(0.2, 0.3, 0.0))
    np.testing.assert_allclose(np.ptp(drifted, axis=(0, 1)), 0, atol=1e-6)
    assert np.unique(drifted[0, 0]).size == 3


# The second centre


def test_second_centre_has_its_own_lge_and_knows_no_edema():
    first, second = population("first"), population("second")
    np.testing.assert_array_equal(second.mean[:, 0], [0.511, -0.727, -0.727, 0.747])
    np.testing.assert_array_equal(second.mean[:, 1:], first.mean[:, 1:])
    width = np.sqrt(second.within_covariance[:, 0, 0])
    np.testing.assert_allclose(width, [0.742, 0.786, 0.786, 0.688])
    correlation = [
        p.within_covariance[0, 0, 1] / np.sqrt(p.within_covariance[0, 0, 0] * p.within_covariance[0, 1, 1])
        for p in (first, second)
    ]
    assert correlation[0] == pytest.approx(correlation[1])
    assert second.scar_share.tolist() == [0.043, 0.107, 0.205, 0.283, 0.403]
    assert not second.edema_share.any()
    assert second.mvo_contrast[0] == pytest.approx(0.018 + 0.727)
    assert second.mvo_part == pytest.approx(0.022 / 0.283)


@pytest.fixture(scope="module")
def infarcts():
    """Studies of the second centre, all with an infarct."""
    config = replace(PRESETS["second-centre"], healthy_share=0.0)
    return [simulate_study(config, seed=1000, index=index) for index in range(10)]


def test_second_centre_shows_lge_alone_without_edema_and_with_small_cores(infarcts):
    assert {tuple(study.sequences) for study in infarcts} == {("LGE",)}
    assert not any((study.label == EDEMA).any() for study in infarcts)
    assert all((study.label == SCAR).any() for study in infarcts)
    cores = [np.count_nonzero(study.mvo) / np.count_nonzero(study.label > BLOOD) for study in infarcts]
    assert 4 <= np.count_nonzero(cores) <= 8  # 60 % of 10
    assert max(cores) < 0.06


def test_second_centre_meets_its_figures(infarcts):
    means, variances = [], []
    for study in infarcts:
        image, inside = study.sequences["LGE"], study.label > 0
        z = (image - image[inside].mean()) / image[inside].std()
        classes = [z[study.label == k] for k in (BLOOD, MYOCARDIUM, SCAR)]
        means.append([values.mean() for values in classes])
        variances.append([values.var() for values in classes])
    np.testing.assert_allclose(np.mean(means, axis=0), [0.511, -0.727, 0.747], atol=0.15)
    np.testing.assert_allclose(np.sqrt(np.mean(variances, axis=0)), [0.742, 0.786, 0.688], rtol=0.15)


def test_a_cohort_of_the_second_centre_on_disk(tmp_path):
    path = simulate_cohort(tmp_path / "c", n_studies=1, seed=1, preset="second-centre", region="cavity-wall")
    assert [file.name for file in (path.parent / "images").iterdir()] == ["study_000_LGE.nii.gz"]
    assert json.loads(path.read_text())["labels"] == {"background": 0, "blood": 1, "myocardium": 2, "scar": 4}
    image = nib.load(path.parent / "images" / "study_000_LGE.nii.gz")
    assert image.header.get_zooms()[:2] == pytest.approx((1.4, 1.4))
    assert 5 <= image.shape[2] <= 9
