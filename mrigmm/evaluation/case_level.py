"""Does a patient have an infarct, an edema: sensitivity and specificity over studies."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass

from mrigmm.evaluation.intervals import CONFIDENCE
from mrigmm.evaluation.overlap import Overlap
from mrigmm.lazy import LazyModule

stats = LazyModule("scipy.stats")


@dataclass(frozen=True)
class Rate:
    """A share of studies with its 95 % interval (Wilson's score interval); NaN of no studies."""

    value: float
    low: float
    high: float


@dataclass(frozen=True)
class CaseLevel:
    """Detection of a class in the studies that have it, and in no others.

    Attributes:
        minimum_ml: predicted volume from which on a study counts as having the class.
        true_positive, false_negative: studies whose reference has the class, found or not.
        false_positive, true_negative: studies whose reference has none of it.
        sensitivity: share of the studies with the class in which it was found.
        specificity: share of the studies without it in which it was not.
    """

    minimum_ml: float
    true_positive: int
    false_negative: int
    false_positive: int
    true_negative: int
    sensitivity: Rate
    specificity: Rate


def case_level(studies: Iterable[Overlap], *, minimum_ml: float = 0.0) -> CaseLevel:
    """Return the detection of one class over studies.

    Args:
        studies: volumes of the class, predicted and true.
        minimum_ml: a smaller prediction counts as none; 0: any voxel counts. The reference has the class
            when any voxel has.
    """
    counts = Counter(
        (o.predicted_ml > 0 and o.predicted_ml >= minimum_ml, o.reference_ml > 0) for o in studies
    )
    tp, fn, fp, tn = counts[True, True], counts[False, True], counts[True, False], counts[False, False]
    return CaseLevel(minimum_ml, tp, fn, fp, tn, _rate(tp, tp + fn), _rate(tn, tn + fp))


def _rate(count: int, total: int) -> Rate:
    if not total:
        return Rate(math.nan, math.nan, math.nan)
    interval = stats.binomtest(count, total).proportion_ci(CONFIDENCE, method="wilson")
    return Rate(count / total, float(interval.low), float(interval.high))
