"""All that is measured of a class in one study, its means over a cohort, and paired comparisons."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mrigmm.evaluation.cohort import study_masks
from mrigmm.evaluation.intervals import Estimate, PairedDifference, estimate_mean, paired_difference
from mrigmm.evaluation.overlap import Overlap, overlap
from mrigmm.evaluation.surface import SurfaceAgreement, surface_agreement

# Every metric of a class in a study, and whether more of it is better.
METRICS = {
    "dice": True,
    "iou": True,
    "hd95_mm": False,
    "nsd_2mm": True,
    "hd95_3d_mm": False,
    "nsd_3d_2mm": True,
    "volume_error_ml": False,
}


@dataclass(frozen=True)
class Scores(SurfaceAgreement, Overlap):
    """Overlap, boundary distances and volumes of one class or region in one study."""

    @property
    def volume_error_ml(self) -> float:
        """Absolute difference of the volumes in ml."""
        return abs(self.predicted_ml - self.reference_ml)

    def as_dict(self) -> dict[str, float]:
        """Return all figures, those of `Overlap` first."""
        return {**asdict(self), "volume_error_ml": self.volume_error_ml}


def mask_scores(
    predicted: NDArray[np.bool_], reference: NDArray[np.bool_], axes_mm: NDArray[np.floating]
) -> Scores:
    """Return scores of two masks.

    Args:
        predicted: mask (X, Y, Z), slices along the last axis.
        reference: mask (X, Y, Z).
        axes_mm: (3, 3) step in mm (a column) along each array axis.
    """
    voxel_ml = float(abs(np.linalg.det(axes_mm))) / 1000
    volumes = overlap(predicted, reference, voxel_ml)
    return Scores(**asdict(volumes), **asdict(surface_agreement(predicted, reference, axes_mm)))


def study_scores(
    predicted: NDArray[np.integer[Any]],
    reference: NDArray[np.integer[Any]],
    classes: Sequence[str],
    axes_mm: NDArray[np.floating],
) -> dict[str, Scores]:
    """Return scores of every class and nested region of one study.

    Args:
        predicted: class indices into `classes` (X, Y, Z), negative where there is none; slices last.
        reference: likewise.
        classes: names of the classes that the reference knows.
        axes_mm: (3, 3) step in mm (a column) along each array axis.
    """
    masks = study_masks(predicted, reference, classes)
    return {name: mask_scores(p, r, axes_mm) for name, (p, r) in masks.items()}


def by_metric(studies: Mapping[str, Mapping[str, Scores]], name: str) -> dict[str, dict[str, float]]:
    """Return metric -> study id -> value of one class, for the studies where it was compared."""
    found = {study: scores[name] for study, scores in studies.items() if name in scores}
    return {
        metric: {study: float(getattr(scores, metric)) for study, scores in found.items()}
        for metric in METRICS
    }


def estimates(studies: Mapping[str, Mapping[str, Scores]]) -> dict[str, dict[str, Estimate]]:
    """Return class -> metric -> mean over studies with its bootstrap interval."""
    names = dict.fromkeys(name for scores in studies.values() for name in scores)
    return {
        name: {metric: estimate_mean([*v.values()]) for metric, v in by_metric(studies, name).items()}
        for name in names
    }


# What is compared; each is a family of tests of its own.
COMPARED = ("dice", "hd95_mm", "volume_error_ml")


@dataclass(frozen=True)
class Comparison:
    """One metric of one class in two sets of predictions.

    Attributes:
        first_mean, second_mean: over the studies where both have a value.
        difference: first minus second on the same studies.
        p_holm: the difference's p-value, corrected for the classes that the metric was tested in.
        pairs: study id -> both values, where both have one.
    """

    first_mean: float
    second_mean: float
    difference: PairedDifference
    p_holm: float
    pairs: dict[str, tuple[float, float]]


def compare_scores(
    first: Mapping[str, Mapping[str, Scores]], second: Mapping[str, Mapping[str, Scores]]
) -> dict[str, dict[str, Comparison]]:
    """Return the paired comparison of every metric in `COMPARED` and every class that both have.

    Args:
        first: study id -> class -> scores.
        second: likewise.

    Returns:
        Metric -> class -> comparison.
    """
    names = [name for name in _classes(first) if name in _classes(second)]
    found: dict[str, dict[str, Comparison]] = {}
    for metric in COMPARED:
        a = {name: by_metric(first, name)[metric] for name in names}
        b = {name: by_metric(second, name)[metric] for name in names}
        differences = {name: paired_difference(a[name], b[name]) for name in names}
        corrected = holm({name: difference.p_value for name, difference in differences.items()})
        found[metric] = {
            name: _comparison(a[name], b[name], differences[name], corrected[name]) for name in names
        }
    return found


def holm(p_values: Mapping[str, float]) -> dict[str, float]:
    """Return p-values corrected for their number, step by step from the smallest.

    S. Holm, A simple sequentially rejective multiple test procedure, Scand. J. Stat. 6, 65 (1979).

    Args:
        p_values: by name; NaN is no test, and stays.
    """
    tests = sorted((p, name) for name, p in p_values.items() if not math.isnan(p))
    corrected, largest = dict(p_values), 0.0
    for done, (p, name) in enumerate(tests):
        largest = max(largest, min(1.0, p * (len(tests) - done)))
        corrected[name] = largest
    return corrected


def _comparison(
    a: Mapping[str, float], b: Mapping[str, float], difference: PairedDifference, p_holm: float
) -> Comparison:
    pairs = {
        study: (value, b[study])
        for study, value in a.items()
        if study in b and not (math.isnan(value) or math.isnan(b[study]))
    }
    means = np.mean([*pairs.values()], axis=0) if pairs else (math.nan, math.nan)
    return Comparison(float(means[0]), float(means[1]), difference, p_holm, pairs)


def _classes(studies: Mapping[str, Mapping[str, Scores]]) -> list[str]:
    return list(dict.fromkeys(name for scores in studies.values() for name in scores))
