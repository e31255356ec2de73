import numpy as np
import pytest
import torch

from mrigmm.data.standardise import crop_zscore, fit_zscore, percentile_range


def test_hand_computed():
    z = fit_zscore(np.array([10, 20, 30, 40], np.float32))
    assert (z.centre, z.n_clipped, z.varies) == (25, 0, True)
    assert z.scale == pytest.approx(125**0.5)  # population SD: sqrt((225 + 25 + 25 + 225) / 4)
    np.testing.assert_allclose(z.apply(np.array([[25, 36.18034]], np.float32)), [[0, 1]], atol=1e-6)


def test_values_beyond_ten_percentile_ranges_are_clipped():
    x = np.tile(np.arange(101, dtype=np.float32), 100)  # 1st and 99th percentile: 1 and 99
    z = fit_zscore(np.concatenate([x, np.float32([99 + 980 + 1e5, 1 - 980 - 1e5])]))
    assert z.n_clipped == 2
    assert z.high == pytest.approx(99 + 10 * 98, abs=0.5)
    assert z.low == pytest.approx(1 - 10 * 98, abs=0.5)
    assert z.apply(np.float32([1e9])) == pytest.approx(z.apply(np.float32([z.high])))


@pytest.mark.parametrize("value", [0, 1e-30, 5, -3, 1e6, 1e29])
def test_a_constant_does_not_vary(value):
    z = fit_zscore(np.full(50, value, np.float32))
    assert not z.varies
    assert np.isfinite(z.apply(np.float32([value, value + 1]))).all()


def test_rounding_of_a_constant_is_no_contrast():
    x = np.full(50, 1e6, np.float32)
    x[0] = np.nextafter(x[0], np.float32(np.inf))
    assert not fit_zscore(x).varies


def test_one_voxel_does_not_vary():
    assert not fit_zscore(np.float32([3])).varies


def test_two_values_do():
    z = fit_zscore(np.float32([0] * 49 + [1]))
    assert z.varies
    assert z.n_clipped == 0


def test_zscore_over_the_crop_hand_computed():
    """Pixels that are 0 lie outside the field of view: mean of 1, 2, 3, 6 is 3, SD sqrt(14 / 4)."""
    centre, scale = crop_zscore(torch.tensor([[[1.0, 2.0, 0.0], [3.0, 6.0, 0.0]]]))
    assert centre.shape == scale.shape == (1, 1, 1)
    assert centre.item() == 3
    assert scale.item() == pytest.approx(3.5**0.5)


def test_zscore_over_a_crop_without_contrast():
    centre, scale = crop_zscore(torch.stack([torch.zeros(4, 4), torch.full((4, 4), 7.0)]))
    assert centre.flatten().tolist() == [0, 7]
    assert scale.flatten().tolist() == [1, 1]


@pytest.mark.parametrize("offset", [0.0, 1e6 + 1 / 3])
def test_a_large_offset_costs_no_accuracy(offset):
    """The formula in float64 on the float32 intensities, which lie 0.0625 apart at a million."""
    values = (np.random.default_rng(2).normal(0, 5, 2000) + offset).astype(np.float32)
    zscore = fit_zscore(values)
    expected = (values.astype(np.float64) - zscore.centre) / zscore.scale
    found = zscore.apply(values)
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, expected, atol=1e-6)


def test_percentiles_of_what_was_observed():
    """Of -50..50 the 1st and 99th percentile are -49 and 49; a channel of one value, and one never seen."""
    x = torch.arange(-50.0, 51.0)
    values = torch.stack([x, torch.full_like(x, 7), x])
    observed = torch.ones_like(values, dtype=torch.bool)
    observed[2] = False
    centre, scale = percentile_range(values, observed)
    torch.testing.assert_close(centre, torch.tensor([0.0, 7.0, 0.0]))
    torch.testing.assert_close(scale, torch.tensor([49.0, 1.0, 1.0]))
    observed[0, x > 0] = False  # -50..0: -49.5 and -0.5
    centre, scale = percentile_range(values, observed)
    torch.testing.assert_close((centre[0], scale[0]), (torch.tensor(-25.0), torch.tensor(24.5)))
