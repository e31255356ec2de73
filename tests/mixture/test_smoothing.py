"""Smoothing and multi-scale features, in mm."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy import ndimage

from mrigmm.mixture import gaussian_blur, multiscale_features, smooth_inside, smooth_posterior

SPACING = (1.0, 2.0, 8.0)


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
        for sigma, spacing in ((1.0, (1.0, 1.0)), (1.0, (1.0, 0.0, 1.0)), (-1.0, SPACING)):
            with pytest.raises(ValueError, match=rf"spacings, got {sigma}, "):
                gaussian_blur(volume, sigma_mm=sigma, spacing_mm=spacing)


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

    def test_a_voxel_without_a_class_takes_nothing_from_its_neighbours(self):
        """Three in a row, the last without responsibilities: the others still sum to 1, and so does it."""
        resp = torch.tensor([[1.0, 0.0, 0.0], [0.0, 1.0, 0.0]]).reshape(2, 3, 1, 1)
        region = torch.ones(3, 1, 1, dtype=torch.long)
        got = smooth_posterior(resp, region, sigma_mm=1.0, spacing_mm=(1.0, 1.0, 1.0))
        torch.testing.assert_close(got.sum(0), torch.ones(3, 1, 1))
        near, far = np.exp(-0.5), np.exp(-2.0)  # of the Gaussian, one and two voxels away
        assert got[0].flatten().tolist() == pytest.approx(
            [1 / (1 + near), near / (1 + near), far / (near + far)]
        )
