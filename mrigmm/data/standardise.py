"""Standardisation of intensities: the units every mixture and prior is in.

z-scores inside the region, over all slices of a study (every method but the published deep GMM); for that
one also z-scores over the network's crop, slice by slice, as published, or percentiles inside the region.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

# Names under which population priors record their units.
REGION_ZSCORE = "region-zscore"
CROP_ZSCORE = "crop-zscore"
REGION_PERCENTILES = "region-percentiles"
# What `RunConfig.standardise` calls them, and what users read.
STANDARDISATIONS = {"region": REGION_ZSCORE, "crop": CROP_ZSCORE, "percentile": REGION_PERCENTILES}
UNITS = {
    REGION_ZSCORE: "z-score inside the region",
    CROP_ZSCORE: "z-score over the crop, per slice",
    REGION_PERCENTILES: "1st to 99th percentile inside the region as -1 to 1",
}
# The same for those who read a picture; "the region" is the left ventricle in most studies.
UNITS_IN_WORDS = {
    UNITS[REGION_ZSCORE]: "standard deviations above the mean of the region",
    UNITS[CROP_ZSCORE]: "standard deviations above the mean of the slice",
    UNITS[REGION_PERCENTILES]: "-1 to 1: 1st to 99th percentile of the region",
}

# Intensities further than this many (1st to 99th percentile) ranges outside that range are clipped:
# a dead pixel must not set the scale, and no tissue lies there.
CLIP_RANGES = 10.0


@dataclass(frozen=True)
class ZScore:
    """Affine map of one sequence to standard units, `(clip(x) - centre) / scale`.

    `varies` is False when the sequence is constant inside the region; then it carries no information.
    """

    low: float
    high: float
    centre: float
    scale: float
    varies: bool
    n_clipped: int

    def apply(self, intensities: NDArray[np.float32]) -> NDArray[np.float32]:
        """Standardise an array of any shape.

        In float32, which is quicker; the centre is taken off in two parts, so that intensities that are
        large beside their spread lose nothing by it.
        """
        coarse = np.float32(self.centre)
        x = np.clip(intensities, np.float32(self.low), np.float32(self.high))
        x -= coarse
        x -= np.float32(self.centre - float(coarse))
        x /= np.float32(self.scale)
        return x

    def undo(self, z: float) -> float:
        """The intensity that a standardised value stands for, in the units of the file."""
        return z * self.scale + self.centre

    @property
    def zero(self) -> float:
        """Return what intensity 0 becomes: the reference of methods that need magnitudes."""
        return float(np.float32(-self.centre / self.scale))


def fit_zscore(values: NDArray[np.float32]) -> ZScore:
    """Mean and SD over the region's voxels of one sequence of one study.

    Args:
        values: intensities (N,), N >= 1, finite.
    """
    x = values.astype(np.float64)
    p01, p99 = np.percentile(x, [1.0, 99.0])
    margin = CLIP_RANGES * (p99 - p01)
    low, high = (p01 - margin, p99 + margin) if margin > 0 else (float(x.min()), float(x.max()))
    far_out = x.min() < low or x.max() > high  # else clipping would only cost time
    clipped = np.clip(x, low, high) if far_out else x
    centre, sd = float(clipped.mean()), float(clipped.std())
    # Relative to the magnitude: rounding of a constant 1e6 is no contrast.
    varies = sd > 1e-6 * max(abs(centre), float(np.finfo(np.float32).tiny))
    return ZScore(
        float(low),
        float(high),
        centre,
        sd if varies else 1.0,
        varies,
        int(np.count_nonzero(clipped != x)) if far_out else 0,
    )


def crop_zscore(image: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and SD of each channel of each slice over the whole crop.

    Pixels that are exactly 0 lie outside the field of view (padding, a missing sequence) and do not
    count. Where nothing varies, the SD is given as 1.

    Args:
        image: (..., A, B) intensities.

    Returns:
        Centre and scale, both (..., 1, 1).
    """
    seen = image != 0
    n = seen.sum(dim=(-2, -1), keepdim=True).clamp_min(1)
    centre = image.sum(dim=(-2, -1), keepdim=True) / n
    deviation = torch.where(seen, image - centre, 0.0)
    scale = (deviation.square().sum(dim=(-2, -1), keepdim=True) / n).sqrt()
    return centre, torch.where(scale > 1e-6 * centre.abs().clamp_min(1e-30), scale, 1.0)


def percentile_range(values: Tensor, observed: Tensor) -> tuple[Tensor, Tensor]:
    """Middle and half width of the range from the 1st to the 99th percentile of each channel.

    An infarct that fills half of the wall moves mean and SD, and these hardly; signs do not matter (PSIR).

    Args:
        values: (C, N) intensities inside the region.
        observed: (C, N) bool; what is not observed does not count.

    Returns:
        Centre and scale, both (C,); 0 and 1 where nothing varies.
    """
    centre, scale = torch.zeros(len(values)), torch.ones(len(values))
    for channel, (x, seen) in enumerate(zip(values, observed, strict=True)):
        if seen.any():
            low, high = np.percentile(x[seen].numpy().astype(np.float64), [1, 99])
            centre[channel] = (low + high) / 2
            scale[channel] = (high - low) / 2 if high > low else 1.0
    return centre, scale
