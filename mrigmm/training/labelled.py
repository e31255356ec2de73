"""Labelled slices for the segmenter: changed as the simulated ones are, or as they are for scores."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.ndimage import map_coordinates
from torch import Tensor

from mrigmm.config_pretrain import GeneratorRanges
from mrigmm.labels import ANY_CLASS, REGION_CLASSES, SEGMENTER_CLASSES, Region, class_set
from mrigmm.networks.segmenter import GIVEN_NOTHING, GIVEN_VENTRICLE, GIVEN_WALL, SegmenterInput
from mrigmm.phantom.config import SEQUENCES
from mrigmm.phantom.generator.codes import allowed_table
from mrigmm.phantom.generator.examples import (
    OUTLIER,
    as_found,
    changed_slices,
    draw_given,
    draw_sequences,
    standardised,
)
from mrigmm.phantom.generator.fields import smooth_fields

FloatArray = NDArray[np.floating[Any]]
ByteArray = NDArray[np.uint8]

_SCALE_LOG_SD = 0.1
_EDEMA = SEQUENCES.index("T2")  # the sequence without which normal wall and edema are one
_NORMAL_OR_EDEMA = class_set(("myocardium", "edema"))
# Sets by region code, and by `phantom.generator.Code`.
_OF_REGION = np.array([class_set(REGION_CLASSES[code]) for code in Region], dtype=np.uint8)
OF_CODE = torch.from_numpy(allowed_table() @ (1 << np.arange(len(SEGMENTER_CLASSES)))).to(torch.uint8)


@dataclass(frozen=True)
class LabelledStudy:
    """Slices of a study of which anything is known.

    Attributes:
        id: of the study.
        image: (Z, 3, X, Y) float32, LGE, T2, bSSFP; any units.
        present: (3,) bool.
        sets: (Z, X, Y) uint8 `labels.class_set`.
        region: (Z, X, Y) uint8 `labels.Region` codes, or all 0 with `given` nothing.
        given: most that can be given of it (`GIVEN_*`).
        spacing_mm: of X and Y.
        centre: of the ventricle, in voxels of X and Y.
    """

    id: str
    image: FloatArray
    present: NDArray[np.bool_]
    sets: ByteArray
    region: ByteArray
    given: int
    spacing_mm: tuple[float, float]
    centre: tuple[float, float]


@dataclass(frozen=True)
class SeenSlices:
    """Slices as the segmenter sees them, and what is known of them.

    Attributes:
        x: its input, B slices.
        sets: (B, A, A) uint8 `labels.class_set`.
    """

    x: SegmenterInput
    sets: Tensor


def draw_labelled(
    study: LabelledStudy, ranges: GeneratorRanges, n: int, rng: np.random.Generator
) -> SeenSlices:
    """Draw up to `n` slices: moved and deformed, without some of the sequences and regions.

    Args:
        study: the slices.
        ranges: of the changes, those of the pretraining.
        n: how many at most.
        rng: for everything drawn here.
    """
    pick = np.sort(rng.choice(len(study.sets), size=min(n, len(study.sets)), replace=False))
    size = ranges.matrix
    steps = ((np.arange(size) - (size - 1) / 2) * ranges.spacing_mm).astype(np.float32)
    bend = smooth_fields((2, len(pick)), sigma_px=18 / ranges.spacing_mm, size=(size, size), rng=rng)
    scale = np.exp(rng.normal(0, _SCALE_LOG_SD))
    shift = rng.normal(0, ranges.centre_sd_mm, 2)
    angle, mirror = rng.uniform(0, 2 * np.pi), -1.0 if rng.random() < 0.5 else 1.0
    u = scale * steps[:, None] - shift[0] + ranges.deformation_mm * bend[0]  # (Z, A, A) mm
    v = scale * steps[None, :] - shift[1] + ranges.deformation_mm * bend[1]
    cos, sin = np.cos(angle), np.sin(angle)
    where = np.stack([mirror * (cos * u - sin * v), sin * u + cos * v])
    image, sets, region, acquired = _sampled(study, pick, where)

    present = np.zeros(len(SEQUENCES), bool)
    present[list(draw_sequences(ranges, rng))] = True
    present &= study.present
    if not present.any():
        present = study.present
    given = min(draw_given(ranges, rng), study.given)
    if given == GIVEN_NOTHING:
        region = np.zeros_like(region)
    elif rng.random() < ranges.found_chance and study.given == GIVEN_WALL:
        region = as_found(region, ranges, rng)
    return _seen(image, sets, region, acquired, present, given, changes=(ranges, rng))


def whole_view(study: LabelledStudy, given: int, size: int, spacing_mm: float) -> SeenSlices:
    """All slices of a study as they are, in a square about its ventricle.

    Args:
        study: the slices.
        given: what of the region the segmenter is told, at most what there is.
        size: pixels along each side.
        spacing_mm: of the square.
    """
    steps = ((np.arange(size) - (size - 1) / 2) * spacing_mm).astype(np.float32)
    grid = np.stack(np.meshgrid(steps, steps, indexing="ij"))[:, None]
    pick = np.arange(len(study.sets))
    image, sets, region, acquired = _sampled(study, pick, grid.repeat(len(pick), axis=1))
    if given == GIVEN_NOTHING:
        region = np.zeros_like(region)
    return _seen(image, sets, region, acquired, study.present, given)


def _sampled(
    study: LabelledStudy, pick: NDArray[np.intp], where: FloatArray
) -> tuple[FloatArray, ByteArray, ByteArray, NDArray[np.bool_]]:
    """Image, sets, region and what was acquired of slices at places (2, Z, A, A) in mm from the centre."""
    at = [
        where[axis] / study.spacing_mm[axis] + study.centre[axis] for axis in (0, 1)
    ]  # voxels, each (Z, A, A)
    shape = study.sets.shape[1:]
    acquired = np.all([(a >= -0.5) & (a <= n - 0.5) for a, n in zip(at, shape, strict=True)], axis=0)
    image = np.zeros((len(pick), len(SEQUENCES), *where.shape[2:]), np.float32)
    for k, z in enumerate(pick):
        for channel in np.flatnonzero(study.present):
            image[k, channel] = map_coordinates(
                study.image[z, channel], [at[0][k], at[1][k]], order=1, mode="nearest"
            )
    nearest = tuple(np.clip(np.round(a), 0, n - 1).astype(int) for a, n in zip(at, shape, strict=True))
    slices = pick[:, None, None]
    sets = np.where(acquired, study.sets[slices, nearest[0], nearest[1]], ANY_CLASS).astype(np.uint8)
    region = np.where(acquired, study.region[slices, nearest[0], nearest[1]], 0).astype(np.uint8)
    return image, sets, region, acquired


def _seen(
    image: FloatArray,
    sets: ByteArray,
    region: ByteArray,
    acquired: NDArray[np.bool_],
    present: NDArray[np.bool_],
    given: int,
    changes: tuple[GeneratorRanges, np.random.Generator] | None = None,
) -> SeenSlices:
    """Standardise, change, and let what is known fit what is given and which sequences there are."""
    if not present[_EDEMA]:
        wall = ((sets & _NORMAL_OR_EDEMA) > 0) & (sets != ANY_CLASS)
        sets = np.where(wall, sets | _NORMAL_OR_EDEMA, sets).astype(np.uint8)
    if given == GIVEN_VENTRICLE:
        region = np.where(region > 0, Region.LV, Region.OUTSIDE).astype(np.uint8)
    if given != GIVEN_NOTHING:
        sets = np.where(sets & _OF_REGION[region], sets, ANY_CLASS).astype(np.uint8)
    image = _in_z(image, region, acquired)
    if changes is not None:
        image = changed_slices(image, *changes)
    image = np.clip(image, -OUTLIER, OUTLIER) * (present[None, :, None, None] & acquired[:, None])
    n = len(image)
    x = SegmenterInput(
        torch.from_numpy(image.astype(np.float32)),
        torch.from_numpy(np.repeat(present[None], n, axis=0)),
        torch.from_numpy(region),
        torch.full((n,), given),
    )
    return SeenSlices(x, torch.from_numpy(sets))


def _in_z(image: FloatArray, region: ByteArray, acquired: NDArray[np.bool_]) -> FloatArray:
    """z-scores over the given ventricle of all slices, or over all that was acquired of their squares."""
    return standardised(image, region if region.any() else acquired.astype(np.uint8))
