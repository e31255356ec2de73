import json

import nibabel as nib
import numpy as np
import pytest

import mrigmm

from ..conftest import SHAPE, ventricle

QUICK = ("--set", "iterations=3", "--set", "channels=4")


@pytest.fixture
def study(workshop):
    """Entry of a study in whose first slice a user named two voxels of scar."""
    entry = workshop.study(region="cavity-wall")
    scribbles = np.zeros(SHAPE, dtype=np.uint8)
    for place in np.argwhere(ventricle() == 4)[:2]:
        scribbles[tuple(place)] = 4
    workshop.volume("hints.nii.gz", scribbles)
    return {**entry, "scribbles": "hints.nii.gz"}


def test_a_single_study(cli, workshop, study, tmp_path):
    out = tmp_path / "out"
    arguments = [*workshop.single(study), "--scribbles", workshop.folder / "hints.nii.gz"]
    result = cli("predict", *arguments, "--method", "cnn-continuity", *QUICK, "-o", out, "--id", "s1")
    assert result.code == 0, result.err
    content = json.loads((out / "s1.json").read_text())
    assert content["scribbles"] == str((workshop.folder / "hints.nii.gz").resolve())
    assert nib.load(out / "s1_labels.nii.gz").shape == SHAPE


def test_a_manifest(cli, workshop, study, tmp_path):
    manifest = workshop.manifest([study])
    assert cli("check", manifest).code == 0
    for method, extra in (("cnn-superpixels", QUICK), ("kmeans", ())):
        out = tmp_path / method
        assert cli("predict", manifest, "--method", method, *extra, "-o", out).code == 0
        content = json.loads((out / "s1.json").read_text())
        unused = "kmeans does not use scribbles: they were not read" in content["warnings"]
        assert unused == (method == "kmeans")
        assert ("scribbles" in content) == (method != "kmeans")
    result = cli("predict", manifest, "--scribbles", "x.nii", "--method", "kmeans", "-o", tmp_path / "x")
    assert result.code != 0
    assert "--scribbles belongs to --image" in result.err


def test_scribbles_that_cannot_be_used_are_found_before_and_stop_only_their_study(workshop, study, tmp_path):
    workshop.volume("hints.nii.gz", np.full(SHAPE, 2, dtype=np.uint8))
    manifest = workshop.manifest([study, workshop.study("s2", region="cavity-wall")])
    found = mrigmm.check(manifest)
    assert found.done == ("s2",)
    assert any("does not allow their class" in problem.what for problem in found.problems)
    settings = ["iterations=3", "channels=4"]
    done = mrigmm.predict(manifest, tmp_path / "out", method="cnn-continuity", overrides=settings)
    assert done.done == ("s2",)
    assert [path.name for path in (tmp_path / "out").glob("s1*")] == ["s1_failed.json"]


def test_the_cohort_is_learnt_from_once(workshop, study, tmp_path):
    manifest = workshop.manifest([study, workshop.study("s2", region="cavity-wall", seed=1)])
    settings = ["iterations=3", "channels=4", "scope=cohort"]
    mrigmm.predict(manifest, tmp_path / "out", method="cnn-continuity", overrides=settings)
    s1, s2 = (json.loads((tmp_path / "out" / f"{name}.json").read_text()) for name in ("s1", "s2"))
    assert s1["networks"] == s2["networks"]


def test_a_result_never_replaces_the_scribbles(workshop, study):
    workshop.volume("s1_labels.nii.gz", np.zeros(SHAPE, dtype=np.uint8))
    entry = {**study, "scribbles": "s1_labels.nii.gz"}
    with pytest.raises(mrigmm.InputError):
        mrigmm.predict(workshop.manifest([entry]), workshop.folder, method="kmeans", overwrite=True)
