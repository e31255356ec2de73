"""The U-Net of Schwab, Mayr and Haltmeier (2024) in 2-D or 3-D.

Torch's own layers under the names of MONAI's blocks, which weights on disk have: to import MONAI takes
as long as to segment a study.
"""

from __future__ import annotations

from collections import OrderedDict
from copy import deepcopy
from typing import Literal, cast

import torch
from torch import Tensor, nn

_SLOPE = 0.01  # of the leaky ReLU

Norm = Literal["instance", "batch"]

_CONV: dict[int, type[nn.Conv2d | nn.Conv3d]] = {2: nn.Conv2d, 3: nn.Conv3d}
_NORM: dict[tuple[Norm, int], type[nn.Module]] = {
    ("instance", 2): nn.InstanceNorm2d,
    ("instance", 3): nn.InstanceNorm3d,
    ("batch", 2): nn.BatchNorm2d,
    ("batch", 3): nn.BatchNorm3d,
}


def _double_convolution(spatial_dims: int, channels_in: int, channels_out: int, norm: Norm) -> nn.Sequential:
    """3x3(x3) convolution, LeakyReLU, another without bias, normalisation, LeakyReLU."""
    conv, layer = _CONV[spatial_dims], _NORM[norm, spatial_dims]
    first = conv(channels_in, channels_out, 3, padding=1)
    second = conv(channels_out, channels_out, 3, padding=1, bias=False)
    return nn.Sequential(
        _named(conv=first, adn=_named(A=nn.LeakyReLU(_SLOPE))),
        _named(conv=second, adn=_named(N=layer(channels_out, affine=True), A=nn.LeakyReLU(_SLOPE))),
    )


def _named(**layers: nn.Module) -> nn.Sequential:
    return nn.Sequential(OrderedDict(layers))


class UNet(nn.Module):
    """U-Net with max pooling, nearest-neighbour upsampling and skip connections.

    In 3-D, poolings are in plane only: a stack has few slices, far apart, and may have any number.

    Args:
        channels_in: input channels.
        channels_out: output channels (logits).
        filters: filters at full resolution, doubled at each of the `levels` poolings.
        levels: number of poolings; in-plane sizes must be divisible by `2 ** levels`.
        norm: per slice, as published, or over the batch in training: then brightness means the same in
            every slice, with or without an infarct.
        spatial_dims: 2 for slices (X, Y), 3 for volumes (X, Y, Z).
    """

    runtime = "torch"

    def __init__(
        self,
        channels_in: int,
        channels_out: int,
        *,
        filters: int,
        levels: int,
        norm: Norm = "instance",
        spatial_dims: Literal[2, 3] = 2,
    ) -> None:
        super().__init__()
        width = [filters * 2**level for level in range(levels + 1)]
        conv, pooling = _CONV[spatial_dims], (2, 2, 1)[:spatial_dims]
        self.divisor = 2**levels
        self.spatial_dims = spatial_dims
        self.n_features = width[-1]
        self.down = nn.ModuleList(
            _double_convolution(spatial_dims, before, after, norm)
            for before, after in zip([channels_in, *width[:-1]], width, strict=True)
        )
        # A 1x1 convolution commutes with nearest upsampling and costs a quarter before it.
        self.up = nn.ModuleList(
            _named(
                preconv=conv(width[level + 1], width[level], 1),
                upsample_non_trainable=nn.Upsample(scale_factor=pooling, mode="nearest"),
            )
            for level in reversed(range(levels))
        )
        self.merge = nn.ModuleList(
            _double_convolution(spatial_dims, 2 * width[level], width[level], norm)
            for level in reversed(range(levels))
        )
        self.head = conv(width[0], channels_out, 1)
        self.pool = (nn.MaxPool2d if spatial_dims == 2 else nn.MaxPool3d)(pooling)
        # A third quicker, on CPUs too: what is computed takes the weights' order. InstanceNorm is slower so.
        if spatial_dims == 2 and norm == "batch":
            nn.utils.convert_conv2d_weight_memory_format(self, torch.channels_last)

    def forward(self, image: Tensor) -> Tensor:
        """Return logits (B, channels_out, X, Y[, Z]) of images (B, channels_in, X, Y[, Z])."""
        return self.decode(self.encode(image))

    def encode(self, image: Tensor) -> list[Tensor]:
        """Return features of every level; the last are the bottleneck's (B, n_features, X', Y'[, Z])."""
        features: list[Tensor] = []
        x = image
        for level, block in enumerate(self.down):
            x = block(self.pool(x) if level else x)
            features.append(x)
        return features

    def decode(self, features: list[Tensor]) -> Tensor:
        """Return logits from the features of every level."""
        return self.head(self.merged(features)[-1])

    def merged(self, features: list[Tensor]) -> list[Tensor]:
        """The decoder's features, coarsest first; the last (B, filters, X, Y[, Z]) are what the head sees."""
        x, found = features[-1], []
        for up, merge, skip in zip(self.up, self.merge, reversed(features[:-1]), strict=True):
            x = merge(torch.cat([skip, up(x)], dim=1))
            found.append(x)
        return found


def for_inference(network: UNet) -> UNet:
    """Return a copy with each batch normalisation in the convolution before it, for evaluation only.

    A sixth quicker; logits differ by rounding.
    """
    ready = deepcopy(network).eval().requires_grad_(False)
    for layer in list(ready.modules()):
        if isinstance(layer, nn.LeakyReLU):
            layer.inplace = True
        elif isinstance(norm := getattr(getattr(layer, "adn", None), "N", None), nn.BatchNorm2d):
            layer.conv = nn.utils.fuse_conv_bn_eval(cast(nn.Conv2d, layer.get_submodule("conv")), norm)
            layer.get_submodule("adn").N = nn.Identity()
    if ready.spatial_dims == 2:
        nn.utils.convert_conv2d_weight_memory_format(ready, torch.channels_last)
    return ready


def at_least_single(logits: Tensor) -> Tensor:
    """Return logits of a network in mixed precision as float32; others as they are."""
    return logits.to(torch.promote_types(logits.dtype, torch.float32))
