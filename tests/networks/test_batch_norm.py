import pytest
import torch
from torch import distributed, nn

from mrigmm.networks.batch_norm import share_batch_norm
from mrigmm.networks.unet import UNet


@pytest.fixture
def alone(tmp_path):
    """A group of one process: sums over processes are those of this one."""
    distributed.init_process_group("gloo", init_method=f"file://{tmp_path / 'meeting'}", rank=0, world_size=1)
    yield
    distributed.destroy_process_group()


def make_network():
    torch.manual_seed(2)
    return UNet(3, 2, filters=2, levels=1, norm="batch")


def test_one_process_gets_what_batch_norm_gives(alone):
    """Output, gradients, running statistics, and the names of all of them."""
    plain, shared = make_network(), make_network()
    share_batch_norm(shared)
    assert not any(type(layer) is nn.BatchNorm2d for layer in shared.modules())
    assert list(shared.state_dict()) == list(plain.state_dict())
    x = torch.randn(4, 3, 8, 8, generator=torch.Generator().manual_seed(3)) + 2
    outputs = [network(x) for network in (plain, shared)]
    torch.testing.assert_close(outputs[1], outputs[0], rtol=1e-5, atol=1e-6)
    for output in outputs:
        output.square().mean().backward()
    for ours, theirs in zip(shared.parameters(), plain.parameters(), strict=True):
        torch.testing.assert_close(ours.grad, theirs.grad, rtol=1e-4, atol=1e-6)
    for name, value in plain.state_dict().items():
        torch.testing.assert_close(shared.state_dict()[name], value, rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(shared.eval()(x), plain.eval()(x), rtol=1e-5, atol=1e-6)
