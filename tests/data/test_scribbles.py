import numpy as np
import pytest
import torch

from mrigmm.data.manifest_file import read_manifest
from mrigmm.data.maps import NO_CLASS
from mrigmm.data.study import load_study
from mrigmm.errors import InputError

from ..conftest import SEQUENCES, SHAPE, oblique_affine, ventricle

CLASSES = ("blood", "myocardium", "edema", "scar")
TRUTH = ventricle()


@pytest.fixture
def load(workshop):
    """Loads a study with these scribbles (X, Y, Z)."""

    def run(scribbles, *, affine=None, asked=True):
        entry = workshop.study(region="cavity-wall")
        workshop.volume("hints.nii.gz", scribbles, affine)
        path = workshop.manifest([{**entry, "scribbles": "hints.nii.gz"}])
        study = read_manifest(path).split("test")[0]
        return load_study(study, SEQUENCES, CLASSES, with_scribbles=asked)

    return run


def hints(**values):
    scribbles = np.zeros(SHAPE, dtype=np.uint8)
    for name, value in values.items():
        scribbles[tuple(np.argwhere({"blood": 1, "myocardium": 2, "scar": 4}[name] == TRUTH)[0])] = value
    return scribbles


def test_ids_of_our_own_label_maps_become_class_indices(load):
    study = load(hints(blood=1, scar=4))
    truth = torch.from_numpy(np.moveaxis(TRUTH, study.output.grid.slice_axis, -1))
    assert study.scribbles.dtype == torch.int64
    assert sorted(study.scribbles[study.scribbles != NO_CLASS].tolist()) == [0, 3]
    on_file = study.to_input_grid(study.scribbles[None])[0]
    assert (on_file[hints(scar=4) == 4] == 3).all()
    assert truth.shape == study.scribbles.shape


def test_nothing_is_read_unasked(load):
    assert load(np.full(SHAPE, 77, dtype=np.uint8), asked=False).scribbles is None


@pytest.mark.parametrize(
    ("scribbles", "got"),
    [
        (hints(scar=1), "1 voxels, 0 of them outside the region"),
        (hints(blood=2, scar=1), "2 voxels, 0 of them outside the region"),
        (np.where(np.indices(SHAPE).sum(0) == 0, 2, 0).astype(np.uint8), "1 voxels, 1 of them outside"),
    ],
)
def test_scribbles_against_the_region_are_refused(load, scribbles, got):
    with pytest.raises(InputError, match="does not allow their class") as caught:
        load(scribbles)
    problem = caught.value.problems[0]
    assert (problem.study, problem.file.endswith("hints.nii.gz")) == ("s1", True)
    assert problem.got.startswith(got)


def test_unknown_ids_and_other_grids_are_refused(load):
    with pytest.raises(InputError, match="unknown class id") as caught:
        load(hints(scar=7))
    assert "own label maps" in caught.value.problems[0].remedy
    with pytest.raises(InputError, match="not on the grid of the reference sequence"):
        load(hints(scar=4), affine=oblique_affine(origin_mm=(0, 0, 0)))
