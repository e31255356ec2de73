"""Smoothing, multi-scale features, Potts coupling and the cavity, in mm."""

from __future__ import annotations

import warnings

import numpy as np
import pytest
import torch
from scipy import ndimage

from mrigmm.mixture import (
    ConvergenceWarning,
    MapPrior,
    Mixture,
    find_cavity,
    fit_gmm,
    fit_potts,
    gaussian_blur,
    log_gaussian,
    m_step,
    multiscale_features,
    posterior,
    potts_bound,
    potts_posterior,
    potts_support,
    smooth_inside,
    smooth_posterior,
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


class TestBlur:
    @pytest.mark.parametrize("in_plane", [True, False])
    def test_equals_scipy_in_mm(self, generator, in_plane):
        volume = torch.randn(2, 12, 11, 5, generator=generator).double()
        got = gaussian_blur(volume, sigma_mm=2.0, spacing_mm=SPACING, in_plane=in_plane)
        sigma = (0, 2.0, 1.0, 0 if in_plane else 0.25)
        expected = ndimage.gaussian_filter(volume.numpy(), sigma, mode="constant", truncate=4.0)
        np.testing.assert_allclose(got.numpy(), expected, atol=1e-12)

    def test_zero_sigma_and_wrong_arguments(self):
        volume = torch.ones(2, 2, 2)
        assert gaussian_blur(volume, sigma_mm=0.0, spacing_mm=SPACING) is volume
        with pytest.raises(ValueError, match="spacings"):
            gaussian_blur(volume, sigma_mm=1.0, spacing_mm=(1.0, 1.0))


class TestInside:
    def test_nothing_leaks(self, generator, region):
        """What lies in another region, or outside, cannot change a voxel."""
        volume = torch.randn(2, *region.shape, generator=generator)
        options = {"sigma_mm": 3.0, "spacing_mm": SPACING}
        before = smooth_inside(volume, region, **options)
        changed = torch.where(region == 1, volume, 1e6)
        torch.testing.assert_close(
            smooth_inside(changed, region, **options)[:, region == 1], before[:, region == 1]
        )
        assert (before[:, region == 0] == 0).all()
        bad = torch.where(region == 0, torch.nan, volume)
        torch.testing.assert_close(smooth_inside(bad, region, **options), before)

    def test_constant_stays_constant(self, region):
        got = smooth_inside(torch.full((1, *region.shape), 7.0), region, sigma_mm=5.0, spacing_mm=SPACING)
        torch.testing.assert_close(got[0], torch.where(region > 0, 7.0, 0.0))

    def test_slices_are_apart_unless_asked(self, region):
        volume = torch.zeros(1, *region.shape)
        volume[..., 1] = 1.0
        whole = torch.ones_like(region)
        flat = smooth_inside(volume, whole, sigma_mm=8.0, spacing_mm=SPACING)
        assert (flat[..., 0] == 0).all()
        deep = smooth_inside(volume, whole, sigma_mm=8.0, spacing_mm=SPACING, in_plane=False)
        assert (deep[..., 0] > 0.1).all()

    def test_multiscale_order(self, generator, region):
        image = torch.randn(3, *region.shape, generator=generator)
        features = multiscale_features(image, region, sigmas_mm=(0.0, 3.0), spacing_mm=SPACING)
        assert features.shape == (6, *region.shape)
        torch.testing.assert_close(features[:3], image * (region > 0))
        torch.testing.assert_close(
            features[4], smooth_inside(image, region, sigma_mm=3.0, spacing_mm=SPACING)[1]
        )

    def test_posterior_keeps_constraint_and_sum(self, generator, region):
        resp = torch.rand(3, *region.shape, generator=generator)
        resp[0] *= region == 1
        resp[1:] *= region == 2
        resp = resp / resp.sum(0).clamp_min(1e-9)
        got = smooth_posterior(resp, region, sigma_mm=4.0, spacing_mm=SPACING)
        torch.testing.assert_close(got.sum(0), (region > 0).float())
        assert (got[0][region == 2] == 0).all()
        assert (got[1:, region == 1] == 0).all()


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


class TestCavity:
    grid = np.stack(np.meshgrid(np.arange(40), np.arange(40), indexing="ij"), -1) - 20.0
    radius = np.sqrt((grid**2).sum(-1))

    def find(self, blood, **options):
        mask = torch.from_numpy(np.repeat((self.radius < 16)[..., None], blood.shape[-1], -1))
        arguments = {"sigma_mm": 0.5, "spacing_mm": (1.0, 1.0, 8.0)} | options
        return find_cavity(torch.from_numpy(blood).float(), mask, **arguments).numpy()

    def test_disc_with_papillary_muscles_is_filled(self):
        blood = (self.radius < 9).astype(float)
        blood[22:24, 20:22] = 0.0
        found = self.find(blood[..., None])[..., 0]
        assert np.array_equal(found, ndimage.binary_fill_holes(found))
        assert abs(int(found.sum()) - int((self.radius < 9).sum())) < 25

    def test_notch_in_the_border_is_closed(self):
        blood = (self.radius < 9).astype(float)
        blood[20:32, 19:22] = 0.0
        found = self.find(blood[..., None])[..., 0]
        assert found[24, 20]

    def test_bright_rim_of_scar_loses_against_the_cavity(self):
        """The rim has more voxels than the cavity, but lies around it."""
        rim = (self.radius > 12) & (self.radius < 16) & (self.grid[..., 0] > -8)
        blood = ((self.radius < 7) | rim).astype(float)
        assert rim.sum() > (self.radius < 7).sum()
        found = self.find(blood[..., None])[..., 0]
        assert found[20, 20]
        assert not found[34, 20]

    def test_slice_without_blood_and_line_of_blood(self):
        blood = np.zeros((40, 40, 3))
        blood[20, 15:25, 1] = 1.0
        blood[20, 20, 2] = 1.0
        found = self.find(blood, sigma_mm=0.0)
        assert not found[..., 0].any()
        np.testing.assert_array_equal(found[..., 1:], blood[..., 1:] > 0)

    def test_stays_inside_the_mask(self):
        blood = np.ones((40, 40, 1))
        assert not (self.find(blood)[..., 0] & (self.radius >= 16)).any()
