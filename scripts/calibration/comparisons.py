"""Is the phantom as hard as reality? Measured figures beside those of real patients, with tolerances."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations, product
from typing import Any

import numpy as np
from numpy.typing import NDArray

from calibration.figures import DEPTH_BINS, LAGS_PX, StudyFigures
from mrigmm.phantom.config import SEQUENCES
from mrigmm.phantom.population import CLASSES, statistics

FloatArray = NDArray[np.floating[Any]]

MEAN_TOLERANCE = 0.15
WIDTH_TOLERANCE = 0.15  # relative
AUTOCORRELATION_TOLERANCE = 0.10
FRACTION_TOLERANCE = 0.03
AUC_TOLERANCE = 0.04
DICE_TOLERANCE = 0.06
REQUIRED_SHARE = 0.75  # of the Dice figures

REGIONS = (*CLASSES, "pathology")  # pathology: edema and scar together

# Volumetric Dice per study, averaged, on the 20 official test studies of MyoPS 2020. NaN: not published,
# or given to the method.
_NAN = float("nan")
REAL_DICE: Mapping[str, tuple[float, float, float, float, float]] = {
    "EM-GMM": (0.75, 0.77, 0.20, 0.43, 0.57),
    "deepSVG": (0.85, 0.77, 0.28, 0.59, 0.64),
    "MAP-EM": (0.88, 0.82, 0.28, 0.62, 0.65),
    "Otsu in wall": (_NAN, _NAN, _NAN, 0.68, _NAN),
    "MAP-EM in wall": (_NAN, _NAN, 0.42, 0.68, 0.78),
    "true Gaussians": (_NAN, _NAN, 0.48, 0.73, 0.84),
}


@dataclass(frozen=True)
class Comparison:
    """One figure of the phantom beside the real one."""

    group: str
    name: str
    real: float
    simulated: float
    tolerance: float

    @property
    def met(self) -> bool:
        """Within the tolerance."""
        return abs(self.simulated - self.real) <= self.tolerance


def population_comparisons(figures: Sequence[StudyFigures]) -> list[Comparison]:
    """Means, widths, autocorrelation, fractions and AUCs, averaged over studies."""
    real = statistics()
    rows = []
    for scale, name in (("lv", "LV z-score"), ("crop", "crop z-score")):
        table = real[f"{scale}_z"]
        mean = _average(figures, f"{scale}_mean")
        width = np.sqrt(_average(figures, f"{scale}_variance"))
        true_width = np.sqrt(np.diagonal(np.array(table["within_study_covariance"]), axis1=1, axis2=2))
        rows += _class_rows(f"class mean, {name}", np.array(table["mean"]), mean, MEAN_TOLERANCE)
        rows += _class_rows(
            f"within-class SD, {name}", true_width, width, tolerance=WIDTH_TOLERANCE * true_width
        )
    rows += _autocorrelation_rows(_average(figures, "autocorrelation"))
    fraction = _average(figures, "fraction")
    rows += [
        Comparison("share of the LV", name, float(there), float(here), FRACTION_TOLERANCE)
        for name, there, here in zip(CLASSES, real["lv_volume_fraction"]["mean"], fraction, strict=True)
    ]
    areas = np.nanmedian([study.auc for study in figures], axis=0)
    rows += [
        Comparison("median AUC", name, entry["median"], float(here), AUC_TOLERANCE)
        for (name, entry), here in zip(real["separability_auc_in_reference_wall"].items(), areas, strict=True)
    ]
    return rows


def further_comparisons(figures: Sequence[StudyFigures]) -> list[Comparison]:
    """Figures that the file tabulates but that the calibration does not ask for: no tolerance."""
    real, slices = statistics(), statistics()["slices"]
    here = np.array([study.empty_slices for study in figures]).sum(axis=0)
    total = sum(study.n_slices for study in figures)
    rows = [
        Comparison(
            "slices without",
            name,
            slices[f"without_{name}"] / slices["total"],
            float(here[CLASSES.index(name)] / total),
            _NAN,
        )
        for name in ("edema", "scar")
    ]
    shares = _average(figures, "depth_share")
    rows += [
        Comparison(f"{name} in the wall", f"depth {b + 1} of {DEPTH_BINS}", value, float(share), _NAN)
        for name in ("edema", "scar")
        for b, (value, share) in enumerate(
            zip(real["wall_depth_share"][name], shares[CLASSES.index(name)], strict=True)
        )
    ]
    for scale, name in (("lv", "LV z-score"), ("crop", "crop z-score")):
        spread = np.nanstd([getattr(study, f"{scale}_mean") for study in figures], axis=0)
        rows += _class_rows(
            f"between-study SD, {name}", np.array(real[f"{scale}_z"]["between_study_sd"]), spread, _NAN
        )
    return rows


def method_comparisons(dice: Mapping[str, Sequence[float]]) -> list[Comparison]:
    """Dice of the reference methods: method -> one value per region of `REGIONS`."""
    return [
        Comparison("Dice", f"{method}, {region}", real, float(here), DICE_TOLERANCE)
        for method, values in dice.items()
        for region, real, here in zip(REGIONS, REAL_DICE[method], values, strict=True)
        if not np.isnan(real)
    ]


def broken_ranks(dice: Mapping[str, Sequence[float]]) -> list[str]:
    """Pairs of methods that stand in another order than on real patients, as sentences."""
    broken = []
    for column, region in enumerate(REGIONS):
        for first, second in combinations(dice, 2):
            real = REAL_DICE[first][column] - REAL_DICE[second][column]
            here = dice[first][column] - dice[second][column]
            if not np.isnan(real) and real != 0 and real * here <= 0:
                broken.append(f"{region}: {first} against {second}")
    return broken


def passes(rows: Sequence[Comparison], dice: Mapping[str, Sequence[float]]) -> bool:
    """Three quarters of all figures and of the Dice figures met, and every rank kept."""
    scores = [row.met for row in rows if row.group == "Dice"]
    enough = all(np.mean(met) >= REQUIRED_SHARE for met in ([row.met for row in rows], scores))
    return enough and not broken_ranks(dice)


def _average(figures: Sequence[StudyFigures], name: str) -> FloatArray:
    averaged: FloatArray = np.nanmean([getattr(study, name) for study in figures], axis=0)
    return averaged


def _class_rows(
    group: str, real: FloatArray, here: FloatArray, tolerance: float | FloatArray
) -> list[Comparison]:
    allowed = np.broadcast_to(tolerance, real.shape)
    return [
        Comparison(
            group, f"{CLASSES[k]} {SEQUENCES[c]}", float(real[k, c]), float(here[k, c]), float(allowed[k, c])
        )
        for k, c in product(range(len(CLASSES)), range(len(SEQUENCES)))
    ]


def _autocorrelation_rows(here: FloatArray) -> list[Comparison]:
    table = statistics()["residual_autocorrelation"]
    return [
        Comparison(
            f"autocorrelation at {lag} px",
            f"{name} {SEQUENCES[c]}",
            table[name][str(lag)][c],
            float(here[CLASSES.index(name), c, column]),
            AUTOCORRELATION_TOLERANCE,
        )
        for name in ("blood", "myocardium", "scar")  # edema's is not tabulated
        for column, lag in enumerate(LAGS_PX)
        for c in range(len(SEQUENCES))
    ]
