"""Sequences that a header lays on the others in another direction or order than they were taken in."""

import json

import nibabel as nib
import numpy as np
import pytest
from scipy.ndimage import gaussian_filter

import mrigmm
from mrigmm.data.quality.correspondence import turned_sequences

KIND = "sequences against each other"
CHECK = "the edges of body and heart in each sequence with those of the reference sequence"
WAYS = {
    "its first axis mirrored": lambda a: a[::-1],
    "its second axis mirrored": lambda a: a[:, ::-1],
    "slices in the order 4, 3, 2, 1": lambda a: a[..., ::-1],
    "its axes in plane exchanged": lambda a: a.swapaxes(0, 1),
    "slices in the order 1, 4, 3, 2": lambda a: a[..., [0, 3, 2, 1]],
}


def images(shape=(48, 48, 4), seed=0):
    """Two contrasts of one body (X, Y, Z) of six tissues, with noise of a fifth of the least step."""
    rng = np.random.default_rng(seed)
    smooth = gaussian_filter(rng.normal(size=shape), (4, 4, 0), mode="wrap")
    body = np.digitize(smooth, np.quantile(smooth, np.arange(1, 6) / 6))
    contrasts = np.arange(6.0), np.array([3.0, 0.0, 5.0, 1.0, 4.0, 2.0])
    return [(values[body] + rng.normal(0, 0.2, shape)).astype(np.float32) for values in contrasts]


def told(one, other, seen=None, pixel_mm=2.0):
    seen = np.ones(one.shape, dtype=bool) if seen is None else seen
    maps = {"LGE": (one, np.ones(one.shape, dtype=bool)), "T2": (other, seen)}
    return [*turned_sequences("LGE", maps, pixel_mm)]


@pytest.mark.parametrize("how", WAYS)
def test_turned(how):
    """T2 mirrored, turned, or with its slices in another order -> a warning that says how it fits better"""
    one, other = images()
    (problem,) = told(one, WAYS[how](other))
    assert problem.what == "T2 does not lie on LGE as their headers say"
    assert problem.got.startswith(f"a better fit with {how}: correlation 0.")
    better, plain = (float(part) for part in problem.got.split("correlation ")[1].split(", not "))
    assert better >= plain + 0.05  # two of four slices moved, at least


@pytest.mark.parametrize("shape", [(48, 48, 1), (60, 48, 3), (61, 49, 2), (47, 48, 3), (1, 1, 1)])
def test_as_they_should_be(shape):
    """sequences that lie on each other, of any contrast and shape, or that show nothing -> nothing is said"""
    one, other = images((64, 64, shape[2]), seed=1)
    one, other = (part[: shape[0], : shape[1]] for part in (one, other))
    assert not told(one, other)
    assert not told(one, np.random.default_rng(2).normal(size=shape).astype(np.float32))
    assert not told(one, np.zeros_like(one))
    assert not told(one, other, np.zeros(shape, dtype=bool))


def test_the_simplest_explanation():
    """rings in T2 with its slices in reverse, which fit in any direction -> the order alone is named"""
    x, y = np.indices((64, 64)) - 31.5
    radius = np.hypot(x, y)
    rng = np.random.default_rng(1)
    rings = np.stack([np.select([radius < r, radius < r + 9], [3.0, 1.0], 2.0) for r in (6, 12, 18)], axis=-1)
    one, other = (rings + rng.normal(0, 0.3, rings.shape) for _ in range(2))
    (problem,) = told(one.astype(np.float32), other[..., ::-1].astype(np.float32))
    assert problem.got.startswith("a better fit with slices in the order 3, 2, 1: correlation 0.")


def test_a_part_that_was_not_acquired():
    """T2 of the upper three slices, mirrored -> told; what was not acquired says nothing"""
    one, other = images()
    seen = np.ones(one.shape, dtype=bool)
    seen[..., 0] = False
    assert not told(one, np.where(seen, other, 0), seen)
    (problem,) = told(one, np.where(seen, other[::-1], 0), seen)
    assert "its first axis mirrored: " in problem.got
    (problem,) = told(one, np.where(seen, other[..., [0, 3, 1, 2]], 0), seen)
    assert "slices in the order 3, 4, 2: " in problem.got


def test_a_simulated_study_turned(cohort, tmp_path):
    """T2 of a simulated study turned by 180 degrees in plane -> a warning; no Dice is expected"""
    content = json.loads(cohort.read_text())
    (study,) = content["test"]
    (tmp_path / "data").mkdir()
    for file in (*study["image"].values(), study["region"]):
        image = nib.load(cohort.parent / file)
        data = np.asarray(image.dataobj)
        turn = file == study["image"]["T2"]
        name = file.split("/")[-1]
        nib.save(
            nib.Nifti1Image(data[::-1, ::-1] if turn else data, image.affine, image.header), tmp_path / name
        )
    study["image"] = {key: file.split("/")[-1] for key, file in study["image"].items()}
    study["region"] = study["region"].split("/")[-1]
    del study["label"]
    (tmp_path / "m.json").write_text(json.dumps({**content, "training": [], "test": [study]}))
    result = mrigmm.predict(tmp_path / "m.json", tmp_path / "out")
    (problem,) = (p for p in result.problems if "does not lie on" in p.what)
    assert (problem.study, problem.severity) == (study["id"], "warning")
    assert "its first axis mirrored and its second axis mirrored: " in problem.got
    found = json.loads((tmp_path / "out" / f"{study['id']}.json").read_text())
    assert "infarct" in found
    assert "expected_dice" not in found
