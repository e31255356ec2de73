from dataclasses import replace

import pytest
import torch

from mrigmm.data.standardise import REGION_ZSCORE
from mrigmm.errors import InputError
from mrigmm.labels import Region
from mrigmm.methods.base import Task
from mrigmm.methods.registry import make_method
from mrigmm.mixture import PopulationPrior

from ..conftest import SEQUENCES
from .conftest import CLASSES, dice


def lesion(ring):
    """LGE and T2 with scar in sector 0 (bright in both) and edema in sector 1 (bright in T2, dark in LGE)."""
    lge, t2 = ring.base(), ring.base()
    lge[ring.sector(0)] += 200
    lge[ring.sector(1)] -= 30
    t2[ring.sector(0) | ring.sector(1)] += 100
    t2[ring.study.region == Region.CAVITY] = 20
    return ring.paint(lge, t2=t2)


def prior():
    """Classes as in `lesion`, in its z-scores."""
    means = torch.tensor([[4.0, -1.6, 0], [0, 0, 0], [-0.6, 2.0, 0], [4.0, 2.0, 0]]).double().numpy()
    covariances = torch.eye(3).double().expand(4, 3, 3).numpy() * 0.3
    return PopulationPrior(
        classes=CLASSES,
        sequences=SEQUENCES,
        weights=torch.full((4,), 0.25).double().numpy(),
        means=means,
        covariances=covariances,
        standardisation=REGION_ZSCORE,
    )


def test_clusters_are_named_by_the_prior(ring, segment):
    result = segment("kmeans", lesion(ring), prior=prior())
    truth = {1: ring.study.region == Region.CAVITY, 3: ring.sector(1), 4: ring.sector(0)}
    truth[2] = ring.wall & ~truth[3] & ~truth[4]
    for index, mask in truth.items():
        assert dice(result.labels == index, mask) == 1
    assert set(result.resp.unique().tolist()) == {0.0, 1.0}
    assert result.warnings == ()


def test_an_undivided_ventricle_is_clustered_as_a_whole(ring, segment):
    study = lesion(ring)
    undivided = torch.where(study.region > 0, int(Region.LV), 0).to(torch.uint8)
    apart = segment("kmeans", study, prior=prior()).labels
    assert torch.equal(segment("kmeans", replace(study, region=undivided), prior=prior()).labels, apart)


def test_without_a_prior_clusters_are_named_by_brightness(ring, segment):
    """In T2 alone edema and scar are alike; in the sum of LGE and T2 scar is brightest, then edema."""
    result = segment("kmeans", lesion(ring))
    assert torch.equal(result.labels == 4, ring.sector(0))
    assert torch.equal(result.labels == 3, ring.sector(1))
    assert result.warnings == ("no population prior: classes are ordered by brightness in all sequences",)
    by_lge = segment("kmeans", lesion(ring), order_by=("LGE",))
    assert torch.equal(by_lge.labels == 2, ring.sector(1))  # the darkest in LGE


def test_the_seed_makes_it_reproducible(ring, segment):
    study = ring.study
    first, again = (segment("kmeans", study, seed=3).labels for _ in range(2))
    assert torch.equal(first, again)


def test_a_flat_wall_leaves_classes_empty_and_says_so(ring, segment):
    result = segment("kmeans", ring.paint(torch.where(ring.wall, 100.0, 300.0)))
    assert "some classes are empty" in result.warnings[0]
    assert len(result.labels[ring.wall].unique()) == 1
    assert result.mixture.means.isfinite().all()


def test_what_cannot_be_clustered_is_refused(ring, segment):
    study = lesion(ring)
    observed = study.observed.clone()
    observed[1, ..., 0] = False
    with pytest.raises(InputError, match="cannot leave out single voxels") as caught:
        segment("kmeans", replace(study, observed=observed))
    assert caught.value.problems[0].study == "s1"

    region = torch.where(study.region == Region.CAVITY, study.region, 0)
    region[tuple(ring.wall.nonzero()[0])] = int(Region.WALL)
    with pytest.raises(InputError, match="this small") as caught:
        segment("kmeans", replace(study, region=region))
    assert (caught.value.problems[0].expected, caught.value.problems[0].got) == ("at least 3 voxels", "1")


def test_unknown_settings_are_refused():
    with pytest.raises(InputError, match="has no setting 'k'"):
        make_method("kmeans", Task(CLASSES, SEQUENCES, None), {"k": 3})
