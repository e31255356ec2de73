import torch

from mrigmm.mixture.packing import occurring


def test_values_that_occur_in_a_region_map():
    region = torch.zeros(4, 3, 2, dtype=torch.uint8)
    region[1, 2, 0] = region[3, 0, 1] = 3
    assert occurring(region) == [0, 3]
    assert occurring(region[:0]) == []
