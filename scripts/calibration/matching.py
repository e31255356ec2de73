"""How `mrigmm/phantom/tables.py` is found: moments and autocorrelation matched to those of real studies."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter
from scipy.optimize import nnls

from calibration.figures import LAGS_PX, StudyFigures, autocorrelation, class_masks, slice_residual
from mrigmm.phantom import tables
from mrigmm.phantom.fields import smooth_field
from mrigmm.phantom.population import CLASSES, PIXEL_MM, statistics
from mrigmm.phantom.study import SimulatedStudy

FloatArray = NDArray[np.floating[Any]]

_MEAN_RANGE, _WIDTH_RANGE = (-1.0, 1.0), (0.4, 1.8)
_RATE = 0.5  # share of the difference that a step removes
_SPREAD_EVENLY = 0.03  # weight of the wish for equal shares, where the data do not decide


@dataclass(frozen=True)
class Targets:
    """Targets of the studies: means and SDs (K, C) in LV z-score, autocorrelation (K, C, L)."""

    mean: FloatArray
    width: FloatArray
    autocorrelation: FloatArray

    @classmethod
    def tabulated(cls) -> Targets:
        """The real figures; edema, whose autocorrelation is not tabulated, uses that of scar."""
        real = statistics()
        table = real["residual_autocorrelation"]
        rows = [table["scar" if name == "edema" else name] for name in CLASSES]
        covariance = np.array(real["lv_z"]["within_study_covariance"])
        return cls(
            np.array(real["lv_z"]["mean"]),
            np.sqrt(np.diagonal(covariance, axis1=1, axis2=2)),
            np.array([np.transpose([row[str(lag)] for lag in LAGS_PX]) for row in rows]),
        )


@dataclass(frozen=True)
class Tables:
    """The matched part of `tables.py`: (K, C), (K, C) and (K, C, S)."""

    mean_shift: FloatArray
    width_factor: FloatArray
    field_shares: FloatArray

    @classmethod
    def current(cls) -> Tables:
        """Those in use."""
        return cls(np.array(tables.MEAN_SHIFT), np.array(tables.WIDTH_FACTOR), np.array(tables.FIELD_SHARES))


def field_autocovariance(
    studies: Sequence[SimulatedStudy], *, psf_mm: float, rng: np.random.Generator
) -> FloatArray:
    """Return what one unit of variance at each scale adds to a class's measured autocovariance.

    A slice's class mean is subtracted before measuring, which takes most from the widest scale and from
    the smallest class; hence it is measured in the studies' own label maps.

    Returns:
        (K, S, 1 + L): at lag 0 and at `LAGS_PX`, averaged over studies.
    """
    scales = np.array(tables.FIELD_SCALES_MM)
    total = np.zeros((len(CLASSES), len(scales), 1 + len(LAGS_PX)))
    counts = np.zeros((len(CLASSES), 1, 1))
    for study in studies:
        fields = np.stack(
            [
                gaussian_filter(
                    smooth_field(study.label.shape, sigma_px=scale / PIXEL_MM, rng=rng),
                    (psf_mm / PIXEL_MM, psf_mm / PIXEL_MM, 0),
                )
                * (np.hypot(scale, psf_mm) / scale)
                for scale in scales
            ]
        )
        for k, mask in enumerate(class_masks(study)):
            correlation = autocorrelation(fields, mask)
            if np.isfinite(correlation).all():
                variance = (slice_residual(fields, mask) ** 2).sum(axis=(1, 2, 3)) / mask.sum()
                total[k] += variance[:, None] * np.column_stack([np.ones(len(scales)), correlation])
                counts[k] += 1
    return total / counts


def solve_shares(autocovariance: FloatArray, correlation: FloatArray) -> FloatArray:
    """Non-negative shares (S,), sum 1, of the scales that give a wanted autocorrelation (L,).

    The correlation is sum_s w_s A_s(lag) / sum_s w_s A_s(0); wanting rho makes it linear in w:
    sum_s w_s (A_s(lag) - rho(lag) A_s(0)) = 0.
    """
    n_scales = len(autocovariance)
    system = autocovariance[:, 1:].T - correlation[:, None] * autocovariance[:, 0]
    rows = np.vstack([system, 100 * np.ones(n_scales), _SPREAD_EVENLY * np.eye(n_scales)])
    wanted = np.concatenate(
        [np.zeros(len(correlation)), [100.0], np.full(n_scales, _SPREAD_EVENLY / n_scales)]
    )
    shares: FloatArray = nnls(rows, wanted)[0]
    return shares / shares.sum()


def match_once(
    current: Tables,
    figures: Sequence[StudyFigures],
    *,
    targets: Targets,
    aim: FloatArray,
    autocovariance: FloatArray,
) -> tuple[Tables, FloatArray]:
    """One step towards the targets.

    A common shift of all classes of a sequence is invisible after the z-score; it is held fixed, because
    it sets the ratio of the raw signals.

    Args:
        current: tables that the figures were simulated with.
        figures: measured.
        targets: wanted.
        aim: (K, C, L) autocorrelation asked of the fields so far. It differs from the wanted one by what
            partial volume and noise add.
        autocovariance: from `field_autocovariance`.

    Returns:
        The next tables and the next aim.
    """
    mean = np.nanmean([study.lv_mean for study in figures], axis=0)
    width = np.sqrt(np.nanmean([study.lv_variance for study in figures], axis=0))
    correlation = np.nanmean([study.autocorrelation for study in figures], axis=0)
    shift = np.clip(current.mean_shift + _RATE * (targets.mean - mean), *_MEAN_RANGE)
    share = np.array(statistics()["lv_volume_fraction"]["mean"])[:, None]
    shift -= (share * (shift - current.mean_shift)).sum(axis=0) / share.sum()
    factor = np.clip(current.width_factor * (targets.width / width) ** _RATE, *_WIDTH_RANGE)
    aim = np.clip(aim + _RATE * (targets.autocorrelation - correlation), 0, 0.97)
    shares = np.array(
        [[solve_shares(autocovariance[k], wanted) for wanted in row] for k, row in enumerate(aim)]
    )
    return Tables(shift, factor, shares), aim
