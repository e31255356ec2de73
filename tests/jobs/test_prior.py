import json

import numpy as np
import pytest

import mrigmm
from mrigmm.data.priors import load_prior
from mrigmm.errors import InputError

from ..conftest import SEQUENCES, intensities, ventricle

LV = ventricle() > 0


def z_means(seed):
    """Class means (K, C) of one hand-made study in units of its ventricle."""
    label = ventricle()
    columns = []
    for name in SEQUENCES:
        x = intensities(label, name, seed).astype(float)
        z = (x - x[LV].mean()) / x[LV].std()
        columns.append([z[label == k].mean() for k in (1, 2, 3, 4)])
    return np.transpose(columns)


def training(workshop, n=3):
    return workshop.manifest([], training=[workshop.study(f"p{i}", seed=i) for i in range(n)])


def test_class_means_over_studies(workshop, tmp_path):
    result = mrigmm.prior(training(workshop), tmp_path / "prior.json")
    assert result.done == ("p0", "p1", "p2")
    prior = load_prior(tmp_path / "prior.json")
    assert prior.classes == ("blood", "myocardium", "edema", "scar")
    assert prior.sequences == SEQUENCES
    np.testing.assert_allclose(prior.means, np.mean([z_means(i) for i in range(3)], axis=0), atol=1e-4)
    shares = [(ventricle() == k).sum() / LV.sum() for k in (1, 2, 3, 4)]
    np.testing.assert_allclose(prior.weights, shares, atol=1e-6)
    provenance = json.loads((tmp_path / "prior.json").read_text())["provenance"]
    assert provenance["study_ids"] == ["p0", "p1", "p2"]
    assert provenance["source"] == "mrigmm prior, split training of manifest.json"


def test_a_missing_sequence_says_nothing_about_its_classes(workshop, tmp_path):
    entries = [workshop.study("all", seed=0), workshop.study("no T2", sequences=("LGE", "bSSFP"), seed=1)]
    mrigmm.prior(workshop.manifest([], training=entries), tmp_path / "p.json")
    means = load_prior(tmp_path / "p.json").means
    a, b = z_means(0), z_means(1)
    np.testing.assert_allclose(means[:, 1], a[:, 1], atol=1e-4)  # T2: of the one study that has it
    np.testing.assert_allclose(means[:, [0, 2]], (a + b)[:, [0, 2]] / 2, atol=1e-4)


def test_it_can_be_used(workshop, tmp_path):
    manifest = training(workshop)
    mrigmm.prior(manifest, tmp_path / "prior.json")
    out = tmp_path / "out"
    result = mrigmm.predict(manifest, out, method="map-em", split="training", prior=tmp_path / "prior.json")
    assert result.done == ("p0", "p1", "p2")
    assert mrigmm.evaluate(out, manifest, split="training").summary["scar"].dice_mean > 0.98


def test_other_classes(workshop, tmp_path):
    manifest = workshop.manifest(
        [], training=[workshop.study()], labels={"background": 0, "dark": [2, 3], "bright": [1, 4]}
    )
    mrigmm.prior(manifest, tmp_path / "p.json")
    prior = load_prior(tmp_path / "p.json")
    assert prior.classes == ("dark", "bright")
    assert prior.means[1, 0] > prior.means[0, 0]  # LGE


def test_bad_studies_are_told_and_left_out(workshop, tmp_path):
    entries = [workshop.study("good"), workshop.study("nolabel"), workshop.study("blank")]
    del entries[1]["label"]
    workshop.volume(entries[2]["label"], ventricle() * 0)
    result = mrigmm.prior(workshop.manifest([], training=entries), tmp_path / "p.json")
    assert result.done == ("good",)
    assert [(p.study, p.what) for p in result.problems] == [
        ("nolabel", "the study has no reference label"),
        ("blank", "the region holds no labelled voxel"),
    ]


def test_no_prior_can_be_made(workshop, tmp_path):
    out = tmp_path / "p.json"
    one = workshop.study()
    with pytest.raises(InputError, match="at least two labelled classes"):
        mrigmm.prior(workshop.manifest([], training=[one], labels={"scar": 4}), out)
    del one["label"]
    with pytest.raises(InputError, match="no reference label"):
        mrigmm.prior(workshop.manifest([], training=[one]), out)
    lacking = workshop.study("lacking")
    workshop.volume(lacking["label"], (ventricle() > 0).astype(np.uint8))
    with pytest.raises(InputError, match="no prior can be estimated") as caught:
        mrigmm.prior(workshop.manifest([], training=[lacking]), out)
    assert "myocardium, edema, scar" in caught.value.problems[0].got
    assert not out.exists()


def test_the_manifest_is_not_replaced(workshop):
    manifest = training(workshop, 1)
    before = manifest.read_text()
    with pytest.raises(InputError, match="would replace an input"):
        mrigmm.prior(manifest, manifest)
    assert manifest.read_text() == before


def test_an_existing_file_is_replaced_only_when_asked(workshop, tmp_path):
    manifest, out = training(workshop, 1), tmp_path / "p.json"
    out.write_text("mine")
    with pytest.raises(InputError, match="already there") as caught:
        mrigmm.prior(manifest, out)
    assert "--overwrite" in caught.value.problems[0].remedy
    assert out.read_text() == "mine"
    mrigmm.prior(manifest, out, overwrite=True)
    assert load_prior(out).sequences == SEQUENCES
