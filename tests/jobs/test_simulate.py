import hashlib

import nibabel as nib
import numpy as np
import pytest

import mrigmm
from mrigmm.data.manifest_file import read_manifest
from mrigmm.errors import InputError


def digests(folder):
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in folder.rglob("*")
        if path.is_file()
    }


def test_a_cohort_that_check_finds_nothing_in(tmp_path):
    result = mrigmm.simulate(tmp_path / "c", studies=3, seed=5, preset="small")
    assert result.output == tmp_path / "c" / "manifest.json"
    cohort = read_manifest(result.output)
    assert len(cohort.split("all")) == 3
    assert cohort.split("training")
    assert cohort.split("test")
    assert mrigmm.check(result.output).problems == ()


def test_the_same_arguments_give_the_same_bytes(tmp_path):
    for name, seed in (("a", 5), ("b", 5), ("c", 6)):
        mrigmm.simulate(tmp_path / name, studies=2, seed=seed, preset="small")
    a, b, c = (digests(tmp_path / name) for name in "abc")
    assert a == b
    assert set(a.values()) & set(c.values()) == set()


@pytest.mark.parametrize(("region", "ids"), [("lv", [0, 1]), ("cavity-wall", [0, 1, 2])])
def test_region_maps(tmp_path, region, ids):
    result = mrigmm.simulate(tmp_path / "c", studies=1, seed=5, preset="small", region=region)
    (study,) = read_manifest(result.output).split("all")
    assert np.unique(np.asarray(nib.load(study.region).dataobj)).tolist() == ids


def test_existing_files_are_not_touched(tmp_path):
    (tmp_path / "mine.txt").write_text("x")
    with pytest.raises(InputError, match="will not write a cohort over existing files"):
        mrigmm.simulate(tmp_path, studies=1, seed=1, preset="small")
    assert [path.name for path in tmp_path.iterdir()] == ["mine.txt"]


def test_an_unknown_preset(tmp_path):
    with pytest.raises(InputError, match="did you mean small"):
        mrigmm.simulate(tmp_path / "c", studies=1, seed=1, preset="smal")
    assert not (tmp_path / "c").exists()
