"""Whether probabilities mean what they say."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

N_BINS = 15


def calibration_error(probabilities: NDArray[np.floating], truth: NDArray[np.integer]) -> float:
    """Expected calibration error of the most probable class, over 15 bins of equal width.

    C. Guo, G. Pleiss, Y. Sun, K. Q. Weinberger, On calibration of modern neural networks, ICML 2017.

    Args:
        probabilities: (K, N) of N voxels, sum 1 each.
        truth: (N,) class indices.

    Returns:
        0 (every confidence is right as often as it says) to 1; NaN without voxels.
    """
    if not truth.size:
        return float("nan")
    confidence, right = probabilities.max(axis=0), probabilities.argmax(axis=0) == truth
    index = np.minimum((confidence * N_BINS).astype(int), N_BINS - 1)
    sums = (np.bincount(index, weights=values, minlength=N_BINS) for values in (confidence, right))
    gap = np.subtract(*sums)
    return float(np.abs(gap).sum() / truth.size)
