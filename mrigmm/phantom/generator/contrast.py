"""Class means, widths and textures of a simulated study, from ranges around two centres' figures."""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mrigmm.config_pretrain import GeneratorRanges
from mrigmm.phantom import tables
from mrigmm.phantom.config import SEQUENCES
from mrigmm.phantom.fields import skew
from mrigmm.phantom.generator.fields import Textures
from mrigmm.phantom.population import CLASSES, population
from mrigmm.phantom.shape import Tissue

FloatArray = NDArray[np.floating[Any]]

_LGE, _T2 = SEQUENCES.index("LGE"), SEQUENCES.index("T2")
_BLOOD, _MYO, _EDEMA, _SCAR = range(len(CLASSES))
_MVO_LGE = (-0.3, 0.9)  # dark core above normal wall, z, between the two centres' figures and beyond
_MVO_OTHER = (-0.6, 0.4)
_AROUND = (Tissue.AIR, Tissue.LUNG, Tissue.LIVER, Tissue.MUSCLE, Tissue.FAT)
_LIKE = {Tissue.PAPILLARY: _MYO, Tissue.RV_WALL: _MYO, Tissue.RV_BLOOD: _BLOOD}


@dataclass(frozen=True)
class Contrast:
    """One study's tissue signal in z, for C sequences.

    Attributes:
        mean: (T, C) of every `Tissue`.
        width: (T, C) SD of its texture.
        zero: (C,) signal of intensity 0.
        mixing: (K, C, C) lower Cholesky factors of the classes' correlation between sequences.
        psir: the LGE keeps its sign.
    """

    mean: FloatArray
    width: FloatArray
    zero: FloatArray
    mixing: FloatArray
    psir: bool


@cache
def _second_centre() -> tuple[FloatArray, FloatArray]:
    """LGE mean and within-study SD of blood, myocardium, scar at the second centre (z)."""
    text = (files("mrigmm") / "resources" / "population_lge_second_centre.json").read_text(encoding="utf-8")
    figures = json.loads(text)["lv_z"]
    return np.array(figures["mean"][:3]), np.array(figures["within_study_sd"][:3])


def draw_class_figures(ranges: GeneratorRanges, rng: np.random.Generator) -> tuple[FloatArray, FloatArray]:
    """Draw mean and SD (K, C) in z of a study's classes."""
    figures = population()
    deviation = figures.draw_deviation(rng)
    spread = rng.uniform(*ranges.between_study)
    mean = figures.mean + np.array(tables.MEAN_SHIFT)
    mean = mean + spread * figures.between_sd * deviation
    width = np.sqrt(np.diagonal(figures.within_covariance, axis1=1, axis2=2)) * np.array(tables.WIDTH_FACTOR)

    mix = rng.uniform(*ranges.centre_mix)
    other_mean, other_width = _second_centre()
    three = [_BLOOD, _MYO, _SCAR]
    mean[three, _LGE] += mix * (other_mean - figures.mean[three, _LGE])
    ratio = other_width / np.sqrt(np.diagonal(figures.within_covariance, axis1=1, axis2=2))[three, _LGE]
    width[three, _LGE] *= np.clip(1 + mix * (ratio - 1), 0.6, 1.6)
    width = width * np.exp(rng.normal(0, ranges.width_log_sd, width.shape))

    if rng.random() < ranges.low_contrast_chance:
        centre = mean[[_BLOOD, _MYO]].mean(axis=0)
        mean = centre + (mean - centre) * rng.uniform(*ranges.low_contrast, 3)
    if rng.random() < ranges.early_or_late_chance:
        mean[_BLOOD, _LGE] = mean[_SCAR, _LGE] + rng.normal(0.1, 0.4)
    if rng.random() < ranges.poor_nulling_chance:
        mean[_MYO, _LGE] += rng.uniform(0.1, 0.6) * (mean[_BLOOD, _LGE] - mean[_MYO, _LGE])
    scar_above = mean[_SCAR, _LGE] - mean[_MYO, _LGE]
    if scar_above < ranges.least_scar_contrast:
        mean[_SCAR, _LGE] = mean[_MYO, _LGE] + ranges.least_scar_contrast + abs(rng.normal(0, 0.3))
    return mean, width


def draw_contrast(ranges: GeneratorRanges, *, chronic: bool, rng: np.random.Generator) -> Contrast:
    """Draw the contrast of a study."""
    if ranges.class_mean is None or ranges.class_width is None:
        mean, width = draw_class_figures(ranges, rng)
    else:
        mean, width = np.array(ranges.class_mean), np.array(ranges.class_width)
    if chronic:
        mean[_SCAR, _T2] = mean[_MYO, _T2] + rng.normal(0, 0.1)

    psir = bool(rng.random() < ranges.psir_chance)
    zero = np.minimum(np.array(tables.ZERO_LEVEL), mean.min(axis=0) - 0.1)
    zero = zero - np.abs(rng.normal(0, 0.3, 3))
    return _all_tissues(mean, width, zero, psir=psir, rng=rng)


def _all_tissues(
    mean: FloatArray, width: FloatArray, zero: FloatArray, *, psir: bool, rng: np.random.Generator
) -> Contrast:
    means, widths = (np.zeros((len(Tissue), mean.shape[1])) for _ in range(2))
    means[: len(CLASSES)], widths[: len(CLASSES)] = mean, width
    for tissue, like in _LIKE.items():
        means[tissue] = mean[like] + rng.normal(0, 0.15, mean.shape[1])
        widths[tissue] = width[like]
    bright = np.array([rng.uniform(*_MVO_LGE), *rng.uniform(*_MVO_OTHER, 2)])
    means[Tissue.MVO] = mean[_MYO] + bright
    widths[Tissue.MVO] = 0.8 * width[_MYO]
    for tissue in _AROUND:
        level = np.array(tables.AROUND[tissue.name.lower()]) * np.exp(rng.normal(0, 0.45, mean.shape[1]))
        means[tissue], widths[tissue] = zero + level, 0.35 * level
    within = population().within_covariance
    scale = np.sqrt(np.diagonal(within, axis1=1, axis2=2))
    mixing = np.linalg.cholesky(within / (scale[:, :, None] * scale[:, None, :]))
    single = [np.asarray(a, np.float32) for a in (means, widths, zero, mixing)]
    return Contrast(single[0], single[1], single[2], single[3], psir)


def tissue_images(
    contrast: Contrast,
    tissues: list[NDArray[np.uint8]],
    textures: Textures,
    *,
    shift: FloatArray,
    tails: float,
) -> FloatArray:
    """Signal (C, X, Y, Z) of slices, averaged over the tissues that they show at several depths.

    Args:
        contrast: the study's.
        tissues: (X, Y, Z) each.
        textures: unit-variance fields.
        shift: (T, C, Z) added to the tissues' means in each slice.
        tails: 0 = Gaussian textures, 1 = log-normal ones of a non-negative signal.
    """
    n_channels = contrast.mean.shape[1]
    shape = tissues[0].shape
    out = np.zeros((n_channels, *shape), np.float32)
    codes = np.stack(tissues).reshape(len(tissues), -1)  # (D, N)
    # Each tissue has a value in every voxel that shows it at some depth, one tissue after the other in
    # `signal`; `places` (D, N) says where the value of a voxel and depth stands there.
    shown: dict[int, tuple[slice, NDArray[np.intp]]] = {}
    places, place = np.empty(codes.shape, np.intp), np.empty(codes.shape[1], np.intp)
    n = 0
    for tissue in np.flatnonzero(np.bincount(codes.ravel())).tolist():
        here = codes == tissue
        voxels = np.flatnonzero(here.any(axis=0))
        part = slice(n, n := n + voxels.size)
        place[voxels] = np.arange(part.start, part.stop)
        np.copyto(places, place, where=here)
        shown[tissue] = part, voxels
    signal = np.empty(n, np.float32)
    for channel in range(n_channels):
        zero = float(contrast.zero[channel])
        fields: dict[int, FloatArray] = {}
        for tissue, (part, voxels) in shown.items():
            level = contrast.mean[tissue, channel] + shift[tissue, channel]  # (Z,)
            width = float(contrast.width[tissue, channel])
            k = min(int(_LIKE.get(Tissue(tissue), tissue)), len(CLASSES))  # all surroundings have one
            if k not in fields:
                fields[k] = textures.of_class(k, channel, contrast.mixing).ravel()
            above = float(max(contrast.mean[tissue, channel] - zero, 0.1))
            log_sd = tails * float(np.sqrt(np.log1p((width / above) ** 2)))
            texture = skew(fields[k][voxels], min(log_sd, 0.9))
            signal[part] = level[voxels % shape[-1]] + np.float32(width) * texture
        if not (contrast.psir and channel == _LGE):
            np.maximum(signal, zero, out=signal)
        for of_depth in places:
            out[channel] += signal[of_depth].reshape(shape)
    out /= len(tissues)
    return out
