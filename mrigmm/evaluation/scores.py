"""All that is measured of a class in one study, and its means over a cohort."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mrigmm.evaluation.cohort import study_masks
from mrigmm.evaluation.intervals import Estimate, estimate_mean
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
