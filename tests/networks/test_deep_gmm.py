from dataclasses import replace

import numpy as np
import pytest
import torch
from scipy.stats import multivariate_normal

from mrigmm.labels import Region, allowed_classes
from mrigmm.networks.deep_gmm import DeepGMM, SliceBatch, batch_log_density

CLASSES = ("blood", "myocardium", "edema", "scar")


@pytest.fixture
def batch():
    """Five slices of two studies, the second without its last sequence; cavity and wall told apart."""
    generator = torch.Generator().manual_seed(3)
    image = torch.randn(5, 3, 16, 16, generator=generator)
    image[3:, 2] = 0
    region = torch.zeros(5, 16, 16, dtype=torch.uint8)
    region[:, 3:13, 3:13] = Region.WALL
    region[:, 6:10, 6:10] = Region.CAVITY
    return SliceBatch(
        image=image,
        region=region,
        mixture_index=torch.tensor([0, 0, 0, 1, 1]),
        present=torch.tensor([[True, True, True], [True, True, False]]),
        allowed=torch.tensor(allowed_classes(CLASSES)),
    )


def make_network(**changes):
    torch.manual_seed(0)
    options = {"filters": 4, "levels": 2, "covariance": "full", "variance_floor": 1e-3, "prior": None}
    return DeepGMM(3, 4, **(options | changes))


def test_shapes(batch):
    output = make_network()(batch)
    assert output.resp.shape == (5, 4, 16, 16)
    assert output.mixture.weights.shape == (2, 4)
    assert output.mixture.means.shape == (2, 4, 3)
    assert output.mixture.covariances.shape == (2, 4, 3, 3)


def test_responsibilities_sum_to_one_inside_and_vanish_outside(batch):
    total = make_network()(batch).resp.sum(dim=1)
    inside = batch.region > 0
    torch.testing.assert_close(total[inside], torch.ones(int(inside.sum())))
    assert (total[~inside] == 0).all()


def test_blood_only_in_the_cavity_and_nothing_else_there(batch):
    resp = make_network()(batch).resp
    blood, others = resp[:, 0], resp[:, 1:].sum(dim=1)
    assert (blood[batch.region == Region.WALL] == 0).all()
    assert (others[batch.region == Region.CAVITY] == 0).all()


def test_mixture_is_that_of_all_slices_of_the_study(batch):
    """Means and covariances against numpy's weighted averages over the study's voxels."""
    output = make_network()(batch)
    inside = (batch.region[:3] > 0).numpy()
    x = np.moveaxis(batch.image[:3].numpy(), 1, -1)[inside]  # (N, C)
    w = np.moveaxis(output.resp[:3].detach().numpy(), 1, -1)[inside]  # (N, K)
    for k in range(4):
        mean = np.average(x, axis=0, weights=w[:, k])
        covariance = np.cov(x.T, aweights=w[:, k], bias=True) + 1e-3 * np.eye(3)
        np.testing.assert_allclose(output.mixture.means[0, k].detach(), mean, atol=1e-5)
        np.testing.assert_allclose(output.mixture.covariances[0, k].detach(), covariance, atol=1e-5)
    np.testing.assert_allclose(output.mixture.weights[0].detach(), w.mean(axis=0), atol=1e-6)


def test_density_of_a_missing_sequence_is_the_marginal(batch):
    output = make_network()(batch)
    log_density = batch_log_density(output, batch)  # (B, N, K)
    assert log_density.shape == (5, 256, 4)
    x = batch.image[4, :2].flatten(1).T.numpy()  # (N, 2): the third sequence is missing
    for k in range(4):
        expected = multivariate_normal(
            output.mixture.means[1, k, :2].detach(), output.mixture.covariances[1, k, :2, :2].detach()
        ).logpdf(x)
        np.testing.assert_allclose(log_density[4, :, k].detach(), expected, rtol=1e-4, atol=1e-4)


def test_equal_slices_give_equal_output_wherever_they_stand(batch):
    network = make_network().eval()
    turned = SliceBatch(
        batch.image.flip(0),
        batch.region.flip(0),
        1 - batch.mixture_index.flip(0),
        batch.present.flip(0),
        batch.allowed,
    )
    a, b = network(batch), network(turned)
    torch.testing.assert_close(a.resp, b.resp.flip(0))
    torch.testing.assert_close(a.mixture.means, b.mixture.means.flip(0))


def test_a_3d_network_sees_the_slices_of_each_study_as_one_volume(batch):
    """Also where the slices of two studies alternate."""
    network = make_network(spatial_dims=3).eval()
    output = network(batch)
    volume = batch.image[:3].movedim(0, -1)[None]  # (1, C, X, Y, Z)
    logits = network.unet(volume)[0].movedim(-1, 0)  # (Z, K, X, Y)
    inside = (batch.region[:3] == Region.WALL)[:, None]
    # in the wall: edema against scar, both allowed
    torch.testing.assert_close(
        (output.log_resp[:3, 3:4] - output.log_resp[:3, 2:3])[inside],
        (logits[:, 3:4] - logits[:, 2:3])[inside],
        atol=1e-5,
        rtol=1e-4,
    )
    mixed = torch.tensor([3, 0, 1, 4, 2])
    again = network(
        replace(
            batch,
            image=batch.image[mixed],
            region=batch.region[mixed],
            mixture_index=batch.mixture_index[mixed],
        )
    )
    torch.testing.assert_close(again.resp, output.resp[mixed])
    torch.testing.assert_close(again.mixture.means, output.mixture.means)


def test_the_published_mode_has_no_second_output(batch):
    """Means come from the responsibilities alone: `parameters="mstep"` has no parameters for them."""
    assert make_network().parameter_head is None
    with_head = make_network(parameters="head")
    assert with_head(batch).mixture.means.shape == (2, 4, 3)
    extra = with_head.state_dict().keys() - make_network().state_dict().keys()
    assert extra == {"parameter_head.linear.weight", "parameter_head.linear.bias"}
