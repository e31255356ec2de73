"""IoU of clusters with reference segments: as the slides of the seed works do, and one to one."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import linear_sum_assignment


@dataclass(frozen=True)
class Score:
    """IoU of one segmentation of one image, each a mean over reference segments, then over references.

    Attributes:
        best_cluster: every reference segment takes its best cluster, several the same one if they like.
        one_to_one: by the best one-to-one assignment; segments without a cluster count 0.
    """

    best_cluster: float
    one_to_one: float


@dataclass(frozen=True)
class Summary:
    """Scores (image, repeat) of a method in one number each way.

    Attributes:
        mean: over images of the mean over repeats.
        sd_images: SD over images of the mean over repeats.
        sd_repeats: SD over repeats of the mean over images; 0 with one repeat.
    """

    mean: float
    sd_images: float
    sd_repeats: float


def iou_table(labels: NDArray[np.integer], reference: NDArray[np.integer]) -> NDArray[np.float64]:
    """IoU (reference segments, clusters); pixels with label 0 belong to no cluster."""
    _, rows = np.unique(reference, return_inverse=True)
    columns = labels.ravel().astype(int)
    both = np.zeros((rows.max() + 1, columns.max() + 1))
    np.add.at(both, (rows.ravel(), columns), 1)
    union = both.sum(axis=1, keepdims=True) + both.sum(axis=0, keepdims=True) - both
    return np.asarray((both / union)[:, 1:])


def score(labels: NDArray[np.integer], references: Sequence[NDArray[np.integer]]) -> Score:
    """Both IoUs of a label map (H, W)."""
    best, paired = [], []
    for reference in references:
        table = iou_table(labels, reference)
        best.append(table.max(axis=1, initial=0).mean())
        paired.append(table[linear_sum_assignment(-table)].sum() / len(table))
    return Score(float(np.mean(best)), float(np.mean(paired)))


def summarise(scores: NDArray[np.float64]) -> Summary:
    """Scores (images, repeats)."""
    images, repeats = scores.mean(axis=1), scores.mean(axis=0)

    def sd(values: NDArray[np.float64]) -> float:
        return float(values.std(ddof=1)) if len(values) > 1 else 0.0

    return Summary(float(images.mean()), sd(images), sd(repeats))
