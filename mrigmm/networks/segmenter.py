"""The pretrained networks: the locator sees whole images, finder and segmenters a square of them."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from mrigmm.labels import ANY_CLASS, REGION_CLASSES, SEGMENTER_CLASSES, Region, class_set
from mrigmm.networks.unet import Norm, UNet, at_least_single

N_SEQUENCES = 3  # LGE, T2, bSSFP
# Images, which of them are there, ventricle, cavity, wall, and whether those two kinds of region are given.
N_PLANES = 2 * N_SEQUENCES + 5
GIVEN_NOTHING, GIVEN_VENTRICLE, GIVEN_WALL = range(3)

# By region code the classes that it leaves, as `class_set`.
_ALLOWED = torch.zeros(len(Region), dtype=torch.uint8)
for _code, _names in REGION_CLASSES.items():
    _ALLOWED[int(_code)] = class_set(_names)
_FORBIDDEN = -1e4  # logit of a class that a given region rules out; finite, so that losses stay so


@dataclass(frozen=True)
class SegmenterInput:
    """Slices for the segmenter, and what is given of each.

    Attributes:
        image: (B, 3, A, A) in z over the given ventricle, or else over the square; 0 where absent.
        present: (B, 3) bool, LGE, T2, bSSFP.
        region: (B, A, A) `labels.Region` codes; 0 where nothing is given.
        given: (B,) nothing, the ventricle, or cavity and wall (`GIVEN_*`).
    """

    image: Tensor
    present: Tensor
    region: Tensor
    given: Tensor

    def planes(self) -> Tensor:
        """Input channels (B, N_PLANES, A, A)."""
        flat = torch.ones_like(self.image[:, :1])
        region = self.region[:, None]
        maps = [region > 0, region == Region.CAVITY, region == Region.WALL]
        kinds = [self.given >= GIVEN_VENTRICLE, self.given == GIVEN_WALL]
        return torch.cat(
            [
                self.image,
                flat * self.present[:, :, None, None].to(flat),
                *(m.to(flat) for m in maps),
                *(flat * kind[:, None, None, None].to(flat) for kind in kinds),
            ],
            dim=1,
        )

    def allowed(self) -> Tensor:
        """Classes (B, K, A, A) bool that the given region leaves."""
        codes = _ALLOWED.to(self.region.device)[self.region.long()]
        nothing_given = (self.given == GIVEN_NOTHING)[:, None, None]
        return allowed_classes_of(torch.where(nothing_given, ANY_CLASS, codes))


def allowed_classes_of(sets: Tensor) -> Tensor:
    """Classes (B, K, A, A) bool of sets (B, A, A) uint8, `labels.class_set`."""
    bits = (1 << torch.arange(len(SEGMENTER_CLASSES))).to(sets)
    return (sets[:, None] & bits[:, None, None]) > 0


def forbidden(allowed: Tensor) -> Tensor:
    """Return what to add to logits before a softmax (B, K, A, A): 0 where a class is allowed, else far below.

    The same probabilities as `within`, in a tenth of the time.
    """
    return allowed.float().sub_(1).mul_(-_FORBIDDEN)


def within(logits: Tensor, allowed: Tensor) -> Tensor:
    """Return logits (B, K, A, A) with those of classes that are not allowed far below all others."""
    return logits.masked_fill(~allowed, _FORBIDDEN)


class Segmenter(nn.Module):
    """U-Net for every combination of sequences and given regions.

    Args:
        filters: at full resolution, doubled at each of the `levels` poolings.
        levels: number of poolings.
        norm: per slice, which keeps nothing of its own gain and offset, or over the batch.
    """

    def __init__(self, *, filters: int, levels: int, norm: Norm = "instance") -> None:
        super().__init__()
        self.unet = UNet(N_PLANES, len(SEGMENTER_CLASSES), filters=filters, levels=levels, norm=norm)

    def forward(self, x: SegmenterInput) -> Tensor:
        """Logits (B, K, A, A) in the order of `SEGMENTER_CLASSES`; forbidden classes far below all others."""
        return within(at_least_single(self.unet(x.planes())), x.allowed())


class Locator(nn.Module):
    """U-Net that tells the cavity of the left ventricle in whole slices of any contrast.

    Args:
        filters: at full resolution, doubled at each of the `levels` poolings.
        levels: number of poolings.
    """

    def __init__(self, *, filters: int, levels: int) -> None:
        super().__init__()
        self.unet = UNet(1, 1, filters=filters, levels=levels, norm="batch")

    def forward(self, image: Tensor) -> Tensor:
        """Logits (B, A, A) of slices (B, A, A) of mean 0 and SD 1."""
        return at_least_single(self.unet(image[:, None]))[:, 0]
