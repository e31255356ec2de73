"""A dark core that scar closes in is infarct, not normal wall."""

import json

import pytest

import mrigmm

from ...jobs.test_mvo import VOXEL_ML, entry

KIND = "obstruction"
CHECK = "what is labelled normal wall is compared with the scar around it, and with its brightness on LGE"


@pytest.mark.parametrize("method", ["otsu", "map-em", "map-em-2step"])
def test_a_core_counts_as_infarct(workshop, tmp_path, method):
    """dark core between scar and cavity -> part of the infarct, and shown as obstruction"""
    manifest, core = entry(workshop)
    mrigmm.predict(manifest, tmp_path / "out", method=method)
    (row,) = mrigmm.quantify(tmp_path / "out").studies.values()
    assert row["mvo_mass_g"] == pytest.approx(1.05 * VOXEL_ML * core.sum(), rel=0.1)
    found = mrigmm.evaluate(tmp_path / "out", manifest).studies["s1"]
    assert found["mvo"].dice > 0.9
    assert found["scar"].dice > 0.9


def test_it_can_be_switched_off(workshop, tmp_path, cli):
    """--no-mvo -> the core stays what the method called it, and no obstruction is told"""
    manifest, core = entry(workshop)
    for name, more in (("with", ()), ("without", ("--no-mvo",))):
        assert cli("predict", manifest, "-o", tmp_path / name, "--method", "otsu", *more).code == 0
    scar = [
        json.loads((tmp_path / n / "s1.json").read_text())["volume_ml"]["scar"] for n in ("with", "without")
    ]
    assert scar[0] - scar[1] == pytest.approx(VOXEL_ML * core.sum())
    assert not (tmp_path / "without" / "s1_mvo.nii.gz").exists()


def test_an_infarct_without_a_core(workshop, tmp_path):
    """scar without a core -> none is found, and that is told apart from not having looked"""
    manifest, _ = entry(workshop, core=False)
    mrigmm.predict(manifest, tmp_path / "out", method="map-em-2step")
    (row,) = mrigmm.quantify(tmp_path / "out").studies.values()
    assert row["mvo_mass_g"] == 0
