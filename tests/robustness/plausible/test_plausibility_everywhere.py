"""Sizes in mm, ml and g that no left ventricle has, and voxels that no scanner makes."""

import json

import nibabel as nib
import numpy as np
import pytest

import mrigmm

from .test_region_topology import ring, write

KIND = "Plausible sizes"
CHECK = (
    "Voxel size, diameter, length, volume, wall thickness and mass are compared with those of adult hearts."
)


def spaced(tmp_path, spacing):
    """The study with voxels of another size."""
    manifest = write(tmp_path, ring())
    for name in ("LGE", "region"):
        image = nib.load(tmp_path / f"{name}.nii.gz")
        data = np.asarray(image.dataobj)
        nib.Nifti1Image(data, np.diag([*spacing, 1.0])).to_filename(tmp_path / f"{name}.nii.gz")
    return manifest


@pytest.mark.parametrize(
    ("spacing", "what", "got"),
    [
        ((0.3, 0.3, 10.0), "no adult left ventricle has this size", "diameter 11.2 mm"),
        ((3.6, 3.6, 10.0), "no adult left ventricle has this size", "diameter 134 mm"),
        ((1.5, 1.5, 100.0), "LGE has voxels of an implausible size", "1.5 x 1.5 x 100 mm"),
    ],
)
def test_a_lost_scale_is_told_by_every_command(tmp_path, spacing, what, got):
    """voxels too small or too large, slices 10 cm apart -> the same warning in every command"""
    manifest = spaced(tmp_path / "in", spacing)
    files = {"LGE": tmp_path / "in" / "LGE.nii.gz"}
    region = tmp_path / "in" / "region.nii.gz"
    checked = mrigmm.check(manifest)
    predicted = mrigmm.predict(manifest, tmp_path / "p", split="training", method="em-gmm")
    single = mrigmm.predict_study(files, region, tmp_path / "q", method="em-gmm")
    told = [next(p for p in r.problems if p.what == what) for r in (checked, predicted, single)]
    assert [p.severity for p in told] == ["warning"] * 3
    assert all(got in p.got for p in told)
    assert told[0] == told[1]
    side = json.loads((tmp_path / "p" / "s.json").read_text())
    assert told[1].line in side["warnings"]
    assert told[1].what in mrigmm.report(tmp_path / "p").output.read_text()
    measured = mrigmm.quantify(tmp_path / "p").problems
    if what.startswith("no adult"):
        assert told[1] in measured
    else:
        assert "the label map has voxels of an implausible size" in [p.what for p in measured]


def test_train_says_it_too(tmp_path):
    """a training study with voxels of 0.3 mm -> train warns before the first epoch"""
    manifest = spaced(tmp_path / "in", (0.3, 0.3, 10.0))
    early = []
    result = mrigmm.train(
        manifest, tmp_path / "r", preset="tiny", overrides=("epochs=1",), device="cpu", tell=early.extend
    )
    what = "no adult left ventricle has this size"
    assert [p.what for p in result.problems].count(what) == 1
    assert what in [p.what for p in early]


def test_a_wall_that_was_segmented_is_judged_too(tmp_path):
    """an undivided ventricle with a wrong wall found in it -> predict and quantify say how thick"""
    region = (ring() > 0).astype(np.uint8)
    manifest = write(tmp_path / "in", region)
    bright = np.where(region, np.random.default_rng(1).normal(500, 30, region.shape), 100)
    bright[25:27, 25:27] = 100
    nib.Nifti1Image(bright.astype(np.float32), np.diag([1.5, 1.5, 10.0, 1.0])).to_filename(
        tmp_path / "in" / "LGE.nii.gz"
    )
    result = mrigmm.predict(manifest, tmp_path / "p", split="training", method="em-gmm")
    labels = np.asarray(nib.load(tmp_path / "p" / "s_labels.nii.gz").dataobj)
    told = [p.got for p in result.problems if "as it was segmented" in p.what]
    measured = mrigmm.quantify(tmp_path / "p").problems
    cavity, all_of_it = (labels == 1).sum((0, 1)), (labels > 0).sum((0, 1))
    both = (cavity > 0) & (cavity < all_of_it)
    thickness = np.median(np.sqrt(all_of_it[both]) - np.sqrt(cavity[both])) * 1.5 / np.sqrt(np.pi)
    expected = [] if 3 <= thickness <= 30 else [f"wall thickness {thickness:.3g} mm"]
    assert [text.split(", mass")[0] for text in told] == expected
    assert [p.got.split(", mass")[0] for p in measured if "this size" in p.what] == expected
