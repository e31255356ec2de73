"""The cavity from a blood posterior."""

from __future__ import annotations

import numpy as np
import torch
from scipy import ndimage

from mrigmm.mixture import (
    find_cavity,
)


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
