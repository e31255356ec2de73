import math

import pytest
import torch

from mrigmm.data.maps import NO_CLASS
from mrigmm.errors import InputError
from mrigmm.methods import cluster_network
from mrigmm.methods.cluster_crop import Crop, Stack
from mrigmm.methods.cluster_network import clustering_loss, fit_network, kmeans_labels, majority
from mrigmm.methods.settings import CNNContinuitySettings, CNNSuperpixelSettings

METHODS = (CNNContinuitySettings, CNNSuperpixelSettings)


def halves(noise=1.5, named=None):
    """A disc whose halves differ by 2, with noise; and which half a pixel belongs to (1, 40, 40)."""
    a = torch.arange(40) - 19.5
    x, y = torch.meshgrid(a, a, indexing="ij")
    region = (torch.hypot(x, y) < 19)[None]
    half = (x > 0)[None].long()
    image = 2 * half + noise * torch.randn(half.shape, generator=torch.Generator().manual_seed(0))
    image = (image - image[region].mean()) / image[region].std()
    return Stack(image[:, None], region, (1.0, 1.0), named), half


def agreement(labels, truth, region):
    same = float((labels[region] == truth[region]).float().mean())
    return max(same, 1 - same)


def square(responses, **parts):
    """A crop of 2 x 2 pixels, all inside, for responses (1, K, 2, 2)."""
    region = torch.ones(1, 2, 2, dtype=torch.bool)
    named = torch.full((1, 2, 2), NO_CLASS)
    return Crop(responses, region, named, **parts)


def test_the_loss_by_hand():
    """Rows respond (0, ln 3) and (ln 3, 0): p = (1/4, 3/4) and (3/4, 1/4), so that the mean is 1/2 each."""
    step = math.log(3)
    r = torch.tensor([[[[0.0, 0.0], [step, step]], [[step, step], [0.0, 0.0]]]])
    own = -math.log(0.75)
    pairs = (torch.ones(1, 1, 2), torch.ones(1, 2, 1))
    settings = CNNContinuitySettings(continuity=5, balance=3)
    loss = clustering_loss(r, square(r, pairs=pairs), settings)
    # of four pairs the two between the rows differ, by ln 3 in both clusters; no entropy lacks
    assert float(loss) == pytest.approx(own + 5 * step / 2, abs=1e-6)

    alone = torch.tensor([[[[step, step], [step, step]], [[0.0, 0.0], [0.0, 0.0]]]])
    loss = clustering_loss(alone, square(alone, pairs=pairs), settings)
    assert float(loss) == pytest.approx(own + 3 * 0.7 * math.log(2), abs=1e-6)  # one label: no entropy

    given = clustering_loss(r, square(r), settings, torch.tensor([0, 0, 1, 1]))
    assert float(given) == pytest.approx(math.log(4), abs=1e-6)

    named = torch.tensor([[[0, NO_CLASS], [NO_CLASS, NO_CLASS]]])  # where cluster 1 responds more
    scribbled = Crop(r, torch.ones(1, 2, 2, dtype=torch.bool), named)
    assert float(clustering_loss(r, scribbled, settings)) == pytest.approx(own + 0.5 * math.log(4), abs=1e-6)


def test_a_superpixel_takes_its_majority():
    labels = torch.tensor([0, 2, 2, 1, 1, 0])
    superpixels = torch.tensor([0, 0, 0, 1, 1, 2])
    assert majority(labels, superpixels, 3).tolist() == [2, 2, 2, 1, 1, 0]
    assert majority(torch.tensor([1, 0]), torch.tensor([0, 0]), 2).tolist() == [0, 0]  # a tie


@pytest.mark.parametrize("settings", METHODS)
@pytest.mark.parametrize("seed", [0, 1])
def test_halves_under_noise_where_intensity_alone_fails(settings, seed):
    stack, half = halves()
    assert agreement((stack.image[:, 0] > 0).long(), half, stack.region) < 0.75  # k-means, at its best
    fit = fit_network([stack], 2, settings(seed=seed))
    resp = fit.responsibilities(stack)
    assert agreement(resp.argmax(dim=1), half, stack.region) > 0.9
    torch.testing.assert_close(resp.sum(1), stack.region.float())


@pytest.mark.parametrize("settings", METHODS)
def test_the_seed_makes_it_reproducible_and_disturbs_nobody(settings):
    stack, _ = halves()
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    results = [
        fit_network([stack], 3, settings(seed=seed, iterations=5)).responsibilities(stack)
        for seed in (1, 1, 2)
    ]
    assert torch.equal(torch.rand(3), expected)
    assert torch.equal(results[0], results[1])
    assert not torch.equal(results[0], results[2])


def test_the_best_iterate_is_kept(monkeypatch):
    """Most clusters alive first, then the lowest loss: that of update 10, not the last, nor a collapse."""
    looks = iter([(0, 3.0), (0, 1.0), (1, 0.1), (0, math.nan), (0, 2.0)])
    weights = []

    def look(network, *_):
        weights.append(network.head.weight.detach().clone())
        return next(looks)

    monkeypatch.setattr(cluster_network, "_look", look)
    stack, _ = halves()
    fit = fit_network([stack], 2, CNNContinuitySettings(iterations=22))
    assert (fit.iteration, fit.loss, fit.alive) == (10, 1.0, 2)
    assert torch.equal(fit.network.head.weight, weights[1])
    assert not torch.equal(weights[1], weights[-1])


def test_what_is_reported_is_the_network_that_is_returned():
    stack, _ = halves()
    fit = fit_network([stack], 2, CNNContinuitySettings(iterations=12))
    assert not fit.network.training
    seen = cluster_network.crop(stack, fit.settings)
    with torch.no_grad():
        loss = clustering_loss(fit.network(seen.image, seen.region), seen, fit.settings)
    assert float(loss) == pytest.approx(fit.loss)


def test_no_finite_loss_is_an_error(monkeypatch):
    monkeypatch.setattr(cluster_network, "_look", lambda *_: (0, math.nan))
    with pytest.raises(InputError, match="diverged"):
        fit_network([halves()[0]], 2, CNNContinuitySettings(iterations=5))


def test_several_stacks_share_one_network():
    """A stack of one half only is given that half's cluster, as in the stack that shows both."""
    first, half = halves()
    upper = Stack(first.image, first.region & (half == 1), first.spacing_mm)
    fit = fit_network([first, upper, first, first, first], 2, CNNContinuitySettings())
    both, one = (fit.responsibilities(stack).argmax(dim=1)[upper.region] for stack in (first, upper))
    assert float((one == both.mode().values).float().mean()) > 0.95
    assert agreement(fit.responsibilities(first).argmax(dim=1), half, first.region) > 0.9


def sizes(settings):
    """Shares of three clusters in the halves after the last update, whatever was best before."""
    stack, _ = halves()
    resp = fit_network([stack], 3, settings).responsibilities(stack)
    return torch.bincount(resp.argmax(dim=1)[stack.region], minlength=3) / int(stack.region.sum())


@pytest.mark.parametrize("seed", [0, 1])
def test_the_entropy_keeps_clusters_alive(monkeypatch, seed):
    monkeypatch.setattr(cluster_network, "_LOOK_EVERY", 1000)
    assert sizes(CNNContinuitySettings(continuity=2, balance=0, start="random", seed=seed)).min() == 0
    kept = CNNContinuitySettings(continuity=2, balance=10, entropy_share=0.9, start="random", seed=seed)
    assert sizes(kept).min() > 0.05


def test_scribbles_say_which_cluster_of_kmeans_is_which():
    stack, half = halves()
    for cluster in (0, 1):
        named = torch.full(half.shape, NO_CLASS)
        named[0, 30, 18:22] = cluster  # in the half of x > 0
        seen = cluster_network.crop(
            Stack(stack.image, stack.region, (1.0, 1.0), named), CNNContinuitySettings()
        )
        (labels,) = kmeans_labels([seen], 2, seed=0)
        upper = half[stack.region] == 1
        assert float((labels[upper] == cluster).float().mean()) > 0.7


def scar():
    """A wall of noise with two bright scars of 3 x 3 pixels; and where they are."""
    image = 0.3 * torch.randn(1, 1, 40, 40, generator=torch.Generator().manual_seed(0))
    where = torch.zeros(1, 40, 40, dtype=torch.bool)
    where[0, 10:13, 10:13] = where[0, 25:28, 20:23] = True
    image[:, 0][where] += 5
    return Stack((image - image.mean()) / image.std(), torch.ones_like(where), (1.0, 1.0)), where


def test_an_edge_aware_term_costs_a_small_scar_nothing():
    """Two responses that tell the scars exactly: continuity counts their 24 borders, or hardly."""
    stack, where = scar()
    costs = []
    for aware in (False, True):
        settings = CNNContinuitySettings(edge_aware=aware, balance=0)
        seen = cluster_network.crop(stack, settings)
        sharp = 50.0 * torch.nn.functional.one_hot(torch.nn.functional.pad(where.long(), [2] * 4), 2)
        costs.append(float(clustering_loss(sharp.permute(0, 3, 1, 2), seen, settings)))
    assert costs[0] == pytest.approx(50 * 24 / (2 * 39 * 40), rel=1e-4)
    assert costs[1] < 0.001 * costs[0]
