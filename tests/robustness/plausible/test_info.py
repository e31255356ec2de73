"""What `info` says that training does."""

from __future__ import annotations

import re

import pytest

import mrigmm
from mrigmm.config import PRESETS, RunConfig, load_config, make_config

KIND = "defaults that are not used"
CHECK = "The defaults that `info` prints are compared with the configuration of a run."


def printed() -> dict[str, str]:
    """Setting -> default as `info` prints it."""
    texts = mrigmm.info()["train_settings"]
    return {name: re.search(r"\[([^\[\]]*)\]$", text).group(1) for name, text in texts.items()}


def test_defaults_of_train():
    """`info` -> every default is that of a training without settings"""
    config = make_config()
    assert config == RunConfig()
    assert printed() == {name: str(getattr(config, name)) for name in printed()}
    assert [printed()[name] for name in ("epochs", "crop_mm", "learning_rate")] == ["30", "96.0", "0.002"]


def test_a_trained_run(run):
    """a trained run -> what was not set is as `info` says"""
    config = load_config(run / "config.yaml")
    chosen = {"epochs", "filters", "levels", "crop_mm"}
    found = {name: str(getattr(config, name)) for name in printed() if name not in chosen}
    assert found == {name: value for name, value in printed().items() if name not in chosen} | {
        name: found[name]
        for name in ("sequences", "classes", "spacing_mm")  # of the cohort
    }


@pytest.mark.parametrize("preset", ["deepg", "deepsvg"])
def test_published_presets(preset):
    """published presets -> the published numbers, whatever the defaults are"""
    config = make_config(preset)
    assert (config.epochs, config.batch_slices, config.learning_rate) == (100, 4, 1e-3)
    assert (config.crop_mm, config.prior_strength, config.stop_tolerance) == (120, 0, 0.005)
    assert config.flip_probability == pytest.approx(2 / 3)
    assert PRESETS["default"] == {}
