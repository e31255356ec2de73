"""Densities, statistics and M-steps against naive formulas."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.integrate import quad
from scipy.stats import multivariate_normal

from mrigmm.mixture import (
    MapPrior,
    Mixture,
    Statistics,
    constrained_weights,
    log_gaussian,
    log_map_prior,
    m_step,
    region_log_weights,
    statistics,
)
from mrigmm.mixture.gaussian import cholesky
from mrigmm.mixture.moments import _lost

K, C, N = 3, 2, 40
TYPES = ("full", "diag", "tied", "spherical")


@pytest.fixture
def x(generator):
    return torch.randn(N, C, generator=generator).double() + 1.0


@pytest.fixture
def resp(generator):
    return torch.rand(N, K, generator=generator).double().softmax(-1)


def random_covariances(generator, *shape):
    factor = torch.randn(*shape, C, C, generator=generator).double()
    return factor @ factor.mT + 0.1 * torch.eye(C)


def make_prior(generator, kappa=0.1, nu=0.2, a=0.3):
    means = torch.randn(K, C, generator=generator).double()
    weights = torch.tensor([0.5, 0.3, 0.2]).double()
    return MapPrior(means, random_covariances(generator, K), weights, kappa, nu, a)


class TestLogGaussian:
    @pytest.mark.parametrize("scale", [1.0, 1e4])
    def test_equals_scipy(self, generator, x, scale):
        """Both formulas: features (scale 1) and differences (scale 1e4, beyond what features may cancel)."""
        means = scale * torch.randn(K, C, generator=generator).double()
        covariances = random_covariances(generator, K)
        values = log_gaussian(scale * x, means, covariances)
        for k in range(K):
            expected = multivariate_normal(means[k], covariances[k]).logpdf(scale * x)
            np.testing.assert_allclose(values[:, k], expected, rtol=1e-10)

    def test_float32_and_float16_far_from_zero(self, generator):
        x = torch.randn(200, C, generator=generator).double()
        means, covariances = torch.zeros(K, C).double(), random_covariances(generator, K)
        exact = log_gaussian(x.float().double() + 1000.0, means + 1000.0, covariances)
        single = log_gaussian(x.float() + 1000.0, means + 1000.0, covariances)
        assert single.dtype == torch.float32
        # The images themselves have a resolution of 6e-5 at 1000.
        torch.testing.assert_close(single.double(), exact, rtol=1e-3, atol=2e-2)
        half = log_gaussian(x.half(), means, covariances)
        torch.testing.assert_close(half.double(), log_gaussian(x.half().double(), means, covariances))

    def test_batch_dimensions(self, generator):
        x = torch.randn(2, 5, N, C, generator=generator)
        means, covariances = (
            torch.randn(2, 5, K, C, generator=generator),
            random_covariances(generator, 2, 5, K),
        )
        together = log_gaussian(x, means, covariances)
        assert together.shape == (2, 5, N, K)
        one = log_gaussian(x[1, 3], means[1, 3], covariances[1, 3])
        torch.testing.assert_close(together[1, 3], one, rtol=1e-5, atol=1e-5)

    def test_missing_sequence_is_integrated_out(self):
        """Against numerical integration over the missing sequence."""
        mean, covariance = (
            torch.tensor([[0.3, -0.5]]).double(),
            torch.tensor([[[1.0, 0.6], [0.6, 2.0]]]).double(),
        )
        for value in (-1.0, 0.2, 2.5):
            x = torch.tensor([[value, float("nan")]]).double()
            density = multivariate_normal(mean[0], covariance[0]).pdf
            expected, _ = quad(lambda other, v=value, f=density: f([v, other]), -20, 20)
            got = log_gaussian(x, mean, covariance, present=torch.tensor([True, False]))
            assert got.exp().item() == pytest.approx(expected, rel=1e-8)

    def test_missing_sequences_per_batch_entry(self, generator):
        x = torch.randn(2, N, C, generator=generator).double()
        means, covariances = (
            torch.randn(2, K, C, generator=generator).double(),
            random_covariances(generator, 2, K),
        )
        present = torch.tensor([[True, True], [False, True]])
        values = log_gaussian(x, means, covariances, present=present)
        torch.testing.assert_close(values[0], log_gaussian(x[0], means[0], covariances[0]))
        reduced = Mixture(torch.ones(K), means[1], covariances[1]).channels([1])
        torch.testing.assert_close(values[1], log_gaussian(x[1][:, [1]], reduced.means, reduced.covariances))

    def test_gradient(self, generator, x):
        means = torch.randn(K, C, generator=generator).double().requires_grad_()
        covariances = random_covariances(generator, K).requires_grad_()
        symmetric = lambda m, c: log_gaussian(x[:5], m, (c + c.mT) / 2)  # noqa: E731
        assert torch.autograd.gradcheck(symmetric, (means, covariances))
        far = lambda m, c: log_gaussian(1e5 * x[:2], m, (c + c.mT) / 2) / 1e9  # noqa: E731
        assert torch.autograd.gradcheck(far, (means, covariances), atol=1e-4, rtol=1e-3)

    @pytest.mark.parametrize("scale", [1.0, 1e4])
    def test_gradient_with_respect_to_the_voxels(self, generator, x, scale):
        means, covariances = torch.zeros(K, C).double(), random_covariances(generator, K)
        voxels = (scale * x[:4]).requires_grad_()
        values = log_gaussian(voxels, means, covariances)
        (gradient,) = torch.autograd.grad(values[:, 1].sum(), voxels)
        torch.testing.assert_close(gradient, -torch.linalg.solve(covariances[1], voxels.detach().T).T)

    def test_rounding_cannot_break_the_factor(self):
        """A covariance that float32 made indefinite still gives finite densities."""
        direction = torch.tensor([1.0, 1.0])
        spoilt = 1e12 * torch.outer(direction, direction) + torch.tensor([[0.0, 1e5], [1e5, 0.0]])
        values = log_gaussian(torch.zeros(1, C), torch.zeros(1, C), spoilt[None])
        assert torch.isfinite(values).all()

    def test_factor_of_sequences_of_very_different_scale(self):
        """By hand: SD 1e-6 and 1e6, correlation 0.6; a batch in which only the second needs help."""
        covariance = torch.tensor([[1e-12, 0.6], [0.6, 1e12]], dtype=torch.float64)
        expected = torch.tensor([[1e-6, 0.0], [0.6e6, 0.8e6]], dtype=torch.float64)
        torch.testing.assert_close(cholesky(covariance), expected, rtol=1e-12, atol=0)
        singular = torch.tensor([[4.0, 4.0 + 1e-9], [4.0 + 1e-9, 4.0]], dtype=torch.float64)
        plain, raised = cholesky(torch.stack([covariance, singular]))
        torch.testing.assert_close(plain, expected, rtol=1e-12, atol=0)
        # 1e-7 of the variances more, no tenfold step needed: the second diagonal element is 2 sqrt(2e-7).
        torch.testing.assert_close(raised[1, 1], 2 * torch.tensor(2e-7).double().sqrt(), rtol=2e-3, atol=0)
        torch.testing.assert_close(raised @ raised.T, singular, rtol=2e-7, atol=0)

    @pytest.mark.parametrize("value", [0.0, -1.0, torch.inf, torch.nan])
    def test_variances_that_are_none(self, value):
        with pytest.raises(ValueError, match="covariances need positive finite variances"):
            cholesky(torch.tensor([[1.0, 0.0], [0.0, value]]))

    def test_says_what_is_wrong(self, x):
        with pytest.raises(ValueError, match=r"expected means \(..., K, 2\)"):
            log_gaussian(x, torch.zeros(K, 3), torch.eye(3).expand(K, 3, 3))
        with pytest.raises(ValueError, match=r"covariances \(..., K, 2, 2\)"):
            log_gaussian(x, torch.zeros(K, C), torch.eye(3).expand(K, 3, 3))
        with pytest.raises(ValueError, match="positive finite variances"):
            log_gaussian(x, torch.zeros(1, C), torch.zeros(1, C, C))


class TestMixture:
    def test_permute_and_channels(self, generator):
        mixture = Mixture(
            torch.tensor([0.5, 0.3, 0.2]),
            torch.randn(K, C, generator=generator),
            random_covariances(generator, K),
        )
        permuted = mixture.permute([2, 0, 1])
        torch.testing.assert_close(permuted.means[0], mixture.means[2])
        torch.testing.assert_close(permuted.weights, torch.tensor([0.2, 0.5, 0.3]))
        swapped = mixture.channels([1, 0])
        torch.testing.assert_close(swapped.covariances[:, 0, 0], mixture.covariances[:, 1, 1])
        torch.testing.assert_close(swapped.covariances[:, 0, 1], mixture.covariances[:, 1, 0])
        with pytest.raises(ValueError, match="permutation"):
            mixture.permute([0, 0, 1])
        assert mixture.to(dtype=torch.float64).means.dtype == torch.float64
        leaf = Mixture(mixture.weights, mixture.means.clone().requires_grad_(), mixture.covariances)
        assert not leaf.detach().means.requires_grad


class TestStatistics:
    def naive(self, x, resp):
        n, sum_x, sum_xx = np.zeros(K), np.zeros((K, C)), np.zeros((K, C, C))
        for voxel, weights in zip(x.numpy(), resp.numpy(), strict=True):
            for k in range(K):
                n[k] += weights[k]
                sum_x[k] += weights[k] * voxel
                sum_xx[k] += weights[k] * np.outer(voxel, voxel)
        return n, sum_x, sum_xx

    def test_equals_naive_sums(self, x, resp):
        stats = statistics(x, resp)
        for got, expected in zip((stats.n, stats.sum_x, stats.sum_xx), self.naive(x, resp), strict=True):
            np.testing.assert_allclose(got.numpy(), expected, rtol=1e-12)

    @pytest.mark.parametrize("batch", [(), (2,)])
    def test_of_no_voxel(self, batch):
        stats = statistics(torch.zeros(*batch, 0, C), torch.zeros(*batch, 0, K))
        assert stats.sum_xx.shape == (*batch, K, C, C)
        assert not any(value.any() for value in vars(stats).values())

    def test_adds_and_pools(self, x, resp):
        whole, halves = statistics(x, resp), statistics(x.view(2, N // 2, C), resp.view(2, N // 2, K))
        for pooled in (
            halves.pool(torch.tensor([1, 1]), 3),
            Statistics(*(v[None] for v in vars(whole).values())).pool(torch.tensor([1]), 3),
        ):
            torch.testing.assert_close(pooled.sum_xx[1], whole.sum_xx)
            assert pooled.n[0].sum() == 0
        first, second = statistics(x[:7], resp[:7]), statistics(x[7:], resp[7:])
        torch.testing.assert_close((first + second).sum_xx, whole.sum_xx)

    def test_pooling_is_differentiable(self, x, resp):
        weights = resp.view(2, N // 2, K).clone().requires_grad_()
        voxels = x.view(2, N // 2, C)
        pooled = lambda w: statistics(voxels, w).pool(torch.tensor([0, 0]), 1).sum_xx  # noqa: E731
        assert torch.autograd.gradcheck(pooled, (weights,))

    def test_gradient_with_respect_to_the_voxels(self, x, resp):
        voxels = x.clone().requires_grad_()
        total = statistics(voxels, resp)
        (gradient,) = torch.autograd.grad(total.sum_x[1].sum() + total.sum_xx[1, 0, 1], voxels)
        torch.testing.assert_close(gradient, resp[:, 1:2] * (1 + x.flip(1)))

    @pytest.mark.parametrize("offset", [0.0, 1e3, 1e6])
    def test_float32_keeps_the_variance(self, offset):
        """Far from zero, E[x^2] - E[x]^2 in float32 has nothing left."""
        noise = torch.randint(-8, 9, (5000, 1), generator=torch.Generator().manual_seed(0)).float()
        mixture = m_step(statistics(noise + offset, torch.ones(5000, 1)), variance_floor=0.0)
        assert mixture.covariances.item() == pytest.approx(noise.double().var(correction=0).item(), rel=1e-3)

    @pytest.mark.parametrize(("distance", "lost"), [(49.9, False), (50.1, True)])
    def test_what_float32_resolves(self, distance, lost):
        """A class of SD 1 up to 50 SD from the centre; one without voxels has nothing to lose."""
        n, far = torch.tensor([10.0, 0.0]), torch.tensor([[distance], [0.0]]).double()
        assert _lost(n, n[:, None] * far, n[:, None, None] * (far.square() + 1)[..., None]) is lost

    def test_float32_outlier_does_not_blur_the_others(self):
        noise = torch.randn(3000, 1, generator=torch.Generator().manual_seed(0))
        x = torch.cat([noise, torch.tensor([[1e6]])])
        resp = torch.zeros(3001, 2)
        resp[:-1, 0] = resp[-1, 1] = 1.0
        mixture = m_step(statistics(x, resp), variance_floor=0.0)
        assert mixture.covariances[0].item() == pytest.approx(
            noise.double().var(correction=0).item(), rel=1e-5
        )

    @pytest.mark.parametrize("distance", [1e3, 1e6, 1e25])
    def test_float32_class_far_from_the_others_keeps_its_variance(self, distance):
        """Also where the squares overflow in float32, and for a voxel that is no class's."""
        noise = torch.randint(-8, 9, (3000, 1), generator=torch.Generator().manual_seed(0)).float()
        noise[:500] = noise[:500] + distance
        noise[-1] = 1e30
        resp = torch.zeros(3000, 2)
        resp[:500, 0] = resp[500:-1, 1] = 1.0
        mixture = m_step(statistics(noise, resp), variance_floor=0.0)
        for k, own in enumerate((noise[:500], noise[500:-1])):
            expected = own.double().var(correction=0).item()
            assert mixture.covariances[k].item() == pytest.approx(expected, rel=1e-3, abs=1e-12 * distance**2)


class TestMStep:
    def test_maximum_likelihood_by_hand(self):
        """Two voxels of class 0 at 1 and 3, two of class 1 at 10: mean 2, variance 1; mean 10, variance 0."""
        x = torch.tensor([[1.0], [3.0], [10.0], [10.0]])
        resp = torch.tensor([[1.0, 0.0], [1.0, 0.0], [0.0, 1.0], [0.0, 1.0]])
        mixture = m_step(statistics(x, resp), variance_floor=0.5)
        torch.testing.assert_close(mixture.means, torch.tensor([[2.0], [10.0]]).double())
        torch.testing.assert_close(mixture.covariances, torch.tensor([[[1.5]], [[0.5]]]).double())
        torch.testing.assert_close(mixture.weights, torch.tensor([0.5, 0.5]).double())

    def test_map_equals_the_formula(self, generator, x, resp):
        prior = make_prior(generator)
        mixture = m_step(statistics(x, resp), prior=prior, variance_floor=0.0)
        kappa, nu, a = (share * N for share in (prior.kappa, prior.nu, prior.a))
        for k in range(K):
            n = resp[:, k].sum()
            mean = (kappa * prior.means[k] + (resp[:, k, None] * x).sum(0)) / (kappa + n)
            scatter = (nu + C + 2) * prior.covariances[k]
            for weight, voxel in zip(resp[:, k], x, strict=True):
                scatter = scatter + weight * torch.outer(voxel - mean, voxel - mean)
            scatter = scatter + kappa * torch.outer(mean - prior.means[k], mean - prior.means[k])
            torch.testing.assert_close(mixture.means[k], mean)
            torch.testing.assert_close(mixture.covariances[k], scatter / (nu + n + C + 2))
            torch.testing.assert_close(mixture.weights[k], (n + a * prior.weights[k]) / (N + a))

    @pytest.mark.parametrize("covariance", TYPES)
    @pytest.mark.parametrize("with_prior", [False, True])
    def test_no_step_away_improves_it(self, generator, x, resp, covariance, with_prior):
        """The M-step maximises expected log likelihood plus log prior within its covariance family."""
        prior = make_prior(generator) if with_prior else None
        best = m_step(statistics(x, resp), covariance=covariance, prior=prior, variance_floor=0.0)

        def objective(mixture):
            value = (
                resp * (log_gaussian(x, mixture.means, mixture.covariances) + mixture.weights.log())
            ).sum()
            return (
                value
                if prior is None
                else value + log_map_prior(mixture, prior, torch.tensor(float(N)).double())
            )

        family = {
            "full": lambda m: (m + m.mT) / 2,
            "diag": lambda m: torch.diag_embed(m.diagonal(dim1=-2, dim2=-1)),
            "tied": lambda m: ((m + m.mT) / 2).mean(0, keepdim=True).expand(K, C, C),
            "spherical": lambda m: m.diagonal(dim1=-2, dim2=-1).mean(-1)[:, None, None] * torch.eye(C),
        }[covariance]
        torch.testing.assert_close(family(best.covariances), best.covariances)
        reference = objective(best)
        for _ in range(30):
            step = 0.02 * family(torch.randn(K, C, C, generator=generator).double())
            weights = (best.weights.log() + 0.1 * torch.randn(K, generator=generator)).softmax(-1)
            means = best.means + 0.05 * torch.randn(K, C, generator=generator)
            for other in (
                Mixture(weights, best.means, best.covariances),
                Mixture(best.weights, means, best.covariances),
                Mixture(best.weights, best.means, best.covariances + step),
            ):
                assert objective(other) < reference

    def test_empty_class_and_empty_mixture(self, generator, x):
        resp = torch.zeros(N, K).double()
        resp[:, 0] = 1.0
        pooled = m_step(statistics(x, resp), variance_floor=0.0)
        torch.testing.assert_close(pooled.means[2], x.mean(0))
        torch.testing.assert_close(pooled.covariances[2], x.T.cov(correction=0))
        prior = make_prior(generator, kappa=0.0, nu=0.0, a=0.0)
        guided = m_step(statistics(x, resp), prior=prior, variance_floor=0.0)
        torch.testing.assert_close(guided.means[2], prior.means[2])
        torch.testing.assert_close(guided.covariances[2], prior.covariances[2])
        nothing = m_step(statistics(x, 0 * resp), variance_floor=0.0)
        torch.testing.assert_close(nothing.weights, torch.full((K,), 1 / K).double())
        torch.testing.assert_close(nothing.covariances, torch.eye(C).double().expand(K, C, C))
        prior_only = m_step(statistics(x, 0 * resp), prior=make_prior(generator), variance_floor=0.0)
        assert torch.isfinite(prior_only.means).all()
        torch.testing.assert_close(prior_only.weights, torch.tensor([0.5, 0.3, 0.2]).double())

    @pytest.mark.parametrize("covariance", TYPES)
    def test_mixtures_of_a_batch_do_not_meet(self, x, resp, covariance):
        """One with an empty class, one without voxels, an ordinary one: each as alone."""
        hard = torch.zeros(N, K).double()
        hard[:, 0] = 1.0
        parts = (hard, 0 * hard, resp)
        together = m_step(statistics(x.expand(3, N, C), torch.stack(parts)), covariance=covariance)
        for s, part in enumerate(parts):
            for name, value in vars(m_step(statistics(x, part), covariance=covariance)).items():
                torch.testing.assert_close(getattr(together, name)[s], value)

    def test_prior_density_of_the_sequences_that_exist(self, generator, x, resp):
        """That of the marginal, C counting one; in a batch, each mixture's own."""
        prior, n_voxels = make_prior(generator), torch.tensor(float(N)).double()
        mixture = m_step(statistics(x, resp))
        sub = prior.mixture().channels([1])
        reduced = MapPrior(sub.means, sub.covariances, prior.weights, prior.kappa, prior.nu, prior.a)
        present = torch.tensor([False, True])
        got = log_map_prior(mixture, prior, n_voxels, present=present)
        torch.testing.assert_close(got, log_map_prior(mixture.channels([1]), reduced, n_voxels))
        stacked = Mixture(*(torch.stack([value, value]) for value in vars(mixture).values()))
        options = {"present": torch.tensor([[False, True], [True, True]])}
        both = log_map_prior(stacked, prior, torch.stack([n_voxels, 2 * n_voxels]), **options)
        torch.testing.assert_close(both, torch.stack([got, log_map_prior(mixture, prior, 2 * n_voxels)]))

    def test_prior_density_by_hand(self):
        """One sequence, 10 voxels, shares 0.5, 0.2 and 0.1: kappa = 5, nu = 2, a = 1."""
        prior = MapPrior(torch.zeros(2, 1), torch.ones(2, 1, 1), torch.tensor([0.75, 0.25]), 0.5, 0.2, 0.1)
        mixture = Mixture(
            torch.tensor([0.5, 0.5]), torch.tensor([[2.0], [0.0]]), torch.tensor([[[4.0]], [[1.0]]])
        )
        got = log_map_prior(mixture, prior, torch.tensor(10.0))
        # (nu + C + 2) = 5 times log 4 + 1/4, kappa = 5 times 2^2 / 4; 5 times 0 + 1; log 1/2 twice, weighted.
        expected = -0.5 * (5 * (np.log(4) + 0.25) + 5) - 0.5 * 5 + np.log(0.5)
        assert got.item() == pytest.approx(expected)
        given = log_map_prior(mixture, prior, torch.tensor(10.0), log_weights=torch.tensor([-1.0, -3.0]))
        assert given.item() == pytest.approx(expected - np.log(0.5) - 0.75 - 0.75)

    @pytest.mark.parametrize("covariance", TYPES)
    @pytest.mark.parametrize("with_prior", [False, True])
    def test_gradient(self, generator, x, covariance, with_prior):
        prior = make_prior(generator) if with_prior else None
        logits = torch.randn(N, K, generator=generator).double().requires_grad_()

        def parameters(values):
            mixture = m_step(statistics(x, values.softmax(-1)), covariance=covariance, prior=prior)
            return mixture.weights, mixture.means, mixture.covariances

        assert torch.autograd.gradcheck(parameters, (logits,))

    def test_gradient_of_an_empty_class_is_finite(self, x):
        resp = torch.zeros(N, K).double()
        resp[:, 0] = 1.0
        resp.requires_grad_()
        mixture = m_step(statistics(x, resp))
        (mixture.means.sum() + mixture.covariances.sum() + mixture.weights.sum()).backward()
        assert torch.isfinite(resp.grad).all()

    @pytest.mark.parametrize("with_prior", [False, True])
    def test_missing_sequence_drops_rows_and_columns(self, generator, x, resp, with_prior):
        prior = make_prior(generator) if with_prior else None
        got = m_step(statistics(x, resp), prior=prior, present=torch.tensor([False, True]))
        sub = None
        if prior is not None:
            sub = MapPrior(
                prior.means[:, 1:],
                prior.covariances[:, 1:, 1:],
                prior.weights,
                prior.kappa,
                prior.nu,
                prior.a,
            )
        expected = m_step(statistics(x[:, 1:], resp), prior=sub)
        torch.testing.assert_close(got.means[:, 1:], expected.means)
        torch.testing.assert_close(got.covariances[:, 1:, 1:], expected.covariances)
        assert (got.covariances[:, 0, 1] == 0).all()
        torch.testing.assert_close(
            got.means[:, 0], torch.zeros(K).double() if prior is None else prior.means[:, 0]
        )

    def test_rejects_what_does_not_fit(self, x, resp, generator):
        with pytest.raises(ValueError, match="covariance type"):
            m_step(statistics(x, resp), covariance="banded")
        with pytest.raises(ValueError, match="expected a prior"):
            m_step(statistics(x[:, :1], resp), prior=make_prior(generator))
        with pytest.raises(ValueError, match="negative"):
            make_prior(generator, kappa=-1.0)
        with pytest.raises(ValueError, match="expected covariances"):
            MapPrior(torch.zeros(2, 2), torch.zeros(2, 3, 3), torch.zeros(2), 0.0, 0.0, 0.0)


class TestConstrainedWeights:
    n = torch.tensor([30.0, 50.0, 20.0]).double()

    def test_separate_regions_keep_class_fractions(self):
        allowed = torch.tensor([[True, False, False], [False, True, True]])
        weights = constrained_weights(self.n, torch.tensor([30, 70]), allowed)
        torch.testing.assert_close(weights, self.n / 100)

    @pytest.mark.parametrize("strength", [0.0, 0.4])
    def test_overlapping_regions_are_maximal(self, generator, strength):
        """Against random steps on the conditional log likelihood of the counts."""
        allowed = torch.tensor([[True, True, False], [False, True, True], [True, True, True]])
        counts = torch.tensor([40, 25, 35])
        prior = make_prior(generator, a=strength)
        weights = constrained_weights(self.n, counts, allowed, prior=prior)
        assert weights.sum().item() == pytest.approx(1.0)

        def objective(w):
            masses = (w * allowed).sum(-1)
            penalty = strength * 100 * (prior.weights * region_log_weights(w, counts, allowed)).sum()
            return (self.n * w.log()).sum() - (counts * masses.log()).sum() + penalty

        reference = objective(weights)
        for _ in range(50):
            other = (weights.log() + 0.05 * torch.randn(3, generator=generator)).softmax(-1)
            assert objective(other) <= reference + 1e-10
        naive = constrained_weights(
            self.n, torch.tensor([100]), torch.ones(1, 3, dtype=torch.bool), prior=prior
        )
        assert objective(naive) < reference - 1e-3


def test_matrices_of_a_batch_are_raised_until_each_has_a_factor():
    """One needs a step of 1e-5, the other one of 10: neither undoes the other's."""
    pair = torch.tensor([[1.0, 1.0 + 1e-6], [1.0 + 1e-6, 1.0]], dtype=torch.float64)
    wild = torch.tensor([[1.0, 3.0], [3.0, 1.0]], dtype=torch.float64)
    factors = cholesky(torch.stack([pair, wild]))
    torch.testing.assert_close(factors @ factors.mT, torch.stack([pair, wild]), atol=12.0, rtol=0)
    torch.testing.assert_close((factors @ factors.mT)[0], pair, atol=2e-5, rtol=0)
    with pytest.raises(ValueError, match="finite values"):
        cholesky(torch.tensor([[1.0, float("inf")], [float("inf"), 1.0]]))
