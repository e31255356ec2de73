"""What figures of studies tell about the knobs of the generator."""

import numpy as np
import pytest

from mrigmm.config_pretrain import GeneratorRanges
from mrigmm.labels import SEGMENTER_CLASSES
from mrigmm.phantom.generator.cohort import KNOBS, cohort_knobs, draw_knobs, study_figures, with_knobs
from mrigmm.phantom.generator.contrast import draw_contrast
from mrigmm.phantom.generator.hearts import draw_hearts

RANGES = GeneratorRanges()


def rings(outer, inner, *, offset=(0.0, 0.0)):
    """Two slices of a ring: blood of mean 3 and SD .4, wall of mean -1 and SD .2 in LGE."""
    rng = np.random.default_rng(0)
    u = np.arange(128) - 63.5
    radius = np.hypot(u[:, None], u[None])
    cavity, ventricle = radius < inner, radius < outer
    p = np.zeros((2, len(SEGMENTER_CLASSES), 128, 128), np.float32)
    p[:, SEGMENTER_CLASSES.index("blood")] = cavity
    p[:, SEGMENTER_CLASSES.index("myocardium")] = ventricle & ~cavity
    image = np.zeros((2, 3, 128, 128), np.float32)
    noise = rng.standard_normal((2, 128, 128))
    image[:, 0] = np.where(cavity, 3 + 0.4 * noise, -1 + 0.2 * noise)
    image[:, 0] += np.array(offset)[:, None, None]
    return image, p


def test_figures_are_those_of_the_study():
    figures = study_figures(*rings(30, 20), sequences=(0,))
    radius, share = np.exp(figures[:2])
    assert radius == pytest.approx(30, abs=0.1)  # pixels of 1 mm
    assert share == pytest.approx(1 - 0.98 * 20 / 30, abs=0.01)
    blood, wall = figures[2:4]
    sd_blood, sd_wall = np.exp(figures[6:8])
    # Affine invariant: 4 apart, with SDs of .4 and .2.
    assert (blood - wall) / sd_blood == pytest.approx(10, rel=0.2)
    assert sd_blood / sd_wall == pytest.approx(2, rel=0.25)
    # White noise differs alike at any distance, but for steps over the border; slices are alike.
    assert figures[10:13] == pytest.approx(np.full(3, figures[10]), abs=0.1)
    assert figures[13:] == pytest.approx([0, 0], abs=0.01)


def test_slices_that_differ_are_told_by_the_drift():
    figures = study_figures(*rings(30, 20, offset=(0, 1)), sequences=(0,))
    cavity = (20 / 30) ** 2
    variance = cavity * (1 - cavity) * 4**2 + cavity * 0.4**2 + (1 - cavity) * 0.2**2 + 0.5**2
    assert figures[13:] == pytest.approx([0.5 / variance**0.5] * 2, rel=0.03)


def test_knobs_become_the_heart_and_the_contrast():
    rng = np.random.default_rng(1)
    knobs = draw_knobs(RANGES, rng)
    of_study = with_knobs(RANGES, knobs)
    heart = draw_hearts(of_study, rng).heart
    assert heart.epi_radius == pytest.approx(np.exp(knobs[KNOBS.index("epi_radius_mm")]))
    assert heart.wall / heart.epi_radius == pytest.approx(np.exp(knobs[KNOBS.index("wall_share")]))
    contrast = draw_contrast(of_study, chronic=False, rng=rng)
    assert contrast.mean[1, 0] == pytest.approx(knobs[KNOBS.index("mean myocardium LGE")])
    assert contrast.width[3, 2] == pytest.approx(np.exp(knobs[KNOBS.index("log SD scar bSSFP")]))
    untouched = ("healthy_chance", "scar_share", "edema_share", "mvo_chance", "chronic_chance")
    assert all(getattr(of_study, name) == getattr(RANGES, name) for name in untouched)


def test_a_knob_beyond_the_ranges_is_brought_back():
    knobs = draw_knobs(RANGES, np.random.default_rng(1))
    knobs[KNOBS.index("epi_radius_mm")] = np.log(90)
    assert with_knobs(RANGES, knobs).epi_radius_mm == (48, 48)


@pytest.fixture(scope="module")
def pool():
    """Knobs of SD 1, of which the figures tell the first exactly, the second half, and no other."""
    rng = np.random.default_rng(2)
    knobs = rng.standard_normal((400, len(KNOBS)))
    told = knobs[:, :2] + rng.standard_normal((400, 2)) * [0.02, 1.0]
    return knobs, np.concatenate([told, rng.standard_normal((400, 3))], axis=1)


@pytest.mark.parametrize("studies", [1, 40])
def test_a_cohort_is_found_as_far_as_the_figures_tell(pool, studies):
    rng = np.random.default_rng(3)
    figures = rng.standard_normal((studies, 5)) * [0.2, 1.0, 1, 1, 1] + [1.5, 1.0, 0, 0, 0]
    found = cohort_knobs(*pool, figures)
    assert found.mean[0] == pytest.approx(figures[:, 0].mean(), abs=0.1)
    assert found.sd[0] < 0.55
    assert found.known[:2] == pytest.approx([1, 0.5], abs=0.1)
    assert found.known[2:].max() < 0.1
    assert found.sd[2:] == pytest.approx(pool[0].std(axis=0)[2:], rel=0.1)
    if studies == 40:  # the regression's pull to the pool's mean is undone
        assert found.mean[1] == pytest.approx(1.0, abs=0.35)
    drawn = np.stack([found.draw(rng) for _ in range(300)])
    assert drawn[:, 0].mean() == pytest.approx(found.mean[0], abs=0.1)
    assert (drawn >= pool[0].min(axis=0)).all()
    assert (drawn <= pool[0].max(axis=0)).all()
    assert found.table()["epi_radius_mm"]["simulator_sd"] == pytest.approx(1, abs=0.1)
