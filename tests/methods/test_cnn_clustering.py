from dataclasses import replace

import numpy as np
import pytest
import torch

from mrigmm.data.manifest_file import read_manifest
from mrigmm.data.maps import NO_CLASS
from mrigmm.data.study import load_study
from mrigmm.errors import InputError
from mrigmm.labels import Region
from mrigmm.methods.base import CohortMethod, Task
from mrigmm.methods.cnn_clustering import cluster_means
from mrigmm.methods.registry import make_method

from ..conftest import SEQUENCES
from .conftest import CLASSES, dice
from .test_kmeans import lesion, prior

METHODS = ("cnn-superpixels", "cnn-continuity")
# The wall is three pixels wide.
SETTINGS = {"cnn-superpixels": {"superpixel_mm": 2.0}, "cnn-continuity": {"continuity": 0.2}}
ALLOWED = {int(Region.CAVITY): {1}, int(Region.WALL): {2, 3, 4}}


@pytest.fixture
def run(segment):
    """Runs a method on small pixels: `run(name, study)`."""
    return lambda name, study, **settings: segment(name, study, **{**SETTINGS[name], **settings})


def method(name, **settings):
    return make_method(name, Task(CLASSES, SEQUENCES, prior()), {**SETTINGS[name], **settings})


@pytest.mark.parametrize("name", METHODS)
def test_the_wall_is_clustered_and_named(ring, run, name):
    result = run(name, lesion(ring), prior=prior())
    inside = ring.study.region > 0
    torch.testing.assert_close(result.resp.sum(0), inside.float(), atol=1e-5, rtol=0)
    assert result.resp[:, ~inside].abs().max() == 0
    assert dice(result.labels == 1, ring.study.region == Region.CAVITY) == 1
    assert dice(result.labels == 4, ring.sector(0)) > 0.8
    assert dice(result.labels == 3, ring.sector(1)) > 0.8
    for code, ids in ALLOWED.items():
        assert set(result.labels[ring.study.region == code].unique().tolist()) <= ids
    assert result.warnings == ()
    assert result.details["networks"].keys() == {"wall"}
    assert result.n_iter == 50


@pytest.mark.parametrize("name", METHODS)
def test_one_picture_in_colours_of_unknown_classes(workshop, name):
    """A slice in three channels, the region everything, no prior: halves by brightness."""
    colours = ("red", "green", "blue")
    rng = np.random.default_rng(0)
    half = np.zeros((20, 30, 1), dtype=np.uint8)
    half[:, 15:] = 1
    affine = np.eye(4)
    images = {}
    for colour in colours:
        images[colour] = f"{colour}.nii.gz"
        values = 50 + 40 * half + rng.normal(0, 15, half.shape)
        workshop.volume(images[colour], values.astype(np.float32), affine)
    workshop.volume("all.nii.gz", np.ones_like(half), affine)
    entry = {"id": "photo", "image": images, "region": "all.nii.gz"}
    path = workshop.manifest(
        [entry], modality={str(i): c for i, c in enumerate(colours)}, labels={"a": 1, "b": 2}
    )
    study = load_study(read_manifest(path).split("test")[0], colours, ("a", "b"))
    result = make_method(name, Task(("a", "b"), colours, None), {}).segment(study)
    assert (
        dice(torch.from_numpy(study.to_input_grid(result.labels[None])[0] == 2), torch.from_numpy(half) == 1)
        > 0.95
    )
    assert result.warnings == ("no population prior: classes are ordered by brightness in all sequences",)


@pytest.mark.parametrize("name", METHODS)
def test_scribbles_fix_names(ring, run, name):
    """Sector 0 is scar for the prior; a user calls it edema, and sector 1 scar."""
    study = lesion(ring)
    scribbles = torch.full(study.region.shape, NO_CLASS)
    for sector, index in ((0, 2), (1, 3)):
        scribbles[tuple(ring.sector(sector).nonzero()[::3].T)] = index
    result = run(name, replace(study, scribbles=scribbles), prior=prior(), scribble_weight=2)
    assert dice(result.labels == 3, ring.sector(0)) > 0.8
    assert dice(result.labels == 4, ring.sector(1)) > 0.8


def test_scribbles_of_all_clusters_need_no_order(ring, run):
    study = lesion(ring)
    scribbles = torch.full(study.region.shape, NO_CLASS)
    for sector, index in ((0, 2), (1, 3), (3, 1)):
        scribbles[tuple(ring.sector(sector).nonzero()[::3].T)] = index
    result = run("cnn-continuity", replace(study, scribbles=scribbles), scribble_weight=2)
    assert result.warnings == ()
    without = run("cnn-continuity", study, iterations=1)
    assert "ordered by brightness" in without.warnings[-1]


def test_an_empty_cluster_has_a_mean():
    x = torch.tensor([[1.0], [3.0]])
    p = torch.tensor([[0.9, 0.1], [0.7, 0.3]])
    torch.testing.assert_close(cluster_means(x, p), torch.tensor([[2.0], [2.5]]).double(), atol=1e-6, rtol=0)
    certain = torch.tensor([[1.0, 0.0], [1.0, 0.0]])
    torch.testing.assert_close(cluster_means(x, certain), torch.full((2, 1), 2.0).double())


def test_clusters_that_died_are_told(ring, run):
    flat = ring.paint(torch.where(ring.wall, 100.0, 300.0))
    result = run("cnn-continuity", flat, balance=0)
    assert any(note.startswith("clusters died out: no voxel is most probably") for note in result.warnings)
    assert result.resp.isfinite().all()
    assert result.mixture.means.isfinite().all()


@pytest.mark.parametrize("name", METHODS)
def test_what_cannot_be_clustered_is_refused(ring, run, name):
    study = lesion(ring)
    observed = study.observed.clone()
    observed[1, ..., 0] = False
    with pytest.raises(InputError, match="cannot leave out single voxels"):
        run(name, replace(study, observed=observed))
    region = torch.where(study.region == Region.CAVITY, study.region, 0)
    region[tuple(ring.wall.nonzero()[0])] = int(Region.WALL)
    with pytest.raises(InputError, match="this small"):
        run(name, replace(study, region=region))
    with pytest.raises(InputError, match="has no setting 'k'"):
        make_method(name, Task(CLASSES, SEQUENCES, None), {"k": 3})


@pytest.mark.parametrize("name", METHODS)
def test_the_smallest_region_is_clustered(ring, run, name):
    study = lesion(ring)
    region = torch.zeros_like(study.region)
    for place in ring.wall.nonzero()[:3]:
        region[tuple(place)] = int(Region.WALL)
    result = run(name, replace(study, region=region), prior=prior(), iterations=3)
    assert result.resp.isfinite().all()
    assert int((result.labels > 0).sum()) == 3


def complete(ring):
    """The lesion with bSSFP too."""
    study = lesion(ring)
    image, observed = study.image.clone(), study.observed.clone()
    image[2] = torch.where(study.region == Region.CAVITY, 2.0, -0.5)
    observed[2] = True
    return replace(study, image=image, observed=observed)


@pytest.mark.parametrize("name", METHODS)
def test_one_network_for_the_cohort(ring, name):
    first = complete(ring)
    flipped = first.image.clone()
    flipped[:] = first.image.flip(1)
    second = replace(first, id="s2", image=flipped, region=first.region.flip(0))
    lacking = lesion(ring)
    made = method(name, scope="cohort")
    assert isinstance(made, CohortMethod)
    assert made.wants_cohort
    assert not method(name).wants_cohort
    with pytest.raises(InputError, match="has not learnt"):
        made.segment(first)

    made.fit_cohort(lambda: iter([lacking, first, second]))
    assert made.cohort.keys() == {int(Region.WALL)}
    results = [made.segment(study) for study in (first, second)]
    assert dice(results[0].labels == 4, ring.sector(0)) > 0.8
    assert dice(results[1].labels == 4, ring.sector(0).flip(0)) > 0.8
    assert results[0].details["networks"] == results[1].details["networks"]  # one network
    with pytest.raises(InputError, match="needs every sequence") as caught:
        made.segment(lacking)
    assert caught.value.problems[0].got == "no bSSFP"
    with pytest.raises(InputError, match="needs every sequence"):
        made.fit_cohort(lambda: iter([lacking]))
