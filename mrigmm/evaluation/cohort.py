"""Overlap of whole cohorts: per study and class, and their summary."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from statistics import fmean, stdev
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mrigmm.evaluation.overlap import Overlap, overlap
from mrigmm.labels import nested_regions


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
