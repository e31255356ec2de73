import math

import numpy as np
import pytest
import torch

from mrigmm.labels import Region, allowed_classes
from mrigmm.mixture import Mixture
from mrigmm.networks.deep_gmm import (
    DeepGMM,
    DeepGMMOutput,
    SliceBatch,
    mean_distance,
    negative_log_likelihood,
)

CLASSES = ("blood", "myocardium", "edema", "scar")


def make_batch(dtype=torch.float32, outliers=False):
    generator = torch.Generator().manual_seed(11)
    image = torch.randn(4, 2, 8, 8, generator=generator, dtype=dtype)
    if outliers:
        image[0, :, 3, 3] = 20.0
    region = torch.full((4, 8, 8), int(Region.LV), dtype=torch.uint8)
    region[:, :2] = Region.OUTSIDE
    return SliceBatch(
        image,
        region,
        torch.tensor([0, 0, 1, 1]),
        torch.ones(2, 2, dtype=torch.bool),
        torch.tensor(allowed_classes(CLASSES)),
    )


def make_network(covariance="diag"):
    torch.manual_seed(5)
    return DeepGMM(2, 4, filters=2, levels=1, covariance=covariance, variance_floor=1e-3, prior=None)


@pytest.mark.parametrize("objective", ["nll", "nll_v"])
def test_likelihood_against_the_published_formula(objective):
    """Against loops over mixtures, voxels, classes and channels, in float64."""
    batch = make_batch()
    output = make_network()(batch)
    per_mixture = []
    for s in range(2):
        values = []
        for b in np.flatnonzero(batch.mixture_index.numpy() == s):
            for i, j in np.argwhere(batch.region[b].numpy() > 0):
                total = 0.0
                for k in range(4):
                    density = 1.0
                    for c in range(2):
                        mean = output.mixture.means[s, k, c].item()
                        variance = output.mixture.covariances[s, k, c, c].item()
                        delta = batch.image[b, c, i, j].item() - mean
                        density *= math.exp(-0.5 * delta**2 / variance) / math.sqrt(2 * math.pi * variance)
                    weight = output.mixture.weights[s, k] if objective == "nll" else output.resp[b, k, i, j]
                    total += weight.item() * density
                values.append(-math.log(total))
        per_mixture.append(np.mean(values))
    loss = negative_log_likelihood(output, batch, objective)
    assert loss.item() == pytest.approx(np.mean(per_mixture), rel=1e-5)


@pytest.mark.parametrize("objective", ["nll", "nll_v"])
@pytest.mark.parametrize("covariance", ["diag", "full"])
def test_gradient_with_an_outlier_against_finite_differences(objective, covariance):
    network, batch = make_network(covariance).double(), make_batch(torch.float64, outliers=True)
    parameter = network.unet.head.weight
    loss = negative_log_likelihood(network(batch), batch, objective)
    [gradient] = torch.autograd.grad(loss, parameter)
    step = 1e-6
    for index in [(0, 0, 0, 0), (2, 1, 0, 0)]:
        values = []
        for sign in (1, -1):
            with torch.no_grad():
                parameter[index] += sign * step
                values.append(negative_log_likelihood(network(batch), batch, objective).item())
                parameter[index] -= sign * step
        numeric = (values[0] - values[1]) / (2 * step)
        assert gradient[index].item() == pytest.approx(numeric, rel=1e-4, abs=1e-8)


def test_gradient_is_finite_in_float32_with_an_empty_slice_and_a_far_outlier():
    batch = make_batch(outliers=True)
    batch.region[1] = 0
    batch.image[2, 0, 5, 5] = 1e4
    network = make_network()
    negative_log_likelihood(network(batch), batch, "nll_v").backward()
    assert all(p.grad.isfinite().all() for p in network.parameters())


def test_mean_regulariser_counts_each_mixture_by_itself():
    """Opposite errors of two studies must not cancel: (1 - 0)^2 and (-1 - 0)^2 average to 1 per entry."""
    batch = make_batch()
    means = torch.stack([torch.ones(4, 2), -torch.ones(4, 2)])
    mixture = Mixture(torch.full((2, 4), 0.25), means, torch.eye(2).expand(2, 4, 2, 2))
    output = DeepGMMOutput(torch.empty(0), torch.empty(0), mixture)
    assert mean_distance(output, batch, torch.zeros(4, 2)).item() == 8.0  # 4 classes x 2 sequences
    batch.present[:, 1] = False
    assert mean_distance(output, batch, torch.zeros(4, 2)).item() == 4.0
