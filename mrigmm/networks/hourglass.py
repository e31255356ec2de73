"""The hourglass of a deep image prior: noise in, an image out, coarse structure first."""

from __future__ import annotations

import torch
from torch import Tensor, nn

_SLOPE = 0.2  # of the leaky ReLU
NOISE_CHANNELS = 2
NOISE_SCALE = 0.01


class Hourglass(nn.Module):
    """Encoder and decoder of `levels` halvings; what skips around a level is a choice.

    D. Ulyanov, A. Vedaldi and V. Lempitsky, Deep image prior, CVPR 2018, in the small form of S. Azulay's
    deep segmentation prior (2019): 8, 16, 32 channels down and up, no skip channels. The output is linear,
    for z-scores have no bounds.

    Args:
        channels_in: of the noise.
        channels_out: of the image.
        filters: of the first level, doubled at each further one.
        levels: number of halvings; sizes must be multiples of `divisor`, and at least two of them.
        skip_channels: features of each level's input that its decoder sees beside what comes from below.
    """

    def __init__(
        self, channels_in: int, channels_out: int, *, filters: int, levels: int, skip_channels: int
    ) -> None:
        super().__init__()
        self.divisor = 2**levels
        body: nn.Module = nn.Identity()
        for level in reversed(range(levels)):
            width = filters * 2**level
            before = channels_in if level == 0 else width // 2
            below = width if level == levels - 1 else 2 * width
            body = _Level(before, width, below, body, skip_channels)
        self.body = body
        self.head = nn.Conv2d(filters, channels_out, kernel_size=1)

    def forward(self, noise: Tensor) -> Tensor:
        """Return images (B, channels_out, X, Y) of noise (B, channels_in, X, Y)."""
        return self.head(self.body(noise))


class _Level(nn.Module):
    """Half the size, what lies below, twice the size again."""

    def __init__(self, before: int, width: int, below: int, inner: nn.Module, skip_channels: int) -> None:
        super().__init__()
        self.down = nn.Sequential(
            _convolution(before, width, 3, stride=2),
            *_norm(width),
            _convolution(width, width, 3),
            *_norm(width),
        )
        self.inner = inner
        self.enlarge = nn.Upsample(scale_factor=2, mode="bilinear", align_corners=True)
        self.skip = (
            nn.Sequential(_convolution(before, skip_channels, 1), *_norm(skip_channels))
            if skip_channels
            else None
        )
        self.up = nn.Sequential(
            nn.BatchNorm2d(below + skip_channels),
            _convolution(below + skip_channels, width, 3),
            *_norm(width),
            _convolution(width, width, 1),
            *_norm(width),
        )

    def forward(self, x: Tensor) -> Tensor:
        large = self.enlarge(self.inner(self.down(x)))
        if self.skip is not None:
            large = torch.cat([self.skip(x), large], dim=1)
        return self.up(large)


def _convolution(before: int, after: int, kernel: int, stride: int = 1) -> nn.Conv2d:
    return nn.Conv2d(
        before,
        after,
        kernel,
        stride=stride,
        padding=kernel // 2,
        padding_mode="reflect" if kernel > 1 else "zeros",
    )


def _norm(channels: int) -> list[nn.Module]:
    return [nn.BatchNorm2d(channels), nn.LeakyReLU(_SLOPE)]


def noise(shape: tuple[int, int], *, device: torch.device) -> Tensor:
    """The fixed input (1, NOISE_CHANNELS, X, Y), uniform and small, from torch's global random numbers."""
    return ((torch.rand((1, NOISE_CHANNELS, *shape)) - 0.5) * NOISE_SCALE).to(device)
