"""The frozen presets: their settings and their bytes."""

from dataclasses import replace

import numpy as np
import pytest

from mrigmm.phantom import PRESETS, PhantomConfig, preset_hash, simulate_study

# Tables in docs/results/ hold for these presets (that of `myops-like` is of scripts/calibrate_phantom.py):
# run them again after a change.
HASHES = {
    "myops-like": "817b77c695c99889",
    "healthy": "187ba215b5ab17fa",
    "cohort": "ec5e3a828fac9a10",
    "hard-acquisition": "012378c37611c60f",
    "small": "332d7a053c9e3fe6",
    "thin-slices": "5870a85183e5d404",
    "second-centre": "85191f49a6a29bd7",
    "low-contrast": "52835af637629cb9",
    "noisy": "5217093313de9688",
    "coarse": "79121fb8ac98ea82",
    "fine": "c183963f51d98074",
    "thin-wall": "17668c698c745f43",
    "thick-wall": "9e1662286e322a4e",
    "bright-blood": "3e7d59de445ac2f6",
    "psir": "a12abbf9ecff86ea",
    "motion": "d9c8dd656501f107",
    "ghosts": "b44f568f338e9024",
    "smooth-kernel": "cc1a5c83410867c7",
    "sharp-kernel": "8d44fd4dcfdb240b",
    "heavy-tails": "973c9ab120500040",
}


def test_every_preset_is_frozen():
    assert {name: preset_hash(config) for name, config in PRESETS.items()} == HASHES


@pytest.mark.parametrize(
    "change",
    [
        {"dealt": True},
        {"centre": "second"},
        {"radius_factor": 1.1},
        {"wall_factor": 0.9},
        {"contrast": 0.9},
        {"blood_to_scar": 0.1},
        {"apex_noise": 1.1},
        {"slice_drift": (0.0, 0.0, 0.1)},
        {"ghost": 0.1},
        {"smoothing_mm": 0.1},
        {"sharpening": 0.1},
        {"kspace_share": 0.9},
    ],
    ids=lambda change: next(iter(change)),
)
def test_hash_sees_a_later_knob_once_it_is_used(change):
    assert preset_hash(PhantomConfig(**change)) != HASHES["myops-like"]


def test_the_healthy_preset_is_the_reported_one_without_infarct():
    sick, healthy = (simulate_study(PRESETS[name], seed=2026, index=0) for name in ("myops-like", "healthy"))
    assert (sick.label > 2).any()
    assert set(np.unique(healthy.label)) == {0, 1, 2}
    np.testing.assert_array_equal(sick.label == 1, healthy.label == 1)  # the same heart


def test_the_reported_studies_are_unchanged():
    # The hash does not see the code. First study of the report's seed.
    study = simulate_study(PRESETS["myops-like"], seed=2026, index=0)
    counts = np.bincount(study.label.ravel(), minlength=5)
    np.testing.assert_allclose(counts, [126134, 7553, 4607, 4566, 4596], rtol=1e-3)
    scar = [image[study.label == 4].mean() for image in study.sequences.values()]
    np.testing.assert_allclose(scar, [367.834, 298.389, 325.923], rtol=2e-3)


def test_hash_depends_on_every_knob():
    config = PRESETS["myops-like"]
    changed = [replace(config, noise=0.11), replace(config, psir=True), replace(config, slices=(2, 5))]
    assert len({preset_hash(c) for c in (config, *changed)}) == 4
