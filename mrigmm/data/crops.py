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
from mrigmm.data.study_tensors import WHOLE, PlaneBox, StudyTensors

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

    def to_study_grid(self, maps: Tensor, box: PlaneBox = WHOLE) -> Tensor:
        """Put maps (M, A, B, Z) back on the study's array (M, X, Y, Z), linearly; 0 outside the crop.

        Args:
            maps: as the network gave them.
            box: the part of the study's plane that is needed.
        """
        maps = maps.detach().cpu().float()
        if self.whole == self.resampled:
            return _moved_window(maps, tuple(-c for c in self.corner), self.resampled)[:, *box]
        for axis in (0, 1):
            n, corner, side = self.resampled[axis], self.corner[axis], maps.shape[1 + axis]
            weights = pad(_linear_weights(n, self.whole[axis]), (-corner, corner + side - n))[box[axis]]
            maps = _weighted(maps, weights, 1 + axis)
        return maps


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
        region = interpolate(region[None], (*resampled, region.shape[-1]), mode="nearest-exact")[0]

    inside = region[0].any(dim=-1).nonzero().double()  # (N, 2), pixels of any slice
    if not len(inside):  # a region that vanished in resampling: keep the middle
        inside = (torch.tensor([resampled]) // 2).double()
    centre = inside.mean(dim=0).round()
    reach = float((inside - centre).abs().max()) + MARGIN_PIXELS
    # At least two: InstanceNorm at the coarsest level needs more than one pixel.
    side = divisor * max(math.ceil(max(crop_mm / spacing_mm, 2 * reach) / divisor), 2)
    corner = (int(centre[0]) - side // 2, int(centre[1]) - side // 2)
    if resampled == whole:
        image = _moved_window(image, corner, (side, side))
    else:
        for axis, (n, first) in enumerate(zip(resampled, corner, strict=True)):
            weights = pad(_linear_weights(whole[axis], n), (0, 0, -first, first + side - n))
            image = _weighted(image, weights, 1 + axis)
    return NetworkView(image, _moved_window(region, corner, (side, side))[0], corner, resampled, whole)


def _linear_weights(size: int, target: int) -> Tensor:
    """Return the weights (target, size) by which torch resizes a line of pixels linearly.

    With those of the pixels that are needed, both axes take a third of the time of torch's own resizing.
    """
    return interpolate(torch.eye(size)[None], target, mode="linear")[0].T


def _weighted(maps: Tensor, weights: Tensor, axis: int) -> Tensor:
    """Return maps with sums of their pixels along an axis, by weights (N, pixels)."""
    return torch.tensordot(weights, maps, dims=([1], [axis])).movedim(0, axis)


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
