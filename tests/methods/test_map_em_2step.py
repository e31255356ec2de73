from dataclasses import replace

import pytest
import torch
from scipy.ndimage import binary_fill_holes, label

import mrigmm
from mrigmm.data.manifest_file import read_manifest
from mrigmm.data.priors.prior_file import save_prior
from mrigmm.data.priors.shipped import default_multiscale_prior, default_prior
from mrigmm.data.study import load_study
from mrigmm.errors import InputError
from mrigmm.evaluation.cohort import study_overlaps, summarise
from mrigmm.jobs.common import cohort_task
from mrigmm.labels import Region
from mrigmm.methods.base import Task
from mrigmm.methods.map_em_2step import wall_features
from mrigmm.methods.registry import make_method
from mrigmm.phantom import simulate_cohort

SEQUENCES, CLASSES = ("LGE", "T2", "bSSFP"), ("blood", "myocardium", "edema", "scar")


@pytest.fixture(scope="module")
def path(tmp_path_factory):
    return simulate_cohort(tmp_path_factory.mktemp("two") / "cohort", n_studies=6, seed=77, preset="small")


@pytest.fixture(scope="module")
def studies(path):
    cohort = read_manifest(path)
    return [
        load_study(s, SEQUENCES, CLASSES, labels=cohort.labels, with_label=True) for s in cohort.split("all")
    ]


@pytest.fixture
def task():
    return Task(CLASSES, SEQUENCES, default_prior(), multiscale=default_multiscale_prior())


def dice(method, studies):
    overlaps = {
        s.id: study_overlaps(
            method.segment(s).labels.numpy().astype(int) - 1, s.label.numpy(), CLASSES, voxel_volume_ml=1.0
        )
        for s in studies
    }
    return {name: figures.dice_mean for name, figures in summarise(overlaps).items()}


def test_finding_the_cavity_first_helps(task, studies):
    """What was measured on real patients: cavity and wall are found better than in one step."""
    one, two = (
        dice(make_method("map-em", task, {}), studies),
        dice(make_method("map-em-2step", task, {}), studies),
    )
    assert two["blood"] > one["blood"]
    assert two["wall"] > one["wall"]
    assert two["pathology"] > one["pathology"]


def test_the_cavity_is_one_piece_without_holes_in_every_slice(task, studies):
    blood = (make_method("map-em-2step", task, {}).segment(studies[0]).labels == 1).numpy()
    for z in range(blood.shape[2]):
        assert label(blood[..., z])[1] == 1
        assert (binary_fill_holes(blood[..., z]) == blood[..., z]).all()


def test_users_prior_without_scales_is_used_as_it_is(studies):
    task = Task(CLASSES, SEQUENCES, default_prior())
    method = make_method("map-em-2step", task, {})
    result = method.segment(studies[0])
    assert set(result.labels.unique().tolist()) == {0, 1, 2, 3, 4}
    assert any("fitted at one scale" in text for text in result.warnings)
    assert method.solve(studies[0]).features.shape[1] == 3  # LGE, T2, bSSFP


def test_a_prior_of_ones_own_fits_the_wall_at_two_scales(path, studies, tmp_path):
    mrigmm.prior(path, tmp_path / "own.json")
    task = cohort_task(read_manifest(path), tmp_path / "own.json", "cpu")
    wall = make_method("map-em-2step", task, {}).solve(studies[0])
    assert wall.features.shape[1] == 6  # three sequences at 0.75 and 3 mm
    assert wall.prior.means.shape == (3, 6)
    assert not any("one scale" in text for text in wall.notes)


def test_a_file_with_the_shipped_numbers_is_the_shipped_prior(path, studies, tmp_path):
    save_prior(default_prior(), tmp_path / "p.json", default_multiscale_prior())
    cohort = read_manifest(path)
    labels = [
        make_method("map-em-2step", cohort_task(cohort, file, "cpu"), {}).segment(studies[0]).labels
        for file in (None, tmp_path / "p.json")
    ]
    assert torch.equal(*labels)


def test_lge_alone_in_an_undivided_ventricle_is_warned_about(task, studies):
    observed = studies[0].observed.clone()
    observed[1:] = False
    image = studies[0].image * observed
    result = make_method("map-em-2step", task, {}).segment(
        replace(studies[0], image=image, observed=observed)
    )
    assert any("cannot tell scar" in text for text in result.warnings)


def test_given_cavity_is_kept(task, studies):
    study = studies[0]
    cavity = study.label == 0
    codes = torch.where(cavity, int(Region.CAVITY), int(Region.WALL))
    region = torch.where(study.region > 0, codes, 0).to(torch.uint8)
    labels = make_method("map-em-2step", task, {}).segment(replace(study, region=region)).labels
    assert ((labels == 1) == cavity).all()


def test_a_task_without_blood_needs_a_wall_map(studies):
    classes = ("myocardium", "edema", "scar")
    task = Task(classes, SEQUENCES, default_prior().select(classes=classes))
    with pytest.raises(InputError, match="cannot find the cavity"):
        make_method("map-em-2step", task, {}).segment(studies[0])


def test_a_single_wall_class_is_refused():
    classes = ("blood", "myocardium")
    with pytest.raises(InputError, match="at least two classes of the wall"):
        make_method("map-em-2step", Task(classes, SEQUENCES, default_prior().select(classes=classes)), {})


def test_channels_of_the_shipped_multiscale_prior():
    scales = default_multiscale_prior()
    assert scales.channels(SEQUENCES) == scales.prior.sequences
    # population_statistics.json: normal wall, LGE at 0.75 mm, and T2 of edema at 3 mm
    assert scales.prior.means[0, 0] == pytest.approx(-0.822)
    assert scales.prior.means[1, 4] == pytest.approx(1.158)


def test_a_sequence_that_ends_in_the_wall_changes_its_own_features_only(studies):
    study = studies[0]
    wall = study.region > 0
    whole = wall_features(study, wall, (0.75, 3.0))  # LGE, T2, bSSFP at the first width, then at the next
    voxel = tuple(wall.nonzero()[0].tolist())
    observed = study.observed.clone()
    observed[1][voxel] = False
    cut = wall_features(replace(study, observed=observed), wall, (0.75, 3.0))
    torch.testing.assert_close(cut[:, [0, 2, 3, 5]], whole[:, [0, 2, 3, 5]], rtol=0, atol=1e-6)
    assert not torch.allclose(cut[:, 4], whole[:, 4], rtol=0, atol=1e-6)


def test_without_a_prior_it_is_refused_in_its_own_name():
    with pytest.raises(InputError, match=r"^map-em-2step needs a population prior"):
        make_method("map-em-2step", Task(CLASSES, SEQUENCES, None), {})
