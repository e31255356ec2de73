"""The mixture of a study in the plane of two sequences: voxels, and an ellipse per class."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import combinations
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Ellipse
from numpy.typing import NDArray
from scipy.stats import norm

from mrigmm.labels import class_colours
from mrigmm.reporting.pictures import Picture, diagram, plain

MAX_POINTS = 800
MAX_SEQUENCES = 3
_SEED = 0
_SDS = (1, 2)
_PANEL = 2.9  # inches


def mixture_picture(
    values: NDArray[np.floating[Any]],
    labels: NDArray[np.integer[Any]],
    class_ids: Mapping[str, int],
    *,
    sequences: Sequence[str],
    units: str,
    weights: NDArray[np.float64],
    means: NDArray[np.float64],
    covariances: NDArray[np.float64],
) -> Picture:
    """Scatter of every pair of sequences with Gaussian ellipses; of one sequence a histogram.

    With more than three sequences, those in which the classes' means lie furthest apart, in units of
    the classes' own standard deviations.

    Args:
        values: (N, C) intensities.
        labels: (N,) class ids.
        class_ids: K class names -> ids.
        sequences: C names.
        units: of the intensities, in words.
        weights: (K,).
        means: (K, C).
        covariances: (K, C, C).
    """
    colours = {name: np.array(rgb) / 255 for name, rgb in class_colours(list(class_ids)).items()}
    chosen = _chosen_sequences(means, covariances)
    if len(chosen) == 1:
        return _histogram(values[:, 0], colours, sequences[0], units, weights, means, covariances)
    keep = np.random.default_rng(_SEED).permutation(len(values))[:MAX_POINTS]
    pairs = list(combinations(chosen, 2))
    figure = Figure(figsize=(_PANEL * len(pairs) + 0.3, _PANEL + 0.2), layout="constrained")
    for axis, pair in zip(figure.subplots(1, len(pairs), squeeze=False)[0], pairs, strict=True):
        x, y = values[keep][:, pair].T
        for k, (name, index) in enumerate(class_ids.items()):
            of_class = labels[keep] == index
            axis.scatter(x[of_class], y[of_class], s=5, color=colours[name], alpha=0.55, linewidths=0)
            _draw_ellipses(axis, means[k, list(pair)], covariances[k][np.ix_(pair, pair)], colours[name])
        _limit(axis, values[:, pair])
        axis.set_xlabel(f"{plain(sequences[pair[0]])}", fontsize=9)
        axis.set_ylabel(f"{plain(sequences[pair[1]])}", fontsize=9)
        axis.tick_params(labelsize=8)
    names = ", ".join(f"{sequences[a]} against {sequences[b]}" for a, b in pairs)
    return diagram(
        figure,
        title=f"Mixture, {units}",
        alt=f"Intensities of {len(keep)} voxels, {names}, with the ellipses of the classes "
        f"at {_SDS[0]} and {_SDS[1]} standard deviations",
    )


def _chosen_sequences(means: NDArray[np.float64], covariances: NDArray[np.float64]) -> list[int]:
    """Up to three sequences, those that separate the classes best, in their own order."""
    within = np.diagonal(covariances, axis1=1, axis2=2).mean(axis=0)
    separation = means.var(axis=0) / np.maximum(within, 1e-12)
    return sorted(np.argsort(-separation, kind="stable")[:MAX_SEQUENCES].tolist())


def _draw_ellipses(
    axis: Axes, mean: NDArray[np.float64], covariance: NDArray[np.float64], colour: NDArray[np.float64]
) -> None:
    variances, axes = np.linalg.eigh(covariance)
    width, height = 2 * np.sqrt(np.maximum(variances, 0))
    degrees = np.degrees(np.arctan2(axes[1, 0], axes[0, 0]))
    for sds in _SDS:
        # A dark line under the coloured one: yellow on white is hard to see.
        for line, edge in ((2.4, "#333333"), (1.4, colour)):
            axis.add_patch(
                Ellipse(
                    (mean[0], mean[1]),
                    sds * width,
                    sds * height,
                    angle=degrees,
                    fill=False,
                    lw=line,
                    edgecolor=edge,
                )
            )
    axis.plot(*mean, marker="+", color="#333333", markersize=6)


def _limit(axis: Axes, values: NDArray[np.floating[Any]]) -> None:
    """Axes that show all but the outermost voxels."""
    low, high = np.percentile(values, [0.2, 99.8], axis=0)
    margin = np.maximum(0.08 * (high - low), 1e-3)
    axis.set_xlim(low[0] - margin[0], high[0] + margin[0])
    axis.set_ylim(low[1] - margin[1], high[1] + margin[1])


def _histogram(
    values: NDArray[np.floating[Any]],
    colours: Mapping[str, NDArray[np.float64]],
    sequence: str,
    units: str,
    weights: NDArray[np.float64],
    means: NDArray[np.float64],
    covariances: NDArray[np.float64],
) -> Picture:
    figure = Figure(figsize=(1.7 * _PANEL, _PANEL), layout="constrained")
    axis = figure.subplots()
    low, high = np.percentile(values, [0.2, 99.8])
    grid = np.linspace(low, max(high, low + 1e-3), 300)
    axis.hist(values, bins=60, range=(grid[0], grid[-1]), density=True, color="#cccccc")
    for k, colour in enumerate(colours.values()):
        density = weights[k] * norm.pdf(grid, means[k, 0], np.sqrt(covariances[k, 0, 0]))
        axis.plot(grid, density, color="#333333", lw=2.8)
        axis.plot(grid, density, color=colour, lw=1.8)
    axis.set_xlabel(plain(sequence), fontsize=9)
    axis.set_ylabel("density", fontsize=9)
    axis.tick_params(labelsize=8)
    return diagram(
        figure, title=f"Mixture, {units}", alt=f"Histogram of {sequence} with the density of each class"
    )
