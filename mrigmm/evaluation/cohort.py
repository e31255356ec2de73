"""Overlap of whole cohorts: per study and class, and their summary."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from statistics import fmean, stdev
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mrigmm.evaluation.intervals import CONFIDENCE, UNDEFINED, Value
from mrigmm.evaluation.overlap import Overlap, overlap
from mrigmm.labels import nested_regions
from mrigmm.lazy import LazyModule


@dataclass(frozen=True)
class ClassSummary:
    """One class or nested region over the studies of a cohort.

    Attributes:
        dice_mean, dice_sd, iou_mean, iou_sd: over the `n` studies where the value is defined.
        n: studies where prediction or reference is not empty.
        false_positive_studies: reference empty, prediction not (Dice 0).
        missed_studies: prediction empty, reference not (Dice 0).
        correct_negative_studies: both empty (no Dice; counted in the specificity).
    """

    dice_mean: float
    dice_sd: float
    iou_mean: float
    iou_sd: float
    n: int
    false_positive_studies: int
    missed_studies: int
    correct_negative_studies: int

    @property
    def sensitivity(self) -> float:
        """Share of the studies with this class in which some of it was found; NaN without such studies."""
        positive = self.n - self.false_positive_studies
        return (positive - self.missed_studies) / positive if positive else math.nan

    @property
    def specificity(self) -> float:
        """Share of the studies without this class in which none was found; NaN without such studies."""
        negative = self.false_positive_studies + self.correct_negative_studies
        return self.correct_negative_studies / negative if negative else math.nan

    def as_dict(self) -> dict[str, Any]:
        """Return all figures, the derived ones included."""
        return {**asdict(self), "sensitivity": self.sensitivity, "specificity": self.specificity}


def study_overlaps(
    predicted: NDArray[np.integer[Any]],
    reference: NDArray[np.integer[Any]],
    classes: Sequence[str],
    *,
    voxel_volume_ml: float,
) -> dict[str, Overlap]:
    """Return the overlap of every class and nested region of one study.

    Args:
        predicted: class indices into `classes` (X, Y, Z), negative where there is none.
        reference: likewise.
        classes: names of the classes that the reference knows.
        voxel_volume_ml: volume of one voxel in ml.
    """
    masks = study_masks(predicted, reference, classes)
    return {name: overlap(p, r, voxel_volume_ml) for name, (p, r) in masks.items()}


def study_masks(
    predicted: NDArray[np.integer[Any]], reference: NDArray[np.integer[Any]], classes: Sequence[str]
) -> dict[str, tuple[NDArray[np.bool_], NDArray[np.bool_]]]:
    """Masks of every class and nested region in prediction and reference; arguments as `study_overlaps`."""
    groups = {name: (name,) for name in classes} | nested_regions(classes)
    masks = {}
    for name, members in groups.items():
        indices = [list(classes).index(member) for member in members]
        masks[name] = (np.isin(predicted, indices), np.isin(reference, indices))
    return masks


def summarise(studies: Mapping[str, Mapping[str, Overlap]]) -> dict[str, ClassSummary]:
    """Return the mean and SD over studies, and the counts that a mean hides."""
    names = list(dict.fromkeys(name for overlaps in studies.values() for name in overlaps))
    return {
        name: _summary([overlaps[name] for overlaps in studies.values() if name in overlaps])
        for name in names
    }


def _summary(overlaps: Sequence[Overlap]) -> ClassSummary:
    defined = [o for o in overlaps if not math.isnan(o.dice)]
    dice, iou = [o.dice for o in defined], [o.iou for o in defined]
    return ClassSummary(
        dice_mean=fmean(dice) if dice else math.nan,
        dice_sd=stdev(dice) if len(dice) > 1 else math.nan,
        iou_mean=fmean(iou) if iou else math.nan,
        iou_sd=stdev(iou) if len(iou) > 1 else math.nan,
        n=len(defined),
        false_positive_studies=sum(o.reference_ml == 0 for o in defined),
        missed_studies=sum(o.predicted_ml == 0 for o in defined),
        correct_negative_studies=len(overlaps) - len(defined),
    )


stats = LazyModule("scipy.stats")


@dataclass(frozen=True)
class CaseLevel:
    """Detection of a class in the studies that have it, and in no others.

    Attributes:
        minimum_ml: predicted volume from which on a study counts as having the class.
        true_positive, false_negative: studies whose reference has the class, found or not.
        false_positive, true_negative: studies whose reference has none of it.
        sensitivity: share of the studies with the class in which it was found, with Wilson's score interval.
        specificity: share of the studies without it in which it was not, likewise.
    """

    minimum_ml: float
    true_positive: int
    false_negative: int
    false_positive: int
    true_negative: int
    sensitivity: Value
    specificity: Value


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


def _rate(count: int, total: int) -> Value:
    if not total:
        return UNDEFINED
    interval = stats.binomtest(count, total).proportion_ci(CONFIDENCE, method="wilson")
    return Value(count / total, float(interval.low), float(interval.high))
