"""Findings about intensities inside the region. Constant sequences are found when a study is loaded."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from mrigmm.data.limits import SATURATED_PEAK, SATURATED_SHARE
from mrigmm.errors import Problem


def saturated(name: str, values: NDArray[np.float32]) -> Problem | None:
    """Many voxels have the maximum: the scale was cut off, and what lies above it is lost.

    Args:
        name: of the sequence.
        values: (N,) intensities inside the region.
    """
    levels, counts = np.unique(values, return_counts=True)
    if len(levels) < 3 or counts[-1] < max(SATURATED_SHARE * values.size, SATURATED_PEAK * counts[-2]):
        return None
    return Problem(
        f"{name} is saturated",
        expected=f"less than {100 * SATURATED_SHARE:g} % of the region at the maximum",
        got=f"{100 * counts[-1] / values.size:.1f} % at {levels[-1]:g}",
        remedy="convert the file again without a display window or a cut at 255 or 4095",
        severity="warning",
    )


def negative(name: str, values: NDArray[np.float32]) -> Problem | None:
    """Negative intensities, which are right in phase-sensitive LGE and unusual elsewhere.

    Args:
        name: of the sequence.
        values: (N,) intensities inside the region.
    """
    share = float((values < 0).mean())
    if share == 0:
        return None
    usual = "phase-sensitive LGE" if name == "LGE" else "an image that was standardised already"
    return Problem(
        f"{name} has negative intensities",
        got=f"{100 * share:.1f} % of the region; usual in {usual}, and used as they are",
        remedy="none needed if that is what it is",
        severity="note",
    )
