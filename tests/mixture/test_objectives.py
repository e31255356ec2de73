"""Objectives: values, gradients against finite differences, and that nothing makes them NaN."""

from __future__ import annotations

import pytest
import torch

from mrigmm.mixture import (
    log_gaussian,
    log_likelihood,
    m_step,
    masked_mean,
    nll,
    pool_mean,
    posterior,
    region_log_prior,
    safe_log,
    statistics,
)

B, N, K, C = 2, 60, 3, 2
NEVER = float("-inf")


def outlier_voxels(generator, deviations):
    x = torch.randn(B, N, C, generator=generator).double()
    x[:, :1] = deviations
    return x


def objective(name, x, mask):
    """Each objective as a function of a network's logits, through the M-step."""

    def value(logits):
        log_w = logits.log_softmax(-1)
        w = torch.where(mask[..., None], log_w.exp(), 0.0)
        mixture = m_step(statistics(x, w), covariance="full")
        density = log_gaussian(x, mixture.means, mixture.covariances)
        log_prior = safe_log(mixture.weights)[..., None, :]
        return {"nll": lambda: nll(log_prior, density, mask), "nll_v": lambda: nll(log_w, density, mask)}[
            name
        ]()

    return value


OBJECTIVES = ("nll", "nll_v")


@pytest.mark.parametrize("name", OBJECTIVES)
@pytest.mark.parametrize("deviations", [0.0, 4.0, 20.0])
def test_gradient_with_outliers(generator, name, deviations):
    x = outlier_voxels(generator, deviations)
    mask = torch.rand(B, N, generator=generator) > 0.2
    mask[:, 0] = True
    logits = torch.randn(B, N, K, generator=generator).double().requires_grad_()
    assert torch.autograd.gradcheck(objective(name, x, mask), (logits,))


@pytest.mark.parametrize("deviations", [4.0, 20.0, 1e6])
def test_outlier_keeps_its_gradient_in_float32(deviations):
    """Its pull on the mean is the distance, also where its density underflows: -(x - mu) / N by hand."""
    x = torch.zeros(100, 1)
    x[0] = deviations
    for dtype in (torch.float32, torch.float64):
        means = torch.tensor([[0.0], [0.0]], dtype=dtype, requires_grad=True)
        density = log_gaussian(x.to(dtype), means, torch.ones(2, 1, 1, dtype=dtype))
        nll(torch.tensor([0.5, 0.5]).log(), density, torch.ones(100, dtype=torch.bool)).backward()
        torch.testing.assert_close(means.grad, torch.full_like(means, -deviations / 200), rtol=1e-4, atol=0)


@pytest.mark.parametrize("name", OBJECTIVES)
@pytest.mark.parametrize(
    "case", ["empty mask", "constant image", "one voxel", "outlier 1e6", "collapsed class"]
)
def test_never_nan(generator, name, case):
    x = torch.randn(B, N, C, generator=generator)
    mask = torch.ones(B, N, dtype=torch.bool)
    logits = torch.randn(B, N, K, generator=generator)
    if case == "empty mask":
        mask[0] = False
    elif case == "constant image":
        x = torch.full_like(x, 1000.0)
    elif case == "one voxel":
        mask[:, 1:] = False
    elif case == "outlier 1e6":
        x[:, 0] = 1e6
    else:
        logits[..., 0] = -1e4
    logits.requires_grad_()
    value = objective(name, x, mask)(logits)
    value.sum().backward()
    assert torch.isfinite(value).all()
    assert torch.isfinite(logits.grad).all()
    if case == "empty mask":
        assert value[0] == 0
        assert (logits.grad[0] == 0).all()
        assert (logits.grad[1] != 0).any()


def test_values_by_hand():
    """Weights 1/4 and 3/4, densities 2 and 4, 8 and 0: evidence 3.5 and 2. The third is masked."""
    log_prior = torch.tensor([0.25, 0.75]).double().log()
    density = safe_log(torch.tensor([[2.0, 4.0], [8.0, 0.0], [5.0, 5.0]]).double())
    mask = torch.tensor([True, True, False])
    expected = torch.tensor([3.5, 2.0, 5.0]).double().log()
    torch.testing.assert_close(log_likelihood(log_prior, density), expected)
    torch.testing.assert_close(
        log_likelihood(log_prior, density[0]), expected[0]
    )  # one voxel without an axis
    torch.testing.assert_close(nll(log_prior, density, mask), -expected[:2].mean())
    resp = torch.tensor([[1 / 7, 6 / 7], [1.0, 0.0], [0.25, 0.75]]).double()
    torch.testing.assert_close(posterior(log_prior, density), resp)
    torch.testing.assert_close(posterior(log_prior, density[0]), resp[0])
    assert masked_mean(torch.tensor([1.0, 2.0, 9.0]), mask).item() == 1.5
    assert masked_mean(torch.tensor([1.0, 2.0, 9.0]), mask & False).item() == 0


def test_forbidden_classes(generator):
    """-inf log priors: safe in value and gradient, and the same as leaving the class out."""
    density = torch.randn(N, K, generator=generator).double().requires_grad_()
    log_prior = torch.tensor([0.3, 0.7, 0.0]).double().log()
    log_prior[2] = NEVER
    mask = torch.ones(N, dtype=torch.bool)
    value = nll(log_prior, density, mask)
    torch.testing.assert_close(value, nll(log_prior[:2], density[:, :2], mask))
    value.backward()
    assert torch.isfinite(density.grad).all()
    assert (density.grad[:, 2] == 0).all()
    resp = posterior(log_prior, density)
    assert (resp[:, 2] == 0).all()
    torch.testing.assert_close(resp.sum(-1), torch.ones(N).double())


def test_voxel_without_any_allowed_class_counts_as_outside():
    density = torch.zeros(2, K)
    log_prior = torch.tensor([[NEVER] * K, [0.5, 0.25, 0.25]])
    log_prior[1] = log_prior[1].log()
    density.requires_grad_()
    value = nll(log_prior, density, torch.ones(2, dtype=torch.bool))
    assert value.item() == pytest.approx(0.0, abs=1e-6)
    value.backward()
    assert torch.isfinite(density.grad).all()
    assert (posterior(log_prior, density)[0] == 0).all()
    assert log_likelihood(log_prior, density)[0] == NEVER


def test_permuting_classes_changes_nothing(generator):
    density, log_w = torch.randn(2, N, K, generator=generator), torch.randn(2, N, K, generator=generator)
    log_w = log_w.log_softmax(-1)
    mask, order = torch.ones(2, N, dtype=torch.bool), [2, 0, 1]
    torch.testing.assert_close(nll(log_w, density, mask), nll(log_w[..., order], density[..., order], mask))


class TestRegionLogPrior:
    allowed = torch.tensor([[False, False, False], [True, False, False], [False, True, True]])

    def test_renormalises_over_allowed(self):
        weights = torch.tensor([0.5, 0.3, 0.2]).double()
        got = region_log_prior(weights, self.allowed, torch.tensor([1, 2, 0])).exp()
        expected = torch.tensor([[1.0, 0.0, 0.0], [0.0, 0.6, 0.4], [0.0, 0.0, 0.0]]).double()
        torch.testing.assert_close(got, expected)

    def test_batches(self, generator):
        weights = torch.rand(4, K, generator=generator).softmax(-1)
        region = torch.randint(0, 3, (4, N), generator=generator)
        together = region_log_prior(weights, self.allowed, region)
        for s in range(4):
            torch.testing.assert_close(together[s], region_log_prior(weights[s], self.allowed, region[s]))
        shared = region_log_prior(weights[0], self.allowed, region)
        torch.testing.assert_close(shared[2], region_log_prior(weights[0], self.allowed, region[2]))
        for allowed in (self.allowed, torch.ones(3, K, dtype=torch.bool)):
            several = region_log_prior(weights, allowed, region[0])
            assert several.shape == (4, N, K)
            torch.testing.assert_close(several[1], region_log_prior(weights[1], allowed, region[0]))

    def test_without_constraint_the_region_does_not_matter(self, generator):
        weights = torch.rand(4, K, generator=generator).double().requires_grad_()
        region = torch.randint(0, 2, (4, N), generator=generator)
        got = region_log_prior(weights, torch.ones(2, K, dtype=torch.bool), region)
        expected = (weights / weights.sum(-1, keepdim=True)).log()[:, None, :].expand(4, N, K)
        torch.testing.assert_close(got, expected)
        assert region_log_prior(weights[0], torch.ones(2, K, dtype=torch.bool), region).shape == (4, N, K)

    def test_weightless_classes_share_and_gradients_are_finite(self):
        weights = torch.tensor([1.0, 0.0, 0.0]).requires_grad_()
        got = region_log_prior(weights, self.allowed, torch.tensor([2, 1]))
        torch.testing.assert_close(got[0].detach().exp(), torch.tensor([0.0, 0.5, 0.5]))
        torch.where(got > NEVER, got, 0.0).sum().backward()
        assert torch.isfinite(weights.grad).all()


def test_study_mean_over_slices():
    """Two slices of study 0 with 1 and 3 voxels, none of study 1."""
    values = torch.tensor([[4.0, 9.0, 9.0], [1.0, 2.0, 3.0]])
    mask = torch.tensor([[True, False, False], [True, True, True]])
    got = pool_mean(values, mask, torch.tensor([0, 0]), 2)
    torch.testing.assert_close(got, torch.tensor([2.5, 0.0]))
