"""Input of a network: pixels of one size, a square around the region; and the way back."""

from __future__ import annotations

import math
from collections.abc import Iterable
from copy import deepcopy
from dataclasses import dataclass, replace

import numpy as np
import torch
from monai.data import MetaTensor
from monai.transforms import BorderPad, InvertibleTransform, Resize, SpatialCrop
from torch import Tensor

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
        steps: the MONAI transforms that led here; they undo themselves by the image's history.
    """

    image: MetaTensor
    region: Tensor
    steps: tuple[InvertibleTransform, ...]

    def to_study_grid(self, maps: Tensor) -> Tensor:
        """Put maps (M, A, B, Z) back on the study's array (M, X, Y, Z), linearly; 0 outside the crop."""
        x = MetaTensor(
            maps.detach().cpu().float(),
            affine=self.image.affine,
            applied_operations=deepcopy(self.image.applied_operations),
        )
        for step in reversed(self.steps):
            x = step.inverse(x)
        return x.as_tensor()


def network_view(study: StudyTensors, *, spacing_mm: float, crop_mm: float, divisor: int) -> NetworkView:
    """Resample in plane to `spacing_mm`, cut a square of `crop_mm` around the region's centre of mass.

    The square grows where the region needs it; its side is a multiple of `divisor` pixels.
    """
    image, region = study.image, _like(study.image, study.region)
    steps: list[InvertibleTransform] = []
    size = [
        round(n * s / spacing_mm) if abs(s / spacing_mm - 1) > SAME_SPACING else n
        for n, s in zip(study.region.shape[:2], study.spacing_mm[:2], strict=True)
    ]
    if size != list(study.region.shape[:2]):
        shape = (max(size[0], 1), max(size[1], 1), int(study.region.shape[2]))
        steps.append(Resize(shape, mode="trilinear", align_corners=False))
        image = steps[-1](image)
        region = Resize(shape, mode="nearest-exact")(region)

    inside = np.argwhere(region.numpy()[0].any(axis=-1))  # pixels of any slice
    if inside.size == 0:  # a region that vanished in resampling: keep the middle
        inside = np.array(region.shape[1:3])[None] // 2
    centre = np.round(inside.mean(axis=0)).astype(int)
    reach = np.abs(inside - centre).max() + MARGIN_PIXELS
    side = max(crop_mm / spacing_mm, 2 * float(reach))
    # At least two: InstanceNorm at the coarsest level needs more than one pixel.
    side = divisor * max(math.ceil(side / divisor), 2)

    # Cut what of the square lies in the image, then pad it: much less to copy than the other way round.
    start = [int(c) - side // 2 for c in centre]
    size = [int(n) for n in region.shape[1:3]]
    crop = SpatialCrop(
        roi_slices=[slice(max(s, 0), min(s + side, n)) for s, n in zip(start, size, strict=True)]
    )
    border = [(max(-s, 0), max(s + side - n, 0)) for s, n in zip(start, size, strict=True)]
    pad = BorderPad(spatial_border=[*border[0], *border[1], 0, 0])
    steps += [crop, pad]
    return NetworkView(pad(crop(image)), pad(crop(region)).as_tensor()[0].to(torch.uint8), tuple(steps))


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
    inside, x = study.region > 0, study.image.as_tensor()
    centre, scale = percentile_range(x[:, inside], study.observed[:, inside])
    mapped = (x - centre[:, None, None, None]) / scale[:, None, None, None]
    image = MetaTensor(
        torch.where(study.observed, mapped, 0.0),
        affine=study.image.affine,
        applied_operations=study.image.applied_operations,
    )
    return replace(study, image=image)


def standardised_by_crop(study: StudyTensors, view: NetworkView) -> tuple[StudyTensors, NetworkView]:
    """The study and its view in z-scores over the crop, slice by slice and sequence by sequence.

    Both get the same map: resampling in plane commutes with it.
    """
    seen = view.image.as_tensor().permute(0, 3, 1, 2)  # (C, Z, A, B)
    centre, scale = (part.permute(0, 2, 3, 1) for part in crop_zscore(seen))  # (C, 1, 1, Z)

    def mapped(image: MetaTensor, where: Tensor) -> MetaTensor:
        return MetaTensor(
            torch.where(where, (image.as_tensor() - centre) / scale, 0.0),
            affine=image.affine,
            applied_operations=image.applied_operations,
        )

    return (
        replace(study, image=mapped(study.image, study.observed)),
        replace(view, image=mapped(view.image, view.image.as_tensor() != 0)),
    )


def median_spacing_mm(spacings_mm: Iterable[tuple[float, float, float]]) -> float:
    """Median in-plane pixel size in mm of a cohort's spacings, rounded to 0.01 mm."""
    return round(float(np.median([s for spacing in spacings_mm for s in spacing[:2]])), 2)


def _like(image: MetaTensor, region: Tensor) -> MetaTensor:
    return MetaTensor(region[None].to(torch.uint8), affine=image.affine)
