"""Agreement of several label maps of the same study with each other, and of readers over a cohort."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np
import torch
from numpy.typing import NDArray

from mrigmm.evaluation.cohort import study_overlaps
from mrigmm.evaluation.intervals import Estimate, Value, estimate_mean
from mrigmm.evaluation.volume_agreement import MeasuredAgreement, intraclass_correlation, measured_agreement
from mrigmm.lazy import LazyModule


@dataclass(frozen=True)
class StudyAgreement:
    """Agreement of J label maps of one study.

    Attributes:
        share: (X, Y, Z) float32, share of the maps that have the most frequent label; 0 where no map has a
            class.
        mean: of the share over the voxels where a map has a class; NaN without any.
        unanimous: share of those voxels where all maps agree; NaN likewise.
        dice: class or nested region -> (J, J) Dice of each pair; NaN where neither has the class, 1 with
            itself.
        volume_ml: class or nested region -> (J,) volumes.
    """

    share: NDArray[np.float32]
    mean: float
    unanimous: float
    dice: dict[str, NDArray[np.float64]]
    volume_ml: dict[str, NDArray[np.float64]]

    def mean_dice(self, name: str) -> float:
        """Return a class's mean over the pairs of maps where it is defined; NaN where it never is."""
        above = self.dice[name][np.triu_indices(len(self.dice[name]), 1)]
        defined = above[~np.isnan(above)]
        return float(defined.mean()) if defined.size else math.nan


@dataclass(frozen=True)
class ClassAgreement:
    """Agreement about one class over the studies of a cohort.

    Attributes:
        dice: mean over studies of the mean Dice of the pairs of maps.
        volume_icc: intraclass correlation, absolute agreement, of the volumes.
    """

    dice: Estimate
    volume_icc: Value


def study_agreement(
    maps: Sequence[NDArray[np.integer]], classes: Sequence[str], *, voxel_volume_ml: float
) -> StudyAgreement:
    """Return the agreement of label maps of one study.

    Args:
        maps: J arrays (X, Y, Z) of class indices into `classes`, negative where there is none.
        classes: names.
        voxel_volume_ml: volume of one voxel in ml.
    """
    votes = np.stack(maps)
    inside = (votes >= 0).any(axis=0)
    labels = torch.from_numpy(votes[:, inside])  # (J, N)
    share = np.zeros(inside.shape, dtype=np.float32)
    share[inside] = (labels == labels.mode(dim=0).values).float().mean(dim=0).numpy()
    pairs = {
        (a, b): study_overlaps(maps[a], maps[b], classes, voxel_volume_ml=voxel_volume_ml)
        for a, b in combinations(range(len(maps)), 2)
    }
    names = list(pairs[0, 1])
    dice = {name: np.eye(len(maps)) for name in names}
    volume_ml = {name: np.zeros(len(maps)) for name in names}
    for (a, b), overlaps in pairs.items():
        for name, found in overlaps.items():
            dice[name][a, b] = dice[name][b, a] = found.dice
            volume_ml[name][[a, b]] = found.predicted_ml, found.reference_ml
    used = share[inside]
    return StudyAgreement(
        share=share,
        mean=float(used.mean()) if used.size else math.nan,
        unanimous=float((used == 1).mean()) if used.size else math.nan,
        dice=dice,
        volume_ml=volume_ml,
    )


def summarise_agreement(studies: Mapping[str, StudyAgreement]) -> dict[str, ClassAgreement]:
    """Return class or nested region -> agreement over the studies that were labelled with it."""
    names = dict.fromkeys(name for found in studies.values() for name in found.dice)
    summary = {}
    for name in names:
        having = [found for found in studies.values() if name in found.dice]
        summary[name] = ClassAgreement(
            dice=estimate_mean([found.mean_dice(name) for found in having]),
            volume_icc=intraclass_correlation(np.stack([found.volume_ml[name] for found in having])),
        )
    return summary


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
