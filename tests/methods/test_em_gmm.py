from dataclasses import replace

import numpy as np
import pytest
import torch

from mrigmm.data.manifest_file import read_manifest
from mrigmm.data.priors.shipped import default_multiscale_prior, default_prior
from mrigmm.data.study import load_study
from mrigmm.errors import InputError
from mrigmm.labels import Region
from mrigmm.methods.base import Task
from mrigmm.methods.registry import METHODS, make_method
from mrigmm.phantom import simulate_cohort

from ..conftest import SEQUENCES
from .conftest import without

# The networks of single images take minutes with their own settings: test_deep_gmm_single.py.
# They refuse an undivided ventricle.
NEED_WALL = ("otsu", "nsd", "fwhm", "two-gaussians", "em-threshold")
QUICK_METHODS = sorted(name for name in METHODS if not name.endswith("-single"))
# What is asked of every method here does not depend on how well a network fits.
SMALL_NETWORK = {"filters": 4, "levels": 2, "runs": 1, "max_iter": 12}


def quick_method(name, task):
    return make_method(name, task, SMALL_NETWORK if name.startswith("dsp-") else {})


@pytest.fixture(scope="module")
def prior():
    return default_prior()


@pytest.fixture(scope="module")
def task(prior):
    return Task(prior.classes, SEQUENCES, prior, multiscale=default_multiscale_prior())


def studies_of(folder, region):
    cohort = read_manifest(
        simulate_cohort(folder / "cohort", n_studies=2, seed=31, preset="small", region=region)
    )
    return [load_study(s, SEQUENCES, default_prior().classes) for s in cohort.split("all")]


@pytest.fixture(scope="module")
def lv_study(tmp_path_factory):
    return studies_of(tmp_path_factory.mktemp("lv"), "lv")[0]


@pytest.fixture(scope="module")
def wall_study(tmp_path_factory):
    return studies_of(tmp_path_factory.mktemp("wall"), "cavity-wall")[0]


@pytest.mark.parametrize("region", ["lv", "wall"])
@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"scope": "study"},
        {"covariance": "full", "scope": "study"},
        {"covariance": "spherical", "scope": "study"},
    ],
    ids=str,
)
def test_own_em_is_that_of_scikit_learn(task, lv_study, wall_study, settings, region):
    study = lv_study if region == "lv" else wall_study
    # The two stop rules look at the bound of all voxels together, and of cavity and wall apart: a
    # fixed number of iterations compares the same thing.
    fixed = {**settings, "max_iter": 15, "tolerance": 1e-12}
    own = make_method("em-gmm", task, fixed).segment(study)
    reference = make_method("em-gmm-sklearn", task, fixed).segment(study)
    torch.testing.assert_close(own.mixture.means, reference.mixture.means, atol=1e-6, rtol=1e-6)
    torch.testing.assert_close(own.resp, reference.resp, atol=1e-5, rtol=0)
    assert (own.labels == reference.labels).all()


def test_own_tied_em_is_that_of_scikit_learn(task, lv_study):
    """In an undivided ventricle: scikit-learn cannot tie the cavity's covariance to the wall's."""
    settings = {"covariance": "tied", "scope": "study", "max_iter": 15, "tolerance": 1e-12}
    own = make_method("em-gmm", task, settings).segment(lv_study)
    reference = make_method("em-gmm-sklearn", task, settings).segment(lv_study)
    torch.testing.assert_close(own.mixture.covariances, reference.mixture.covariances, atol=1e-6, rtol=1e-6)
    assert (own.labels == reference.labels).all()


def test_own_em_stops_where_scikit_learn_stops(task, lv_study):
    settings = {"scope": "study"}
    own = make_method("em-gmm", task, settings).segment(lv_study)
    reference = make_method("em-gmm-sklearn", task, settings).segment(lv_study)
    assert own.n_iter == reference.n_iter
    assert (own.labels == reference.labels).all()


@pytest.mark.parametrize("name", QUICK_METHODS)
def test_responsibilities_are_probabilities_inside_the_region_only(task, wall_study, name):
    result = quick_method(name, task).segment(wall_study)
    inside = wall_study.region > 0
    torch.testing.assert_close(result.resp.sum(0)[inside], torch.ones(int(inside.sum())), atol=1e-5, rtol=0)
    assert (result.resp[:, ~inside] == 0).all()
    assert ((result.labels > 0) == inside).all()
    assert result.log_likelihood[inside].isfinite().all()


@pytest.mark.parametrize("name", QUICK_METHODS)
def test_anatomy_is_respected(task, wall_study, name):
    labels = quick_method(name, task).segment(wall_study).labels
    assert set(labels[wall_study.region == Region.CAVITY].tolist()) == {1}
    assert 1 not in labels[wall_study.region == Region.WALL].tolist()


@pytest.mark.parametrize("name", sorted({*QUICK_METHODS} - {*NEED_WALL}))
def test_missing_sequence_is_left_out(task, lv_study, name):
    image = lv_study.image.clone()
    image[1] = 0
    study = replace(lv_study, image=image, observed=without(lv_study, 1))
    result = quick_method(name, task).segment(study)
    assert result.sequences == ("LGE", "bSSFP")
    assert result.mixture.means.shape[-1] == 2
    # The same as if the sequence had never existed.
    pair = ("LGE", "bSSFP")
    two = Task(task.classes, pair, task.prior.select(sequences=pair), multiscale=task.multiscale)
    both = replace(lv_study, image=image[[0, 2]], observed=lv_study.observed[[0, 2]], sequences=pair)
    assert torch.equal(result.labels, quick_method(name, two).segment(both).labels)


@pytest.mark.parametrize("name", ["em-gmm", "em-svgmm", "map-em", "map-em-2step"])
def test_where_a_field_of_view_ends_only_that_part_is_left_out(task, lv_study, name):
    """T2 lacks the last slice: that slice is segmented as without T2, and no value is made up."""
    observed = lv_study.observed.clone()
    observed[1, ..., -1] = False
    image = lv_study.image.clone()
    image[1, ..., -1] = 0
    settings = {"scope": "study"} if name in ("em-gmm", "em-svgmm") else {}
    result = make_method(name, task, settings).segment(replace(lv_study, image=image, observed=observed))
    whole = make_method(name, task, settings).segment(lv_study)
    inside = lv_study.region > 0
    assert result.sequences == SEQUENCES
    assert result.resp[:, inside].isfinite().all()
    # What stands in the file where nothing was acquired must not matter.
    image[1, ..., -1] = 7.0
    again = make_method(name, task, settings).segment(replace(lv_study, image=image, observed=observed))
    assert torch.equal(result.labels, again.labels)
    # The slices with T2 are labelled nearly as before.
    same = (result.labels == whole.labels)[..., :-1][inside[..., :-1]].float().mean()
    assert same > 0.9


def test_scikit_learn_refuses_a_field_of_view_that_ends_inside(task, lv_study):
    observed = lv_study.observed.clone()
    observed[1, ..., -1] = False
    with pytest.raises(InputError, match="cannot leave out single voxels"):
        make_method("em-gmm-sklearn", task, {"scope": "study"}).segment(replace(lv_study, observed=observed))


def test_without_a_prior_classes_follow_brightness(lv_study):
    task = Task(("dark", "middle", "bright"), SEQUENCES, None, order_by=("bSSFP",))
    result = make_method("em-gmm", task, {"scope": "study"}).segment(lv_study)
    bssfp = result.mixture.means[0, :, 2]
    assert (bssfp.diff() > 0).all()
    intensity = lv_study.image[2]
    dark, bright = (intensity[result.labels == i].mean() for i in (1, 3))
    assert dark < bright
    assert any("brightness in bSSFP" in text for text in result.warnings)


@pytest.mark.parametrize("name", ["em-gmm", "em-gmm-sklearn"])
def test_brightness_moves_no_class_out_of_its_part(name, wall_study):
    """Blood is brightest in bSSFP, yet stays the class of the cavity."""
    classes = ("blood", "myocardium", "edema", "scar")
    task = Task(classes, SEQUENCES, None, order_by=("bSSFP",))
    result = make_method(name, task, {"scope": "study"}).segment(wall_study)
    assert torch.equal(result.labels == 1, wall_study.region == Region.CAVITY)
    assert (result.mixture.means[0, 1:, 2].diff() > 0).all()


def test_slices_too_small_for_a_mixture_use_that_of_the_study(task, lv_study):
    region = lv_study.region.clone()
    kept = (region[..., 0] > 0).nonzero()[:5]
    region[..., 0] = 0
    region[kept[:, 0], kept[:, 1], 0] = Region.LV
    result = make_method("em-gmm", task, {}).segment(replace(lv_study, region=region))
    assert (result.labels[..., 0] > 0).sum() == 5
    assert any("too small" in text for text in result.warnings)


def test_fewer_voxels_than_classes_are_refused(task, lv_study):
    region = torch.zeros_like(lv_study.region)
    voxels = (lv_study.region > 0).nonzero()[:3]
    region[voxels[:, 0], voxels[:, 1], voxels[:, 2]] = Region.LV
    with pytest.raises(InputError, match="fewer voxels than there are classes"):
        make_method("em-gmm", task, {}).segment(replace(lv_study, region=region))


def test_map_em_with_a_strong_prior_keeps_the_population_means(task, lv_study, prior):
    means = make_method("map-em", task, {"prior_strength": 1e4}).segment(lv_study).mixture.means[0]
    np.testing.assert_allclose(means, prior.means, atol=1e-3)


def test_map_em_without_a_prior_is_refused():
    with pytest.raises(InputError, match="needs a population prior"):
        make_method("map-em", Task(("a", "b"), ("T1",), None), {})


def test_unknown_setting_and_method_name_near_misses(task):
    with pytest.raises(InputError, match="covariance"):
        make_method("em-gmm", task, {"covarianc": "full"})
    with pytest.raises(InputError, match="em-gmm"):
        make_method("em-gm", task, {})


def test_a_cavity_of_one_voxel(task, wall_study):
    region = wall_study.region.clone()
    cavity = (region == Region.CAVITY).nonzero()
    region[region == Region.CAVITY] = Region.OUTSIDE
    region[tuple(cavity[0])] = Region.CAVITY
    study = replace(wall_study, region=region)
    assert (make_method("em-gmm", task, {"scope": "study"}).segment(study).labels == 1).sum() == 1
    with pytest.raises(InputError, match="this small"):
        make_method("em-gmm-sklearn", task, {"scope": "study"}).segment(study)


@pytest.mark.parametrize("setting", [{"variance_floor": float("inf")}, {"order_by": ["T1"]}], ids=str)
def test_settings_that_make_no_sense_are_refused(task, setting):
    with pytest.raises(InputError):
        make_method("em-gmm", task, setting)
