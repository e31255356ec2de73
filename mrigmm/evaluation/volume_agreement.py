"""Do the volumes of two measurements agree: Bland and Altman's limits, and the intraclass correlation."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mrigmm.evaluation.intervals import CONFIDENCE, UNDEFINED, Estimate, Value, estimate_mean
from mrigmm.lazy import LazyModule

stats = LazyModule("scipy.stats")

# With fewer studies nothing is said about agreement.
MIN_STUDIES = 3


@dataclass(frozen=True)
class MeasuredAgreement:
    """Two measurements of one quantity over the studies of a cohort, in its unit.

    Attributes:
        n: studies, those where both are 0 among them.
        bias: mean of the first minus the second (of predicted minus reference).
        sd: SD of the differences (n - 1).
        lower_limit, upper_limit: limits of agreement, bias -+ 1.96 SD.
        icc: absolute agreement of single measurements, ICC(A,1).
        absolute_error: mean absolute difference, with its bootstrap interval.
    """

    n: int
    bias: Value
    sd: float
    lower_limit: Value
    upper_limit: Value
    icc: Value
    absolute_error: Estimate


def measured_agreement(first: Sequence[float], second: Sequence[float]) -> MeasuredAgreement:
    """Return the agreement of two measurements per study.

    Intervals of bias and limits are those of normal differences: standard errors ``s / sqrt(n)`` and
    ``s sqrt(1 / n + 1.96^2 / (2 (n - 1)))`` times Student's t with n - 1 degrees of freedom
    (J. M. Bland, D. G. Altman, Stat. Methods Med. Res. 8, 135 (1999)).

    Args:
        first: (N,) predicted, or by one reader.
        second: (N,) of the same studies. With fewer than 3 studies all figures are NaN.

    Raises:
        ValueError: when the lengths differ.
    """
    n = len(first)
    if n != len(second):
        raise ValueError(f"{n} and {len(second)} values")
    difference = np.subtract(first, second)
    if n < MIN_STUDIES:
        nothing = Estimate(math.nan, math.nan, math.nan, math.nan, n, 0)
        return MeasuredAgreement(n, UNDEFINED, math.nan, UNDEFINED, UNDEFINED, UNDEFINED, nothing)
    bias, sd = float(difference.mean()), float(difference.std(ddof=1))
    z = float(stats.norm.ppf((1 + CONFIDENCE) / 2))
    t = float(stats.t.ppf((1 + CONFIDENCE) / 2, n - 1))
    error_of_bias = t * sd / math.sqrt(n)
    error_of_limit = t * sd * math.sqrt(1 / n + z**2 / (2 * (n - 1)))
    lower, upper = bias - z * sd, bias + z * sd
    return MeasuredAgreement(
        n=n,
        bias=Value(bias, bias - error_of_bias, bias + error_of_bias),
        sd=sd,
        lower_limit=Value(lower, lower - error_of_limit, lower + error_of_limit),
        upper_limit=Value(upper, upper - error_of_limit, upper + error_of_limit),
        icc=intraclass_correlation(np.column_stack([first, second])),
        absolute_error=estimate_mean(np.abs(difference).tolist()),
    )


def intraclass_correlation(measurements: NDArray[np.floating]) -> Value:
    """Intraclass correlation of absolute agreement, single measurements: ICC(A,1), also called ICC(2,1).

    ``(MSR - MSE) / (MSR + (k - 1) MSE + k / n (MSC - MSE))`` with the mean squares of a two-way analysis
    of variance: MSR between subjects, MSC between raters, MSE of what is left; its interval by F
    (K. O. McGraw, S. P. Wong, Psychol. Methods 1, 30 (1996), tables 4 and 7; P. E. Shrout, J. L. Fleiss,
    Psychol. Bull. 86, 420 (1979)).

    Args:
        measurements: (n, k) of n subjects by k raters.

    Returns:
        1 for equal measurements; NaN with fewer than 3 subjects or 2 raters, or where nothing varies. The
        interval is NaN where nothing is left beside subjects and raters.
    """
    x = np.asarray(measurements, dtype=np.float64)
    n, k = x.shape
    if n < MIN_STUDIES or k < 2:
        return UNDEFINED
    of_subjects, of_raters, mean = x.mean(axis=1), x.mean(axis=0), x.mean()
    msr = k * float(((of_subjects - mean) ** 2).sum()) / (n - 1)
    msc = n * float(((of_raters - mean) ** 2).sum()) / (k - 1)
    rest = x - of_subjects[:, None] - of_raters + mean
    mse = float((rest**2).sum()) / ((n - 1) * (k - 1))
    total = msr + (k - 1) * mse + k / n * (msc - mse)
    if np.allclose(x, x[0, 0]):
        return UNDEFINED
    icc = (msr - mse) / total
    if mse <= 1e-12 * msr:
        return Value(icc, math.nan, math.nan)
    a = k * icc / (n * (1 - icc))
    b = 1 + k * icc * (n - 1) / (n * (1 - icc))
    v = (a * msc + b * mse) ** 2 / ((a * msc) ** 2 / (k - 1) + (b * mse) ** 2 / ((n - 1) * (k - 1)))
    tail = (1 + CONFIDENCE) / 2
    f_low, f_high = float(stats.f.ppf(tail, n - 1, v)), float(stats.f.ppf(tail, v, n - 1))
    spread = k * msc + (k * n - k - n) * mse
    low = n * (msr - f_low * mse) / (f_low * spread + n * msr)
    high = n * (f_high * msr - mse) / (spread + n * f_high * msr)
    return Value(icc, float(low), float(high))
