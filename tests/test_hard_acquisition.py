"""The phantom's hardest acquisition goes through the four jobs with no manual step."""

import json

import pytest

import mrigmm
from mrigmm.data.manifest_file import read_manifest
from mrigmm.phantom import simulate_cohort


@pytest.mark.slow
def test_oblique_other_grids_motion_and_a_missing_sequence(cli, tmp_path):
    manifest = simulate_cohort(tmp_path / "c", n_studies=6, seed=5, preset="hard-acquisition")
    assert cli("check", manifest, "--quiet").code == 0
    options = ("filters=2", "levels=2", "spacing_mm=2", "epochs=2")
    mrigmm.train(manifest, tmp_path / "run", preset="tiny", overrides=options, device="cpu")
    out = tmp_path / "out"
    done = mrigmm.predict(manifest, out, run=tmp_path / "run", register=True, device="cpu").done
    assert {study.id for study in read_manifest(manifest).split("test")} == set(done)
    for study in done:
        assert json.loads((out / f"{study}.json").read_text())["motion"]
        assert (out / f"{study}_motion.png").stat().st_size > 0
    found = mrigmm.evaluate(out, manifest)
    # The cavity is found in every study, whatever its grid; two epochs teach little about scar.
    assert found.summary["blood"].dice_mean > 0.8
    assert found.summary["blood"].n == len(done)
