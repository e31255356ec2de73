"""Means over studies with bootstrap intervals, and paired comparisons on the same studies.

Nothing here skips a missing value in silence: every result says how many studies it rests on and how many
it had to leave out.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mrigmm.lazy import LazyModule

stats = LazyModule("scipy.stats")

N_RESAMPLES = 10_000
CONFIDENCE = 0.95


@dataclass(frozen=True)
class Value:
    """A figure with its 95 % interval; all NaN where it is not defined."""

    value: float
    low: float
    high: float


UNDEFINED = Value(math.nan, math.nan, math.nan)


@dataclass(frozen=True)
class Estimate:
    """A mean over studies.

    Attributes:
        mean: over the `n` studies where the value is defined; NaN without any.
        sd: over the same studies (n - 1); NaN with fewer than two.
        low, high: 95 % percentile bootstrap interval of the mean over studies; NaN with fewer than two.
        n: studies with a value.
        n_undefined: studies whose value is NaN (class absent, no boundary, ...), not in the mean.
    """

    mean: float
    sd: float
    low: float
    high: float
    n: int
    n_undefined: int


@dataclass(frozen=True)
class PairedDifference:
    """Method minus baseline on the same studies.

    Attributes:
        mean: mean difference over the `n` pairs.
        low, high: its 95 % percentile bootstrap interval over studies; NaN with fewer than two pairs.
        p_value: two-sided Wilcoxon signed-rank test, differences of exactly 0 left out of the ranks; 1
            when all differences are 0, NaN without pairs. Five pairs cannot give less than 1/16.
        n: studies where both values are defined.
        n_unpaired: studies of either side where one or both values are missing.
    """

    mean: float
    low: float
    high: float
    p_value: float
    n: int
    n_unpaired: int


def estimate_mean(values: Sequence[float], *, seed: int = 0) -> Estimate:
    """Return mean, SD and bootstrap interval of one value per study.

    Args:
        values: (N,), NaN where a study has no such value.
        seed: of the resampling.

    Raises:
        ValueError: when a value is infinite.
    """
    x = _checked(values)
    defined = x[~np.isnan(x)]
    low, high = _interval(defined, seed)
    return Estimate(
        mean=float(defined.mean()) if len(defined) else math.nan,
        sd=float(defined.std(ddof=1)) if len(defined) > 1 else math.nan,
        low=low,
        high=high,
        n=len(defined),
        n_undefined=len(x) - len(defined),
    )


def paired_difference(
    method: Mapping[str, float], baseline: Mapping[str, float], *, seed: int = 0
) -> PairedDifference:
    """Compare two methods study by study.

    Args:
        method: study id -> value, NaN where it has none.
        baseline: likewise; studies are paired by their id.
        seed: of the resampling.

    Raises:
        ValueError: when a value is infinite.
    """
    ids = list(dict.fromkeys([*method, *baseline]))
    differences = _checked([method.get(i, math.nan) for i in ids]) - _checked(
        [baseline.get(i, math.nan) for i in ids]
    )
    paired = differences[~np.isnan(differences)]
    low, high = _interval(paired, seed)
    return PairedDifference(
        mean=float(paired.mean()) if len(paired) else math.nan,
        low=low,
        high=high,
        p_value=_wilcoxon(paired),
        n=len(paired),
        n_unpaired=len(ids) - len(paired),
    )


def _checked(values: Sequence[float]) -> NDArray[np.float64]:
    x = np.asarray(values, dtype=np.float64)
    if np.isinf(x).any():
        raise ValueError(f"{int(np.isinf(x).sum())} of {len(x)} values are infinite")
    return x


def _interval(x: NDArray[np.float64], seed: int) -> tuple[float, float]:
    """Return the percentile bootstrap interval of the mean of (N,) defined values."""
    if len(x) < 2:
        return math.nan, math.nan
    drawn = np.random.default_rng(seed).integers(len(x), size=(N_RESAMPLES, len(x)))
    tail = 50 * (1 - CONFIDENCE)
    low, high = np.percentile(x[drawn].mean(axis=1), [tail, 100 - tail])
    return float(low), float(high)


def _wilcoxon(differences: NDArray[np.float64]) -> float:
    if len(differences) == 0:
        return math.nan
    moved = differences[differences != 0]
    return float(stats.wilcoxon(moved).pvalue) if len(moved) else 1.0
