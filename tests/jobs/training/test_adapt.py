"""Adaptation to a cohort without labels: the decision, the run, and when it is what `train` does."""

import json
from functools import partial

import numpy as np
import pytest
import torch

import mrigmm
from mrigmm.config_learning import AdaptConfig
from mrigmm.jobs.options import TrainOptions
from mrigmm.jobs.pretrain import pretrain
from mrigmm.jobs.train import _adapts
from mrigmm.jobs.training import adapt as job
from mrigmm.jobs.training.adapt import decide
from mrigmm.pretrained.folder import PretrainedFolder
from mrigmm.pretrained.learning import read_learning
from mrigmm.pretrained.networks import read_networks
from mrigmm.training.label_tuning import log_files
from tests.training.test_pretraining import TINY

GAIN = np.full(8, 0.02)
QUICK = {"pool": 20, "steps": 2, "judged": 2, "batch": 2, "rehearsed": 1, "calibrated_on": 0}


@pytest.mark.parametrize(
    ("own", "before", "nll", "reason"),
    [
        (GAIN, GAIN, -0.1, None),
        (GAIN, -0.2 * GAIN, 0.0, None),
        (GAIN - np.array([0.1, 0, 0, 0] * 2), GAIN, 0, "do not surely gain"),
        (GAIN, -GAIN, 0, "of the pretraining lose: -0.020"),
        (GAIN, GAIN, 0.001, "less likely: NLL_V +0.001"),
        (np.full(8, np.nan), GAIN, 0, "do not surely gain"),
    ],
)
def test_an_adaptation_is_taken_where_it_surely_gains_and_nothing_is_lost(own, before, nll, reason):
    decision = decide(own, before, nll, AdaptConfig())
    assert decision.taken == (reason is None)
    assert (reason or "gain +0.020 [+0.020, +0.020] Dice") in decision.why


def test_an_interrupted_adaptation_is_begun_anew(tmp_path):
    asked = TrainOptions(resume=True)
    assert not _adapts(tmp_path, asked)  # nothing to go on with
    log_files(tmp_path, "segmenter_0").log.parent.mkdir()
    log_files(tmp_path, "segmenter_0").log.touch()
    assert _adapts(tmp_path, asked)


@pytest.fixture(scope="module")
def cohort(tmp_path_factory):
    folder = tmp_path_factory.mktemp("cohort")
    mrigmm.simulate(folder, studies=3, seed=5, preset="small")
    return folder / "manifest.json"


@pytest.fixture(scope="module")
def networks(tmp_path_factory):
    folder = tmp_path_factory.mktemp("networks") / "tiny"
    pretrain(folder, overrides=TINY, device="cpu", workers=0)
    return folder


def sure(taken):
    """The decision, whatever the tiny networks have learnt in two steps."""

    def decided(own, before, nll, settings):
        change = np.array([0.1, 0.1] if taken else [-0.1, -0.1])
        return decide(change, change, 0.0, settings)

    return decided


@pytest.mark.gate
def test_a_run_holds_adapted_networks_or_those_that_it_started_from(cohort, networks, tmp_path, monkeypatch):
    def weights(folder):
        return PretrainedFolder(folder).segmenter(0).read_bytes()

    first, second = tmp_path / "first", tmp_path / "second"
    monkeypatch.setattr(job, "decide", sure(True))
    mrigmm.train(cohort, first, from_run=networks, overrides=QUICK, device="cpu")
    assert weights(first) != PretrainedFolder(networks).segmenter(3).read_bytes()
    monkeypatch.setattr(job, "decide", sure(False))
    result = mrigmm.train(cohort, second, from_run=first, overrides=QUICK, device="cpu")
    assert weights(second) == weights(first)
    assert any(p.what.startswith("the networks are kept as they were: ") for p in result.problems)
    record = read_learning(PretrainedFolder(second))
    assert [c.kept_start for c in record.cohorts] == [False, True]
    assert [c.use for c in record.cohorts] == ["no labels"] * 2
    kept = record.cohorts[1]
    assert kept.before.keys() == kept.after.keys()
    assert kept.before != kept.after  # of what was tried
    assert np.isfinite(record.cohorts[0].before["NLL_V"])
    assert set(record.cohorts[0].knobs) >= {"epi_radius_mm", "mean scar LGE"}
    card = (second / "model_card.md").read_text()
    assert card.count("phantom-small-5") == 2
    assert "| after, not taken |" in card
    read_networks(PretrainedFolder(second), torch.device("cpu"))


@pytest.mark.gate
def test_without_preset_and_settings_train_adapts_the_networks_that_ship(cohort, tmp_path, monkeypatch):
    """And a study without a region map takes part."""
    few = partial(AdaptConfig, **QUICK)
    monkeypatch.setattr(job, "validated", lambda model, overrides, source: few(**overrides))
    content = json.loads(cohort.read_text())
    del content["training"][0]["region"]
    bare = cohort.with_name("bare.json")
    bare.write_text(json.dumps(content))
    result = mrigmm.train(bare, tmp_path / "run", device="cpu")
    assert len(result.done) >= 2
    assert PretrainedFolder(tmp_path / "run").segmenter(1).exists()
    again = mrigmm.train(bare, tmp_path / "run", device="cpu", resume=True)
    assert again.done == result.done
