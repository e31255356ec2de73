import pytest
import torch

from mrigmm.networks.unet import UNet, for_inference


def n_parameters(network):
    return sum(p.numel() for p in network.parameters())


def test_output_has_the_size_of_the_input():
    logits = UNet(3, 4, filters=4, levels=2)(torch.randn(2, 3, 16, 24))
    assert logits.shape == (2, 4, 16, 24)


def test_published_size():
    # Counted by hand for one level: convolutions c_in * c_out * 9 (+ bias on the first of a block),
    # InstanceNorm 2 * c_out, 1x1 up-convolution with bias, 1x1 head with bias.
    def block(c_in, c_out):
        return c_in * c_out * 9 + c_out + c_out * c_out * 9 + 2 * c_out

    expected = block(3, 8) + block(8, 16) + (16 * 8 + 8) + block(16, 8) + (8 * 4 + 4)
    assert n_parameters(UNet(3, 4, filters=8, levels=1)) == expected


def test_gradient_reaches_every_parameter():
    network = UNet(2, 3, filters=4, levels=2)
    network(torch.randn(1, 2, 16, 16)).square().sum().backward()
    dead = [name for name, p in network.named_parameters() if p.grad is None or not p.grad.abs().sum() > 0]
    # A bias in front of InstanceNorm would be dead weight; there is none.
    assert dead == []


def test_size_that_does_not_divide_is_refused():
    with pytest.raises(RuntimeError):
        UNet(1, 2, filters=4, levels=3)(torch.randn(1, 1, 20, 20))


@pytest.mark.parametrize("n_slices", [1, 3])
def test_volume_of_few_slices(n_slices):
    """Poolings are in plane: any number of slices works, where 3-D pooling would need 2 ** levels."""
    network = UNet(3, 4, filters=2, levels=3, spatial_dims=3)
    volume = torch.randn(1, 3, 16, 24, n_slices)
    assert network(volume).shape == (1, 4, 16, 24, n_slices)
    assert network.encode(volume)[-1].shape == (1, 16, 2, 3, n_slices)
    network(volume).square().sum().backward()
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in network.parameters())


def test_volume_tells_slices_about_each_other():
    torch.manual_seed(0)
    network = UNet(1, 2, filters=2, levels=1, spatial_dims=3).eval()
    volume = torch.randn(1, 1, 8, 8, 3)
    other = volume.clone()
    other[..., 2] += torch.randn(8, 8)
    assert not torch.allclose(network(volume)[..., 0], network(other)[..., 0])


@pytest.mark.parametrize("norm", ["batch", "instance"])
def test_a_copy_for_inference_says_the_same(norm):
    """With running means and variances that are not 0 and 1; the network itself stays as it is."""
    torch.manual_seed(0)
    network = UNet(2, 3, filters=3, levels=2, norm=norm)
    network(torch.randn(4, 2, 16, 16) * 3 + 1)  # in training: batch statistics are kept
    network.eval()
    before, x = {k: v.clone() for k, v in network.state_dict().items()}, torch.randn(2, 2, 16, 16)
    with torch.inference_mode():
        ready = for_inference(network)
        torch.testing.assert_close(ready(x), network(x), rtol=1e-4, atol=1e-5)
    assert any(isinstance(m, torch.nn.BatchNorm2d) for m in network.modules()) == (norm == "batch")
    assert not any(isinstance(m, torch.nn.BatchNorm2d) for m in ready.modules())
    assert all(torch.equal(before[k], v) for k, v in network.state_dict().items())
