import torch

from mrigmm.data.study_tensors import packed


def test_packed_voxels_are_those_of_the_mask_in_its_order():
    generator = torch.Generator().manual_seed(0)
    maps = torch.rand(2, 5, 4, 3, generator=generator)
    region = (torch.rand(5, 4, 3, generator=generator) > 0.6).to(torch.uint8)
    assert torch.equal(packed(maps, region), maps[:, region > 0])
    assert packed(maps, torch.zeros_like(region)).shape == (2, 0)
