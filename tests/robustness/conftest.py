"""Fixtures of the catalogue: a fresh place per case, and what the clean study gives."""

from __future__ import annotations

from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

import mrigmm

from .cases import Place, place_in


@pytest.fixture
def place(tmp_path: Path) -> Place:
    """A cohort that a case may spoil."""
    return place_in(tmp_path)


@pytest.fixture(scope="session")
def clean_labels(tmp_path_factory: pytest.TempPathFactory) -> np.ndarray:
    """Label map of the second study before anything is spoilt, by map-em."""
    clean = place_in(tmp_path_factory.mktemp("clean"))
    mrigmm.predict(clean.manifest(), clean.out, method="map-em")
    return np.asarray(nib.load(clean.out / "bad_labels.nii.gz").dataobj)


@pytest.fixture(scope="session")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A trained run (read only): the tiny preset, one epoch on two studies."""
    here = place_in(tmp_path_factory.mktemp("run"))
    settings = ["epochs=1", "filters=4", "levels=2", "crop_mm=32"]
    result = mrigmm.train(
        here.manifest("training"), here.out, preset="tiny", overrides=settings, device="cpu"
    )
    assert len(result.done) == 2
    return here.out
