"""The 2-D U-Net of Schwab, Mayr and Haltmeier (2024), put together from MONAI's blocks."""

from __future__ import annotations

from typing import Literal

import torch
from monai.networks.blocks import Convolution, UpSample
from torch import Tensor, nn

_SLOPE = 0.01  # of the leaky ReLU

Norm = Literal["instance", "batch"]


def _double_convolution(channels_in: int, channels_out: int, norm: Norm) -> nn.Sequential:
    """3x3 convolution, LeakyReLU, 3x3 convolution without bias, normalisation, LeakyReLU."""
    act = ("leakyrelu", {"negative_slope": _SLOPE})
    layer = (norm, {"affine": True})
    return nn.Sequential(
        Convolution(2, channels_in, channels_out, adn_ordering="A", act=act),
        Convolution(2, channels_out, channels_out, adn_ordering="NA", act=act, norm=layer, bias=False),
    )


class UNet(nn.Module):
    """U-Net with max pooling, nearest-neighbour upsampling and skip connections.

    Args:
        channels_in: input channels.
        channels_out: output channels (logits).
        filters: filters at full resolution, doubled at each of the `levels` poolings.
        levels: number of poolings; inputs must be divisible by `2 ** levels`.
        norm: per slice, as published, or over the batch in training: then brightness means the same in
            every slice, with or without an infarct.
    """

    runtime = "torch"

    def __init__(
        self, channels_in: int, channels_out: int, *, filters: int, levels: int, norm: Norm = "instance"
    ) -> None:
        super().__init__()
        width = [filters * 2**level for level in range(levels + 1)]
        self.divisor = 2**levels
        self.down = nn.ModuleList(
            _double_convolution(before, after, norm)
            for before, after in zip([channels_in, *width[:-1]], width, strict=True)
        )
        # A 1x1 convolution commutes with nearest upsampling and costs a quarter before it.
        self.up = nn.ModuleList(
            UpSample(
                2,
                width[level + 1],
                width[level],
                scale_factor=2,
                mode="nontrainable",
                interp_mode="nearest",
                align_corners=None,
            )
            for level in reversed(range(levels))
        )
        self.merge = nn.ModuleList(
            _double_convolution(2 * width[level], width[level], norm) for level in reversed(range(levels))
        )
        self.head = nn.Conv2d(width[0], channels_out, kernel_size=1)
        self.pool = nn.MaxPool2d(2)

    def forward(self, image: Tensor) -> Tensor:
        """Logits (B, channels_out, X, Y) of images (B, channels_in, X, Y)."""
        skips: list[Tensor] = []
        x = image
        for level, block in enumerate(self.down):
            x = block(self.pool(x) if level else x)
            skips.append(x)
        skips.pop()
        for up, merge in zip(self.up, self.merge, strict=True):
            x = merge(torch.cat([skips.pop(), up(x)], dim=1))
        return self.head(x)


def at_least_single(logits: Tensor) -> Tensor:
    """Logits of a network in mixed precision as float32; others as they are."""
    return logits.to(torch.promote_types(logits.dtype, torch.float32))
