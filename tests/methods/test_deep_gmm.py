import csv
import json
import shutil
from dataclasses import replace

import numpy as np
import pytest
import torch
from scipy.stats import multivariate_normal

import mrigmm
from mrigmm.data.manifest_file import read_manifest
from mrigmm.data.run_folder import RunFolder
from mrigmm.data.study import load_study
from mrigmm.errors import InputError
from mrigmm.methods.deep_gmm import DeepGMMMethod, build_network, component_order, run_input
from mrigmm.methods.registry import method_of_run
from mrigmm.phantom import simulate_cohort

from .conftest import without

SEQUENCES, CLASSES = ("LGE", "T2", "bSSFP"), ("blood", "myocardium", "edema", "scar")
QUICK = ("mean_regulariser=1", "filters=2", "levels=1", "spacing_mm=2", "epochs=6", "stop_tolerance=0")
CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def cohort(tmp_path_factory):
    return simulate_cohort(tmp_path_factory.mktemp("deep") / "cohort", n_studies=4, seed=5, preset="small")


@pytest.fixture(scope="module")
def run(cohort, tmp_path_factory):
    folder = tmp_path_factory.mktemp("run") / "run"
    mrigmm.train(cohort, folder, preset="deepsvg", overrides=QUICK, device="cpu")
    return folder


@pytest.fixture(scope="module")
def study(cohort):
    return load_study(read_manifest(cohort).split("test")[0], SEQUENCES, CLASSES)


def test_probabilities_and_labels(run, study):
    result = method_of_run(RunFolder(run), CPU).method.segment(study)
    inside = study.region > 0
    torch.testing.assert_close(result.resp.sum(0)[inside], torch.ones(int(inside.sum())), atol=1e-5, rtol=0)
    assert (result.labels[~inside] == 0).all()
    # ids are class index + 1 for the four tissues
    assert (result.labels[inside] == result.resp[:, inside].argmax(0) + 1).all()
    assert result.mixture.means.shape[1:] == (4, 3)
    assert result.units == "z-score over the crop, per slice"


def test_the_posteriors_labels_are_reported_beside_those_of_w(run, study):
    """nll_v: posterior w_k N(x | k), recomputed by scipy with the mixture of each slice."""
    method = method_of_run(RunFolder(run), CPU).method
    result = method.segment(study)
    crop, _ = run_input(study, method.config, method.network.unet.divisor)
    inside = study.region > 0
    slice_index = inside.nonzero()[:, 2].unique(return_inverse=True)[1].numpy()
    x, w = crop.voxels.double().numpy(), result.resp[:, inside].T.double().numpy()
    mixture = result.mixture
    joint = np.zeros_like(w)
    for s, k in np.ndindex(mixture.weights.shape):
        here = slice_index == s
        density = multivariate_normal(mixture.means[s, k], mixture.covariances[s, k]).logpdf(x[here])
        joint[here, k] = np.log(w[here, k]) + density
    by_posterior = joint.argmax(1) + 1
    labels = result.labels[inside].numpy()
    assert result.details["posterior_agreement"] == pytest.approx((by_posterior == labels).mean(), abs=1e-6)
    voxel_ml = study.output.grid.voxel_volume_ml
    for k, name in enumerate(CLASSES):
        expected = (by_posterior == k + 1).sum() * voxel_ml
        assert result.details["posterior_volume_ml"][name] == pytest.approx(expected)


def test_the_side_file_reports_the_posterior(run, cohort, tmp_path):
    mrigmm.predict(cohort, tmp_path / "out", run=run, device="cpu")
    [path] = (tmp_path / "out").glob("study_*.json")
    side = json.loads(path.read_text())
    assert 0 < side["posterior_agreement"] <= 1
    assert sum(side["posterior_volume_ml"].values()) == pytest.approx(sum(side["volume_ml"].values()))
    assert side["mixture"]["units"] == "z-score over the crop, per slice"


@pytest.mark.parametrize(("objective", "name"), [("nll", "deepg"), ("nll_v", "deepsvg")])
def test_the_name_tells_the_objective(run, objective, name):
    config, record, prior = RunFolder(run).read()
    changed = config.model_copy(update={"objective": objective})
    assert DeepGMMMethod(build_network(changed, prior), changed, record, prior, CPU).name == name


def test_a_run_folder_that_moved_predicts_the_same(run, study, tmp_path):
    shutil.copytree(run, tmp_path / "elsewhere")
    here = method_of_run(RunFolder(run), CPU).method.segment(study)
    there = method_of_run(RunFolder(tmp_path / "elsewhere"), CPU).method.segment(study)
    assert torch.equal(here.resp, there.resp)


def test_missing_sequence(run, study):
    image = study.image.clone()
    image[0] = 0
    result = method_of_run(RunFolder(run), CPU).method.segment(
        replace(study, image=image, observed=without(study, 0))
    )
    assert result.sequences == ("T2", "bSSFP")
    assert result.mixture.covariances.shape[1:] == (4, 2, 2)


def test_components_are_named_by_the_prior_not_by_the_labels(cohort, tmp_path):
    """Trained without prior, then with the components shuffled in the network: same class names."""
    options = (*QUICK, "mean_regulariser=0", "prior_strength=0")
    mrigmm.train(cohort, tmp_path / "run", preset="deepsvg", overrides=options, device="cpu")
    run = RunFolder(tmp_path / "run")
    config, record, prior = run.read()
    assert sorted(record.component_order) == [0, 1, 2, 3]
    method = method_of_run(run, CPU).method
    studies = [load_study(s, SEQUENCES, CLASSES) for s in read_manifest(cohort).split("training")]
    before = method.segment(studies[0])

    shuffle = [2, 0, 3, 1]
    head = method.network.unet.head
    with torch.no_grad():
        head.weight.copy_(head.weight[shuffle].clone())
        head.bias.copy_(head.bias[shuffle].clone())
    plain = record.model_copy(update={"component_order": (0, 1, 2, 3)})
    order = component_order(DeepGMMMethod(method.network, config, plain, prior, CPU), studies, prior)
    renamed = record.model_copy(update={"component_order": tuple(order)})
    after = DeepGMMMethod(method.network, config, renamed, prior, CPU).segment(studies[0])
    assert torch.equal(before.labels, after.labels)


def test_a_slice_without_region_stays_empty(run, study):
    region = study.region.clone()
    region[..., 1] = 0
    result = method_of_run(RunFolder(run), CPU).method.segment(replace(study, region=region))
    assert (result.labels[..., 1] == 0).all()


@pytest.mark.parametrize("scope", ["study", "slice"])
def test_one_mixture_per_scope(cohort, study, tmp_path, scope):
    mrigmm.train(
        cohort, tmp_path / "run", preset="deepsvg", overrides=(*QUICK, f"scope={scope}"), device="cpu"
    )
    result = method_of_run(RunFolder(tmp_path / "run"), CPU).method.segment(study)
    n_slices = int((study.region > 0).flatten(0, 1).any(0).sum())
    assert result.mixture.means.shape[0] == (1 if scope == "study" else n_slices)


def trained(cohort, folder, *overrides):
    mrigmm.train(cohort, folder, preset="deepsvg", overrides=(*QUICK, *overrides), device="cpu")
    return method_of_run(RunFolder(folder), CPU).method


@pytest.mark.parametrize(("scope", "dims"), [("study", 2), ("slice", 2), ("study", 3)])
def test_parameters_by_the_head(cohort, study, tmp_path, scope, dims):
    options = ("parameters=head", "covariance=full", f"scope={scope}", f"spatial_dims={dims}")
    method = trained(cohort, tmp_path / "run", *options)
    result = method.segment(study)
    n_mixtures = 1 if scope == "study" else study.region.shape[2]
    assert result.mixture.means.shape == (n_mixtures, 4, 3)
    # not the means that the responsibilities have
    inside = study.region > 0
    crop, _ = run_input(study, method.config, method.network.unet.divisor)
    if scope == "study":
        w = result.resp[:, inside].double()
        means = (w @ crop.voxels.double()) / w.sum(1, keepdim=True)
        assert (means - result.mixture.means[0]).abs().max() > 0.01
        torch.testing.assert_close(result.mixture.weights[0], w.mean(1), atol=1e-6, rtol=0)
    assert torch.linalg.eigvalsh(result.mixture.covariances).min() >= 1e-3 - 1e-9
    with (tmp_path / "run" / "log.csv").open() as file:
        objective = [float(row["objective"]) for row in csv.DictReader(file)]
    assert objective[-1] < objective[0]


def test_the_heads_mixture_of_a_study_without_a_sequence(cohort, study, tmp_path):
    method = trained(cohort, tmp_path / "run", "parameters=head", "epochs=1")
    image = study.image.clone()
    image[1] = 0
    result = method.segment(replace(study, image=image, observed=without(study, 1)))
    assert result.sequences == ("LGE", "bSSFP")
    assert result.mixture.means.shape[1:] == (4, 2)


def test_a_3d_network_segments_and_uses_the_neighbouring_slices(cohort, study, tmp_path):
    method = trained(cohort, tmp_path / "run", "spatial_dims=3", "scope=study")
    result = method.segment(study)
    assert ((result.labels > 0) == (study.region > 0)).all()
    image = study.image.clone()
    image[..., 2] += 2 * torch.randn(image.shape[:-1], generator=torch.Generator().manual_seed(0))
    other = method.segment(replace(study, image=image))
    assert not torch.allclose(result.resp[..., 1], other.resp[..., 1], atol=1e-4)


def test_a_3d_network_takes_a_single_slice(cohort, study, tmp_path):
    method = trained(cohort, tmp_path / "run", "spatial_dims=3", "scope=study", "epochs=1")
    region = study.region.clone()
    region[..., 1:] = 0
    assert (method.segment(replace(study, region=region)).labels[..., 0] > 0).any()


def test_crop_units_need_a_prior_in_crop_units(cohort, tmp_path):
    own = tmp_path / "prior.json"
    mrigmm.prior(cohort, own)
    with pytest.raises(InputError, match="standardised by 'region-zscore'") as caught:
        mrigmm.train(cohort, tmp_path / "no", preset="deepsvg", prior=own, overrides=QUICK, device="cpu")
    assert "--set standardise=region" in str(caught.value)
    options = (*QUICK, "standardise=region", "epochs=1")
    mrigmm.train(cohort, tmp_path / "run", preset="deepsvg", prior=own, overrides=options, device="cpu")
    method = method_of_run(RunFolder(tmp_path / "run"), CPU).method
    assert method.prior.standardisation == "region-zscore"


def test_the_regulariser_knows_the_crops_units(run, cohort, study):
    _, _, prior = RunFolder(run).read()
    assert prior.standardisation == "crop-zscore"
    np.testing.assert_allclose(prior.means[0], [1.093, -0.254, 1.523])  # blood in LGE, T2, bSSFP
