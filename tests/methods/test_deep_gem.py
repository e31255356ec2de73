import json
import shutil
from dataclasses import replace

import pytest
import torch

import mrigmm
from mrigmm.data.manifest_file import read_manifest
from mrigmm.data.run_folder import RunFolder
from mrigmm.data.study import load_study
from mrigmm.errors import InputError
from mrigmm.labels import Region
from mrigmm.methods.deep_gem import wall_units
from mrigmm.methods.registry import make_method, method_of_run
from mrigmm.phantom import simulate_cohort

from .conftest import without

SEQUENCES, CLASSES = ("LGE", "T2", "bSSFP"), ("blood", "myocardium", "edema", "scar")
QUICK = ("filters=4", "levels=2", "spacing_mm=2", "epochs=3")
CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def cohort(tmp_path_factory):
    return simulate_cohort(tmp_path_factory.mktemp("gem") / "cohort", n_studies=4, seed=8, preset="small")


@pytest.fixture(scope="module")
def run(cohort, tmp_path_factory):
    folder = tmp_path_factory.mktemp("run") / "run"
    mrigmm.train(cohort, folder, overrides=QUICK, device="cpu")  # no preset: the default
    return folder


@pytest.fixture(scope="module")
def study(cohort):
    return load_study(read_manifest(cohort).split("test")[0], SEQUENCES, CLASSES)


@pytest.fixture(scope="module")
def result(run, study):
    return method_of_run(RunFolder(run), CPU).method.segment(study)


def test_probabilities_inside_the_region_only(result, study):
    inside = study.region > 0
    torch.testing.assert_close(result.resp.sum(0)[inside], torch.ones(int(inside.sum())), atol=1e-5, rtol=0)
    assert ((result.labels > 0) == inside).all()


def test_cavity_is_that_of_the_two_step_method(result, run, study):
    start = method_of_run(RunFolder(run), CPU).method.start
    assert torch.equal(result.labels == 1, start.segment(study).labels == 1)


def test_a_run_folder_that_moved_predicts_the_same(run, study, result, tmp_path):
    shutil.copytree(run, tmp_path / "elsewhere")
    there = method_of_run(RunFolder(tmp_path / "elsewhere"), CPU).method.segment(study)
    assert torch.equal(result.resp, there.resp)


def test_network_and_fit_share_the_label(run, study):
    method = method_of_run(RunFolder(run), CPU).method
    wall = method.start.solve(study)
    inside = wall.region == Region.WALL

    def resp(share):
        method.config = method.config.model_copy(update={"network_share": share})
        return method.segment(study).resp[1:, inside]

    network = method._log_prior(study, wall).exp()[:, inside]
    fit = wall.resp[:, inside].clamp_min(1e-4)
    torch.testing.assert_close(resp(1.0), network, atol=1e-5, rtol=0)
    torch.testing.assert_close(resp(0.0), fit / fit.sum(0), atol=1e-5, rtol=0)
    pooled = (network * fit).sqrt()
    torch.testing.assert_close(resp(0.5), pooled / pooled.sum(0), atol=1e-5, rtol=0)
    assert (network - fit).abs().max() > 0.1


@pytest.mark.parametrize(("missing", "share"), [((2,), 0.5), ((1,), 0.25), ((0, 2), 0.25), ((0, 1), 0.0)])
def test_the_network_has_less_to_say_without_the_sequences_that_show_scar_or_edema(
    run, study, missing, share
):
    observed = study.observed.clone()
    image = study.image.clone()
    for channel in missing:
        observed[channel] = False
        image[channel] = 0
    partial = replace(study, image=image, observed=observed)
    method = method_of_run(RunFolder(run), CPU).method
    wall = method.start.solve(partial)
    inside = wall.region == Region.WALL
    network = method._log_prior(partial, wall).exp()[:, inside]
    pooled = network**share * wall.resp[:, inside].clamp_min(1e-4) ** (1 - share)
    resp = method.segment(partial).resp[1:, inside]
    torch.testing.assert_close(resp, pooled / pooled.sum(0), atol=1e-5, rtol=0)


def test_network_sees_distances_from_normal_wall(run, study):
    wall = method_of_run(RunFolder(run), CPU).method.start.solve(study)
    image = study.image.clone()
    mean = wall.fit.mixture.means[0, :3].float()  # myocardium; LGE, T2, bSSFP at the finest scale
    sd = wall.fit.mixture.covariances[0].diagonal()[:3].sqrt().float()
    image[:, 5, 6, 1] = mean
    image[:, 6, 6, 1] = mean + 4 * sd
    observed = study.observed.clone()
    observed[2, 5:7, 5:7] = False
    units = wall_units(replace(study, image=image, observed=observed), wall)
    torch.testing.assert_close(units[:, 5, 6, 1], torch.zeros(3), atol=1e-5, rtol=0)
    torch.testing.assert_close(units[:, 6, 6, 1], torch.tensor([2.0, 2.0, 0.0]), atol=1e-4, rtol=0)


def test_units_of_a_study_without_the_first_sequence(run, study):
    image = study.image.clone()
    image[0] = 0
    partial = replace(study, image=image, observed=without(study, 0))
    wall = method_of_run(RunFolder(run), CPU).method.start.solve(partial)
    units = wall_units(partial, wall)
    normal = (wall.resp[0] > 0.9) & (wall.region == Region.WALL)
    assert (units[0] == 0).all()
    assert units[1:, normal].mean(dim=1).abs().max() < 0.5  # T2 and bSSFP around their own normal wall


def test_missing_sequence(run, study):
    image = study.image.clone()
    image[1] = 0
    partial = replace(study, image=image, observed=without(study, 1))
    result = method_of_run(RunFolder(run), CPU).method.segment(partial)
    assert result.sequences == ("LGE", "bSSFP")
    assert result.resp.isfinite().all()


def test_given_cavity_is_kept(run, study):
    start = method_of_run(RunFolder(run), CPU).method.start
    region = start.solve(study).region
    middle = region.clone()
    middle[..., 0] = torch.where(middle[..., 0] > 0, int(Region.WALL), 0)  # a slice without cavity
    labels = method_of_run(RunFolder(run), CPU).method.segment(replace(study, region=middle)).labels
    assert ((labels == 1) == (middle == Region.CAVITY)).all()


def test_training_learns_the_wall(cohort, tmp_path):
    """The trained network agrees with the first E-step far better than an untrained one."""
    options = ("filters=8", "levels=2", "spacing_mm=2", "epochs=25")
    mrigmm.train(cohort, tmp_path / "run", preset="tiny", overrides=options, device="cpu")
    rows = (tmp_path / "run" / "log.csv").read_text().splitlines()[1:]
    objective = [float(row.split(",")[1]) for row in rows]
    # ln 3 = 1.10 is a network that knows nothing about three classes.
    assert objective[0] < 1.5
    assert objective[-1] < 0.75


def test_default_without_a_prior_names_the_remedy(cohort, tmp_path):
    content = json.loads(cohort.read_text())
    content["labels"] = {"background": 0, "one": 1, "two": 2, "three": 3, "four": 4}
    other = cohort.parent / "other.json"
    other.write_text(json.dumps(content))
    with pytest.raises(InputError, match="needs a population prior") as error:
        mrigmm.train(other, tmp_path / "run", preset="default", device="cpu")
    assert "--preset deepsvg" in str(error.value)


def test_two_step_start_is_the_shipped_one(run, study):
    method = method_of_run(RunFolder(run), CPU).method
    own = method.start.segment(study)
    fresh = make_method("map-em-2step", method.start.task, {}).segment(study)
    assert torch.equal(own.labels, fresh.labels)
