from dataclasses import replace

import pytest
import torch

from mrigmm.data.manifest_file import read_manifest
from mrigmm.data.study import load_study
from mrigmm.errors import InputError
from mrigmm.labels import Region
from mrigmm.methods.base import Task
from mrigmm.methods.registry import make_method
from mrigmm.phantom import simulate_cohort

SEQUENCES, CLASSES = ("LGE", "T2", "bSSFP"), ("blood", "myocardium", "edema", "scar")


def without(study, channel):
    observed = study.observed.clone()
    observed[channel] = False
    return observed


@pytest.fixture(scope="module")
def study(tmp_path_factory):
    path = simulate_cohort(
        tmp_path_factory.mktemp("otsu") / "cohort", n_studies=1, seed=3, preset="small", region="cavity-wall"
    )
    return load_study(read_manifest(path).split("all")[0], SEQUENCES, CLASSES)


@pytest.fixture
def otsu():
    return make_method("otsu", Task(CLASSES, SEQUENCES, None), {})


def test_two_grey_levels_are_told_apart(otsu, study):
    image = study.image.clone()
    wall = study.region == Region.WALL
    bright = wall & (torch.arange(wall.shape[0])[:, None, None] < wall.shape[0] // 2)
    image[0] = torch.where(bright, 2.0, -1.0)
    labels = otsu.segment(replace(study, image=image)).labels
    assert ((labels == 4) == bright).all()
    assert ((labels == 2) == (wall & ~bright)).all()
    assert ((labels == 1) == (study.region == Region.CAVITY)).all()


def test_without_a_wall_it_refuses(otsu, study):
    undivided = torch.where(study.region > 0, int(Region.LV), 0).to(torch.uint8)
    with pytest.raises(InputError, match="needs to know the wall"):
        otsu.segment(replace(study, region=undivided))


def test_without_lge_it_refuses(otsu, study):
    with pytest.raises(InputError, match="needs LGE"):
        otsu.segment(replace(study, observed=without(study, 0)))


def test_settings_and_classes_are_checked():
    with pytest.raises(InputError, match="no settings"):
        make_method("otsu", Task(CLASSES, SEQUENCES, None), {"bins": 3})
    with pytest.raises(InputError, match="needs the classes"):
        make_method("otsu", Task(("blood", "myocardium"), SEQUENCES, None), {})
