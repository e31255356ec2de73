"""The network of the deep generalised EM: a spatial prior over the classes of the wall."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from mrigmm.networks.unet import UNet, at_least_single

# Channels beside the sequences; depth is that in the wall.
ANATOMY_CHANNELS = ("cavity", "wall", "depth")
N_ANATOMY_CHANNELS = len(ANATOMY_CHANNELS)


class SpatialPrior(nn.Module):
    """`pi_k(x) = softmax net(x)` for the K classes of the wall.

    Args:
        n_sequences: C.
        n_classes: K.
        filters: of the U-Net at full resolution.
        levels: poolings of the U-Net.
    """

    def __init__(self, n_sequences: int, n_classes: int, *, filters: int, levels: int) -> None:
        super().__init__()
        self.unet = UNet(
            n_sequences + N_ANATOMY_CHANNELS, n_classes, filters=filters, levels=levels, norm="batch"
        )

    def forward(self, image: Tensor) -> Tensor:
        """Return the log prior (B, K, X, Y) of images (B, C + 3, X, Y)."""
        return torch.log_softmax(at_least_single(self.unet(image)), dim=1)
