"""The clustering network of Kanezaki (2018) and Kim, Kanezaki and Tanaka (2020), inside a region."""

from __future__ import annotations

from itertools import pairwise

import torch
from torch import Tensor, nn


class RegionBatchNorm2d(nn.BatchNorm2d):
    """`nn.BatchNorm2d` whose statistics in training are those of the region's pixels alone."""

    def forward(self, x: Tensor, region: Tensor) -> Tensor:  # type: ignore[override]
        """Return images (B, C, X, Y), normalised, outside the region too; `region` (B, X, Y) is bool.

        Raises:
            ValueError: in training, a region of fewer than two pixels.
        """
        assert self.running_mean is not None
        assert self.running_var is not None
        assert self.momentum is not None
        mean, variance = self.running_mean, self.running_var
        if self.training:
            inside = x.permute(0, 2, 3, 1)[region]  # (N, C)
            if len(inside) < 2:
                raise ValueError("the statistics of fewer than two pixels say nothing")
            variance, mean = torch.var_mean(inside, dim=0, correction=0)
            with torch.no_grad():
                n = len(inside)
                self.running_mean.lerp_(mean, self.momentum)
                self.running_var.lerp_(variance * n / (n - 1), self.momentum)
        scale = self.weight * (variance + self.eps).rsqrt()
        return x * scale[:, None, None] + (self.bias - mean * scale)[:, None, None]


class ClusterCNN(nn.Module):
    """Convolutions 3x3 with ReLU and batch normalisation, then a normalised 1x1 convolution: the response.

    The last normalisation keeps several clusters alive: each of them responds, somewhere, more than on
    average. A pixel sees `layers` pixels in each direction.

    Args:
        channels_in: input channels.
        clusters: channels of the response, one per cluster.
        channels: of the hidden layers.
        layers: 3x3 convolutions.
    """

    def __init__(self, channels_in: int, clusters: int, *, channels: int, layers: int) -> None:
        super().__init__()
        sizes = [channels_in, *[channels] * layers]
        self.features = nn.ModuleList(
            nn.Conv2d(before, after, kernel_size=3, padding=1) for before, after in pairwise(sizes)
        )
        self.norms = nn.ModuleList(RegionBatchNorm2d(size) for size in sizes[1:])
        self.head = nn.Conv2d(channels, clusters, kernel_size=1)
        self.head_norm = RegionBatchNorm2d(clusters)

    def forward(self, image: Tensor, region: Tensor) -> Tensor:
        """Responses (B, clusters, X, Y) of images (B, channels_in, X, Y) with regions (B, X, Y) bool."""
        x = image
        for convolution, norm in zip(self.features, self.norms, strict=True):
            x = norm(convolution(x).relu(), region)
        return self.head_norm(self.head(x), region)
