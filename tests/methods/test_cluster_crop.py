import math

import pytest
import torch

from mrigmm.data.maps import NO_CLASS
from mrigmm.methods.cluster_crop import Stack, crop, joined, uncrop
from mrigmm.methods.settings import CNNContinuitySettings, CNNSuperpixelSettings

PLAIN = CNNContinuitySettings()


def stack(spacing_mm=(1.0, 1.0), named=None):
    """Three slices of 2 sequences; a region in slices 0 and 2 only, at the border of the array."""
    image = torch.randn(3, 2, 12, 10, generator=torch.Generator().manual_seed(0))
    region = torch.zeros(3, 12, 10, dtype=torch.bool)
    region[0, 0:5, 2:8] = True
    region[2, 1:7, 3:6] = True
    return Stack(image, region, spacing_mm, named)


def test_the_region_is_cut_out_and_put_back():
    one = stack()
    seen = crop(one, PLAIN)
    assert seen.image.shape == (2, 2, 7 + 4, 6 + 4)  # rows 0 to 6, columns 2 to 7, two more on each side
    back = uncrop(seen.image, one, PLAIN)
    assert torch.equal(back, one.image * one.region[:, None])


def test_nothing_outside_the_region_is_seen():
    one = stack()
    noise = torch.where(one.region[:, None], one.image, 1e6)
    other = Stack(noise, one.region, one.spacing_mm)
    assert torch.equal(crop(one, PLAIN).image, crop(other, PLAIN).image)
    # the corner of the margin has the value of the region's corner
    assert torch.equal(crop(one, PLAIN).image[0, :, 0, 0], one.image[0, :, 0, 2])


def test_pairs_lie_inside():
    down, across = crop(stack(), PLAIN).pairs
    assert down.sum() == 4 * 6 + 5 * 3
    assert across.sum() == 5 * 5 + 6 * 2


def test_an_edge_counts_less():
    """A step of 2 z-scores with a scale of 1: exp(-2)."""
    image = torch.zeros(1, 1, 2, 2)
    image[0, 0, 1] = 2
    square = Stack(image, torch.ones(1, 2, 2, dtype=torch.bool), (1.0, 1.0))
    down, across = crop(square, CNNContinuitySettings(edge_aware=True, layers=1)).pairs
    torch.testing.assert_close(down.sum(), torch.tensor(2 * math.exp(-2)))
    assert across.sum() == 2


def test_superpixels_have_the_area_asked_for():
    """40 x 40 pixels of 0.5 mm: 400 mm2, so that 16 mm2 each makes about 25 in each slice."""
    image = torch.randn(2, 1, 40, 40, generator=torch.Generator().manual_seed(0)) * 0.1
    region = torch.ones(2, 40, 40, dtype=torch.bool)
    settings = CNNSuperpixelSettings(superpixel_mm=4, compactness=10)
    seen = crop(Stack(image, region, (0.5, 0.5)), settings)
    first, second = (seen.superpixels[z][seen.region[z]] for z in (0, 1))
    assert 20 <= len(first.unique()) <= 30
    assert not set(first.tolist()) & set(second.tolist())
    assert sorted({*first.tolist(), *second.tolist()}) == list(range(int(second.max()) + 1))


def test_superpixels_follow_edges():
    image = torch.zeros(1, 1, 30, 30)
    image[..., 13:, :] = 4
    seen = crop(Stack(image, torch.ones(1, 30, 30, dtype=torch.bool), (1.0, 1.0)), CNNSuperpixelSettings())
    for number in seen.superpixels[seen.region].unique():
        assert len(seen.image[:, 0][seen.region & (seen.superpixels == number)].unique()) == 1


def test_a_region_smaller_than_a_superpixel_is_one():
    seen = crop(stack(spacing_mm=(0.1, 0.1)), CNNSuperpixelSettings())
    assert seen.superpixels[seen.region].unique().tolist() == [0, 1]


@pytest.mark.parametrize("settings", [PLAIN, CNNSuperpixelSettings(superpixel_mm=2)])
def test_crops_of_several_sizes_become_one_batch(settings):
    named = torch.full((3, 12, 10), NO_CLASS)
    named[0, 2, 2] = 1
    small = Stack(torch.ones(1, 2, 4, 9), torch.ones(1, 4, 9, dtype=torch.bool), (1.0, 1.0))
    crops = [crop(stack(named=named), settings), crop(small, settings)]
    both = joined(crops)
    assert both.image.shape == (3, 2, 11, 13)
    assert both.region.sum() == sum(one.region.sum() for one in crops)
    assert (both.scribbles != NO_CLASS).sum() == 1
    if both.pairs is not None:
        assert both.pairs[0].sum() == sum(one.pairs[0].sum() for one in crops)
    else:
        counts = [len(one.superpixels[one.region].unique()) for one in crops]
        assert len(both.superpixels[both.region].unique()) == sum(counts)
