"""Potts coupling, in mm."""

from __future__ import annotations

import warnings

import numpy as np
import pytest
import torch

from mrigmm.mixture import (
    ConvergenceWarning,
    MapPrior,
    Mixture,
    fit_gmm,
    fit_potts,
    log_gaussian,
    m_step,
    posterior,
    potts_bound,
    potts_posterior,
    potts_support,
    statistics,
)

SPACING = (1.0, 2.0, 8.0)


@pytest.fixture
def generator():
    return torch.Generator().manual_seed(0)


@pytest.fixture
def region(generator):
    region = torch.randint(0, 3, (9, 8, 3), generator=generator)
    region[0], region[:, 0] = 0, 0
    return region


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
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ConvergenceWarning)
            potts = fit_potts(image, region, start=start, beta=0.0, spacing_mm=SPACING, max_iter=6, tol=0.0)
        x, mixture = image.flatten(1).T, start.to(dtype=torch.float64)
        for _ in range(6):
            density = log_gaussian(x, mixture.means, mixture.covariances)
            new = m_step(statistics(x, posterior(mixture.weights.log(), density)))
            mixture = Mixture(mixture.weights, new.means, new.covariances)
        torch.testing.assert_close(potts.mixture.means, mixture.means)
        torch.testing.assert_close(potts.mixture.covariances, mixture.covariances)

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
