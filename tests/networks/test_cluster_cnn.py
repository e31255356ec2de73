import pytest
import torch

from mrigmm.networks.cluster_cnn import ClusterCNN, RegionBatchNorm2d


@pytest.fixture
def batch():
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(2, 3, 6, 5, generator=generator) * 2 + 1
    region = torch.rand(2, 6, 5, generator=generator) > 0.5
    return x, region


def test_a_region_of_everything_gives_torchs_batch_norm(batch):
    x, region = batch
    ours, theirs = RegionBatchNorm2d(3), torch.nn.BatchNorm2d(3)
    everything = torch.ones_like(region)
    for _ in range(2):
        torch.testing.assert_close(ours(x, everything), theirs(x))
    torch.testing.assert_close(ours.running_mean, theirs.running_mean)
    torch.testing.assert_close(ours.running_var, theirs.running_var)
    torch.testing.assert_close(ours.eval()(x, everything), theirs.eval()(x))


def test_statistics_are_those_of_the_region(batch):
    x, region = batch
    x[~region.unsqueeze(1).expand_as(x)] = 1000
    norm = RegionBatchNorm2d(3)
    inside = norm(x, region).permute(0, 2, 3, 1)[region]
    torch.testing.assert_close(inside.mean(0), torch.zeros(3), atol=1e-5, rtol=0)
    torch.testing.assert_close(inside.var(0, correction=0), torch.ones(3), atol=1e-3, rtol=0)
    expected = 0.1 * x.permute(0, 2, 3, 1)[region].mean(0)
    torch.testing.assert_close(norm.running_mean, expected)


def test_one_pixel_has_no_statistics(batch):
    x, region = batch
    region = torch.zeros_like(region)
    region[0, 0, 0] = True
    with pytest.raises(ValueError, match="fewer than two pixels"):
        RegionBatchNorm2d(3)(x, region)


@pytest.mark.parametrize("layers", [1, 3])
def test_a_pixel_sees_as_many_pixels_as_there_are_layers(layers):
    network = ClusterCNN(2, 4, channels=5, layers=layers).eval()
    image = torch.randn(1, 2, 11, 11, generator=torch.Generator().manual_seed(1))
    region = torch.ones(1, 11, 11, dtype=torch.bool)
    changed = image.clone()
    changed[..., 5, 5] += 10
    moved = (network(changed, region) != network(image, region)).any(dim=1)[0].nonzero()
    assert network(image, region).shape == (1, 4, 11, 11)
    assert int((moved - 5).abs().max()) == layers
