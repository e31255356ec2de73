"""Slices and scores of the adaptation to a cohort."""

import numpy as np
import pytest
import torch

from mrigmm.config_learning import AdaptConfig
from mrigmm.config_pretrain import make_pretrain_config
from mrigmm.networks.segmenter import Segmenter
from mrigmm.phantom.generator import read_backgrounds
from mrigmm.phantom.generator.cohort import KNOBS, CohortKnobs, draw_knobs
from mrigmm.training.adaptation import CohortSimulator, Judge, adapted_batch

SMALL = make_pretrain_config(
    {"ranges": {"matrix": 32, "spacing_mm": 4.0}, "batch": 6, "filters": 2, "levels": 2}
)


@pytest.fixture
def network():
    torch.manual_seed(0)
    return Segmenter(filters=2, levels=2).eval()


@pytest.fixture(scope="module")
def cohort():
    """Studies of LGE alone whose ventricles are the smallest that there are."""
    rng = np.random.default_rng(0)
    pool = np.stack([draw_knobs(SMALL.ranges, rng) for _ in range(20)])
    mean, sd = pool.mean(axis=0), np.full(len(KNOBS), 1e-9)
    mean[0] = pool[:, 0].min()
    return CohortSimulator(CohortKnobs(pool, mean, sd, np.ones(len(KNOBS))), ((0,),))


def test_a_batch_is_of_the_cohort_then_of_the_pretraining(cohort):
    backgrounds = read_backgrounds()
    batch = adapted_batch(SMALL, cohort, backgrounds, 2, 100, 0, 7)
    again = adapted_batch(SMALL, cohort, backgrounds, 2, 100, 0, 7)
    assert all(torch.equal(batch[name], again[name]) for name in batch)
    assert batch["image"].shape == (6, 3, 32, 32)
    alone = adapted_batch(SMALL, cohort, backgrounds, 0, 100, 0, 7)
    torch.testing.assert_close(batch["image"][:4], alone["image"][:4])


def test_drawn_studies_have_the_cohorts_sequences_mostly_and_its_hearts(cohort):
    rng, backgrounds = np.random.default_rng(1), read_backgrounds()
    drawn = [cohort.draw(SMALL.ranges, backgrounds, rng) for _ in range(12)]
    alone = [tuple(np.flatnonzero(e.present[0])) == (0,) for e in drawn]
    assert sum(alone) >= 6
    largest = max(int(np.isin(e.codes, (1, 2, 3, 4, 5, 8)).sum(axis=(1, 2)).max()) for e in drawn)
    assert largest * 4.0**2 < 1.4 * np.pi * np.exp(cohort.knobs.mean[0]) ** 2  # mm^2


def test_scores_are_of_each_simulated_study(network, cohort):
    judge = Judge(cohort, SMALL.ranges, read_backgrounds(), AdaptConfig(judged=3))
    own, before = judge.scores([network])
    assert own.shape == before.shape == (3,)
    assert np.nanmin([own, before]) >= 0
    assert np.nanmax([own, before]) <= 1
