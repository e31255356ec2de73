import numpy as np
import pytest

from mrigmm.phantom.fields import multiscale_fields, skew, smooth_field


@pytest.mark.parametrize("sigma_px", [0.0, 1.0, 4.0])
def test_field_has_unit_variance_and_zero_mean(sigma_px):
    field = smooth_field((128, 128, 12), sigma_px=sigma_px, rng=np.random.default_rng(0))
    assert field.std() == pytest.approx(1.0, abs=0.05)
    assert abs(field.mean()) < 0.08


@pytest.mark.parametrize(("sigma_px", "lag"), [(1.5, 1), (1.5, 4), (4.0, 4)])
def test_field_has_the_autocorrelation_of_its_kernel(sigma_px, lag):
    # white noise under a Gaussian of SD s has the correlation exp(-lag^2 / (4 s^2))
    field = smooth_field((128, 128, 30), sigma_px=sigma_px, rng=np.random.default_rng(1))
    measured = np.mean(field[:-lag] * field[lag:]) / np.mean(field**2)
    assert measured == pytest.approx(np.exp(-(lag**2) / (4 * sigma_px**2)), abs=0.03)


def test_slices_are_independent():
    field = smooth_field((128, 128, 2), sigma_px=1.5, rng=np.random.default_rng(2))
    assert abs(np.corrcoef(field[..., 0].ravel(), field[..., 1].ravel())[0, 1]) < 0.06


def test_multiscale_stacks_one_field_per_scale():
    fields = multiscale_fields((32, 24, 2), sigmas_px=(1.0, 3.0), rng=np.random.default_rng(3))
    assert fields.shape == (2, 32, 24, 2)
    roughness = np.abs(np.diff(fields, axis=1)).mean(axis=(1, 2, 3))
    assert roughness[0] > 2 * roughness[1]


def test_skew_keeps_mean_sd_and_order_and_stretches_the_upper_tail():
    normal = np.random.default_rng(4).standard_normal(400_000)
    skewed = skew(normal, 0.6)
    assert skewed.mean() == pytest.approx(0.0, abs=0.01)
    assert skewed.std() == pytest.approx(1.0, abs=0.02)
    assert (np.diff(skewed[np.argsort(normal)]) >= 0).all()
    # skewness of a log-normal: (e^{s^2} + 2) sqrt(e^{s^2} - 1) with s = 0.6
    assert np.mean(skewed**3) == pytest.approx((np.exp(0.36) + 2) * np.sqrt(np.expm1(0.36)), rel=0.05)


def test_no_skew_is_the_identity():
    field = np.array([-1.0, 0.0, 2.0])
    np.testing.assert_array_equal(skew(field, 0.0), field)
