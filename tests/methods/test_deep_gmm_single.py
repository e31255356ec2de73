import json
from dataclasses import replace

import pytest
import torch

import mrigmm
from mrigmm.data.manifest_file import read_manifest
from mrigmm.data.priors.shipped import default_prior
from mrigmm.data.standardise import CROP_ZSCORE
from mrigmm.data.study import load_study
from mrigmm.errors import InputError
from mrigmm.labels import Region
from mrigmm.methods.base import Task
from mrigmm.methods.registry import make_method
from mrigmm.phantom import simulate_cohort

SEQUENCES, CLASSES = ("LGE", "T2", "bSSFP"), ("blood", "myocardium", "edema", "scar")
QUICK = {"filters": 4, "levels": 2, "spacing_mm": 2.0, "epochs": 12, "learning_rate": 1e-2}
METHODS = ("deepg-single", "deepsvg-single")


@pytest.fixture(scope="module")
def manifest(tmp_path_factory):
    return simulate_cohort(tmp_path_factory.mktemp("single") / "cohort", n_studies=1, seed=9, preset="small")


@pytest.fixture(scope="module")
def study(manifest):
    return load_study(read_manifest(manifest).split("all")[0], SEQUENCES, CLASSES)


@pytest.fixture(scope="module")
def task():
    return Task(CLASSES, SEQUENCES, default_prior(), crop_prior=default_prior(CROP_ZSCORE))


def test_the_settings_are_the_published_ones(task):
    settings = make_method("deepsvg-single", task, {}).settings
    assert (settings.learning_rate, settings.weight_decay, settings.clip_norm) == (1e-4, 1e-3, 12)
    assert (settings.epochs, settings.min_epochs, settings.stop_tolerance) == (200, 10, 0.001)
    assert (settings.filters, settings.levels, settings.covariance) == (32, 4, "diag")
    assert (settings.mean_regulariser, settings.standardise) == (0, "crop")


@pytest.mark.parametrize("name", METHODS)
def test_probabilities_and_one_mixture_per_slice(task, study, name):
    result = make_method(name, task, QUICK).segment(study)
    inside = study.region > 0
    torch.testing.assert_close(result.resp.sum(0)[inside], torch.ones(int(inside.sum())), atol=1e-5, rtol=0)
    assert (result.resp[:, ~inside] == 0).all()
    assert (result.labels[inside] == result.resp[:, inside].argmax(0) + 1).all()
    assert result.mixture.means.shape == (study.region.shape[2], 4, 3)
    assert 0 <= result.details["posterior_agreement"] <= 1
    assert result.units == "z-score over the crop, per slice"


def test_fitting_lowers_the_objective_of_each_slice(task, study):
    """nll_v is minus the mean log likelihood that the side file reports."""
    method = make_method("deepsvg-single", task, {**QUICK, "stop_tolerance": 0})
    few = make_method("deepsvg-single", task, {**QUICK, "epochs": 1, "stop_tolerance": 0})
    inside = study.region > 0
    before, after = (m.segment(study).log_likelihood[inside].mean() for m in (few, method))
    assert after > before + 0.1


def test_slices_are_fitted_one_by_one(task, study):
    """A slice's result does not depend on the others."""
    method = make_method("deepsvg-single", task, QUICK)
    region = study.region.clone()
    region[..., 0] = 0
    whole, part = method.segment(study), method.segment(replace(study, region=region))
    assert (part.labels[..., 0] == 0).all()
    # the crop is centred on the region, which all slices make
    assert (whole.labels == part.labels)[..., 1:][region[..., 1:] > 0].float().mean() > 0.9


def test_the_stop_rule(task, study):
    """After 10 epochs, when the objective changes by less than the tolerance; warned about otherwise."""
    eager = make_method("deepsvg-single", task, {**QUICK, "stop_tolerance": 1000}).segment(study)
    assert (eager.n_iter, eager.converged, eager.warnings) == (11, True, ())
    restless = make_method("deepsvg-single", task, {**QUICK, "stop_tolerance": 0}).segment(study)
    n = study.region.shape[2]
    assert (restless.n_iter, restless.converged) == (12, False)
    assert restless.warnings == (f"{n} of {n} slices had not settled after 12 epochs",)


def test_seeded_and_the_callers_random_numbers_go_on(task, study):
    method = make_method("deepg-single", task, QUICK)
    torch.manual_seed(1)
    expected = torch.rand(3)
    torch.manual_seed(1)
    first = method.segment(study)
    assert torch.equal(torch.rand(3), expected)
    again = method.segment(study)
    assert torch.equal(first.resp, again.resp)
    other = make_method("deepg-single", task, {**QUICK, "seed": 1}).segment(study)
    assert not torch.equal(first.resp, other.resp)


def test_components_are_named_by_the_prior(task, study):
    """The bright class of bSSFP is blood, whichever output the network gave it."""
    result = make_method("deepsvg-single", task, {**QUICK, "epochs": 60}).segment(study)
    bssfp = result.mixture.means[..., 2]
    assert (bssfp.argmax(dim=1) == 0).float().mean() > 0.5


def test_the_mean_regulariser_pulls_the_means(task, study):
    means = torch.tensor(default_prior(CROP_ZSCORE).means)
    distances = []
    for weight in (0.0, 10.0):
        result = make_method("deepsvg-single", task, {**QUICK, "mean_regulariser": weight}).segment(study)
        distances.append((result.mixture.means - means).square().sum(dim=(1, 2)).mean())
    assert distances[1] < distances[0] - 0.5


def test_anatomy_is_respected(task, tmp_path):
    folder = tmp_path / "wall"
    cohort = simulate_cohort(folder, n_studies=1, seed=9, preset="small", region="cavity-wall")
    study = load_study(read_manifest(cohort).split("all")[0], SEQUENCES, CLASSES)
    labels = make_method("deepsvg-single", task, QUICK).segment(study).labels
    assert ((labels == 1) == (study.region == Region.CAVITY)).all()


def test_without_a_prior_classes_follow_brightness(study):
    task = Task(("one", "two"), SEQUENCES, None)
    settings = {**QUICK, "order_by": ("bSSFP",), "epochs": 40}
    result = make_method("deepsvg-single", task, settings).segment(study)
    assert (result.mixture.means[:, 1, 2] > result.mixture.means[:, 0, 2]).all()


@pytest.mark.parametrize(
    ("changes", "overrides", "message"),
    [
        ({"crop_prior": None}, {}, "--set standardise=region"),
        ({"prior": None, "crop_prior": None}, {"mean_regulariser": 1}, "leave mean_regulariser at 0"),
        ({}, {"epoch": 3}, "did you mean epochs"),
        ({}, {"epochs": 0}, "greater than or equal to 1"),
        ({}, {"order_by": ("lge",)}, "unknown sequence 'lge'"),
    ],
)
def test_what_cannot_be_done_is_refused(task, changes, overrides, message):
    with pytest.raises(InputError) as caught:
        make_method("deepsvg-single", replace(task, **changes), overrides)
    assert message in str(caught.value)


def test_a_prior_in_region_units(task, study):
    own = replace(task, crop_prior=None)
    result = make_method("deepg-single", own, {**QUICK, "standardise": "region"}).segment(study)
    assert result.units == "z-score inside the region"


def test_from_the_command_line(cli, manifest, tmp_path):
    options = [text for key, value in QUICK.items() for text in ("--set", f"{key}={value}")]
    call = ("predict", manifest, "-o", tmp_path / "out", "--method", "deepsvg-single", "--split", "all")
    result = cli(*call, "--device", "cpu", "--quiet", *options)
    assert result.code == 0, result.err
    [path] = (tmp_path / "out").glob("study_*.json")
    side = json.loads(path.read_text())
    assert (side["method"], side["settings"]["epochs"]) == ("deepsvg-single", 12)
    assert 0 <= side["posterior_agreement"] <= 1
    assert "deepg-single" in mrigmm.info()["methods"]
