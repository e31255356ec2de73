"""Population figures measured on labelled studies, defined as in `population_statistics.json`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import distance_transform_edt
from scipy.stats import rankdata

from mrigmm.labels import BACKGROUND_ID, TISSUES
from mrigmm.phantom.population import CLASSES, PIXEL_MM
from mrigmm.phantom.study import SimulatedStudy

FloatArray = NDArray[np.floating[Any]]
BoolArray = NDArray[np.bool_]

CROP_MM = 120.0  # 160 x 160 pixels of 0.75 mm
DEPTH_BINS = 5
LAGS_PX = (1, 2, 4, 8)
_CAVITY = CLASSES.index("blood")


@dataclass(frozen=True)
class StudyFigures:
    """Figures of one study; NaN for a class that it lacks.

    Attributes:
        lv_mean, crop_mean: (K, C) class means under the two standardisations.
        lv_variance, crop_variance: (K, C) within-class variances.
        autocorrelation: (K, C, L) at `LAGS_PX`.
        fraction: (K,) share of the left ventricle.
        auc: (3,) LGE scar against normal wall, T2 edema and scar against normal wall, bSSFP cavity
            against wall.
        depth_share: (K, 5) share of the wall's voxels per depth, epicardium to endocardium.
        empty_slices: (K,) slices without the class.
        n_slices: slices with left ventricle.
    """

    lv_mean: FloatArray
    lv_variance: FloatArray
    crop_mean: FloatArray
    crop_variance: FloatArray
    autocorrelation: FloatArray
    fraction: FloatArray
    auc: FloatArray
    depth_share: FloatArray
    empty_slices: FloatArray
    n_slices: int


def stack_images(study: SimulatedStudy) -> FloatArray:
    """(C, X, Y, Z) of a study whose sequences share one grid."""
    return np.stack([image.astype(np.float64) for image in study.sequences.values()])


def class_masks(study: SimulatedStudy) -> BoolArray:
    """(K, X, Y, Z) of the reference label."""
    return np.stack([study.label == TISSUES[name].id for name in CLASSES])


def lv_zscore(images: FloatArray, inside: BoolArray) -> FloatArray:
    """Z-score per study and sequence with mean and SD over all voxels inside the LV mask (X, Y, Z)."""
    values = images[:, inside]
    mean, sd = values.mean(axis=1), values.std(axis=1)
    return (images - mean[:, None, None, None]) / sd[:, None, None, None]


def crop_zscore(images: FloatArray, inside: BoolArray, *, spacing_mm: float = PIXEL_MM) -> FloatArray:
    """Z-score per slice and sequence over a square crop centred on the left ventricle's middle slice."""
    half = round(CROP_MM / spacing_mm / 2)
    middle = inside[..., inside.shape[2] // 2]
    cx, cy = (int(positions.mean()) for positions in np.nonzero(middle))
    crop = images[:, max(cx - half, 0) : cx + half, max(cy - half, 0) : cy + half]
    mean, sd = crop.mean(axis=(1, 2), keepdims=True), crop.std(axis=(1, 2), keepdims=True)
    return (images - mean) / sd


def measure(study: SimulatedStudy) -> StudyFigures:
    """Measures one study whose sequences share one grid of 0.75 mm."""
    images, masks = stack_images(study), class_masks(study)
    inside = study.label != BACKGROUND_ID
    lv, crop = lv_zscore(images, inside), crop_zscore(images, inside)
    lv_mean, lv_variance = _moments(lv, masks)
    crop_mean, crop_variance = _moments(crop, masks)
    wall = inside & ~masks[_CAVITY]
    _, normal, edema, scar = masks
    in_slices = inside.any(axis=(0, 1))
    return StudyFigures(
        lv_mean=lv_mean,
        lv_variance=lv_variance,
        crop_mean=crop_mean,
        crop_variance=crop_variance,
        autocorrelation=np.stack([autocorrelation(lv, mask) for mask in masks]),
        fraction=masks.sum(axis=(1, 2, 3)) / inside.sum(),
        auc=np.array(
            [
                auc(lv[0][scar], lv[0][normal]),
                auc(lv[1][edema | scar], lv[1][normal]),
                auc(lv[2][masks[_CAVITY]], lv[2][wall]),
            ]
        ),
        depth_share=_depth_share(masks, inside, wall),
        empty_slices=(~masks.any(axis=(1, 2)) & in_slices).sum(axis=1),
        n_slices=int(in_slices.sum()),
    )


def _moments(images: FloatArray, masks: BoolArray) -> tuple[FloatArray, FloatArray]:
    """Class means and variances, (K, C) each."""
    mean = np.full((len(masks), len(images)), np.nan)
    variance = mean.copy()
    for k, mask in enumerate(masks):
        if mask.sum() > 1:
            values = images[:, mask]
            mean[k], variance[k] = values.mean(axis=1), values.var(axis=1)
    return mean, variance


def slice_residual(images: FloatArray, mask: BoolArray) -> FloatArray:
    """Intensity minus the slice's mean inside a mask (X, Y, Z), 0 outside: (C, X, Y, Z)."""
    counts = np.maximum(mask.sum(axis=(0, 1)), 1)
    mean = (images * mask).sum(axis=(1, 2), keepdims=True) / counts
    residual: FloatArray = np.where(mask, images - mean, 0.0)
    return residual


def autocorrelation(images: FloatArray, mask: BoolArray) -> FloatArray:
    """In-plane correlation (C, L) of the intensity minus the slice's class mean; NaN without pairs."""
    residual = slice_residual(images, mask)
    result = np.full((len(images), len(LAGS_PX)), np.nan)
    for column, lag in enumerate(LAGS_PX):
        products, squares, pairs = np.zeros(len(images)), np.zeros(len(images)), 0
        for a, b in (
            ((slice(None, -lag), slice(None)), (slice(lag, None), slice(None))),
            ((slice(None), slice(None, -lag)), (slice(None), slice(lag, None))),
        ):
            both = mask[a] & mask[b]
            first, second = residual[:, *a][:, both], residual[:, *b][:, both]
            products += (first * second).sum(axis=1)
            squares += (first**2 + second**2).sum(axis=1) / 2
            pairs += int(both.sum())
        if pairs > 1:
            result[:, column] = products / squares
    return result


def auc(positive: FloatArray, negative: FloatArray) -> float:
    """Probability that a positive value exceeds a negative one (ties count half); NaN if one is empty."""
    if not positive.size or not negative.size:
        return float("nan")
    ranks = rankdata(np.concatenate([positive, negative]))[: positive.size]
    return float((ranks.sum() - positive.size * (positive.size + 1) / 2) / (positive.size * negative.size))


def _depth_share(masks: BoolArray, inside: BoolArray, wall: BoolArray) -> FloatArray:
    """Share (K, 5) of each class among the wall's voxels of a depth; the cavity's row is 0."""
    counts = np.zeros((len(masks), DEPTH_BINS))
    for z in range(inside.shape[2]):
        outer = distance_transform_edt(inside[..., z])[wall[..., z]]
        inner = distance_transform_edt(~masks[_CAVITY][..., z])[wall[..., z]]
        bins = np.minimum((outer / (outer + inner) * DEPTH_BINS).astype(int), DEPTH_BINS - 1)
        for k, mask in enumerate(masks):
            counts[k] += np.bincount(bins[mask[..., z][wall[..., z]]], minlength=DEPTH_BINS)
    return counts / np.maximum(counts.sum(axis=0), 1)
