"""Training slices of the locator: whole real slices in random contrast, with and without a heart."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter

from mrigmm.phantom.generator.backgrounds import PIXEL_MM, Backgrounds, Placing, random_contrast
from mrigmm.phantom.generator.fields import smooth_fields

FloatArray = NDArray[np.floating[Any]]

SPACING_MM = 2.5
MATRIX = 128
_CENTRE_SD_MM = 35.0  # hearts anywhere in the image
_SCALE_LOG_SD = 0.2  # small and large hearts, both heart phases
_NO_HEART_CHANCE = 0.25
_FAR_MM = (110.0, 170.0)  # a square that far from the heart does not show it


@dataclass(frozen=True)
class WholeSlices:
    """Slices (N, A, A) of mean 0 and SD 1, and where they show the cavity (N, A, A)."""

    image: FloatArray
    cavity: NDArray[np.bool_]


def draw_whole_slices(n: int, backgrounds: Backgrounds, rng: np.random.Generator) -> WholeSlices:
    """Draw slices of 320 mm: real ones of any contrast, a quarter of them without a heart."""
    images, masks = zip(*(_draw_one(backgrounds, rng) for _ in range(n)), strict=True)
    return WholeSlices(np.stack(images).astype(np.float32), np.stack(masks))


def _draw_one(backgrounds: Backgrounds, rng: np.random.Generator) -> tuple[FloatArray, NDArray[np.bool_]]:
    pick = backgrounds.draw(rng)
    heartless = rng.random() < _NO_HEART_CHANCE
    offset = rng.normal(0, _CENTRE_SD_MM, 2)
    if heartless:
        turn, reach = rng.uniform(0, 2 * np.pi), rng.uniform(*_FAR_MM)
        offset = reach * np.array([np.cos(turn), np.sin(turn)])
    placing = Placing.draw(
        backgrounds.centres[pick],
        size=MATRIX,
        spacing_mm=SPACING_MM,
        offset_mm=offset,
        rng=rng,
        scale_log_sd=_SCALE_LOG_SD,
    )
    values = gaussian_filter(backgrounds.images[pick].astype(np.float32), 0.4 * SPACING_MM / PIXEL_MM)
    image = placing.image(values)
    cavity = placing.mask(backgrounds.cavity[pick])
    # Beyond the real slice: nothing, or its edge continued.
    outside = np.zeros(image.shape, bool)
    for axis, n in enumerate(backgrounds.images.shape[1:]):
        outside |= (placing.where[axis] < 0) | (placing.where[axis] > n - 1)
    if rng.random() < 0.8:
        image[outside] = image.min()
    if heartless and rng.random() < 0.7:  # no heart: mask what is left of it, or no anatomy at all
        cavity[:] = False
        if rng.random() < 0.5:
            texture = smooth_fields((), sigma_px=float(rng.uniform(1, 10)), size=image.shape, rng=rng)
            image = image.mean() + image.std() * texture.reshape(image.shape)
    x = random_contrast(image, rng)
    slope = rng.normal(0, 0.7, 2)
    steps = np.linspace(-1, 1, MATRIX, dtype=np.float32)
    x = x + slope[0] * steps[:, None] + slope[1] * steps[None]
    x = x + rng.uniform(0, 0.3) * rng.standard_normal(x.shape, dtype=np.float32)
    if rng.random() < 0.5:  # a smaller field of view
        half = int(rng.integers(34, 62))
        frame = np.ones(x.shape, bool)
        frame[64 - half : 64 + half, 64 - half : 64 + half] = False
        x[frame] = 0.0
        cavity = cavity & ~frame
    return (x - x.mean()) / (x.std() + 1e-6), cavity
