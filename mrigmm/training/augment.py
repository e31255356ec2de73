"""Augmentation of slices on the fly: one affine resampling, intensity changes, missing sequences."""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn.functional import affine_grid, grid_sample

MAX_LOG_SCALE = 0.2  # sizes from 0.82 to 1.22
INTENSITY_SD = 0.15  # of gain (around 1) and of offset, in z units
MAX_NOISE_SD = 0.1  # z units


def random_affine(maps: Tensor, generator: torch.Generator) -> Tensor:
    """Rotate by any angle, mirror and scale each slice; linear, zeros beyond the border.

    Args:
        maps: (B, M, A, A) square slices; all maps of a slice are moved alike.
        generator: on the CPU.
    """
    n = maps.shape[0]
    angle = (2 * torch.rand(n, generator=generator) - 1) * math.pi
    scale = torch.exp((2 * torch.rand(n, generator=generator) - 1) * MAX_LOG_SCALE)
    mirror = torch.where(torch.rand(n, generator=generator) < 0.5, 1.0, -1.0)
    theta = torch.zeros(n, 2, 3)
    theta[:, 0, 0], theta[:, 0, 1] = angle.cos() * scale * mirror, -angle.sin() * scale
    theta[:, 1, 0], theta[:, 1, 1] = angle.sin() * scale * mirror, angle.cos() * scale
    grid = affine_grid(theta.to(maps), list(maps.shape), align_corners=False)
    return grid_sample(maps, grid, mode="bilinear", padding_mode="zeros", align_corners=False)


def random_intensities(image: Tensor, generator: torch.Generator) -> Tensor:
    """Change gain and offset of each sequence and add noise; missing (all zero) sequences stay so.

    Args:
        image: (B, C, A, B) z-scores.
        generator: on the CPU.
    """
    shape = (*image.shape[:2], 1, 1)
    gain = 1 + INTENSITY_SD * torch.randn(shape, generator=generator)
    offset = INTENSITY_SD * torch.randn(shape, generator=generator)
    noise_sd = MAX_NOISE_SD * torch.rand(shape, generator=generator)
    noise = torch.randn(image.shape, generator=generator)
    there = image.abs().sum(dim=(2, 3), keepdim=True) > 0
    changed = image * gain.to(image) + offset.to(image) + (noise_sd * noise).to(image)
    return torch.where(there, changed, 0.0)


def drop_sequences(image: Tensor, probability: float, generator: torch.Generator) -> Tensor:
    """Leave out each sequence of each slice with a probability, but never all of them.

    Args:
        image: (B, C, A, B).
        probability: per sequence.
        generator: on the CPU.
    """
    kept = torch.rand(image.shape[:2], generator=generator) >= probability  # (B, C)
    lucky = torch.randint(image.shape[1], (len(image),), generator=generator)
    kept[torch.arange(len(image)), lucky] = True
    return image * kept[..., None, None].to(image)
