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
from torch.nn.functional import leaky_relu_

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
        self.pool: nn.Module = (nn.MaxPool2d if spatial_dims == 2 else nn.MaxPool3d)(pooling)
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


class _NormLeakyReLU(nn.Module):
    """Instance normalisation and leaky ReLU in place, of maps (N, C, X, Y) in the order of channels last.

    Torch's own turns them into the order of planes, in which the next convolution is slower.
    """

    def __init__(self, norm: nn.InstanceNorm2d) -> None:
        super().__init__()
        self.weight, self.bias, self.eps = norm.weight, norm.bias, norm.eps

    def forward(self, x: Tensor) -> Tensor:
        n, c, height, width = x.shape
        # Rows of X * C are long enough for vector instructions, C is not.
        rows = x.permute(0, 2, 3, 1).reshape(n, height, width * c)

        def mean(values: Tensor) -> Tensor:
            sums = values.sum(dim=1).float()  # quicker than a mean in bfloat16, which makes a copy first
            return sums.view(n, width, c).mean(dim=1) / height  # (N, C)

        def as_row(values: Tensor) -> Tensor:
            values = values.to(x.dtype)
            return values[:, None].expand(-1, width, -1).reshape(-1, 1, width * c)  # (N, 1, X * C)

        rows.sub_(as_row(mean(rows)))
        scale = self.weight * (mean(rows.square()) + self.eps).rsqrt()
        torch.addcmul(as_row(self.bias[None]), rows, as_row(scale), out=rows)
        return leaky_relu_(rows, _SLOPE).view(n, height, width, c).permute(0, 3, 1, 2)


class _MaxPool(nn.Module):
    """Largest of each 2 x 2 pixels, of maps (N, C, X, Y) in the order of channels last, row by row."""

    def forward(self, x: Tensor) -> Tensor:
        n, c, height, width = x.shape
        rows = x.permute(0, 2, 3, 1).reshape(n, height // 2, 2, width * c)
        rows = torch.maximum(rows[:, :, 0], rows[:, :, 1]).view(n, height // 2, width // 2, 2, c)
        return torch.maximum(rows[..., 0, :], rows[..., 1, :]).permute(0, 3, 1, 2)


class _QuickUNet(UNet):
    """A U-Net for slices that is only evaluated; made by `for_inference`."""

    precision: torch.dtype

    def encode(self, image: Tensor) -> list[Tensor]:
        return super().encode(image.to(self.precision))

    def decode(self, features: list[Tensor]) -> Tensor:
        x, head = self.merged(features)[-1].float(), self.head
        # As a convolution, torch's own takes six times as long with one thread.
        weight = head.weight.flatten(1).expand(len(x), -1, -1)
        return torch.baddbmm(cast(Tensor, head.bias)[:, None], weight, x.flatten(2)).unflatten(2, x.shape[2:])

    def merged(self, features: list[Tensor]) -> list[Tensor]:
        x, found = features[-1], []
        for up, merge, skip in zip(self.up, self.merge, reversed(features[:-1]), strict=True):
            first, second = cast(nn.Sequential, merge)
            conv, activation = first.children()
            x = second(activation(conv(skip).add_(up(x))))
            found.append(x)
        return found


def _upsampled_convolution(weight: Tensor) -> nn.ConvTranspose2d:
    """Return nearest upsampling by 2 and a convolution by weights (O, C, 3, 3) as one: 4 products for 9.

    Of the rows 2i and 2i + 1 that a row i becomes, the former sees the rows i - 1, i and i, the latter i, i
    and i + 1; columns likewise.
    """
    sums = torch.tensor([[0.0, 0.0, 1.0], [0.0, 1.0, 1.0], [1.0, 1.0, 0.0], [1.0, 0.0, 0.0]])
    sums = sums.to(weight)
    layer = nn.ConvTranspose2d(weight.shape[1], weight.shape[0], 4, stride=2, padding=1, bias=False)
    layer.weight = nn.Parameter(torch.einsum("ai,bj,ocij->coab", sums, sums, weight), requires_grad=False)
    return layer


def for_inference(network: UNet, precision: torch.dtype = torch.float32) -> UNet:
    """Return a copy of a network for slices that computes the same in fewer operations, for evaluation only.

    Batch normalisation goes into the convolution before it, instance normalisation becomes one of few passes,
    upsampling goes into the convolution after it. Logits differ by rounding.

    Args:
        network: in single precision.
        precision: of maps and convolutions; the last layer and the logits are single.
    """
    ready = deepcopy(network).eval().requires_grad_(False)
    ready.__class__ = _QuickUNet
    assert isinstance(ready, _QuickUNet)
    ready.precision = precision
    ready.pool = _MaxPool()
    for layer in list(ready.modules()):
        if isinstance(layer, nn.LeakyReLU):
            layer.inplace = True
        elif isinstance(norm := getattr(getattr(layer, "adn", None), "N", None), nn.BatchNorm2d):
            layer.conv = nn.utils.fuse_conv_bn_eval(cast(nn.Conv2d, layer.get_submodule("conv")), norm)
            layer.get_submodule("adn").N = nn.Identity()
        elif isinstance(norm, nn.InstanceNorm2d):
            layer.adn = _NormLeakyReLU(norm)
    for up, merge in zip(ready.up, ready.merge, strict=True):
        conv = cast(nn.Conv2d, merge.get_submodule("0.conv"))
        n = conv.out_channels  # of the skip connection, and as many from below
        up.upsample_non_trainable = _upsampled_convolution(conv.weight[:, n:])
        conv.weight = nn.Parameter(conv.weight[:, :n].clone(), requires_grad=False)
    for layer in ready.modules():
        if isinstance(layer, nn.Conv2d | nn.ConvTranspose2d) and layer is not ready.head:
            layer.to(precision)
    nn.utils.convert_conv2d_weight_memory_format(ready, torch.channels_last)
    return ready


def at_least_single(logits: Tensor) -> Tensor:
    """Return logits of a network in mixed precision as float32; others as they are."""
    return logits.to(torch.promote_types(logits.dtype, torch.float32))
