"""Training examples of the segmenter: standardised slices, what of them is given, and their labels."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import binary_fill_holes, gaussian_filter, map_coordinates

from mrigmm.config_pretrain import GeneratorRanges
from mrigmm.labels import Region
from mrigmm.phantom.config import SEQUENCES
from mrigmm.phantom.generator.backgrounds import Backgrounds
from mrigmm.phantom.generator.codes import Code
from mrigmm.phantom.generator.fields import smooth_fields
from mrigmm.phantom.generator.slices import draw_slices

FloatArray = NDArray[np.floating[Any]]
ByteArray = NDArray[np.uint8]

# What a study has beside LGE alone, and how often: all three, one of the pairs, one of the others alone.
_SEQUENCE_SETS = (
    ((0, 1, 2), 0.42),
    ((0, 1), 0.08),
    ((0, 2), 0.09),
    ((1, 2), 0.04),
    ((2,), 0.06),
    ((1,), 0.03),
)
GIVEN_NOTHING, GIVEN_VENTRICLE, GIVEN_WALL = range(3)
_FOUND_MM = 1.2  # SD of the displacement of borders that some program found
OUTLIER = 6.0  # z beyond which intensities are clipped

_CAVITY_CODES = (Code.BLOOD,)
_WALL_CODES = (Code.MYOCARDIUM, Code.EDEMA, Code.SCAR, Code.MVO, Code.NO_SCAR)


@dataclass(frozen=True)
class Examples:
    """Z slices as the segmenter sees them.

    Attributes:
        image: (Z, C, A, A) float32 in z; 0 for a sequence that is not there.
        present: (Z, C) bool.
        region: (Z, A, A) uint8 `labels.Region` codes of what is given; all 0 where nothing is.
        given: (Z,) 0 nothing, 1 the ventricle, 2 cavity and wall.
        codes: (Z, A, A) uint8 `Code`.
    """

    image: FloatArray
    present: NDArray[np.bool_]
    region: ByteArray
    given: NDArray[np.int64]
    codes: ByteArray


def draw_examples(
    ranges: GeneratorRanges,
    backgrounds: Backgrounds,
    rng: np.random.Generator,
    *,
    sequences: tuple[int, ...] | None = None,
    given: int | None = None,
) -> Examples:
    """Draw one study and what is known of it; its slices are standardised together, then changed singly.

    Args:
        ranges: of everything.
        backgrounds: real slices.
        rng: for everything.
        sequences: that the study has; None: drawn.
        given: `GIVEN_*` of a simulated study; None: drawn.
    """
    slices = draw_slices(ranges, backgrounds, rng)
    codes, n = slices.codes.copy(), len(slices.codes)
    present = np.zeros((n, len(SEQUENCES)), bool)
    present[:, list(draw_sequences(ranges, rng) if sequences is None else sequences)] = True
    if not slices.simulated:
        given = GIVEN_NOTHING
    elif given is None:
        given = draw_given(ranges, rng)
    if not present[0, SEQUENCES.index("T2")]:
        codes[(codes == Code.EDEMA) | (codes == Code.MYOCARDIUM)] = Code.NO_SCAR
    region = np.zeros(codes.shape, np.uint8)
    if given != GIVEN_NOTHING:
        region = _region_of(codes)
        if rng.random() < ranges.found_chance:
            region = as_found(region, ranges, rng)
        if given == GIVEN_VENTRICLE:
            region = np.where(region > 0, Region.LV, Region.OUTSIDE).astype(np.uint8)
    image = standardised(slices.image, region)
    image = changed_slices(image, ranges, rng)
    if given != GIVEN_NOTHING:
        codes[~_fits(codes, region)] = Code.UNKNOWN
    image = np.clip(image, -OUTLIER, OUTLIER) * present[:, :, None, None]
    kinds = np.full(n, given, dtype=np.int64)
    return Examples(image.astype(np.float32), present, region, kinds, codes)


def draw_sequences(ranges: GeneratorRanges, rng: np.random.Generator) -> tuple[int, ...]:
    """Return which sequences a study has."""
    others = np.array([chance for _, chance in _SEQUENCE_SETS])
    alone = ranges.lge_alone_chance
    pick = rng.choice(1 + len(others), p=[alone, *(1 - alone) * others / others.sum()])
    return _SEQUENCE_SETS[pick - 1][0] if pick else (SEQUENCES.index("LGE"),)


def draw_given(ranges: GeneratorRanges, rng: np.random.Generator) -> int:
    """Return what is given of a study: nothing, the ventricle, or cavity and wall."""
    nothing, wall = ranges.nothing_given_chance, ranges.wall_given_chance
    chances = [nothing, (1 - nothing) * (1 - wall), (1 - nothing) * wall]
    return int(rng.choice(len(chances), p=chances))


def _region_of(codes: ByteArray) -> ByteArray:
    region = np.full(codes.shape, Region.OUTSIDE, np.uint8)
    region[np.isin(codes, _CAVITY_CODES)] = Region.CAVITY
    region[np.isin(codes, _WALL_CODES)] = Region.WALL
    return region


def as_found(region: ByteArray, ranges: GeneratorRanges, rng: np.random.Generator) -> ByteArray:
    """The region with displaced borders, as a program or another reader would draw it."""
    n, z = ranges.matrix, len(region)
    bend = smooth_fields((z, 2), sigma_px=6 / ranges.spacing_mm, size=(n, n), rng=rng)
    grid = np.stack(np.meshgrid(np.arange(n), np.arange(n), indexing="ij")).astype(np.float32)
    grow = rng.normal(0, 0.5)
    out = np.empty_like(region)
    for k in range(z):
        where = grid + bend[k] * np.float32(_FOUND_MM / ranges.spacing_mm)
        inside = region[k] > 0
        smooth = [
            gaussian_filter(mask.astype(np.float32), 1.0) + 0.12 * grow * inside.any()
            for mask in (inside, region[k] == Region.CAVITY)
        ]
        lv, cavity = (map_coordinates(m, where, order=1) > 0.5 for m in smooth)
        lv = binary_fill_holes(lv)
        out[k] = np.where(lv & cavity, Region.CAVITY, np.where(lv, Region.WALL, Region.OUTSIDE))
    return out


def _fits(codes: ByteArray, region: ByteArray) -> NDArray[np.bool_]:
    """Where the true class is one that the given region allows."""
    blood, wall = np.isin(codes, _CAVITY_CODES), np.isin(codes, _WALL_CODES)
    outside = np.isin(codes, (Code.BACKGROUND, Code.RV, Code.OUTSIDE))
    return (
        ((region == Region.OUTSIDE) & outside)
        | ((region == Region.LV) & (blood | wall))
        | ((region == Region.CAVITY) & blood)
        | ((region == Region.WALL) & wall)
    )


def standardised(image: FloatArray, region: ByteArray) -> FloatArray:
    """z-scores over the given ventricle of all slices, or over the slices' whole squares."""
    seen = np.moveaxis(image, 1, 0).astype(np.float32)  # (C, Z, A, A)
    inside = region > 0
    values = seen[:, inside] if inside.sum() > 50 else seen.reshape(len(seen), -1)
    mean, sd = values.mean(axis=1), values.std(axis=1) + 1e-6
    return np.moveaxis((seen - mean[:, None, None, None]) / sd[:, None, None, None], 0, 1)


def changed_slices(image: FloatArray, ranges: GeneratorRanges, rng: np.random.Generator) -> FloatArray:
    """Change gain, offset, shading and grey scale of every slice and sequence on its own.

    Args:
        image: (Z, C, A, A) in z.
        ranges: `slice_*` and `warp_chance`.
        rng: for the changes.
    """
    n_slices, n_channels, size, _ = image.shape
    mean, sd = ranges.slice_log_gain
    steps = np.linspace(-0.5, 0.5, size, dtype=np.float32)
    out = np.empty_like(image)
    for k in range(n_slices):
        for c in range(n_channels):
            x = image[k, c]
            if rng.random() < ranges.warp_chance:
                x = _warped(x, rng)
            if rng.random() < ranges.slice_contrast_chance:
                turn = rng.uniform(0, 2 * np.pi)
                slope = abs(rng.normal(0, ranges.slice_shading_sd))
                plane = steps[:, None] * np.cos(turn) + steps[None] * np.sin(turn)
                x = x * np.exp(rng.normal(mean, sd)) + rng.normal(0, ranges.slice_offset_sd) + slope * plane
            out[k, c] = x
    return out


def _warped(x: FloatArray, rng: np.random.Generator) -> FloatArray:
    """A random monotone change of the grey scale that keeps its ends."""
    low, high = np.quantile(x[::4, ::4], (0.01, 0.99))
    knots = np.linspace(low, high, 6)
    steps = np.exp(rng.normal(0, 0.45, 5))
    levels = low + (high - low) * np.concatenate([[0], np.cumsum(steps)]) / steps.sum()
    warped = np.interp(x, knots, levels)
    beyond: FloatArray = np.where((x < low) | (x > high), x, warped)
    return beyond
