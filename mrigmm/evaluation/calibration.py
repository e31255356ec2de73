"""Calibration of class probabilities."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

N_BINS = 15


@dataclass(frozen=True)
class Reliability:
    """Confidence and correctness of voxels, in 15 bins of equal width of the confidence.

    Attributes:
        count: (15,) voxels.
        confidence: (15,) sum of the probabilities of their most probable classes.
        right: (15,) how many of those classes are the true ones.
    """

    count: NDArray[np.integer[Any]]
    confidence: NDArray[np.floating[Any]]
    right: NDArray[np.integer[Any]]

    def error(self) -> float:
        """Return the expected calibration error, 0 to 1; NaN without voxels.

        C. Guo, G. Pleiss, Y. Sun, K. Q. Weinberger, On calibration of modern neural networks, ICML 2017.
        """
        total = int(self.count.sum())
        return float(np.abs(self.confidence - self.right).sum()) / total if total else float("nan")

    def table(self) -> list[dict[str, Any]]:
        """The bins: bounds, voxels, their mean confidence, and how often they are right (NaN: no voxel)."""
        edges = np.linspace(0, 1, N_BINS + 1)
        return [
            {
                "low": float(edges[i]),
                "high": float(edges[i + 1]),
                "count": int(n),
                "confidence": float(self.confidence[i] / n) if n else float("nan"),
                "frequency": float(self.right[i] / n) if n else float("nan"),
            }
            for i, n in enumerate(self.count)
        ]


def reliability(probabilities: NDArray[np.floating], truth: NDArray[np.integer]) -> Reliability:
    """Return the confidence and correctness of the most probable class.

    Args:
        probabilities: (K, N) of N voxels, sum 1 each.
        truth: (N,) class indices; a negative one is no class, and no prediction is right there.
    """
    confidence = probabilities.max(axis=0).astype(np.float64)
    right = probabilities.argmax(axis=0) == truth
    index = np.minimum((confidence * N_BINS).astype(int), N_BINS - 1)
    return Reliability(
        count=np.bincount(index, minlength=N_BINS),
        confidence=np.bincount(index, weights=confidence, minlength=N_BINS).astype(np.float64),
        right=np.bincount(index[right], minlength=N_BINS),
    )


def pooled(studies: Iterable[Reliability]) -> Reliability:
    """Return the voxels of several studies as one."""
    none = np.zeros(N_BINS, dtype=np.int64)
    total = Reliability(none, none.astype(np.float64), none)
    for r in studies:
        total = Reliability(total.count + r.count, total.confidence + r.confidence, total.right + r.right)
    return total
