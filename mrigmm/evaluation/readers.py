"""Agreement of several readers about quantities, and about AHA segments."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import combinations

import numpy as np
from numpy.typing import NDArray

from mrigmm.evaluation.volume_agreement import (
    MeasuredAgreement,
    Value,
    intraclass_correlation,
    measured_agreement,
)
from mrigmm.lazy import LazyModule

metrics = LazyModule("sklearn.metrics")

# Upper ends (%) of the grades of transmurality after the first, which is exactly 0.
GRADE_ENDS = (0, 25, 50, 75, 100)
Pair = tuple[int, int]


@dataclass(frozen=True)
class QuantityAgreement:
    """One quantity by J readers over the studies of a cohort.

    Attributes:
        values: (N, J), NaN where a reader's mask does not give it.
        n: studies where all readers have it, which the ICC is of.
        icc: intraclass correlation of absolute agreement of single measurements, ICC(A,1), of all readers.
        pairs: of each two readers, first minus second, over the studies that both have.
    """

    values: NDArray[np.float64]
    n: int
    icc: Value
    pairs: Mapping[Pair, MeasuredAgreement]

    def of_pair(self, pair: Pair) -> NDArray[np.float64]:
        """(N', 2) values of the studies that both readers have."""
        return defined(self.values[:, list(pair)])


@dataclass(frozen=True)
class Kappa:
    """Cohen's kappa, linear weights, of `n` pairs of grades; NaN where it is not defined."""

    value: float
    n: int


def quantity_agreement(values: NDArray[np.float64]) -> QuantityAgreement:
    """Return the agreement about one quantity.

    Args:
        values: (N, J) of N studies by J readers, NaN where there is none.
    """
    whole = defined(values)
    pairs = {}
    for pair in combinations(range(values.shape[1]), 2):
        first, second = defined(values[:, list(pair)]).T
        pairs[pair] = measured_agreement(first.tolist(), second.tolist())
    return QuantityAgreement(values, len(whole), intraclass_correlation(whole), pairs)


def defined(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Rows of (N, J) without NaN."""
    return values[np.isfinite(values).all(axis=1)]


def segment_kappas(transmurality: NDArray[np.float64]) -> dict[Pair, list[Kappa]]:
    """Return how far readers agree about the grade of transmurality of AHA segments.

    Grades are 0, (0, 25], (25, 50], (50, 75] and (75, 100] % of the wall, mean of a segment.

    Args:
        transmurality: (N, J, S) percent of S segments in N studies by J readers, NaN where not known.

    Returns:
        For each two readers kappa of each segment over the studies, then of all segments together.
    """
    pairs = {}
    for pair in combinations(range(transmurality.shape[1]), 2):
        first, second = transmurality[:, pair[0]], transmurality[:, pair[1]]  # (N, S)
        by_segment = [weighted_kappa(a, b) for a, b in zip(first.T, second.T, strict=True)]
        pairs[pair] = [*by_segment, weighted_kappa(first.ravel(), second.ravel())]
    return pairs


def weighted_kappa(first: NDArray[np.float64], second: NDArray[np.float64]) -> Kappa:
    """Cohen's kappa with linear weights (J. Cohen, Psychol. Bull. 70, 213 (1968)) of grades of transmurality.

    Args:
        first: (N,) percent by one reader, NaN where not known.
        second: (N,) by another.

    Returns:
        Without a value where there is no pair, or both readers give all the same grade.
    """
    known = defined(np.column_stack([first, second]))
    grades = np.searchsorted(GRADE_ENDS, known)  # (N', 2)
    if len(grades) == 0 or (grades == grades[0, 0]).all():
        return Kappa(math.nan, len(grades))
    value = metrics.cohen_kappa_score(*grades.T, labels=range(len(GRADE_ENDS)), weights="linear")
    return Kappa(float(value), len(grades))
