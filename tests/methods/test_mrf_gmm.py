from dataclasses import replace

import pytest
import torch

from mrigmm.errors import InputError
from mrigmm.labels import Region
from mrigmm.methods.base import Task
from mrigmm.methods.registry import make_method
from mrigmm.mixture import log_gaussian

from ..conftest import SEQUENCES
from .conftest import CLASSES, dice
from .test_kmeans import lesion, prior


def noisy(ring, sd=0.6, seed=0):
    """The lesion with noise in LGE and T2 that plain posteriors cannot resolve."""
    study = lesion(ring)
    noise = torch.randn(study.image.shape, generator=torch.Generator().manual_seed(seed)) * sd
    image = study.image.clone()
    image[:] = study.image + noise * study.observed
    return replace(study, image=image)


def test_neighbours_resolve_what_single_voxels_cannot(ring, segment):
    """Edema differs from normal wall by 2.1 z-scores, of noise 0.8: about one voxel in ten is wrong."""
    study = noisy(ring, sd=0.8)
    truth = torch.where(ring.wall, 2, 0)
    truth[study.region == Region.CAVITY], truth[ring.sector(1)], truth[ring.sector(0)] = 1, 3, 4
    wrong = [
        int((segment("mrf-gmm", study, prior=prior(), beta=beta).labels != truth).sum())
        for beta in (0.0, 1.0)
    ]
    assert wrong[0] > 0.05 * int(ring.wall.sum())
    assert wrong[1] < 0.5 * wrong[0]


def test_without_coupling_it_is_the_posterior_with_the_populations_weights(ring, segment):
    study = noisy(ring)
    result = segment("mrf-gmm", study, prior=prior(), beta=0.0)
    assert result.mixture.weights[0].tolist() == [0.25] * 4
    x, _ = study.present_voxels()
    log_density = log_gaussian(x.double(), result.mixture.means[0], result.mixture.covariances[0])
    in_wall = ring.wall[study.region > 0]
    expected = log_density[in_wall, 1:].softmax(1)  # blood is not allowed there
    torch.testing.assert_close(result.resp[1:, ring.wall].T.double(), expected, atol=1e-6, rtol=0)


def test_without_a_prior_classes_keep_to_their_part_and_follow_brightness(ring, segment):
    study = noisy(ring, sd=0.2)
    result = segment("mrf-gmm", study, beta=0.5, order_by=("LGE", "T2"))
    assert torch.equal(result.labels == 1, ring.study.region == Region.CAVITY)
    means = result.mixture.means[0, 1:].sum(1)
    assert means.tolist() == sorted(means.tolist())
    assert dice(result.labels == 4, ring.sector(0)) > 0.95
    assert result.warnings == ("no population prior: classes are ordered by brightness in LGE, T2",)
    again = segment("mrf-gmm", study, beta=0.5, order_by=("LGE", "T2"))
    assert torch.equal(result.resp, again.resp)


def test_a_study_without_t2_is_fitted_in_what_it_has(ring, segment):
    study = noisy(ring, sd=0.2)
    image, observed = study.image.clone(), study.observed.clone()
    image[1], observed[1] = 0, False
    result = segment("mrf-gmm", replace(study, image=image, observed=observed), prior=prior())
    assert result.sequences == ("LGE",)
    assert result.mixture.means.shape == (1, 4, 1)
    assert dice(result.labels == 4, ring.sector(0)) > 0.95


def test_a_fit_that_is_cut_short_says_so(ring, segment):
    result = segment("mrf-gmm", noisy(ring), prior=prior(), max_iter=1)
    assert not result.converged
    assert result.warnings == ("the fit stopped at 1 iterations",)


def test_what_cannot_be_fitted_is_refused(ring, segment):
    study = lesion(ring)
    observed = study.observed.clone()
    observed[1, ..., 0] = False
    with pytest.raises(InputError, match="mrf-gmm cannot leave out single voxels") as caught:
        segment("mrf-gmm", replace(study, observed=observed))
    assert caught.value.problems[0].study == "s1"

    few = torch.zeros_like(study.region)
    few[tuple(ring.wall.nonzero()[0])] = int(Region.WALL)
    with pytest.raises(InputError, match="fewer voxels than there are classes"):
        segment("mrf-gmm", replace(study, region=few))


@pytest.mark.parametrize(
    ("settings", "message"),
    [({"beta": -1}, "not allowed"), ({"order_by": ("T9",)}, "unknown sequence"), ({"k": 3}, "no setting")],
)
def test_settings_that_make_no_sense_are_refused(settings, message):
    with pytest.raises(InputError, match=message):
        make_method("mrf-gmm", Task(CLASSES, SEQUENCES, None), settings)
