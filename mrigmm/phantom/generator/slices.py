"""Training slices of one simulated study, or one real slice with partial labels, in memory."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import distance_transform_edt

from mrigmm.config_pretrain import GeneratorRanges
from mrigmm.phantom.config import SEQUENCES
from mrigmm.phantom.generator.backgrounds import Backgrounds, Placing, random_contrast
from mrigmm.phantom.generator.codes import Code
from mrigmm.phantom.generator.contrast import draw_contrast, tissue_images
from mrigmm.phantom.generator.fields import draw_textures, smooth_fields
from mrigmm.phantom.generator.hearts import (
    ATRIUM_HEIGHT,
    DrawnHeart,
    SlicePoints,
    draw_hearts,
    subslice_tissues,
)
from mrigmm.phantom.generator.scanner import scan
from mrigmm.phantom.shape import Tissue

FloatArray = NDArray[np.floating[Any]]

_DEPTHS = (0.0, -0.35, 0.35)  # of a slice's thickness that it averages over
_AS_ACQUIRED_CHANCE = 0.35  # of a fitting background, for each sequence; else in random contrast
_NEAR_REAL_CAVITY_MM = 24.0  # beyond it, no wall of the left ventricle
_LV_CODES = (Code.BLOOD, Code.MYOCARDIUM, Code.EDEMA, Code.SCAR, Code.MVO)

_CODE_OF_TISSUE = np.full(len(Tissue), Code.BACKGROUND, dtype=np.uint8)
for _tissue, _code in (
    (Tissue.BLOOD, Code.BLOOD),
    (Tissue.PAPILLARY, Code.BLOOD),
    (Tissue.MYOCARDIUM, Code.MYOCARDIUM),
    (Tissue.EDEMA, Code.EDEMA),
    (Tissue.SCAR, Code.SCAR),
    (Tissue.MVO, Code.MVO),
    (Tissue.RV_BLOOD, Code.RV),
):
    _CODE_OF_TISSUE[_tissue] = _code


@dataclass(frozen=True)
class TrainingSlices:
    """Slices of one study.

    Attributes:
        image: (Z, C, A, A) float32; LGE, T2, bSSFP.
        codes: (Z, A, A) uint8 `Code`.
        simulated: regions of the left ventricle are known.
    """

    image: FloatArray
    codes: NDArray[np.uint8]
    simulated: bool


def draw_slices(
    ranges: GeneratorRanges, backgrounds: Backgrounds, rng: np.random.Generator
) -> TrainingSlices:
    """Draw the slices of one study, before standardisation and the changes of single slices."""
    if rng.random() < ranges.real_chance:
        return _real_slices(ranges, backgrounds, rng)
    drawn = draw_hearts(ranges, rng)
    points = _slice_points(drawn, ranges, rng)
    tissues = subslice_tissues(drawn, points, _DEPTHS)
    contrast = draw_contrast(ranges, chronic=drawn.infarct.kind == "chronic", rng=rng)
    n_slices = len(drawn.heights_mm)
    textures = draw_textures(n_slices, (ranges.matrix, ranges.matrix), ranges.spacing_mm, rng)
    signal = tissue_images(
        contrast,
        tissues,
        textures,
        shift=_mean_shifts(ranges, contrast.mean, n_slices, rng),
        tails=float(rng.uniform(0.2, 1.0)),
    )
    signal = _slice_by_slice(signal) + _inhomogeneity(ranges, signal.shape, rng)
    image = scan(signal, contrast.zero, psir=contrast.psir, ranges=ranges, rng=rng)
    codes = np.moveaxis(_CODE_OF_TISSUE[tissues[0]], -1, 0)  # (Z, A, A)
    above = drawn.heights_mm / drawn.heart.length_mm < ATRIUM_HEIGHT
    codes[above[:, None, None] & (codes == Code.RV)] = Code.OUTSIDE  # the atrium is no right ventricle
    image = np.ascontiguousarray(np.moveaxis(image, -1, 0))  # (Z, C, A, A)
    if len(backgrounds) and rng.random() < ranges.background_chance:
        image, codes = _set_into_real(image, codes, ranges, backgrounds, rng)
    return TrainingSlices(image, codes, simulated=True)


def _slice_by_slice(signal: FloatArray) -> FloatArray:
    """Signal (C, X, Y, Z) with its slices one after the other in memory, as the scanner takes them."""
    n_channels, *size, n_slices = signal.shape
    by_slice = np.empty((n_channels, n_slices, *size), signal.dtype)
    for z in range(n_slices):
        by_slice[:, z] = signal[..., z]
    return np.moveaxis(by_slice, 1, -1)


def _slice_points(drawn: DrawnHeart, ranges: GeneratorRanges, rng: np.random.Generator) -> SlicePoints:
    """Pixels of the slices in the heart's frame: turned, mirrored, off centre and smoothly deformed."""
    n, z = ranges.matrix, len(drawn.heights_mm)
    steps = ((np.arange(n) - (n - 1) / 2) * ranges.spacing_mm).astype(np.float32)
    bend = smooth_fields((2, z), sigma_px=18 / ranges.spacing_mm, size=(n, n), rng=rng)
    bend = np.moveaxis(bend, 1, -1) * np.float32(ranges.deformation_mm)  # (2, X, Y, Z)
    # A stack is centred once; its slices wander a little from breath hold to breath hold.
    centre = rng.normal(0, ranges.centre_sd_mm, 2)[:, None] + rng.normal(0, 1.0, (2, z))
    u = steps[:, None, None] - centre[0].astype(np.float32) + bend[0]
    v = steps[None, :, None] - centre[1].astype(np.float32) + bend[1]
    angle, mirror = rng.uniform(0, 2 * np.pi), -1.0 if rng.random() < 0.5 else 1.0
    cos, sin = np.float32(np.cos(angle)), np.float32(np.sin(angle))
    middle = np.array(drawn.heart.tilt) * drawn.heights_mm.mean()  # locate() takes the tilt off again
    x = np.float32(mirror) * (cos * u - sin * v) + np.float32(middle[0])
    y = sin * u + cos * v + np.float32(middle[1])
    return SlicePoints(x, y, drawn.heights_mm.astype(np.float32)[None, None, :])


def _inhomogeneity(ranges: GeneratorRanges, shape: tuple[int, ...], rng: np.random.Generator) -> FloatArray:
    """Smooth differences (C, X, Y, Z) of the signal that no class explains."""
    n_channels, n, _, n_slices = shape
    sigma = rng.uniform(*ranges.inhomogeneity_mm) / ranges.spacing_mm
    field = smooth_fields((n_channels, n_slices), sigma_px=sigma, size=(n, n), rng=rng)
    size = rng.uniform(*ranges.inhomogeneity, (n_channels, 1, 1, 1)).astype(np.float32)
    return size * np.moveaxis(field, 1, -1)


def _mean_shifts(
    ranges: GeneratorRanges, mean: FloatArray, n_slices: int, rng: np.random.Generator
) -> FloatArray:
    """Changes (T, C, Z) of the tissues' means in each slice; scar stays brighter than normal wall in LGE."""
    strong = rng.random(n_slices) < ranges.strong_chance
    size = np.where(strong, ranges.strong_mean_shift_sd, ranges.mean_shift_sd)
    shift = rng.normal(0, 1, (*mean.shape, n_slices)) * size
    shift[Tissue.PAPILLARY] = shift[Tissue.MYOCARDIUM]
    lge = SEQUENCES.index("LGE")
    above = mean[Tissue.SCAR, lge] - mean[Tissue.MYOCARDIUM, lge]
    short = ranges.least_scar_contrast - (above + shift[Tissue.SCAR, lge] - shift[Tissue.MYOCARDIUM, lge])
    shift[Tissue.SCAR, lge] += np.maximum(short, 0)
    return shift.astype(np.float32)


def _set_into_real(
    image: FloatArray,
    codes: NDArray[np.uint8],
    ranges: GeneratorRanges,
    backgrounds: Backgrounds,
    rng: np.random.Generator,
) -> tuple[FloatArray, NDArray[np.uint8]]:
    """Replace what lies beyond a distance from the ventricle by a real slice with random contrast."""
    image, codes = image.copy(), codes.copy()
    reach = rng.uniform(*ranges.background_from_mm)
    for k in range(len(image)):
        ventricle = np.isin(codes[k], _LV_CODES)
        if not ventricle.any():
            continue
        where = np.argwhere(ventricle).mean(axis=0) - (ranges.matrix - 1) / 2
        pick, scale = backgrounds.draw(rng), None
        if ranges.fitting_backgrounds:
            radius = np.sqrt(ventricle.sum() / np.pi) * ranges.spacing_mm
            pick, scale = backgrounds.draw_fitting(radius, rng)
        placing = Placing.draw(
            backgrounds.centres[pick],
            size=ranges.matrix,
            spacing_mm=ranges.spacing_mm,
            offset_mm=where * ranges.spacing_mm,
            rng=rng,
            scale=scale,
        )
        values = placing.image(backgrounds.images[pick])
        away = distance_transform_edt(~ventricle) * ranges.spacing_mm
        share = np.clip((away - reach) / 3.0, 0, 1).astype(np.float32)
        outside = ~ventricle
        for channel in range(image.shape[1]):
            before = image[k, channel]
            level, size = before[outside].mean(), before[outside].std()
            if ranges.fitting_backgrounds and rng.random() < _AS_ACQUIRED_CHANCE:
                real = placing.mask(backgrounds.cavity[pick])
                pasted = _as_acquired(values, real, before, codes[k] == Code.BLOOD)
            else:
                pasted = level + size * random_contrast(values, rng)
            image[k, channel] = before * (1 - share) + pasted * share
        codes[k][share > 0] = Code.OUTSIDE
    return image, codes


def _as_acquired(
    values: FloatArray, real: NDArray[np.bool_], before: FloatArray, blood: NDArray[np.bool_]
) -> FloatArray:
    """A real slice (X, Y) whose darkest parts and blood are as bright as those of the simulated one."""
    low, high = np.quantile(values, 0.05), np.median(values[real]) if real.any() else values.max()
    dark, bright = np.quantile(before, 0.05), np.median(before[blood]) if blood.any() else before.max()
    return (dark + (values - low) * ((bright - dark) / max(high - low, 1.0))).astype(np.float32)


def _real_slices(
    ranges: GeneratorRanges, backgrounds: Backgrounds, rng: np.random.Generator
) -> TrainingSlices:
    """One real slice in a random contrast per sequence, of which the cavity is known."""
    pick = backgrounds.draw(rng)
    placing = Placing.draw(
        backgrounds.centres[pick],
        size=ranges.matrix,
        spacing_mm=ranges.spacing_mm,
        offset_mm=rng.normal(0, ranges.centre_sd_mm, 2),
        rng=rng,
    )
    values = placing.image(backgrounds.images[pick])
    cavity = placing.mask(backgrounds.cavity[pick])
    image = np.stack([random_contrast(values, rng) for _ in SEQUENCES])[None]
    if rng.random() < 0.4:  # as it was acquired
        image[0, SEQUENCES.index("bSSFP")] = (values - values.mean()) / (values.std() + 1e-6)
    near = distance_transform_edt(~cavity) * ranges.spacing_mm < _NEAR_REAL_CAVITY_MM
    codes = np.where(cavity, Code.BLOOD, np.where(near, Code.NO_BLOOD, Code.OUTSIDE)).astype(np.uint8)
    return TrainingSlices(image.astype(np.float32), codes[None], simulated=False)
