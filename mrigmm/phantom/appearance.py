"""Signal of the tissues: the study's class means and covariances, and the residual textures."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mrigmm.phantom import tables
from mrigmm.phantom.config import SEQUENCES, PhantomConfig
from mrigmm.phantom.fields import skew
from mrigmm.phantom.population import CLASSES, LGE, corrections, population
from mrigmm.phantom.shape import Tissue

FloatArray = NDArray[np.floating[Any]]

_SMALLEST_SIGNAL = 0.02  # no tissue emits less, LV z-score units above the zero level
_AROUND_WIDTH = 0.35  # SD of the surroundings relative to their mean signal
_AROUND_SPREAD = 0.2  # log-SD of that mean over studies


@dataclass(frozen=True)
class Appearance:
    """One study's drawn signal, LV z-score units.

    Attributes:
        mean: (K, C). covariance: (K, C, C).
        slice_offset: (K, C, Z) of a slice's class mean.
        around: tissue -> (C,) mean signal of what is not a class of the mixture.
        gain: (C,) scanner units per LV z-score unit.
    """

    mean: FloatArray
    covariance: FloatArray
    slice_offset: FloatArray
    around: dict[Tissue, FloatArray]
    gain: FloatArray


def draw_appearance(
    config: PhantomConfig, *, n_slices: int, chronic: bool, rng: np.random.Generator
) -> Appearance:
    """Draw class means with the tabulated spread and correlation, and class covariances.

    The tabulated infarcts are acute: in a `chronic` scar the water is gone, and T2 shows it as normal wall.
    """
    figures = population(config.centre)
    mean = _draw_means(config, rng)
    blood, wall, scar = (CLASSES.index(name) for name in ("blood", "myocardium", "scar"))
    if chronic:
        t2 = SEQUENCES.index("T2")
        mean[scar, t2] = mean[wall, t2]
    mean = mean - (1 - config.contrast) * (mean - mean.mean(axis=0))
    mean[blood, LGE] += config.blood_to_scar * (mean[scar, LGE] - mean[blood, LGE])
    width = np.sqrt(np.diagonal(figures.within_covariance, axis1=1, axis2=2))  # (K, C)
    correlation = figures.within_covariance / (width[:, :, None] * width[:, None, :])
    spread = config.width_spread
    width = width * corrections(config.centre).width_factor
    width = width * np.exp(rng.normal(-(spread**2), spread, width.shape))
    return Appearance(
        mean=mean,
        covariance=correlation * width[:, :, None] * width[:, None, :],
        slice_offset=config.slice_spread * width[:, :, None] * rng.standard_normal((*width.shape, n_slices)),
        around=_draw_around(mean, figures.mvo_contrast, rng),
        gain=np.exp(rng.normal(np.log(220.0), 0.35, len(SEQUENCES))),
    )


def _draw_means(config: PhantomConfig, rng: np.random.Generator) -> FloatArray:
    figures = population(config.centre)
    mean: FloatArray = (
        figures.mean
        + corrections(config.centre).mean_shift
        + np.array(config.contrast_spread)[:, None] * figures.between_sd * figures.draw_deviation(rng)
    )
    return np.maximum(mean, np.array(tables.ZERO_LEVEL) + _SMALLEST_SIGNAL)


def _draw_around(
    mean: FloatArray, mvo_contrast: FloatArray, rng: np.random.Generator
) -> dict[Tissue, FloatArray]:
    zero = np.array(tables.ZERO_LEVEL)
    normal = mean[CLASSES.index("myocardium")]
    around = {
        tissue: zero + np.array(tables.AROUND[tissue.name.lower()]) * np.exp(rng.normal(0, _AROUND_SPREAD, 3))
        for tissue in (Tissue.AIR, Tissue.LUNG, Tissue.LIVER, Tissue.MUSCLE, Tissue.FAT)
    }
    return around | {Tissue.MVO: np.maximum(normal + mvo_contrast, zero + _SMALLEST_SIGNAL)}


def tissue_signals(
    appearance: Appearance, noise: FloatArray, *, config: PhantomConfig, channel: int
) -> FloatArray:
    """Return the signal that each tissue would have at each voxel in one sequence.

    Args:
        appearance: the study's drawn signal.
        noise: (S, C, X, Y, Z) independent unit-variance fields by scale and sequence.
        config: for the residual tails.
        channel: index of the sequence.

    Returns:
        (T, X, Y, Z) in LV z-score units, indexed by `Tissue`.
    """
    signals = np.empty((len(Tissue), *noise.shape[2:]), dtype=np.float32)
    zero = tables.ZERO_LEVEL[channel]
    scales = np.array(tables.FIELD_SCALES_MM)
    # so that the residual has its variance after the point spread has smoothed it
    attenuation = scales / np.hypot(scales, config.psf_mm)
    shares = corrections(config.centre).field_shares[:, channel]  # (K, S)
    for k in range(len(CLASSES)):
        weights = np.sqrt(shares[k]) / attenuation
        field = _class_field(appearance.covariance[k], noise, weights=weights, channel=channel)
        signals[k] = _signal(
            float(appearance.mean[k, channel]),
            float(np.sqrt(appearance.covariance[k, channel, channel])),
            field,
            zero=zero,
            tails=config.tails,
        )
        signals[k] += appearance.slice_offset[k, channel]
    signals[Tissue.PAPILLARY] = signals[Tissue.RV_WALL] = signals[Tissue.MYOCARDIUM]
    signals[Tissue.RV_BLOOD] = signals[Tissue.BLOOD]
    texture = np.sqrt(0.5) * (noise[1, channel] + noise[2, channel])
    for tissue, level in appearance.around.items():
        mean = float(level[channel])
        signals[tissue] = _signal(mean, _AROUND_WIDTH * (mean - zero), texture, zero=zero, tails=config.tails)
    return signals


def _class_field(
    covariance: FloatArray, noise: FloatArray, *, weights: FloatArray, channel: int
) -> FloatArray:
    """Return the weighted sum of the scales' fields, (X, Y, Z), correlated with the other sequences."""
    width = np.sqrt(np.diagonal(covariance))
    mixing = np.linalg.cholesky(covariance / np.outer(width, width))[channel]  # (C,)
    field: FloatArray = np.einsum(
        "s,c,scxyz->xyz", weights, mixing, noise, dtype=np.float32, casting="same_kind"
    )
    return field


def _signal(mean: float, width: float, field: FloatArray, *, zero: float, tails: float) -> FloatArray:
    """Return the signal of mean and SD as given; never below the zero level."""
    shape = tails * float(np.sqrt(np.log1p((width / (mean - zero)) ** 2)))
    return np.maximum(mean + np.float32(width) * skew(field, shape), zero)
