"""Gather the voxels of the regions of images, and put them back, without loops over the batch."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor


def occurring(region: Tensor) -> list[int]:
    """Return the values of a region map (any shape, integers from 0) that occur: counting beats sorting."""
    return torch.bincount(region.flatten()).nonzero()[:, 0].tolist()


def to_voxels(values: Tensor) -> Tensor:
    """Dense entry point: ``(B, C, *spatial)`` as ``(B, N, C)`` with N all voxels of an image."""
    return values.flatten(2).mT


@dataclass(frozen=True)
class PackedRegion:
    """The voxels inside each image's region, padded to the largest region of the batch.

    Attributes:
        position: ``(B, N)`` long, where each voxel lies in its flattened image; 0 in the padding.
        mask: ``(B, N)`` bool, False in the padding.
        spatial: the images' spatial shape.
    """

    position: Tensor
    mask: Tensor
    spatial: tuple[int, ...]

    def gather(self, values: Tensor) -> Tensor:
        """Voxels ``(B, N, C)`` of images ``(B, C, *spatial)``; differentiable. Padding repeats voxel 0."""
        flat = values.flatten(2)  # (B, C, M)
        index = self.position[:, None, :].expand(-1, flat.shape[1], -1)
        return flat.gather(2, index).mT

    def scatter(self, values: Tensor) -> Tensor:
        """Return images ``(B, C, *spatial)`` of voxels ``(B, N, C)``; 0 outside the region."""
        B, _, C = values.shape
        n_voxels = torch.Size(self.spatial).numel()
        # The padding lands in one voxel too many, which is cut off.
        target = torch.where(self.mask, self.position, n_voxels)[:, None, :].expand(-1, C, -1)
        dense = values.new_zeros(B, C, n_voxels + 1).scatter(2, target, values.mT)
        return dense[..., :n_voxels].reshape(B, C, *self.spatial)


def pack(region: Tensor) -> PackedRegion:
    """Return the positions of the region's voxels in each image of a batch.

    The objectives give the same values on packed voxels as on whole images, for a fraction of the work.

    Args:
        region: ``(B, *spatial)`` bool or integers, voxels above 0 belong to the region.
    """
    inside = (region > 0).flatten(1)  # (B, M)
    counts = inside.sum(1)
    largest = int(counts.max()) if len(counts) else 0
    mask = torch.arange(largest, device=region.device) < counts[:, None]
    position = torch.arange(inside.shape[1], device=region.device).expand_as(inside).masked_select(inside)
    packed = position.new_zeros(mask.shape).masked_scatter_(mask, position)
    return PackedRegion(packed, mask, tuple(region.shape[1:]))
