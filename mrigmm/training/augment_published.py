"""The published augmentation of the deep GMM (Schwab, Mayr, Haltmeier 2024), on the fly.

Elastic deformation, rotation and scale, each with its own chance; then z-scores over the crop again; then
noise. Lengths are in pixels of the network's grid (published: 0.73 to 0.76 mm). Mirroring is the sampler's.
"""

from __future__ import annotations

import math
from dataclasses import replace
from functools import partial

import torch
from torch import Tensor
from torch.nn.functional import conv2d, grid_sample

from mrigmm.data.standardise import crop_zscore
from mrigmm.training.augment import Chance
from mrigmm.training.batches import TrainingBatch

SPATIAL_PROBABILITY = 0.2  # of the elastic deformation, of the rotation, and of the scale
MAX_ALPHA = 175.0  # pixels: factor of the smoothed noise that is the elastic displacement
SIGMAS = (9.0, 13.0)  # pixels: its smoothness
SCALES = (0.7, 1.4)  # of the coordinates: below 1 the heart becomes larger; half the draws are below 1
NOISE_PROBABILITY = 0.15
MAX_NOISE_SD = 0.1  # z units

_TRUNCATE = 4.0  # SDs of the Gaussian that smooths the displacement


def augmented(
    batch: TrainingBatch, generator: torch.Generator, *, whole_mixtures: bool, standardise: bool
) -> TrainingBatch:
    """Return the batch with image and region moved alike, standardised again, and with noise.

    Args:
        batch: as the sampler gave it.
        generator: on the CPU; all chance comes from it.
        whole_mixtures: move all slices of a mixture alike, for a network that sees them as a volume.
        standardise: z-score over the crop again, as published; False keeps other units.
    """
    each = Chance(generator, batch.n_rows, batch.rows)
    if whole_mixtures:  # the random numbers of each mixture's first slice
        index = batch.mixture_index.cpu()
        first = torch.stack([(index == s).nonzero()[0, 0] for s in range(batch.n_mixtures)])
        warp_chance, group = Chance(generator, batch.n_rows, batch.rows[first]), index
    else:
        warp_chance, group = each, torch.arange(len(batch.image))
    image, region = random_warp(batch.image, batch.region, group, warp_chance)
    if standardise:
        centre, scale = crop_zscore(image)
        image = torch.where(image != 0, (image - centre) / scale, 0.0)
    return replace(batch, image=random_noise(image, each), region=region)


def random_warp(
    image: Tensor, region: Tensor, group: Tensor, chance: Chance, probability: float = SPATIAL_PROBABILITY
) -> tuple[Tensor, Tensor]:
    """Deform, rotate and scale slices about their middle; zeros beyond the border.

    Args:
        image: (B, C, A, B') intensities, interpolated cubically.
        region: (B, A, B') codes, nearest neighbour.
        group: (B,) numbers below n; slices of the same number move alike.
        chance: for these n numbers.
        probability: of each of the three.
    """
    shape = (int(image.shape[-2]), int(image.shape[-1]))
    deformed, rotated, scaled = (chance.rand(3) < probability).unbind(dim=1)  # (n,)
    alpha = torch.where(deformed, _uniform(0.0, MAX_ALPHA, chance), 0.0)
    displacement = elastic_displacement(shape, alpha, _uniform(*SIGMAS, chance), chance)
    angle = torch.where(rotated, _uniform(0.0, 2 * math.pi, chance), 0.0)
    factor = torch.where(scaled, random_factors(chance), 1.0)
    points = sampled_points(displacement, angle, factor)
    group = group.to(image.device)
    moved = (deformed | rotated | scaled).to(image.device)[group]  # (B,)
    warped, codes = warp(image, region, points.to(image)[group])
    return (
        torch.where(moved[:, None, None, None], warped, image),
        torch.where(moved[:, None, None], codes, region),
    )


def random_factors(chance: Chance) -> Tensor:
    """Factors (n,) of the coordinates, half of them below 1."""
    below, above = _uniform(SCALES[0], 1.0, chance), _uniform(1.0, SCALES[1], chance)
    return torch.where(chance.rand() < 0.5, below, above)


def sampled_points(displacement: Tensor, angle: Tensor, factor: Tensor) -> Tensor:
    """Return where each pixel's new value is read: displaced, then turned and scaled about the middle.

    Args:
        displacement: (n, 2, A, B') pixels.
        angle: (n,) radians.
        factor: (n,); below 1 what is seen becomes larger.

    Returns:
        (n, 2, A, B') pixels from the middle of the array.
    """
    rows, columns = (torch.arange(size) - (size - 1) / 2 for size in displacement.shape[-2:])
    points = torch.stack(torch.meshgrid(rows, columns, indexing="ij")) + displacement
    turn = torch.stack([angle.cos(), -angle.sin(), angle.sin(), angle.cos()], dim=1).view(-1, 2, 2)
    return torch.einsum("nij,njab->niab", factor[:, None, None] * turn, points)


def warp(image: Tensor, region: Tensor, points: Tensor) -> tuple[Tensor, Tensor]:
    """Image (B, C, A, B') by cubic interpolation and region (B, A, B') by nearest neighbour at the points."""
    n_rows, n_columns = points.shape[-2:]
    # grid_sample wants (x, y), -1 to 1 from edge to edge of the array.
    grid = torch.stack([2 * points[:, 1] / n_columns, 2 * points[:, 0] / n_rows], dim=-1)
    sample = partial(grid_sample, grid=grid, padding_mode="zeros", align_corners=False)
    warped = sample(image, mode="bicubic")
    codes = sample(region[:, None].to(image), mode="nearest")
    return warped, codes[:, 0].to(region.dtype)


def elastic_displacement(shape: tuple[int, int], alpha: Tensor, sigma: Tensor, chance: Chance) -> Tensor:
    """`alpha` times uniform noise in -1 to 1 smoothed by a Gaussian, (n, 2, A, B') pixels.

    Simard, Steinkraus, Platt 2003.

    Args:
        shape: (A, B').
        alpha: (n,) factors.
        sigma: (n,) widths of the Gaussian in pixels.
        chance: for these n displacements.
    """
    n = len(alpha)
    noise = 2 * chance.rand(2, *shape) - 1
    reach = math.ceil(_TRUNCATE * SIGMAS[1])
    offsets = torch.arange(-reach, reach + 1)
    kernel = torch.exp(-0.5 * (offsets / sigma[:, None]).square())
    kernel = (kernel / kernel.sum(dim=1, keepdim=True)).repeat_interleave(2, dim=0)  # (2 n, width)
    smooth = noise.view(1, 2 * n, *shape)
    smooth = conv2d(smooth, kernel[:, None, :, None], padding=(reach, 0), groups=2 * n)
    smooth = conv2d(smooth, kernel[:, None, None, :], padding=(0, reach), groups=2 * n)
    return alpha[:, None, None, None] * smooth.view(n, 2, *shape)


def random_noise(image: Tensor, chance: Chance, probability: float = NOISE_PROBABILITY) -> Tensor:
    """Add Gaussian noise to some slices; where the image is exactly 0 (nothing was seen) it stays so.

    Args:
        image: (B, C, A, B') z-scores.
        chance: for these B slices.
        probability: per slice.
    """
    noisy = chance.rand() < probability
    sd = torch.where(noisy, _uniform(0.0, MAX_NOISE_SD, chance), 0.0)
    noise = sd[:, None, None, None] * chance.randn(*image.shape[1:])
    return torch.where(image != 0, image + noise.to(image), 0.0)


def _uniform(low: float, high: float, chance: Chance) -> Tensor:
    return low + (high - low) * chance.rand()
