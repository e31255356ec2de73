"""Dice and IoU with the semantics of docs/data.md: false infarcts count, absent ones are not rewarded."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class Overlap:
    """Agreement of one class or region in one study (all slices as one object).

    Attributes:
        dice: 2 |A and B| / (|A| + |B|); NaN when both are empty, 0 when exactly one is.
        iou: |A and B| / |A or B|; likewise.
        predicted_ml: volume of the prediction in ml.
        reference_ml: volume of the reference in ml.
    """

    dice: float
    iou: float
    predicted_ml: float
    reference_ml: float


def overlap(predicted: NDArray[np.bool_], reference: NDArray[np.bool_], voxel_volume_ml: float) -> Overlap:
    """Return the overlap of two masks of the same shape.

    Args:
        predicted: mask of the prediction.
        reference: mask of the reference.
        voxel_volume_ml: volume of one voxel in ml.

    Raises:
        ValueError: when the shapes differ.
    """
    if predicted.shape != reference.shape:
        raise ValueError(f"shapes differ: {predicted.shape} and {reference.shape}")
    n_predicted, n_reference = int(predicted.sum()), int(reference.sum())
    both = int((predicted & reference).sum())
    total = n_predicted + n_reference
    return Overlap(
        dice=2 * both / total if total else math.nan,
        iou=both / (total - both) if total else math.nan,
        predicted_ml=n_predicted * voxel_volume_ml,
        reference_ml=n_reference * voxel_volume_ml,
    )


def empty_remark(name: str, predicted_ml: float, reference_ml: float) -> str | None:
    """Return why a Dice is 0 or not defined where prediction, reference or both have none of the class.

    Examples:
        >>> empty_remark("scar", 1.23, 0)
        'the reference has no scar; 1.2 ml predicted'
    """
    if predicted_ml > 0 and reference_ml > 0:
        return None
    if predicted_ml > 0:
        return f"the reference has no {name}; {_ml(predicted_ml)} predicted"
    if reference_ml > 0:
        return f"no {name} predicted; the reference has {_ml(reference_ml)}"
    return f"neither has {name}: Dice is not defined"


def _ml(volume: float) -> str:
    return f"{volume:.1f} ml" if volume >= 0.1 else "under 0.1 ml"
