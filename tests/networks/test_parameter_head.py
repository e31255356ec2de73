import numpy as np
import pytest
import torch
from scipy.stats import multivariate_normal

from mrigmm.labels import Region, allowed_classes
from mrigmm.networks.deep_gmm import DeepGMM, SliceBatch, batch_log_density, negative_log_likelihood
from mrigmm.networks.parameter_head import ParameterHead

CLASSES = ("blood", "myocardium", "edema", "scar")
FLOOR = 0.01


def make_head(covariance="full", dtype=torch.float64, scale=1.0):
    torch.manual_seed(0)
    head = ParameterHead(6, 4, 3, covariance, FLOOR).to(dtype)  # drawn in float32
    with torch.no_grad():
        head.linear.weight.mul_(scale)
    return head


def features_of(dtype=torch.float64):
    generator = torch.Generator().manual_seed(1)
    region = torch.zeros(5, 8, 8, dtype=torch.uint8)
    region[:, 2:6, 2:4] = Region.LV
    return torch.randn(5, 6, 4, 4, generator=generator, dtype=torch.float64).to(dtype), region


INDEX = torch.tensor([0, 0, 1, 1, 1])


@pytest.mark.parametrize("covariance", ["full", "diag"])
@pytest.mark.parametrize("scale", [1.0, 100.0])
def test_covariances_are_positive_definite_and_respect_the_floor(covariance, scale):
    """Also far out, where softplus is 0 or linear: every eigenvalue is at least the floor."""
    means, covariances = make_head(covariance, scale=scale)(*features_of(), INDEX, 2)
    assert means.shape == (2, 4, 3)
    assert covariances.shape == (2, 4, 3, 3)
    torch.testing.assert_close(covariances, covariances.mT)
    largest = covariances.abs().max().item()
    assert np.linalg.eigvalsh(covariances.detach().numpy()).min() >= FLOOR - 1e-12 * largest
    off_diagonal = (covariances - torch.diag_embed(covariances.diagonal(dim1=-2, dim2=-1))).abs().max()
    assert (off_diagonal == 0) == (covariance == "diag")


def test_parameters_against_numpy():
    """Average over the region, linear layer, softplus, L L^T + floor, written out for one mixture."""
    head = make_head()
    features, region = features_of()
    means, covariances = head(features, region, INDEX, 2)
    f, r = features[2:].numpy(), region[2:].numpy()
    weights = (r.reshape(3, 4, 2, 4, 2) > 0).mean(axis=(2, 4)) + 1e-6  # share of each 2 x 2 block
    pooled = (f * weights[:, None]).sum(axis=(0, 2, 3)) / weights.sum()
    raw = (head.linear.weight.detach().numpy() @ pooled + head.linear.bias.detach().numpy()).reshape(4, 9)
    for k in range(4):
        np.testing.assert_allclose(means[1, k].detach(), raw[k, :3], rtol=1e-12)
        factor = np.diag(np.log1p(np.exp(raw[k, 3:6])))
        factor[1, 0], factor[2, 0], factor[2, 1] = raw[k, 6:]
        expected = factor @ factor.T + FLOOR * np.eye(3)
        np.testing.assert_allclose(covariances[1, k].detach(), expected, rtol=1e-12)


def test_float32_agrees_with_float64():
    single = make_head(dtype=torch.float32)(*features_of(torch.float32), INDEX, 2)
    double = make_head()(*features_of(), INDEX, 2)
    for a, b in zip(single, double, strict=True):
        torch.testing.assert_close(a.double(), b, rtol=1e-4, atol=1e-5)


def test_a_mixture_without_region_has_parameters():
    features, region = features_of()
    means, covariances = make_head()(features, torch.zeros_like(region), INDEX, 2)
    assert means.isfinite().all()
    assert covariances.isfinite().all()


def make_batch(dtype=torch.float64):
    generator = torch.Generator().manual_seed(11)
    region = torch.full((4, 8, 8), int(Region.LV), dtype=torch.uint8)
    region[:, :2] = Region.OUTSIDE
    present = torch.tensor([[True, True], [True, False]])
    image = torch.randn(4, 2, 8, 8, generator=generator, dtype=dtype)
    image[2:, 1] = 0
    allowed = torch.tensor(allowed_classes(CLASSES))
    return SliceBatch(image, region, torch.tensor([0, 0, 1, 1]), present, allowed)


def make_network(covariance):
    torch.manual_seed(5)
    options = {"covariance": covariance, "variance_floor": FLOOR, "prior": None, "parameters": "head"}
    return DeepGMM(2, 4, filters=2, levels=1, **options).double()


@pytest.mark.parametrize("objective", ["nll", "nll_v"])
@pytest.mark.parametrize("covariance", ["full", "diag"])
def test_gradient_reaches_the_head_and_is_that_of_finite_differences(objective, covariance):
    network, batch = make_network(covariance), make_batch()
    weight = network.parameter_head.linear.weight
    negative_log_likelihood(network(batch), batch, objective).backward()
    # rows: class-major; means, diagonal, lower triangle
    assert (weight.grad.abs().sum(dim=1) > 0).all()
    encoder = [p.grad for name, p in network.named_parameters() if name.startswith("unet.down")]
    assert all(g is not None and g.isfinite().all() for g in encoder)
    step = 1e-6
    for index in [(0, 0), (3, 1), (weight.shape[0] - 1, 2)]:
        values = []
        for sign in (1, -1):
            with torch.no_grad():
                weight[index] += sign * step
                values.append(negative_log_likelihood(network(batch), batch, objective).item())
                weight[index] -= sign * step
        numeric = (values[0] - values[1]) / (2 * step)
        assert weight.grad[index].item() == pytest.approx(numeric, rel=1e-5, abs=1e-9)


def test_density_is_that_of_the_heads_parameters():
    network, batch = make_network("full"), make_batch()
    output = network(batch)
    log_density = batch_log_density(output, batch)  # (B, N, K)
    x = batch.image[1].flatten(1).T.numpy()
    for k in range(4):
        means, covariances = output.mixture.means[0, k], output.mixture.covariances[0, k]
        expected = multivariate_normal(means.detach(), covariances.detach()).logpdf(x)
        np.testing.assert_allclose(log_density[1, :, k].detach(), expected, rtol=1e-9)
    # weights stay the mean responsibilities of the mixture's voxels
    inside = (batch.region[:2] > 0)[:, None]
    share = (output.resp[:2] * inside).sum(dim=(0, 2, 3)) / inside.sum()
    torch.testing.assert_close(output.mixture.weights[0], share)
