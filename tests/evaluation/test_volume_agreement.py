import math

import numpy as np
import pytest
from scipy import stats

from mrigmm.evaluation.volume_agreement import intraclass_correlation, measured_agreement

# Four judges of six targets: P. E. Shrout, J. L. Fleiss, Psychol. Bull. 86, 420 (1979), table 2.
SHROUT_FLEISS = np.array(
    [[9, 2, 5, 8], [6, 1, 3, 2], [8, 4, 6, 8], [7, 1, 2, 6], [10, 5, 6, 9], [6, 2, 4, 7]]
)


def test_icc_of_the_published_example():
    found = intraclass_correlation(SHROUT_FLEISS)
    assert found.value == pytest.approx(0.29, abs=0.005)  # their ICC(2,1)
    assert (found.low, found.high) == (pytest.approx(0.019, abs=5e-4), pytest.approx(0.761, abs=5e-4))


def test_interval_of_the_icc_as_shrout_and_fleiss_write_it():
    """From the sums of squares over their degrees of freedom: 11.24, 32.49 and 1.02 in their table 3."""
    msr, msc, mse = 1349 / 24 / 5, 2339 / 24 / 3, 367 / 24 / 15
    n, k = 6, 4
    icc = (msr - mse) / (msr + 3 * mse + 4 / 6 * (msc - mse))
    ratio, rest = msc / mse, n * (1 + (k - 1) * icc) - k * icc
    v = 3 * 5 * (k * icc * ratio + rest) ** 2 / (5 * (k * icc * ratio) ** 2 + rest**2)
    upper, lower = stats.f.ppf(0.975, n - 1, v), stats.f.ppf(0.975, v, n - 1)
    low = n * (msr - upper * mse) / (upper * (k * msc + (k * n - k - n) * mse) + n * msr)
    high = n * (lower * msr - mse) / (k * msc + (k * n - k - n) * mse + n * lower * msr)
    found = intraclass_correlation(SHROUT_FLEISS)
    assert (found.value, found.low, found.high) == pytest.approx((icc, low, high), rel=1e-9)


def test_icc_has_no_unit():
    """Millilitres or cubic metres; in float32, too, the figures are computed in float64."""
    found = intraclass_correlation(SHROUT_FLEISS)
    metres = intraclass_correlation(1e-6 * SHROUT_FLEISS)
    assert (metres.value, metres.low, metres.high) == pytest.approx((found.value, found.low, found.high))
    measured = (0.1 * SHROUT_FLEISS).astype(np.float32)
    assert intraclass_correlation(measured) == intraclass_correlation(measured.astype(np.float64))


def test_icc_by_hand():
    """Subjects (1, 2), (2, 3), (3, 4): MSR = 2, MSC = 1.5, MSE = 0: 2 / (2 + 2/3 x 1.5) = 2/3."""
    assert intraclass_correlation(np.array([[1, 2], [2, 3], [3, 4]])).value == pytest.approx(2 / 3)
    # A correlation would be 1; with MSE: (1, 2), (2, 3), (3, 1).
    # Means 1.5, 2.5, 2 and 2, 2: MSR = 2 x 0.5 / 2 = 0.5, MSC = 0, MSE = (0.5 + 0.5 + 2) / 2 = 1.5.
    assert intraclass_correlation(np.array([[1, 2], [2, 3], [3, 1]])).value == pytest.approx(
        (0.5 - 1.5) / (0.5 + 1.5 + 2 / 3 * (0 - 1.5))
    )


def test_icc_of_equal_measurements_and_of_nothing():
    equal = intraclass_correlation(np.array([[1, 1], [2, 2], [5, 5]]))
    assert equal.value == pytest.approx(1)
    assert math.isnan(equal.low)
    assert math.isnan(equal.high)
    # Raters differ, subjects do not, and nothing is left: MSR = MSE = 0.
    alike = intraclass_correlation(np.array([[1, 2], [1, 2], [1, 2]]))
    assert alike.value == 0
    assert math.isnan(alike.low)
    for undefined in (np.ones((4, 2)), np.zeros((4, 2)), SHROUT_FLEISS[:2], SHROUT_FLEISS[:, :1]):
        assert math.isnan(intraclass_correlation(undefined).value)


def test_limits_of_agreement_by_hand():
    """Differences 1, 2, 3, 6 ml: mean 3, SD sqrt(14/3); t of 3 degrees of freedom is 3.182."""
    found = measured_agreement([11, 12, 23, 16], [10, 10, 20, 10])
    sd, t = math.sqrt(14 / 3), 3.18245
    assert (found.n, found.bias.value, found.sd) == (4, 3, pytest.approx(sd))
    assert found.bias.low == pytest.approx(3 - t * sd / 2, rel=1e-5)
    assert found.bias.high == pytest.approx(3 + t * sd / 2, rel=1e-5)
    lower, upper = 3 - 1.95996 * sd, 3 + 1.95996 * sd
    half = t * sd * math.sqrt(1 / 4 + 1.95996**2 / 6)
    assert found.lower_limit.value == pytest.approx(lower, rel=1e-5)
    assert found.upper_limit.value == pytest.approx(upper, rel=1e-5)
    assert found.lower_limit.low == pytest.approx(lower - half, rel=1e-5)
    assert found.lower_limit.high == pytest.approx(lower + half, rel=1e-5)
    assert found.upper_limit.low == pytest.approx(upper - half, rel=1e-5)
    assert found.upper_limit.high == pytest.approx(upper + half, rel=1e-5)
    assert found.icc == intraclass_correlation(np.array([[11, 10], [12, 10], [23, 20], [16, 10]]))
    assert found.absolute_error.mean == 3
    assert found.absolute_error.low < 3 < found.absolute_error.high


def test_absolute_errors_do_not_cancel():
    found = measured_agreement([9, 11, 10], [10, 10, 10])
    assert (found.bias.value, found.absolute_error.mean) == (0, pytest.approx(2 / 3))


def test_two_studies_say_nothing():
    found = measured_agreement([1, 2], [2, 3])
    assert found.n == 2
    values = (found.bias, found.lower_limit, found.upper_limit, found.icc)
    error = found.absolute_error
    figures = [found.sd, *(figure for value in values for figure in (value.value, value.low, value.high))]
    assert all(math.isnan(figure) for figure in (*figures, error.mean, error.sd, error.low, error.high))
    assert (error.n, error.n_undefined) == (2, 0)


def test_volumes_come_in_pairs():
    for other in ([1], [1, 2]):
        with pytest.raises(ValueError, match=f"3 and {len(other)} values"):
            measured_agreement([1, 2, 3], other)
