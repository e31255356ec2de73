"""Input of a clustering network: the region in a stack of slices, and what belongs together in it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from scipy.ndimage import distance_transform_edt
from torch import Tensor
from torch.nn.functional import pad

from mrigmm.data.maps import NO_CLASS
from mrigmm.methods.settings import CNNClusteringSettings, CNNContinuitySettings, CNNSuperpixelSettings
from mrigmm.methods.slic_kmeans import superpixels


@dataclass(frozen=True)
class Stack:
    """Slices of a region that are clustered together.

    Attributes:
        image: (Z, C, X, Y) float32 standardised intensities.
        region: (Z, X, Y) bool; two pixels at least.
        spacing_mm: pixel size along X and Y.
        named: (Z, X, Y) int64 cluster indices where a user named them, `NO_CLASS` elsewhere; None without.
    """

    image: Tensor
    region: Tensor
    spacing_mm: tuple[float, float]
    named: Tensor | None = None

    @property
    def scribbles(self) -> Tensor:
        """(Z, X, Y) `named`, or `NO_CLASS` everywhere."""
        return torch.full(self.region.shape, NO_CLASS) if self.named is None else self.named


@dataclass(frozen=True)
class Crop:
    """A stack as the network sees it: slices with a region, in the smallest rectangle around it and a margin.

    Attributes:
        image: (B, C, A, D) float32; outside the region the values of its nearest pixel in the slice, so that
            nothing from outside is seen.
        region: (B, A, D) bool.
        scribbles: (B, A, D) int64 as in `Stack`.
        superpixels: (B, A, D) int64, from 0 inside the region; None where the method has none.
        pairs: weights (B, A - 1, D) and (B, A, D - 1) of neighbours, 0 unless both lie inside; None where the
            method has none.
    """

    image: Tensor
    region: Tensor
    scribbles: Tensor
    superpixels: Tensor | None = None
    pairs: tuple[Tensor, Tensor] | None = None

    def to(self, device: torch.device) -> Crop:
        """The crop on a device."""
        return Crop(
            self.image.to(device),
            self.region.to(device),
            self.scribbles.to(device),
            None if self.superpixels is None else self.superpixels.to(device),
            None if self.pairs is None else (self.pairs[0].to(device), self.pairs[1].to(device)),
        )


def crop(stack: Stack, settings: CNNClusteringSettings) -> Crop:
    """Cut a stack; the margin is as wide as the network sees."""
    margin = settings.layers
    z, x, y = _box(stack.region)
    region = pad(stack.region[z, x, y], [margin] * 4)
    image = _extended(pad(stack.image[z][..., x, y], [margin] * 4), region)
    scribbles = pad(stack.scribbles[z, x, y], [margin] * 4, value=NO_CLASS)
    if isinstance(settings, CNNSuperpixelSettings):
        found = _superpixels(stack.image[z][..., x, y], stack.region[z, x, y], stack.spacing_mm, settings)
        return Crop(image, region, scribbles, superpixels=pad(found, [margin] * 4))
    assert isinstance(settings, CNNContinuitySettings)
    return Crop(image, region, scribbles, pairs=_pairs(image, region, settings))


def uncrop(maps: Tensor, stack: Stack, settings: CNNClusteringSettings) -> Tensor:
    """Maps (B, M, A, D) of a crop on the slices of its stack (Z, M, X, Y), 0 outside the region."""
    margin = settings.layers
    z, x, y = _box(stack.region)
    whole = maps.new_zeros((len(stack.region), maps.shape[1], *stack.region.shape[1:]))
    cut = whole[z]
    cut[..., x, y] = maps[..., margin:-margin, margin:-margin]
    whole[z] = cut
    return whole * stack.region[:, None]


def joined(crops: Sequence[Crop]) -> Crop:
    """Crops of several stacks as one batch; smaller ones are padded outside of all that counts."""
    if len(crops) == 1:
        return crops[0]
    a, d = (max(part.region.shape[axis] for part in crops) for axis in (1, 2))

    def stacked(parts: Sequence[Tensor], size: tuple[int, int], value: int = 0) -> Tensor:
        grown = [
            pad(part, [0, size[1] - part.shape[-1], 0, size[0] - part.shape[-2]], value=value)
            for part in parts
        ]
        return torch.cat(grown)

    numbers, pairs = None, None
    first = [part.superpixels for part in crops if part.superpixels is not None]
    if first:
        counts = [int(part.max()) + 1 for part in first]
        shifts = np.cumsum([0, *counts[:-1]]).tolist()
        numbers = stacked([part + shift for part, shift in zip(first, shifts, strict=True)], (a, d))
    weights = [part.pairs for part in crops if part.pairs is not None]
    if weights:
        pairs = (
            stacked([down for down, _ in weights], (a - 1, d)),
            stacked([across for _, across in weights], (a, d - 1)),
        )
    return Crop(
        stacked([part.image for part in crops], (a, d)),
        stacked([part.region for part in crops], (a, d)),
        stacked([part.scribbles for part in crops], (a, d), value=NO_CLASS),
        numbers,
        pairs,
    )


def _box(region: Tensor) -> tuple[Tensor, slice, slice]:
    """Slices (B,) with a region, and the rectangle around it in all of them."""
    z, x, y = region.nonzero(as_tuple=True)
    return z.unique(), slice(int(x.min()), int(x.max()) + 1), slice(int(y.min()), int(y.max()) + 1)


def _extended(image: Tensor, region: Tensor) -> Tensor:
    """Images (B, C, A, D) with the nearest pixel's values outside the region (B, A, D)."""
    slices = []
    for values, inside in zip(image, region.numpy(), strict=True):
        nearest = distance_transform_edt(~inside, return_distances=False, return_indices=True)
        slices.append(values[:, torch.from_numpy(nearest[0]), torch.from_numpy(nearest[1])])
    return torch.stack(slices)


def _superpixels(
    image: Tensor, region: Tensor, spacing_mm: tuple[float, float], settings: CNNSuperpixelSettings
) -> Tensor:
    """SLIC superpixels of each slice inside the region, numbered from 0 over all slices; 0 outside."""
    mask = region.permute(1, 2, 0)  # (X, Y, B)
    found = superpixels(
        image.permute(1, 2, 3, 0).double().numpy(),
        mask.numpy(),
        size_mm=settings.superpixel_mm,
        compactness=settings.compactness,
        spacing_mm=spacing_mm,
    )
    result = torch.zeros(mask.shape, dtype=torch.int64)
    result[mask] = torch.from_numpy(found)
    return result.permute(2, 0, 1)


def _pairs(image: Tensor, region: Tensor, settings: CNNContinuitySettings) -> tuple[Tensor, Tensor]:
    """Weight of each pair of neighbours along A and along D."""

    def along(dim: int) -> Tensor:
        n = region.shape[dim] - 1
        both = region.narrow(dim, 1, n) & region.narrow(dim, 0, n)
        if not settings.edge_aware:
            return both.float()
        steps = image.diff(dim=dim + 1).square().sum(dim=1)
        return both * torch.exp(-steps / (2 * settings.edge_scale**2))

    return along(1), along(2)
