"""The frozen presets: their settings and their bytes."""

from dataclasses import replace

import numpy as np

from mrigmm.phantom import PRESETS, preset_hash, simulate_study

# The table in docs/results.md holds for this preset: run scripts/calibrate_phantom.py again after a change.
MYOPS_LIKE_HASH = "817b77c695c99889"
# The false lesions in docs/results.md are counted in studies of this one.
HEALTHY_HASH = "187ba215b5ab17fa"


def test_the_reported_presets_are_unchanged():
    assert preset_hash(PRESETS["myops-like"]) == MYOPS_LIKE_HASH
    assert preset_hash(PRESETS["healthy"]) == HEALTHY_HASH


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
