import torch

from mrigmm.mixture.packing import occurring, pack, to_voxels


def test_values_that_occur_in_a_region_map():
    region = torch.zeros(4, 3, 2, dtype=torch.uint8)
    region[1, 2, 0] = region[3, 0, 1] = 3
    assert occurring(region) == [0, 3]
    assert occurring(region[:0]) == []


def test_voxels_of_two_images_by_hand():
    """Two voxels in the first image, one in the second, which is padded by its voxel 0."""
    region = torch.tensor([[[0, 2], [1, -1]], [[0, 0], [0, 1]]])
    packed = pack(region)
    assert packed.position.tolist() == [[1, 2], [3, 0]]
    assert packed.mask.tolist() == [[True, True], [True, False]]
    assert packed.spatial == (2, 2)
    image = torch.arange(16.0).reshape(2, 2, 2, 2)
    assert packed.gather(image).tolist() == [[[1, 5], [2, 6]], [[11, 15], [8, 12]]]
    scattered = packed.scatter(packed.gather(image))
    assert scattered.tolist() == [
        [[[0, 1], [2, 0]], [[0, 5], [6, 0]]],
        [[[0, 0], [0, 11]], [[0, 0], [0, 15]]],
    ]
    assert to_voxels(image)[1].tolist() == [[8, 12], [9, 13], [10, 14], [11, 15]]
    assert pack(region > 0).position.tolist() == packed.position.tolist()
    assert pack(region[:0]).position.shape == (0, 0)
