"""Views of a study for the pretrained networks, and the way back to its voxels."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from mrigmm.data.crops import NetworkView, network_view
from mrigmm.data.study_tensors import WHOLE, PlaneBox, StudyTensors
from mrigmm.labels import Region
from mrigmm.networks.segmenter import GIVEN_NOTHING, GIVEN_VENTRICLE, GIVEN_WALL, SegmenterInput

NETWORK_SEQUENCES = ("LGE", "T2", "bSSFP")
OTHER = "other"  # any other contrast, in the place of bSSFP where a study has none of the three
SQUARE_MM = 128.0
PIXEL_MM = 1.0
_OUTLIER = 6.0  # z beyond which intensities are clipped, as in training


@dataclass(frozen=True)
class StudyView:
    """A study's slices for the segmenter.

    Attributes:
        slices: of the Z slices.
        view: leads back to the study's voxels.
    """

    slices: SegmenterInput
    view: NetworkView

    def to_study(self, maps: Tensor, box: PlaneBox = WHOLE) -> Tensor:
        """Maps (Z, M, A, A) on the study's voxels (M, X, Y, Z), a part of the plane; 0 beyond the square."""
        return self.view.to_study_grid(maps.permute(1, 2, 3, 0), box).clamp(0, 1)


def what_is_given(study: StudyTensors) -> int:
    """Return whether nothing, the ventricle or cavity and wall are given: `networks.segmenter.GIVEN_*`."""
    if study.found_region is not None:
        return GIVEN_NOTHING
    return _kind_of_region(study)


def _kind_of_region(study: StudyTensors) -> int:
    return GIVEN_WALL if bool((study.region != Region.LV).all()) else GIVEN_VENTRICLE


def given_view(study: StudyTensors) -> StudyView:
    """The square around a given region, in z over that region."""
    view = network_view(study, spacing_mm=PIXEL_MM, crop_mm=SQUARE_MM, divisor=16)
    image, present = network_channels(study, view.image.permute(3, 0, 1, 2))
    region = view.region.permute(2, 0, 1)
    return StudyView(_slices(image, present, region, _kind_of_region(study)), view)


def centred_view(study: StudyTensors, centre: tuple[float, float]) -> StudyView:
    """The square around a place (in voxels of X and Y) of a study of `load_whole`, in z over the square."""
    region = torch.zeros_like(study.region)
    x, y = (min(max(round(c), 0), n - 1) for c, n in zip(centre, study.region.shape[:2], strict=True))
    region[x, y] = int(Region.LV)
    view = network_view(replace(study, region=region), spacing_mm=PIXEL_MM, crop_mm=SQUARE_MM, divisor=16)
    image, present = network_channels(study, view.image.permute(3, 0, 1, 2))
    image = _z_over(image, present, torch.ones_like(image[:, 0], dtype=torch.bool))
    nothing = torch.zeros(image.shape[0], *image.shape[2:], dtype=torch.uint8)
    return StudyView(_slices(image, present, nothing, GIVEN_NOTHING), view)


def found_view(study: StudyTensors, ventricle: Tensor) -> StudyView:
    """The square around a ventricle found in a study of `load_whole`, given as a whole, in z over it.

    Args:
        study: the study.
        ventricle: (X, Y, Z) bool.
    """
    region = torch.where(ventricle, int(Region.LV), int(Region.OUTSIDE)).to(torch.uint8)
    view = network_view(replace(study, region=region), spacing_mm=PIXEL_MM, crop_mm=SQUARE_MM, divisor=16)
    image, present = network_channels(study, view.image.permute(3, 0, 1, 2))
    inside = view.region.permute(2, 0, 1)
    image = _z_over(image, present, inside > 0)
    return StudyView(_slices(image, present, inside, GIVEN_VENTRICLE), view)


def network_channels(study: StudyTensors, seen: Tensor) -> tuple[Tensor, Tensor]:
    """Channels (Z, 3, A, A) in the networks' order, and which are there, (3,) bool.

    Args:
        study: whose channels they are.
        seen: (Z, C, A, A) its slices.
    """
    seen = seen.float()
    image = seen.new_zeros((seen.shape[0], len(NETWORK_SEQUENCES), *seen.shape[2:]))
    present = torch.zeros(len(NETWORK_SEQUENCES), dtype=torch.bool)
    there = [name for name, is_there in zip(study.sequences, study.present, strict=True) if is_there]
    known = [name for name in there if name in NETWORK_SEQUENCES]
    for name in known or [name for name in there if name == OTHER]:
        k = NETWORK_SEQUENCES.index("bSSFP" if name == OTHER else name)
        present[k] = True
        image[:, k] = seen[:, study.sequences.index(name)]
    return image, present


def _z_over(image: Tensor, present: Tensor, inside: Tensor) -> Tensor:
    """z-scores over a part (Z, A, A) of the squares, without the padding beyond the image (exactly 0)."""
    out = torch.zeros_like(image)
    acquired = (image != 0).any(dim=1)  # (Z, A, A)
    for k in present.nonzero()[:, 0].tolist():
        values = image[:, k][acquired & inside]
        if values.numel() > 1:
            out[:, k] = (image[:, k] - values.mean()) / (values.std() + 1e-6)
    return out * acquired[:, None]


def _slices(image: Tensor, present: Tensor, region: Tensor, kind: int) -> SegmenterInput:
    n = len(image)
    return SegmenterInput(
        image.clamp(-_OUTLIER, _OUTLIER) * present[None, :, None, None],
        present[None].expand(n, -1),
        region,
        torch.full((n,), kind),
    )
