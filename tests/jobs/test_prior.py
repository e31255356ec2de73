import json

import numpy as np
import pytest

import mrigmm
from mrigmm.data.manifest_file import read_manifest
from mrigmm.data.priors.choice import multiscale_prior_for
from mrigmm.data.priors.prior_file import load_prior
from mrigmm.data.standardise import REGION_PERCENTILES
from mrigmm.data.study import load_study
from mrigmm.errors import InputError
from mrigmm.jobs.prior import _wall_sample

from ..conftest import SEQUENCES, intensities, oblique_affine, ventricle

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


def scales_of(file):
    return multiscale_prior_for(load_prior(file), file)


# Two wall pixels of 2 mm side by side: smoothed, each is (own + g other) / (1 + g).
G = {sigma: np.exp(-0.5 * (2 / sigma) ** 2) for sigma in (0.75, 3.0)}


def two_pixel_study(workshop, study_id, pixels, sequences=SEQUENCES):
    """Rows of blood and of one pair of wall pixels per class, far apart, all in the ventricle.

    `pixels`: (6,) LGE of two pixels each of myocardium, edema and scar; T2 is twice that + 1 in the second
    of each pair, bSSFP the negative.
    """
    label = np.zeros((60, 5, 1), dtype=np.uint8)
    label[0:4, 2, 0] = 1
    label[20:22, 2, 0], label[36:38, 2, 0], label[52:54, 2, 0] = 2, 3, 4
    lge = np.zeros(label.shape, dtype=np.float32)
    lge[0:4, 2, 0] = (6, 7, 8, 9)
    lge[label > 1] = pixels
    odd = np.zeros(label.shape, dtype=np.float32)
    odd[[21, 37, 53], 2, 0] = 1
    images = {"LGE": lge, "T2": 2 * lge + odd, "bSSFP": -lge + 3 * odd}
    affine = oblique_affine((2.0, 2.0, 10.0))
    entry = {"id": study_id, "image": {}, "region": f"{study_id}_r.nii.gz", "label": f"{study_id}_l.nii.gz"}
    for name in sequences:
        entry["image"][name] = f"{study_id}_{name}.nii.gz"
        workshop.volume(entry["image"][name], images[name], affine)
    workshop.volume(entry["region"], (label > 0).astype(np.uint8), affine)
    workshop.volume(entry["label"], label, affine)
    z = {name: (x - x[label > 0].mean()) / x[label > 0].std() for name, x in images.items()}
    return entry, z, label


@pytest.mark.parametrize("second", [SEQUENCES, ("LGE", "bSSFP")], ids=["complete", "no T2"])
def test_hand_computed_figures_of_the_smoothed_wall(workshop, tmp_path, second):
    """Two studies with two pixels per class. Pairs are 28 mm apart (the Gaussian ends at 12 mm)."""
    a, za, label = two_pixel_study(workshop, "a", (1, 2, 3, 5, 8, 12))
    b, zb, _ = two_pixel_study(workshop, "b", (2, 1, 4, 5, 7, 11), second)
    mrigmm.prior(workshop.manifest([], training=[a, b]), tmp_path / "p.json")
    scales = scales_of(tmp_path / "p.json")
    assert scales.prior.classes == ("myocardium", "edema", "scar")
    assert scales.prior.sequences == scales.channels(SEQUENCES)
    np.testing.assert_allclose(scales.prior.weights, [1 / 3] * 3)

    def smoothed(z, k):  # (2 pixels, 6 channels)
        pairs = [(z[name][label == k].astype(float), g) for g in G.values() for name in SEQUENCES]
        return np.transpose([(x + g * x[::-1]) / (1 + g) for x, g in pairs])

    for row, k in enumerate((2, 3, 4)):
        xa, xb = smoothed(za, k), smoothed(zb, k)
        means = (xa.mean(0) + xb.mean(0)) / 2  # each study counts the same
        if second == SEQUENCES:
            covariance = (np.cov(xa.T, bias=True) + np.cov(xb.T, bias=True)) / 2
            # of rank 2: lifted by a millionth of its largest eigenvalue
            np.testing.assert_allclose(scales.prior.covariances[row], covariance, atol=1e-5)
        else:
            means[[1, 4]] = xa.mean(0)[[1, 4]]  # T2: of the one study that has it
        np.testing.assert_allclose(scales.prior.means[row], means, atol=1e-5)


def test_a_voxel_that_a_sequence_does_not_show_is_left_out_of_the_smoothed_wall(workshop):
    entry, _, _ = two_pixel_study(workshop, "a", (1, 2, 3, 5, 8, 12))
    cohort = read_manifest(workshop.manifest([], training=[entry]))
    (one,) = cohort.split("all")
    study = load_study(one, SEQUENCES, cohort.classes, labels=cohort.labels, with_label=True)
    first = (study.label == 3).nonzero()[0]  # of scar
    study.observed[1, *first] = False
    x, label = _wall_sample(study, study.label, cohort.classes)
    assert label.tolist().count(2) == 1
    assert x.shape == (5, 6)
    assert np.isfinite(x).all()


@pytest.mark.parametrize(
    "labels",
    [{"background": 0, "dark": [2, 3], "bright": [1, 4]}, {"background": 0, "blood": 1, "scar": [2, 3, 4]}],
)
def test_no_part_for_smoothed_intensities_without_a_wall_of_two_classes(workshop, tmp_path, labels):
    mrigmm.prior(workshop.manifest([], training=[workshop.study()], labels=labels), tmp_path / "p.json")
    assert "multiscale" not in json.loads((tmp_path / "p.json").read_text())


def test_a_part_for_smoothed_intensities_without_blood(workshop, tmp_path):
    labels = {"background": [0, 1], "myocardium": 2, "edema": 3, "scar": 4}
    one = workshop.study(region="cavity-wall")
    mrigmm.prior(workshop.manifest([], training=[one], labels=labels), tmp_path / "p.json")
    assert scales_of(tmp_path / "p.json").prior.classes == ("myocardium", "edema", "scar")


def test_percentile_units_go_from_prior_through_train_to_predict(workshop, tmp_path):
    manifest, own = training(workshop, n=2), tmp_path / "prior.json"
    mrigmm.prior(manifest, own, standardise="percentile")
    label, columns = ventricle(), []
    for name in SEQUENCES:
        means = []
        for seed in (0, 1):
            x = intensities(label, name, seed).astype(float)
            low, high = np.percentile(x[LV], [1, 99])
            y = (2 * x - low - high) / (high - low)
            means.append([y[label == k].mean() for k in (1, 2, 3, 4)])
        columns.append(np.mean(means, axis=0))
    prior = load_prior(own, REGION_PERCENTILES)
    np.testing.assert_allclose(prior.means, np.transpose(columns), atol=1e-4)
    assert multiscale_prior_for(prior, own) is None

    options = ("standardise=percentile", "filters=2", "levels=1", "spacing_mm=2", "epochs=2")
    run, out = tmp_path / "run", tmp_path / "out"
    mrigmm.train(manifest, run, preset="deepsvg", prior=own, overrides=options, device="cpu")
    mrigmm.predict(manifest, out, run=run, split="training", device="cpu")
    side = json.loads((out / "p0.json").read_text())
    assert side["mixture"]["units"] == "1st to 99th percentile inside the region as -1 to 1"

    with pytest.raises(InputError, match="--set standardise=percentile"):
        mrigmm.predict(manifest, tmp_path / "no", method="map-em", split="training", prior=own)
    with pytest.raises(InputError, match="not stated in these units") as caught:
        mrigmm.train(manifest, tmp_path / "no", preset="deepsvg", overrides=options, device="cpu")
    assert "mrigmm prior --standardise percentile" in str(caught.value)
    with pytest.raises(InputError, match="unknown units 'percentiles'") as caught:
        mrigmm.prior(manifest, tmp_path / "no.json", standardise="percentiles")
    assert caught.value.problems[0].remedy == "did you mean percentile?"


@pytest.mark.slow
def test_the_same_bytes_from_1_2_and_4_processes(workshop, tmp_path, torchrun):
    """With a study that cannot be read, one without labels, and one without T2; the first process speaks."""
    entries = [workshop.study(f"p{i}", seed=i) for i in range(5)]
    entries.append(workshop.study("no T2", sequences=("LGE", "bSSFP"), seed=7))
    nolabel, damaged = workshop.study("nolabel"), {**entries[0], "id": "damaged", "region": "nowhere.nii.gz"}
    del nolabel["label"]
    manifest = workshop.manifest([], training=[damaged, *entries[:2], nolabel, *entries[2:]])
    alone = mrigmm.prior(manifest, tmp_path / "1.json")
    assert alone.done == ("p0", "p1", "p2", "p3", "p4", "no T2")
    for count in (2, 4):
        out = tmp_path / f"{count}.json"
        result = torchrun("prior", manifest, "-o", out, "--quiet", processes=count)
        assert out.read_bytes() == (tmp_path / "1.json").read_bytes()
        assert result.out.count("prior of 6 studies") == 1
        for study in ("damaged", "nolabel"):
            assert result.err.count(f"study: {study}") == 1
        assert result.code != 0  # torchrun's own code for "a process ended with an error"


@pytest.mark.slow
def test_processes_without_a_usable_study_say_so_once(workshop, tmp_path, torchrun):
    entries = [workshop.study("a"), workshop.study("b")]
    for entry in entries:
        del entry["label"]
    manifest = workshop.manifest([], training=entries)
    result = torchrun("prior", manifest, "-o", tmp_path / "p.json", "--quiet")
    assert result.code != 0
    assert result.err.count("study: a, b") == 1
    assert not (tmp_path / "p.json").exists()
