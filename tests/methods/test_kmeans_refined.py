from dataclasses import replace

import numpy as np
import pytest
import torch
from sklearn import cluster

from mrigmm.errors import InputError
from mrigmm.labels import Region
from mrigmm.methods.base import Task
from mrigmm.methods.registry import make_method

from ..conftest import SEQUENCES
from .conftest import CLASSES, dice
from .test_kmeans import lesion, prior


def undivided(study):
    region = torch.where(study.region > 0, int(Region.LV), 0).to(torch.uint8)
    return replace(study, region=region)


@pytest.mark.parametrize("start", ["em-gmm", "map-em", "kmeans"])
def test_classes_keep_the_names_of_the_start(ring, segment, start):
    result = segment("kmeans-refined", lesion(ring), prior=prior(), start=start)
    truth = {1: ring.study.region == Region.CAVITY, 3: ring.sector(1), 4: ring.sector(0)}
    for index, mask in truth.items():
        assert dice(result.labels == index, mask) == 1
    assert set(result.resp.unique().tolist()) == {0.0, 1.0}
    assert result.warnings == ()


@pytest.mark.parametrize("weight", [0.0, 2.0])
def test_the_formula(ring, segment, weight):
    """Lloyd's iterations on [x, weight r] from sum r f / sum r; with weight 0 on the intensities alone."""
    study = undivided(ring.paint(ring.base() + 30 * torch.randn(ring.wall.shape), t2=ring.base()))
    inside = study.region > 0
    first = segment("map-em", study, prior=prior())
    r = first.resp[:, inside].T.double().numpy()
    features = np.concatenate([study.voxels[:, :2].double().numpy(), weight * r], axis=1)
    means = r.T @ features / r.sum(axis=0)[:, None]
    expected = cluster.KMeans(4, init=means, n_init=1).fit_predict(features)
    result = segment("kmeans-refined", study, prior=prior(), start="map-em", weight=weight)
    assert (result.labels[inside].numpy() == expected + 1).all()
    assert len(np.unique(expected)) == 4


def test_a_class_that_the_start_does_not_know_stays_empty(ring, segment):
    """Otsu knows scar and normal wall; no other cluster takes the name of edema."""
    result = segment("kmeans-refined", lesion(ring), prior=prior(), start="otsu")
    assert not (result.labels == 3).any()
    assert torch.equal(result.labels == 4, ring.sector(0))
    assert "classes without a voxel: edema" in result.warnings


def test_the_side_file_says_what_was_refined(ring):
    method = make_method("kmeans-refined", Task(CLASSES, SEQUENCES, prior()), {"start": "map-em"})
    described = method.describe()
    assert (described["start"], described["weight"]) == ("map-em", 1.0)
    assert described["start_settings"]["prior_strength"] == 0.1
    assert not method.wants_cohort


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        ({"start": "em-gnm"}, "did you mean em-gmm"),
        ({"start": "kmeans-refined"}, "cannot refine itself"),
        ({"weight": -1}, "greater than or equal to 0"),
        ({"starts": "em-gmm"}, "did you mean start"),
    ],
)
def test_what_cannot_be_is_refused(overrides, message):
    with pytest.raises(InputError) as caught:
        make_method("kmeans-refined", Task(CLASSES, SEQUENCES, prior()), overrides)
    assert message in str(caught.value)


def test_a_field_of_view_that_ends_in_the_region_is_refused(ring, segment):
    study = lesion(ring)
    observed = study.observed.clone()
    observed[1, ..., 0] = False
    with pytest.raises(InputError, match="cannot leave out single voxels"):
        segment("kmeans-refined", replace(study, observed=observed), prior=prior())
