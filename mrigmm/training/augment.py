"""Augmentation of slices on the fly: one affine resampling, intensity changes, missing sequences."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import affine_grid, grid_sample

MAX_LOG_SCALE = 0.2  # sizes from 0.82 to 1.22
INTENSITY_SD = 0.15  # of gain (around 1) and of offset, in z units
MAX_NOISE_SD = 0.1  # z units


@dataclass(frozen=True)
class Chance:
    """Random numbers for the slices of a step's batch, of which a process holds some.

    They are drawn for the whole batch, so that they do not depend on how many processes share it.

    Attributes:
        generator: on the CPU, in the same state in every process.
        n_rows: slices of the whole batch.
        rows: (B,) which of them are wanted.
    """

    generator: torch.Generator
    n_rows: int
    rows: Tensor

    def rand(self, *shape: int) -> Tensor:
        """Uniform in [0, 1), (B, *shape)."""
        return torch.rand((self.n_rows, *shape), generator=self.generator)[self.rows]

    def randn(self, *shape: int) -> Tensor:
        """Standard normal, (B, *shape)."""
        return torch.randn((self.n_rows, *shape), generator=self.generator)[self.rows]

    def randint(self, high: int) -> Tensor:
        """Integers from 0 to `high` - 1, (B,)."""
        return torch.randint(high, (self.n_rows,), generator=self.generator)[self.rows]


def random_affine(maps: Tensor, chance: Chance) -> Tensor:
    """Rotate by any angle, mirror and scale each slice; linear, zeros beyond the border.

    Args:
        maps: (B, M, A, A) square slices; all maps of a slice are moved alike.
        chance: for these B slices.
    """
    return moved(maps, random_motion(chance))


def random_motion(chance: Chance) -> Tensor:
    """Rotation by any angle, mirroring and scale, as matrices (B, 2, 3) of `affine_grid`."""
    angle = (2 * chance.rand() - 1) * math.pi
    scale = torch.exp((2 * chance.rand() - 1) * MAX_LOG_SCALE)
    mirror = torch.where(chance.rand() < 0.5, 1.0, -1.0)
    theta = torch.zeros(len(angle), 2, 3)
    theta[:, 0, 0], theta[:, 0, 1] = angle.cos() * scale * mirror, -angle.sin() * scale
    theta[:, 1, 0], theta[:, 1, 1] = angle.sin() * scale * mirror, angle.cos() * scale
    return theta


def moved(maps: Tensor, theta: Tensor) -> Tensor:
    """Maps (B, M, A, A) moved by matrices (B, 2, 3); linear, zeros beyond the border."""
    grid = affine_grid(theta.to(maps), list(maps.shape), align_corners=False)
    return grid_sample(maps, grid, mode="bilinear", padding_mode="zeros", align_corners=False)


def random_intensities(image: Tensor, chance: Chance, sd: float = INTENSITY_SD) -> Tensor:
    """Change gain and offset of each sequence and add noise; missing (all zero) sequences stay so.

    Args:
        image: (B, C, A, B) z-scores.
        chance: for these B slices.
        sd: of gain (around 1) and of offset.
    """
    shape = (image.shape[1], 1, 1)
    gain = 1 + sd * chance.randn(*shape)
    offset = sd * chance.randn(*shape)
    noise_sd = MAX_NOISE_SD * chance.rand(*shape)
    noise = chance.randn(*image.shape[1:])
    there = image.abs().sum(dim=(2, 3), keepdim=True) > 0
    changed = image * gain.to(image) + offset.to(image) + (noise_sd * noise).to(image)
    return torch.where(there, changed, 0.0)


def drop_sequences(image: Tensor, probability: float, chance: Chance) -> Tensor:
    """Leave out each sequence of each slice with a probability, but never all of them.

    Args:
        image: (B, C, A, B).
        probability: per sequence.
        chance: for these B slices.
    """
    kept = chance.rand(image.shape[1]) >= probability  # (B, C)
    lucky = chance.randint(image.shape[1])
    kept[torch.arange(len(image)), lucky] = True
    return image * kept[..., None, None].to(image)
