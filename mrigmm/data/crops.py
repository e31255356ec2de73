"""Input of a network: pixels of one size, a square around the region; and the way back."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import interpolate, pad

from mrigmm.data.standardise import crop_zscore, percentile_range
from mrigmm.data.study_tensors import StudyTensors

MARGIN_PIXELS = 8  # context kept around the region where the square is too small for it
# Pixels that differ by less are not resampled: interpolation would cost more than it brings.
SAME_SPACING = 0.05


@dataclass(frozen=True)
class NetworkView:
    """A study as the network sees it.

    Attributes:
        image: (C, A, B, Z) standardised intensities, in-plane pixels resampled and cropped.
        region: (A, B, Z) uint8 `labels.Region` codes, 0 in the padding.
        corner: where the square's first pixel lies on the resampled image; may be negative.
        resampled: in-plane size (2,) of the whole image in the network's pixels.
        whole: in-plane size (2,) of the study's own array.
    """

    image: Tensor
    region: Tensor
    corner: tuple[int, int]
    resampled: tuple[int, int]
    whole: tuple[int, int]

    def to_study_grid(self, maps: Tensor) -> Tensor:
        """Put maps (M, A, B, Z) back on the study's array (M, X, Y, Z), linearly; 0 outside the crop."""
        back = tuple(-c for c in self.corner)
        x = _moved_window(maps.detach().cpu().float(), back, self.resampled)
        return x if self.whole == self.resampled else _resized(x, self.whole, "trilinear")


def network_view(study: StudyTensors, *, spacing_mm: float, crop_mm: float, divisor: int) -> NetworkView:
    """Resample in plane to `spacing_mm`, cut a square of `crop_mm` around the region's centre of mass.

    The square grows where the region needs it; its side is a multiple of `divisor` pixels.
    """
    image, region = study.image, study.region[None]
    whole = (int(study.region.shape[0]), int(study.region.shape[1]))
    size = tuple(
        max(round(n * s / spacing_mm), 1) if abs(s / spacing_mm - 1) > SAME_SPACING else n
        for n, s in zip(whole, study.spacing_mm[:2], strict=True)
    )
    resampled = (size[0], size[1])
    if resampled != whole:
        image = _resized(image, resampled, "trilinear")
        region = _resized(region, resampled, "nearest-exact")

    inside = region[0].any(dim=-1).nonzero().double()  # (N, 2), pixels of any slice
    if not len(inside):  # a region that vanished in resampling: keep the middle
        inside = (torch.tensor([resampled]) // 2).double()
    centre = inside.mean(dim=0).round()
    reach = float((inside - centre).abs().max()) + MARGIN_PIXELS
    # At least two: InstanceNorm at the coarsest level needs more than one pixel.
    side = divisor * max(math.ceil(max(crop_mm / spacing_mm, 2 * reach) / divisor), 2)
    corner = (int(centre[0]) - side // 2, int(centre[1]) - side // 2)
    return NetworkView(
        _moved_window(image, corner, (side, side)),
        _moved_window(region, corner, (side, side))[0],
        corner,
        resampled,
        whole,
    )


def _resized(maps: Tensor, size: tuple[int, int], mode: str) -> Tensor:
    """Maps (M, X, Y, Z) with another in-plane size."""
    return interpolate(maps[None], (*size, maps.shape[-1]), mode=mode)[0]


def _moved_window(maps: Tensor, corner: tuple[int, ...], size: tuple[int, int]) -> Tensor:
    """A window (M, *size, Z) of maps (M, X, Y, Z) from a pixel on that may lie outside; 0 beyond them."""
    there = maps.shape[1:3]
    cut = [slice(max(c, 0), max(min(c + n, k), 0)) for c, n, k in zip(corner, size, there, strict=True)]
    before, after = (
        [max(-c, 0) for c in corner],
        [max(c + n - k, 0) for c, n, k in zip(corner, size, there, strict=True)],
    )
    # The last axis first, as torch wants it.
    return pad(maps[:, cut[0], cut[1]], (0, 0, before[1], after[1], before[0], after[0]))


def network_input(
    study: StudyTensors, *, standardise: str, spacing_mm: float, crop_mm: float, divisor: int
) -> tuple[StudyTensors, NetworkView]:
    """The study in the units of a run, and what its network sees of it.

    Args:
        study: in region z-scores, as `load_study` gives it.
        standardise: "region", "crop" or "percentile".
        spacing_mm: as `network_view`.
        crop_mm: as `network_view`.
        divisor: as `network_view`.
    """
    if standardise == "percentile":
        study = standardised_by_percentiles(study)
    view = network_view(study, spacing_mm=spacing_mm, crop_mm=crop_mm, divisor=divisor)
    return standardised_by_crop(study, view) if standardise == "crop" else (study, view)


def standardised_by_percentiles(study: StudyTensors) -> StudyTensors:
    """The study with the 1st and 99th percentile of each sequence inside the region at -1 and 1."""
    inside, x = study.region > 0, study.image
    centre, scale = percentile_range(x[:, inside], study.observed[:, inside])
    mapped = (x - centre[:, None, None, None]) / scale[:, None, None, None]
    return replace(study, image=torch.where(study.observed, mapped, 0.0))


def standardised_by_crop(study: StudyTensors, view: NetworkView) -> tuple[StudyTensors, NetworkView]:
    """The study and its view in z-scores over the crop, slice by slice and sequence by sequence.

    Both get the same map: resampling in plane commutes with it.
    """
    seen = view.image.permute(0, 3, 1, 2)  # (C, Z, A, B)
    centre, scale = (part.permute(0, 2, 3, 1) for part in crop_zscore(seen))  # (C, 1, 1, Z)

    def mapped(image: Tensor, where: Tensor) -> Tensor:
        return torch.where(where, (image - centre) / scale, 0.0)

    return (
        replace(study, image=mapped(study.image, study.observed)),
        replace(view, image=mapped(view.image, view.image != 0)),
    )


def median_spacing_mm(spacings_mm: Iterable[tuple[float, float, float]]) -> float:
    """Median in-plane pixel size in mm of a cohort's spacings, rounded to 0.01 mm."""
    return round(float(np.median([s for spacing in spacings_mm for s in spacing[:2]])), 2)
