import pytest
import torch

from mrigmm.networks.hourglass import NOISE_SCALE, Hourglass, noise

CPU = torch.device("cpu")


def test_weights_of_the_published_hourglass():
    """3 x 3 and 1 x 1 convolutions 2-8-16-32 down and 32-32-16-8 up, each with bias and BatchNorm."""
    down = (152 + 16 + 584 + 16) + (1168 + 32 + 2320 + 32) + (4640 + 64 + 9248 + 64)
    up = (64 + 9248 + 64 + 1056 + 64) + (64 + 4624 + 32 + 272 + 32) + (32 + 1160 + 16 + 72 + 16)
    network = Hourglass(2, 3, filters=8, levels=3, skip_channels=0)
    assert sum(p.numel() for p in network.parameters()) == down + up + 27


@pytest.mark.parametrize("skip_channels", [0, 4])
@pytest.mark.parametrize(("levels", "shape"), [(1, (4, 6)), (3, (16, 40))])
def test_size_in_is_size_out(levels, shape, skip_channels):
    network = Hourglass(2, 5, filters=4, levels=levels, skip_channels=skip_channels)
    assert network.divisor == 2**levels
    assert network(noise(shape, device=CPU)).shape == (1, 5, *shape)


@pytest.mark.parametrize(("skip_channels", "reaches"), [(0, False), (4, True)])
def test_without_skip_channels_everything_passes_the_bottleneck(skip_channels, reaches):
    """What the inner levels give is held fixed: then only a skip carries the noise to the output."""
    network = Hourglass(2, 1, filters=4, levels=2, skip_channels=skip_channels)
    network.body.inner.register_forward_hook(lambda _module, _inputs, output: torch.ones_like(output))
    with torch.no_grad():
        one, other = (network(noise((16, 16), device=CPU)) for _ in range(2))
    assert torch.equal(one, other) is not reaches


def test_noise_is_small_and_centred():
    z = noise((64, 64), device=CPU)
    assert z.shape == (1, 2, 64, 64)
    assert z.abs().max() <= NOISE_SCALE / 2
    assert abs(z.mean()) < 3e-4  # its standard error is 3e-5
