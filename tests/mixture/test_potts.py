"""Potts coupling, in mm."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from mrigmm.mixture import (
    MapPrior,
    Mixture,
    fit_gmm,
    fit_potts,
    log_gaussian,
    log_likelihood,
    log_map_prior,
    m_step,
    posterior,
    potts_bound,
    potts_posterior,
    potts_support,
    region_log_prior,
    statistics,
)

SPACING = (1.0, 2.0, 8.0)


def plain_potts(image, region, mixture, iterations, *, in_plane, covariance, prior, allowed, present):
    """The loop written with the public functions only: mixture, responsibilities, bounds, evidence."""
    inside = region > 0
    x, options = image[:, inside].T, {"beta": 0.7, "spacing_mm": SPACING, "in_plane": in_plane}
    q, bounds = None, []

    def joint():
        log_prior = region_log_prior(mixture.weights, allowed, region[inside])
        density = log_gaussian(x, mixture.means, mixture.covariances, present=present)
        volume = torch.zeros(mixture.n_classes, *region.shape, dtype=x.dtype)
        volume[:, inside] = (log_prior + density).T
        return volume, log_likelihood(log_prior, density)

    for _ in range(iterations):
        volume, _ = joint()
        q = potts_posterior(volume, region, start=q, n_sweeps=2, **options)
        niw = MapPrior(prior.means, prior.covariances, prior.weights, prior.kappa, prior.nu, 0.0)
        density = log_map_prior(mixture, niw, torch.tensor(float(len(x))).double(), present=present)
        bounds.append(potts_bound(volume, q, region, **options) + float(density) / len(x))
        stats = statistics(x, q[:, inside].T)
        new = m_step(stats, covariance=covariance, prior=prior, present=present, variance_floor=0.01)
        mixture = Mixture(mixture.weights, new.means, new.covariances)
    volume, evidence = joint()
    q = potts_posterior(volume, region, start=q, n_sweeps=2, **options)
    return mixture, q[:, inside].T, bounds, evidence


class TestPotts:
    def test_support_by_hand(self):
        """Three voxels in a row; the last belongs to another region."""
        resp = torch.tensor([1.0, 0.5, 0.25]).reshape(1, 3, 1, 1)
        region = torch.tensor([1, 1, 2]).reshape(3, 1, 1)
        got = potts_support(resp, region, spacing_mm=(1.0, 1.0, 1.0))
        torch.testing.assert_close(got.flatten(), torch.tensor([0.5, 1.0, 0.0]))

    def test_coupling_falls_with_distance(self):
        resp = torch.ones(1, 1, 2, 2)
        region = torch.ones(1, 2, 2, dtype=torch.long)
        got = potts_support(resp, region, spacing_mm=(1.0, 2.0, 8.0), in_plane=False)
        # Nearest spacing 1; neighbours along y at 2 mm count 1/2, along z at 8 mm 1/8.
        torch.testing.assert_close(got, torch.full_like(got, 0.5 + 0.125))

    def test_support_of_a_row_along_the_second_axis(self):
        resp = torch.tensor([1.0, 0.5, 0.25]).reshape(1, 1, 3, 1)
        got = potts_support(resp, torch.ones(1, 3, 1), spacing_mm=(2.0, 2.0, 8.0))
        torch.testing.assert_close(got.flatten(), torch.tensor([0.5, 1.25, 0.5]))

    def test_a_sweep_by_hand(self):
        """Two neighbours of evidence 1 and -2 for the first class, coupled by 3: one, then the other."""
        joint = torch.zeros(2, 3, 1, 1, dtype=torch.float64)
        joint[0, :, 0, 0] = torch.tensor([1.0, -2.0, 50.0])
        region = torch.tensor([2, 2, 0]).reshape(3, 1, 1)
        start = torch.tensor([[0.5, 0.25, 0.0], [0.5, 0.75, 0.0]]).double().reshape(2, 3, 1, 1)
        options = {"beta": 3.0, "spacing_mm": (1.0, 1.0, 1.0), "n_sweeps": 1}
        first = 1 / (1 + np.exp(-(1 + 3 * (0.25 - 0.75))))
        second = 1 / (1 + np.exp(-(-2 + 3 * (2 * first - 1))))
        got = potts_posterior(joint, region, start=start, **options)
        assert got[0].flatten().tolist() == pytest.approx([first, second, 0.0])
        # From the plain posterior the second voxel has 1 / (1 + e^2) at first.
        first = 1 / (1 + np.exp(-(1 + 3 * (2 / (1 + np.exp(2)) - 1))))
        got = potts_posterior(joint, region, **options)
        assert got[0, 0].item() == pytest.approx(first)

    def test_within_slices_and_in_three_sweeps_unless_asked(self, generator, region):
        joint, options = torch.randn(3, *region.shape, generator=generator), {"spacing_mm": SPACING}
        q = potts_posterior(joint, region, beta=1.0, n_sweeps=3, in_plane=True, **options)
        torch.testing.assert_close(potts_posterior(joint, region, beta=1.0, **options), q, rtol=0, atol=0)
        flat = potts_support(q, region, in_plane=True, **options)
        torch.testing.assert_close(potts_support(q, region, **options), flat, rtol=0, atol=0)
        bound = potts_bound(joint, q, region, beta=1.0, in_plane=True, **options)
        assert potts_bound(joint, q, region, beta=1.0, **options) == bound
        assert potts_bound(joint, q, region, beta=1.0, in_plane=False, **options) != bound

    def test_the_bound_by_hand(self):
        """Voxel 0: halves, (-1 + ln 2 + 1) / 2 + (-2 + ln 2) / 2; voxel 1 of one class: -3 + 0.5."""
        joint = torch.tensor([[-1.0, -3.0, 9.0], [-2.0, -4.0, 9.0]]).double().reshape(2, 3, 1, 1)
        resp = torch.tensor([[0.5, 1.0, 0.0], [0.5, 0.0, 0.0]]).double().reshape(2, 3, 1, 1)
        region = torch.tensor([1, 1, 0]).reshape(3, 1, 1)
        got = potts_bound(joint, resp, region, beta=2.0, spacing_mm=(1.0, 1.0, 1.0))
        assert got == pytest.approx((np.log(2) - 1 - 2.5) / 2)

    def test_no_coupling_is_the_plain_posterior(self, generator, region):
        joint = torch.randn(3, *region.shape, generator=generator)
        got = potts_posterior(joint, region, beta=0.0, spacing_mm=SPACING)
        torch.testing.assert_close(got, torch.where(region > 0, joint.softmax(0), 0.0))
        with pytest.raises(ValueError, match="beta"):
            potts_posterior(joint, region, beta=-1.0, spacing_mm=SPACING)

    @pytest.mark.parametrize("beta", [0.5, 3.0])
    @pytest.mark.parametrize("in_plane", [True, False])
    def test_sweeps_never_lower_the_bound(self, generator, region, beta, in_plane):
        joint = torch.randn(3, *region.shape, generator=generator).double()
        options = {"beta": beta, "spacing_mm": SPACING, "in_plane": in_plane}
        q, bounds = None, []
        for _ in range(8):
            q = potts_posterior(joint, region, start=q, n_sweeps=1, **options)
            bounds.append(potts_bound(joint, q, region, **options))
        assert np.diff(bounds).min() > -1e-12
        assert bounds[-1] > bounds[0]

    def problem(self, generator):
        truth = torch.zeros(24, 24, 2, dtype=torch.long)
        truth[6:16, 6:16] = 1
        image = truth[None] * 2.0 + torch.randn(1, 24, 24, 2, generator=generator).double()
        start = Mixture(torch.tensor([0.5, 0.5]), torch.tensor([[0.0], [2.0]]), torch.ones(2, 1, 1))
        return truth, image, torch.ones_like(truth), start

    def test_without_coupling_is_em_with_fixed_weights(self, generator):
        _, image, region, start = self.problem(generator)
        potts = fit_potts(image, region, start=start, beta=0.0, spacing_mm=SPACING, max_iter=6, tol=0.0)
        x, mixture = image.flatten(1).T, start.to(dtype=torch.float64)
        for _ in range(6):
            density = log_gaussian(x, mixture.means, mixture.covariances)
            new = m_step(statistics(x, posterior(mixture.weights.log(), density)))
            mixture = Mixture(mixture.weights, new.means, new.covariances)
        torch.testing.assert_close(potts.mixture.means, mixture.means)
        torch.testing.assert_close(potts.mixture.covariances, mixture.covariances)

    @pytest.mark.parametrize("in_plane", [True, False])
    @pytest.mark.parametrize("covariance", ["full", "diag"])
    @pytest.mark.parametrize("lacks", [None, 1])
    def test_every_option_as_in_the_plain_loop(self, generator, region, in_plane, covariance, lacks):
        image = torch.randn(2, *region.shape, generator=generator).double()
        means = torch.tensor([[0.0, 0.5], [1.0, -0.5], [-1.0, 0.0]]).double()
        factor = torch.tensor([[1.0, 0.0], [0.4, 0.8]]).double()
        start = Mixture(torch.tensor([0.5, 0.3, 0.2]).double(), means, (factor @ factor.T).expand(3, 2, 2))
        options = {
            "covariance": covariance,
            "prior": MapPrior(means, start.covariances, start.weights, 0.1, 0.2, 0.3),
            "allowed": torch.tensor([[False] * 3, [True, True, False], [False, True, True]]),
            "present": None if lacks is None else torch.tensor([True, False]),
            "in_plane": in_plane,
        }
        mixture, resp, bounds, evidence = plain_potts(image, region, start, 4, **options)
        got = fit_potts(
            image,
            region,
            start=start,
            beta=0.7,
            spacing_mm=SPACING,
            max_iter=4,
            tol=0.0,
            n_sweeps=2,
            variance_floor=0.01,
            **options,
        )
        torch.testing.assert_close(got.mixture.means, mixture.means)
        torch.testing.assert_close(got.mixture.covariances, mixture.covariances)
        torch.testing.assert_close(got.resp, resp)
        torch.testing.assert_close(got.log_likelihood, evidence)
        np.testing.assert_allclose(got.lower_bounds, bounds)
        assert (got.n_iter, got.converged) == (4, False)

    def test_ends_with_the_first_change_below_the_tolerance(self, generator):
        _, image, region, start = self.problem(generator)
        got = fit_potts(image, region, start=start, beta=0.5, spacing_mm=SPACING, tol=1e-3)
        changes = np.abs(np.diff(got.lower_bounds))
        assert changes[-1] < 1e-3 <= changes[:-1].min()
        assert (got.n_iter, got.converged) == (len(changes) + 1, True)
        assert got.n_iter > 4

    @pytest.mark.parametrize("with_prior", [False, True])
    def test_bound_never_falls_and_labels_improve(self, generator, with_prior):
        truth, image, region, start = self.problem(generator)
        start = start.to(dtype=torch.float64)
        prior = None
        if with_prior:
            prior = MapPrior(start.means, start.covariances, start.weights, 0.05, 0.05, 0.05)
        coupled = fit_potts(
            image,
            region,
            start=start,
            beta=0.8,
            spacing_mm=(1.0, 1.0, 8.0),
            prior=prior,
            variance_floor=0.0,
            tol=1e-6,
        )
        plain = fit_gmm(image.flatten(1).T, start=start, prior=prior)
        assert np.diff(coupled.lower_bounds).min() > -1e-10
        wrong = [float((fit.resp.argmax(1) != truth.flatten()).double().mean()) for fit in (coupled, plain)]
        assert wrong[0] < 0.5 * wrong[1]

    def test_respects_the_constraint_and_an_empty_region(self, generator):
        truth, image, _, start = self.problem(generator)
        allowed = torch.tensor([[True, True], [True, False], [False, True]])
        fitted = fit_potts(image, truth + 1, start=start, beta=1.0, spacing_mm=SPACING, allowed=allowed)
        torch.testing.assert_close(fitted.resp[:, 1], truth.flatten().double())
        empty = fit_potts(image, torch.zeros_like(truth), start=start, beta=1.0, spacing_mm=SPACING)
        assert (empty.resp.shape, empty.converged) == ((0, 2), True)
