import pytest
import torch

from mrigmm.training.augment import Chance, drop_sequences, random_affine, random_intensities


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def chance(n, seed=0, rows=None):
    return Chance(generator(seed), n, torch.arange(n) if rows is None else torch.tensor(rows))


def disc():
    """A disc of radius 10 pixels in the middle of 64 x 64, and a constant map."""
    axis = torch.arange(64) - 31.5
    inside = (axis[:, None] ** 2 + axis[None, :] ** 2 < 100).float()
    return torch.stack([inside, torch.ones(64, 64)]).expand(20, 2, 64, 64).clone()


def test_affine_keeps_a_centred_disc_up_to_its_scale():
    area = random_affine(disc(), chance(20))[:, 0].sum(dim=(1, 2))
    # 314 pixels; sizes change by at most exp(0.4) in area, and pixels at the rim are blurred
    assert (area > 314 * 0.66).all()
    assert (area < 314 * 1.51).all()
    assert area.std() > 10


def test_all_maps_of_a_slice_move_alike():
    maps = torch.randn(5, 1, 32, 32, generator=generator()).repeat(1, 3, 1, 1)
    moved = random_affine(maps, chance(5, 1))
    torch.testing.assert_close(moved[:, 0], moved[:, 2])
    assert not torch.allclose(moved[0], maps[0])


def test_the_same_generator_gives_the_same_augmentation():
    a, b = random_affine(disc(), chance(20, 3)), random_affine(disc(), chance(20, 3))
    assert torch.equal(a, b)


def test_intensities_change_but_missing_sequences_stay_missing():
    image = torch.randn(4, 3, 16, 16, generator=generator())
    image[:, 1] = 0
    changed = random_intensities(image, chance(4, 1))
    assert (changed[:, 1] == 0).all()
    assert not torch.allclose(changed[:, 0], image[:, 0])


def test_at_least_one_sequence_is_kept():
    image = torch.ones(500, 3, 1, 1)
    kept = drop_sequences(image, 0.9, chance(500))[..., 0, 0]  # (B, C)
    assert (kept.sum(dim=1) >= 1).all()
    # 10 % are kept by themselves, and one of three of the rest by luck: .1 + .9 / 3 = .4
    assert abs(kept.mean().item() - 0.4) < 4 * (0.24 / 1500) ** 0.5
    assert torch.equal(drop_sequences(image, 0.0, chance(500)), image)


@pytest.mark.parametrize(
    "change", [random_affine, random_intensities, lambda image, luck: drop_sequences(image, 0.5, luck)]
)
def test_a_share_of_a_batch_changes_as_in_the_whole_batch(change):
    image = torch.randn(6, 3, 16, 16, generator=generator())
    whole = change(image, chance(6, 4))
    rows = [1, 4, 5]
    assert torch.equal(change(image[rows], chance(6, 4, rows)), whole[rows])
    assert not torch.equal(change(image[rows], chance(3, 4)), whole[rows])
