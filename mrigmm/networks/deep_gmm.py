"""The deep Gaussian mixture: a U-Net that predicts responsibilities, and the mixture they imply."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn

from mrigmm.mixture import Covariance, MapPrior, Mixture, log_gaussian, m_step, statistics
from mrigmm.networks.unet import UNet, at_least_single


@dataclass(frozen=True)
class SliceBatch:
    """A batch of B slices that belong to S mixtures.

    Attributes:
        image: (B, C, X, Y) standardised intensities.
        region: (B, X, Y) `labels.Region` codes, 0 outside.
        mixture_index: (B,) which of the S mixtures each slice belongs to, 0 to S-1.
        present: (S, C) which sequences each mixture's study has.
        allowed: (R, K) classes that each `labels.Region` code allows.
    """

    image: Tensor
    region: Tensor
    mixture_index: Tensor
    present: Tensor
    allowed: Tensor

    @property
    def n_mixtures(self) -> int:
        """S."""
        return int(self.present.shape[0])

    def to(self, device: torch.device) -> SliceBatch:
        """The same batch on another device."""
        return SliceBatch(
            self.image.to(device),
            self.region.to(device),
            self.mixture_index.to(device),
            self.present.to(device),
            self.allowed.to(device),
        )


@dataclass(frozen=True)
class DeepGMMOutput:
    """What the deep GMM says about a batch.

    Attributes:
        resp: (B, K, X, Y) responsibilities `w`, sum 1 inside the region, 0 outside.
        log_resp: (B, K, X, Y) their logarithms, -inf where a class is not allowed.
        mixture: weights (S, K), means (S, K, C), covariances (S, K, C, C).
    """

    resp: Tensor
    log_resp: Tensor
    mixture: Mixture


class DeepGMM(nn.Module):
    """Deep GMM (Schwab, Mayr, Haltmeier 2024, arXiv 2404.12252).

    The network gives responsibilities `w`; weights, means and covariances follow from them by one
    differentiable M-step per mixture, so that the only parameters are the network's.

    Args:
        n_sequences: C.
        n_classes: K.
        filters: filters of the U-Net at full resolution.
        levels: poolings of the U-Net.
        covariance: form of the class covariances.
        variance_floor: added to the variances (z units squared).
        prior: population prior of a MAP M-step; None for maximum likelihood.
    """

    def __init__(
        self,
        n_sequences: int,
        n_classes: int,
        *,
        filters: int,
        levels: int,
        covariance: Literal["full", "diag"],
        variance_floor: float,
        prior: MapPrior | None,
    ) -> None:
        super().__init__()
        self.unet = UNet(n_sequences, n_classes, filters=filters, levels=levels)
        self.covariance: Covariance = covariance
        self.variance_floor = variance_floor
        self.prior = prior

    def forward(self, batch: SliceBatch) -> DeepGMMOutput:
        """Responsibilities of every slice and the mixture of every study (or slice) in the batch."""
        logits = at_least_single(self.unet(batch.image))  # (B, K, X, Y)
        with full_precision(logits.device):
            return self._implied(logits, batch)

    def _implied(self, logits: Tensor, batch: SliceBatch) -> DeepGMMOutput:
        """Responsibilities and mixture that follow from the logits (B, K, X, Y)."""
        log_resp = constrained_log_softmax(logits, batch)
        inside = (batch.region > 0).unsqueeze(1)  # (B, 1, X, Y)
        resp = log_resp.exp() * inside
        # (B, C, X, Y) -> (B, N, C) with N = X * Y; voxels outside have zero responsibility
        per_slice = statistics(flat(batch.image), flat(resp))
        pooled = per_slice.pool(batch.mixture_index, batch.n_mixtures)
        mixture = m_step(
            pooled,
            covariance=self.covariance,
            variance_floor=self.variance_floor,
            prior=None if self.prior is None else self.prior.to(device=resp.device),
        )
        return DeepGMMOutput(resp, log_resp, mixture)


def full_precision(device: torch.device) -> torch.autocast:
    """Context without mixed precision: sums over voxels and covariances do not bear half of the digits."""
    return torch.autocast(device.type, enabled=False)


def flat(maps: Tensor) -> Tensor:
    """Channels last, pixels in a row: (B, M, X, Y) -> (B, X * Y, M)."""
    return maps.flatten(2).transpose(1, 2)


def constrained_log_softmax(logits: Tensor, batch: SliceBatch) -> Tensor:
    """Log-softmax (B, K, X, Y) over the classes that the region map allows at each voxel.

    Outside the region every class is allowed; the values there are not used.
    """
    flags = batch.allowed[batch.region.long()].permute(0, 3, 1, 2)  # (B, X, Y, K) -> (B, K, X, Y)
    # Finite before the softmax: -inf logits would give NaN gradients.
    blocked = logits.masked_fill(~flags, torch.finfo(logits.dtype).min)
    return torch.log_softmax(blocked, dim=1).masked_fill(~flags, -torch.inf)


def batch_log_density(output: DeepGMMOutput, batch: SliceBatch) -> Tensor:
    """Log N(x | class k) (B, N, K) of every pixel under its own mixture, N = X * Y."""
    index = batch.mixture_index
    return log_gaussian(
        flat(batch.image),
        output.mixture.means[index],
        output.mixture.covariances[index],
        present=batch.present[index],
    )
