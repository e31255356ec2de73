"""The pretrained networks' input and what a given region rules out."""

import torch

from mrigmm.labels import SEGMENTER_CLASSES, Region
from mrigmm.networks.segmenter import (
    GIVEN_NOTHING,
    GIVEN_VENTRICLE,
    GIVEN_WALL,
    N_PLANES,
    Locator,
    Segmenter,
    SegmenterInput,
)


def slices(given):
    """One slice whose left half is region: cavity above, wall below; or one ventricle."""
    region = torch.zeros(1, 32, 32, dtype=torch.uint8)
    if given == GIVEN_VENTRICLE:
        region[0, :, :16] = Region.LV
    if given == GIVEN_WALL:
        region[0, :16, :16], region[0, 16:, :16] = Region.CAVITY, Region.WALL
    image = torch.randn(1, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    present = torch.tensor([[True, False, True]])
    return SegmenterInput(image, present, region, torch.tensor([given]))


def test_planes_say_what_is_there_and_what_is_given():
    planes = slices(GIVEN_WALL).planes()
    assert planes.shape == (1, N_PLANES, 32, 32)
    constant = planes[0, 3:6].flatten(1).unique(dim=1)
    assert constant[:, 0].tolist() == [1, 0, 1]
    assert planes[0, 6].sum() == 32 * 16  # ventricle
    assert planes[0, 7].sum() == planes[0, 8].sum() == 16 * 16  # cavity, wall
    assert planes[0, 9].unique().tolist() == [1]
    assert planes[0, 10].unique().tolist() == [1]
    assert slices(GIVEN_VENTRICLE).planes()[0, 9:, 0, 0].tolist() == [1, 0]
    assert slices(GIVEN_NOTHING).planes()[0, 6:].unique().tolist() == [0]


def test_a_given_region_rules_classes_out():
    network = Segmenter(filters=2, levels=2).eval()

    def probabilities(given):
        with torch.inference_mode():
            return network(slices(given)).softmax(dim=1)[0]

    def possible(p, x, y):
        return [n for n, value in zip(SEGMENTER_CLASSES, p[:, x, y].tolist(), strict=True) if value > 0]

    assert possible(probabilities(GIVEN_NOTHING), 0, 0) == list(SEGMENTER_CLASSES)
    lv = probabilities(GIVEN_VENTRICLE)
    assert possible(lv, 0, 0) == ["blood", "myocardium", "edema", "scar", "mvo"]
    assert possible(lv, 0, 31) == ["background", "rv"]
    wall = probabilities(GIVEN_WALL)
    assert possible(wall, 0, 0) == ["blood"]
    assert possible(wall, 31, 0) == ["myocardium", "edema", "scar", "mvo"]


def test_the_locator_gives_one_map_per_slice():
    network = Locator(filters=2, levels=3).eval()
    assert network(torch.zeros(2, 32, 32)).shape == (2, 32, 32)
