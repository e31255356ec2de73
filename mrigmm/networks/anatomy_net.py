"""The network of the anatomy stage: what lies outside the left ventricle, its cavity, its wall."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from torch import Tensor, nn
from torch.nn.functional import max_pool2d

from mrigmm.networks.gmm_head import GMMHead
from mrigmm.networks.unet import UNet

# What counts as near the ventricle: a wall's thickness and some tissue around it.
NEAR_MM = 16.0


def neighbourhood(ventricle: Tensor, spacing_mm: float) -> Tensor:
    """Return the highest value (B, 1, A, A) within `NEAR_MM` (a square) of maps (B, 1, A, A)."""
    reach = round(NEAR_MM / spacing_mm)
    return max_pool2d(ventricle, 2 * reach + 1, stride=1, padding=reach)


@dataclass(frozen=True)
class AnatomyFeatures:
    """Features that the network computes on the way.

    Attributes:
        bottleneck: (B, F, A', A') of the encoder.
        half: (B, 2 f, A / 2, A / 2) of the decoder.
        full: (B, f, A, A) of the decoder, which the head sees.
        logits: (B, 3, A, A) log probabilities up to a constant.
        typicality: (B, A, A), low where a pixel is unlike what was learnt: the highest log density of a
            class, or without a generative head the highest log probability.
    """

    bottleneck: Tensor
    half: Tensor
    full: Tensor
    logits: Tensor
    typicality: Tensor


class AnatomyNet(nn.Module):
    """A 2-D U-Net with batch normalisation.

    Args:
        n_sequences: input channels.
        filters: filters at full resolution, doubled at each of the `levels` poolings.
        levels: number of poolings.
        head: "softmax", or "gmm": a mixture per class in feature space (`networks.gmm_head`).
    """

    def __init__(
        self, n_sequences: int, *, filters: int, levels: int, head: Literal["softmax", "gmm"] = "softmax"
    ) -> None:
        super().__init__()
        self.unet = UNet(n_sequences, 3, filters=filters, levels=levels, norm="batch")
        self.mixtures = GMMHead(filters, 3) if head == "gmm" else None

    def forward(self, image: Tensor) -> Tensor:
        """Return logits (B, 3, A, A) of outside, cavity and wall for slices (B, C, A, A)."""
        return self.features(image).logits

    def features(self, image: Tensor) -> AnatomyFeatures:
        """Return logits with the features that led to them."""
        encoded = self.unet.encode(image)
        merged = self.unet.merged(encoded)
        half = merged[-2] if len(merged) > 1 else encoded[-1]
        full = merged[-1]
        if self.mixtures is None:
            logits = self.unet.head(full)
            return AnatomyFeatures(
                encoded[-1], half, full, logits, logits.detach().log_softmax(dim=1).amax(dim=1)
            )
        typicality = self.mixtures.log_density(full.detach()).detach()
        return AnatomyFeatures(encoded[-1], half, full, self.mixtures(full), typicality)
