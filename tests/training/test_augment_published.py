import math
from dataclasses import replace

import pytest
import torch

from mrigmm.labels import Region, allowed_classes
from mrigmm.training import augment_published
from mrigmm.training.augment import Chance
from mrigmm.training.augment_published import (
    augmented,
    elastic_displacement,
    random_factors,
    random_noise,
    random_warp,
    sampled_points,
    warp,
)
from mrigmm.training.batches import TrainingBatch

SIDE = 64


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def chance(n, seed=0):
    return Chance(generator(seed), n, torch.arange(n))


def discs(n):
    """Two sequences (n, 2, 64, 64) of a cavity (radius 8 pixels) in a wall (radius 16), and their region."""
    axis = torch.arange(SIDE) - (SIDE - 1) / 2
    radius = (axis[:, None] ** 2 + axis[None, :] ** 2).sqrt()
    region = torch.full((SIDE, SIDE), int(Region.OUTSIDE), dtype=torch.uint8)
    region[radius < 16] = Region.WALL
    region[radius < 8] = Region.CAVITY
    image = torch.stack([5.0 + region, 10.0 - region])
    return image.expand(n, 2, SIDE, SIDE).clone(), region.expand(n, SIDE, SIDE).clone()


def batch_of(image, region, index):
    n, n_mixtures = len(image), int(index.max()) + 1
    return TrainingBatch(
        image,
        region,
        index,
        torch.ones(n_mixtures, image.shape[1], dtype=torch.bool),
        torch.tensor(allowed_classes(("blood", "myocardium"))),
        rows=torch.arange(n),
        n_rows=n,
        n_groups=n_mixtures,
        counts=True,
    )


def noise_batch(n=6, mixtures=None):
    image = 100 + 20 * torch.randn(n, 3, SIDE, SIDE, generator=generator())
    _, region = discs(n)
    return batch_of(image, region, torch.arange(n) if mixtures is None else mixtures)


def test_probability_0_is_the_identity():
    batch = noise_batch()
    image, region = random_warp(batch.image, batch.region, batch.mixture_index, chance(6), probability=0)
    assert torch.equal(image, batch.image)
    assert torch.equal(region, batch.region)
    assert torch.equal(random_noise(batch.image, chance(6), probability=0), batch.image)


def test_each_spatial_part_has_a_chance_of_one_in_five():
    image, region = discs(500)
    image = image + torch.rand(SIDE, SIDE, generator=generator())
    warped, _ = random_warp(image, region, torch.arange(500), chance(500))
    unmoved = (warped == image).flatten(1).all(dim=1).sum().item()
    # .8^3 of 500 = 256; 4 standard deviations of a binomial are 4 * sqrt(500 * .512 * .488) = 45
    assert abs(unmoved - 256) < 45


def test_the_region_keeps_its_codes_and_moves_with_the_image():
    image, region = discs(40)
    warped, codes = random_warp(image, region, torch.arange(40), chance(40, 1), probability=1)
    assert codes.dtype == torch.uint8
    assert set(codes.unique().tolist()) == {Region.OUTSIDE, Region.CAVITY, Region.WALL}
    moved = (codes != region).flatten(1).any(dim=1)
    assert moved.all()
    seen = warped[:, 0] > 4.5  # not beyond the border
    # The image is 5 + code: cubic interpolation is off by half a code only at the edges of the discs.
    agree = ((warped[:, 0] - 5).round() == codes)[seen].float().mean()
    assert agree > 0.97


def test_half_of_the_factors_are_below_1():
    factors = random_factors(chance(4000))
    # 4 * sqrt(4000 / 4) = 126
    assert abs(int((factors < 1).sum()) - 2000) < 126
    assert factors.min() >= 0.7
    assert factors.max() <= 1.4
    # uniform in each half: means .85 and 1.2, SDs .3 / sqrt(12) and .4 / sqrt(12) over 2000 draws
    assert factors[factors < 1].mean().item() == pytest.approx(0.85, abs=4 * 0.3 / math.sqrt(12 * 2000))
    assert factors[factors >= 1].mean().item() == pytest.approx(1.2, abs=4 * 0.4 / math.sqrt(12 * 2000))


def moved(image, region, *, shift=(0.0, 0.0), angle=0.0, factor=1.0):
    displacement = torch.tensor(shift)[None, :, None, None].expand(1, 2, SIDE, SIDE)
    return warp(image, region, sampled_points(displacement, torch.tensor([angle]), torch.tensor([factor])))


def test_where_values_are_read():
    """Shift by (2, 5) pixels, a quarter turn, and a heart twice as large, each against the array itself."""
    image = torch.randn(1, 2, SIDE, SIDE, generator=generator())
    region = (image[:, 0] > 0).to(torch.uint8)
    shifted, codes = moved(image, region, shift=(2.0, 5.0))
    torch.testing.assert_close(shifted[..., :-4, :-7], image[..., 2:-2, 5:-2], atol=1e-4, rtol=0)
    assert torch.equal(codes[:, :-2, :-5], region[:, 2:, 5:])
    turned, codes = moved(image, region, angle=math.pi / 2)
    torch.testing.assert_close(turned, image.rot90(-1, (2, 3)), atol=1e-3, rtol=0)
    assert torch.equal(codes, region.rot90(-1, (1, 2)))
    disc, wall = discs(1)
    larger = moved(disc, wall, factor=0.5)[1]
    # radius 16 becomes 32: 4 times the pixels
    assert (larger > 0).sum().item() == pytest.approx(4 * (wall > 0).sum().item(), rel=0.02)


def test_displacement_has_the_spread_of_smoothed_uniform_noise():
    """SD = alpha / sqrt(3) / (2 sqrt(pi) sigma) pixels: 100 / sqrt(3) / (2 sqrt(pi) 10) = 1.629."""
    n = 400
    field = elastic_displacement((120, 120), torch.full((n,), 100.0), torch.full((n,), 10.0), chance(n))
    middle = field[:, :, 60, 60]  # (n, 2), independent of one another, no border in reach
    # relative standard error of an SD from 800 numbers: 1 / sqrt(1600) = 2.5 %
    assert middle.std().item() == pytest.approx(1.629, rel=0.1)
    assert middle.mean().item() == pytest.approx(0, abs=4 * 1.629 / math.sqrt(800))
    # smooth: neighbours differ by SD / (sqrt(2) sigma) = 7 % of it
    step = (field[:, :, 61, 60] - middle).std().item()
    assert step == pytest.approx(1.629 / (math.sqrt(2) * 10), rel=0.15)


def test_no_displacement_without_alpha():
    field = elastic_displacement((20, 30), torch.zeros(2), torch.full((2,), 9.0), chance(2))
    assert field.shape == (2, 2, 20, 30)
    assert (field == 0).all()


def test_noise_has_its_chance_and_its_moments():
    n = 4000
    clean = torch.ones(n, 1, 8, 8)
    noise = (random_noise(clean, chance(n)) - clean)[:, 0]
    noisy = noise.flatten(1).abs().sum(dim=1) > 0
    # 600 expected; 4 * sqrt(4000 * .15 * .85) = 90
    assert abs(int(noisy.sum()) - 600) < 90
    # SD uniform in 0 to 0.1: mean variance 0.1^2 / 3
    assert noise[noisy].square().mean().item() == pytest.approx(0.01 / 3, rel=0.15)
    assert noise[noisy].mean().item() == pytest.approx(0, abs=0.002)


def test_afterwards_every_sequence_of_every_slice_has_mean_0_and_sd_1_again(monkeypatch):
    monkeypatch.setattr(augment_published, "random_noise", lambda image, chance: image)  # comes last
    batch = noise_batch()
    result = augmented(batch, generator(3), whole_mixtures=False, standardise=True)
    for channel in result.image.flatten(0, 1):
        seen = channel[channel != 0]
        assert seen.mean().item() == pytest.approx(0, abs=1e-5)
        assert seen.square().mean().item() == pytest.approx(1, abs=1e-4)
    kept = augmented(batch, generator(3), whole_mixtures=False, standardise=False)
    assert kept.image[kept.image != 0].mean().item() == pytest.approx(100, abs=5)


@pytest.mark.parametrize("standardise", [True, False])
def test_a_missing_sequence_stays_zero(standardise):
    batch = noise_batch(30)
    batch.image[:, 1] = 0
    result = augmented(batch, generator(1), whole_mixtures=False, standardise=standardise)
    assert (result.image[:, 1] == 0).all()
    assert result.image.isfinite().all()
    assert not torch.equal(result.image[:, 0], batch.image[:, 0])


def test_chance_comes_from_the_generator_alone():
    batch = noise_batch()
    torch.manual_seed(1)
    a = augmented(batch, generator(5), whole_mixtures=False, standardise=True)
    torch.manual_seed(2)
    b = augmented(batch, generator(5), whole_mixtures=False, standardise=True)
    c = augmented(batch, generator(6), whole_mixtures=False, standardise=True)
    assert torch.equal(a.image, b.image)
    assert not torch.equal(a.image, c.image)


def test_the_slices_of_a_volume_move_alike():
    image, region = discs(20)
    index = torch.tensor([0] * 10 + [1] * 10)
    _, codes = random_warp(image, region, index, chance(2, 4), probability=1)
    assert (codes[:10] == codes[0]).all()
    assert (codes[10:] == codes[10]).all()
    assert not torch.equal(codes[0], codes[10])


@pytest.mark.parametrize("whole_mixtures", [True, False])
def test_a_share_of_the_batch_is_augmented_as_in_the_whole(whole_mixtures):
    batch = noise_batch(4, mixtures=torch.tensor([0, 0, 1, 1]))
    whole = augmented(batch, generator(2), whole_mixtures=whole_mixtures, standardise=True)
    second = replace(
        batch,
        image=batch.image[2:],
        region=batch.region[2:],
        mixture_index=torch.tensor([0, 0]),
        present=batch.present[1:],
        rows=torch.tensor([2, 3]),
    )
    part = augmented(second, generator(2), whole_mixtures=whole_mixtures, standardise=True)
    torch.testing.assert_close(part.image, whole.image[2:], atol=1e-5, rtol=0)
    assert torch.equal(part.region, whole.region[2:])
    assert not torch.equal(part.image, batch.image[2:])
