"""The cavity from a blood posterior."""

from __future__ import annotations

import numpy as np
import torch
from scipy import ndimage

from mrigmm.mixture import find_cavity


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

    def test_the_component_that_is_central_in_mm(self):
        """Pixels of 1 x 2 mm: 6 of them 6 px (12 mm) off the centre lose against 4 that are 6 px (6 mm) off.

        The mask's 441 pixels have the area of a disc of 16.8 mm radius, so that the weights are those of a
        Gaussian of 8.4 mm: 6 x 0.36 against 4 x 0.77.
        """
        mask, blood = torch.ones(21, 21, 1, dtype=torch.bool), torch.zeros(21, 21, 1)
        blood[9:12, 16:18] = blood[16:18, 9:11] = 1.0
        options = {"sigma_mm": 0.0, "threshold": 0.4}
        found = find_cavity(blood, mask, spacing_mm=(1.0, 2.0, 8.0), **options)
        assert found.nonzero().tolist() == [[16, 9, 0], [16, 10, 0], [17, 9, 0], [17, 10, 0]]
        # Were the pixels square, the larger one would win; were they 3 mm wide, the smaller one again.
        assert find_cavity(blood, mask, spacing_mm=(1.0, 1.0, 8.0), **options).sum() == 6
        # The further away, the less a pixel counts: at 8 px the same six are not enough any more.
        blood = torch.zeros(21, 21, 1)
        blood[9:12, 18:20] = blood[13:15, 9:11] = 1.0
        assert find_cavity(blood, mask, spacing_mm=(1.0, 1.0, 8.0), **options).sum() == 4

    def test_a_larger_component_may_lie_a_little_further_off(self):
        """Three pixels 7 mm and three 8 mm off have weight 2.7, two 6 mm and two 7 mm off have 2.2."""
        mask, blood = torch.ones(21, 21, 1, dtype=torch.bool), torch.zeros(21, 21, 1)
        blood[9:12, 17:19] = blood[16:18, 9:11] = 1.0
        found = find_cavity(blood, mask, sigma_mm=0.0, spacing_mm=(1.0, 1.0, 8.0))
        assert (found.sum(), bool(found[10, 17, 0])) == (6, True)

    def test_smoothed_and_above_the_threshold(self):
        """A lone pixel vanishes in the smoothing; a third of a class is none, or above another threshold."""
        blood = np.zeros((40, 40, 1))
        blood[20, 20] = 1.0
        assert not self.find(blood, sigma_mm=2.0).any()
        third = np.full((40, 40, 1), 0.3)
        assert not self.find(third).any()
        assert np.array_equal(self.find(third, threshold=0.25)[..., 0], self.radius < 16)
        half = np.full((40, 40, 1), 0.5)
        assert not self.find(half, sigma_mm=0.0).any()

    def test_hull_of_a_triangle(self):
        """Corners (10, 10), (10, 20) and (20, 10): all pixels with x + y <= 30 lie inside."""
        blood = np.zeros((40, 40, 1))
        blood[10:21, 10] = blood[10, 10:21] = 1.0
        found = self.find(blood, sigma_mm=0.0)[..., 0]
        x, y = np.indices((40, 40))
        assert np.array_equal(found, (x >= 10) & (y >= 10) & (x + y <= 30))

    def test_nothing_without_a_mask(self):
        nothing = torch.zeros(4, 4, 2, dtype=torch.bool)
        found = find_cavity(torch.ones(4, 4, 2), nothing, sigma_mm=1.0, spacing_mm=(1.0, 1.0, 8.0))
        assert (found.shape, found.dtype, bool(found.any())) == (nothing.shape, torch.bool, False)

    def test_stays_inside_the_mask(self):
        blood = np.ones((40, 40, 1))
        assert not (self.find(blood)[..., 0] & (self.radius >= 16)).any()
