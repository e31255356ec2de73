"""Predictive distribution of a volume from voxel probabilities, and how it is scored."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

N_DRAWS = 200
INTERVAL_PERCENT = 95.0


def draw_volumes_ml(probability: NDArray[np.floating[Any]], voxel_ml: float) -> NDArray[np.float64]:
    """Return draws of a tissue's volume, all voxels erring together.

    At the level u the tissue is where its probability is at least 1 - u; the draws are its volumes at
    `N_DRAWS` levels evenly spread over (0, 1). Every voxel is tissue at a share of the levels that is its
    probability, and the mean of the draws is the expected volume. Independent voxels would have the same
    mean and an absurdly narrow spread, since an error of the model is shared by the voxels of a study.

    Args:
        probability: of one tissue in each voxel (any shape).
        voxel_ml: volume of a voxel.

    Returns:
        (N_DRAWS,) ml, ascending.
    """
    levels_as_tissue = np.floor(probability.ravel() * N_DRAWS + 0.5).astype(np.intp)
    voxels = np.bincount(levels_as_tissue, minlength=N_DRAWS + 1)
    # The i-th level takes the voxels that are tissue at N_DRAWS - i levels or more.
    return np.asarray(np.cumsum(voxels[::-1])[:N_DRAWS] * voxel_ml)


def intervals(draws: Mapping[str, NDArray[np.float64]]) -> dict[str, tuple[float, float]]:
    """Return the central 95 % interval of every quantity's draws (S,); none where all draws are alike.

    A method that fixes the cavity is certain of each voxel of it: that is no statement about its error.
    """
    if not draws:
        return {}
    values, tail = np.stack(list(draws.values())), (100 - INTERVAL_PERCENT) / 2  # (Q, S)
    low, high = np.percentile(values, [tail, 100 - tail], axis=1)
    spread = values.min(axis=1) < values.max(axis=1)
    return {name: (float(low[i]), float(high[i])) for i, name in enumerate(draws) if spread[i]}


def crps_ensemble(draws: NDArray[np.float64], observed: float) -> float:
    """Continuous ranked probability score of draws (S,) against what was observed, in its unit.

    The integral of (F(x) - 1[x >= observed])^2 with F the distribution function of the draws:
    mean |x_i - y| - mean |x_i - x_j| / 2 (Gneiting and Raftery, J Am Stat Assoc 2007, eq. 21). A single
    draw gives the absolute error. Lower is better.
    """
    x = np.sort(draws)
    n = len(x)
    half_spread = float(((2 * np.arange(1, n + 1) - n - 1) * x).sum()) / n**2  # mean |x_i - x_j| / 2
    return max(0.0, float(np.abs(x - observed).mean()) - half_spread)  # never a rounding error below 0
