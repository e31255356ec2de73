import shutil
from dataclasses import replace

import pytest
import torch

import mrigmm
from mrigmm.data.manifest import read_manifest
from mrigmm.data.run_folder import RunFolder
from mrigmm.data.study import load_study
from mrigmm.methods.deep_gmm import DeepGMMMethod, build_network, component_order
from mrigmm.methods.registry import method_of_run
from mrigmm.phantom import simulate_cohort

SEQUENCES, CLASSES = ("LGE", "T2", "bSSFP"), ("blood", "myocardium", "edema", "scar")
QUICK = ("mean_regulariser=1", "filters=2", "levels=1", "spacing_mm=2", "epochs=6", "stop_tolerance=0")
CPU = torch.device("cpu")


def without(study, channel):
    observed = study.observed.clone()
    observed[channel] = False
    return observed


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
    result = method_of_run(RunFolder(run), CPU)[0].segment(study)
    inside = study.region > 0
    torch.testing.assert_close(result.resp.sum(0)[inside], torch.ones(int(inside.sum())), atol=1e-5, rtol=0)
    assert (result.labels[~inside] == 0).all()
    # ids are class index + 1 for the four tissues
    assert (result.labels[inside] == result.resp[:, inside].argmax(0) + 1).all()
    assert result.mixture.means.shape[1:] == (4, 3)
    assert 0 <= result.details["share_labelled_otherwise_by_posterior"] <= 1


@pytest.mark.parametrize(("objective", "name"), [("nll", "deepg"), ("nll_v", "deepsvg")])
def test_the_name_tells_the_objective(run, objective, name):
    config, record, prior = RunFolder(run).read()
    changed = config.model_copy(update={"objective": objective})
    assert DeepGMMMethod(build_network(changed, prior), changed, record, prior, CPU).name == name


def test_a_run_folder_that_moved_predicts_the_same(run, study, tmp_path):
    shutil.copytree(run, tmp_path / "elsewhere")
    here = method_of_run(RunFolder(run), CPU)[0].segment(study)
    there = method_of_run(RunFolder(tmp_path / "elsewhere"), CPU)[0].segment(study)
    assert torch.equal(here.resp, there.resp)


def test_missing_sequence(run, study):
    image = study.image.clone()
    image[0] = 0
    result = method_of_run(RunFolder(run), CPU)[0].segment(
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
    method, _ = method_of_run(run, CPU)
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
    result = method_of_run(RunFolder(run), CPU)[0].segment(replace(study, region=region))
    assert (result.labels[..., 1] == 0).all()


@pytest.mark.parametrize("scope", ["study", "slice"])
def test_one_mixture_per_scope(cohort, study, tmp_path, scope):
    mrigmm.train(
        cohort, tmp_path / "run", preset="deepsvg", overrides=(*QUICK, f"scope={scope}"), device="cpu"
    )
    result = method_of_run(RunFolder(tmp_path / "run"), CPU)[0].segment(study)
    n_slices = int((study.region > 0).flatten(0, 1).any(0).sum())
    assert result.mixture.means.shape[0] == (1 if scope == "study" else n_slices)
