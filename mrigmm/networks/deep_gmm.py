"""The deep Gaussian mixture: a U-Net that predicts responsibilities, and the mixture they imply."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

import torch
from torch import Tensor, nn

from mrigmm.mixture import (
    Covariance,
    MapPrior,
    Mixture,
    log_gaussian,
    log_likelihood,
    m_step,
    pool_mean,
    region_log_prior,
    statistics,
)
from mrigmm.networks.parameter_head import ParameterHead
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
        """Return the same batch on another device."""
        return SliceBatch(
            self.image.to(device),
            self.region.to(device),
            self.mixture_index.to(device),
            self.present.to(device),
            self.allowed.to(device),
        )


@dataclass(frozen=True)
class DeepGMMOutput:
    """Output of the deep GMM for a batch.

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
    differentiable M-step per mixture, so that the only parameters are the network's. With
    `parameters="head"`, means and covariances are a second output of the network instead.

    Args:
        n_sequences: C.
        n_classes: K.
        filters: filters of the U-Net at full resolution.
        levels: poolings of the U-Net.
        covariance: form of the class covariances.
        variance_floor: added to the variances (z units squared).
        prior: population prior of a MAP M-step; None for maximum likelihood.
        parameters: where means and covariances come from.
        spatial_dims: of the U-Net; with 3 it sees the slices of a mixture as one volume.
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
        parameters: Literal["mstep", "head"] = "mstep",
        spatial_dims: Literal[2, 3] = 2,
    ) -> None:
        super().__init__()
        self.unet = UNet(n_sequences, n_classes, filters=filters, levels=levels, spatial_dims=spatial_dims)
        self.parameter_head = (
            ParameterHead(self.unet.n_features, n_classes, n_sequences, covariance, variance_floor)
            if parameters == "head"
            else None
        )
        self.covariance: Covariance = covariance
        self.variance_floor = variance_floor
        self.prior = prior

    def forward(self, batch: SliceBatch) -> DeepGMMOutput:
        """Return responsibilities of every slice and the mixture of every study (or slice) in the batch."""
        logits, bottleneck = self._maps(batch)  # (B, K, X, Y), (B, F, X', Y')
        with full_precision(logits.device):
            return self._implied(at_least_single(logits), at_least_single(bottleneck), batch)

    def _implied(self, logits: Tensor, bottleneck: Tensor, batch: SliceBatch) -> DeepGMMOutput:
        """Responsibilities and mixture that follow from logits (B, K, X, Y) and features (B, F, X', Y')."""
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
        if self.parameter_head is not None:
            means, covariances = self.parameter_head(
                bottleneck, batch.region, batch.mixture_index, batch.n_mixtures
            )
            mixture = replace(
                mixture, means=means.to(mixture.means), covariances=covariances.to(mixture.means)
            )
        return DeepGMMOutput(resp, log_resp, mixture)

    def _maps(self, batch: SliceBatch) -> tuple[Tensor, Tensor]:
        """Return logits (B, K, X, Y) and bottleneck features (B, F, X', Y') of every slice."""
        if self.unet.spatial_dims == 2:
            features = self.unet.encode(batch.image)
            return self.unet.decode(features), features[-1]
        members = [(batch.mixture_index == s).nonzero()[:, 0] for s in range(batch.n_mixtures)]
        logits, bottlenecks = [], []
        for index in members:  # slices in order along the volume's last axis
            volume = batch.image[index].movedim(0, -1).unsqueeze(0)  # (1, C, X, Y, Z)
            features = self.unet.encode(volume)
            logits.append(self.unet.decode(features)[0].movedim(-1, 0))  # (Z, K, X, Y)
            bottlenecks.append(features[-1][0].movedim(-1, 0))
        back = torch.cat(members).argsort()
        return torch.cat(logits)[back], torch.cat(bottlenecks)[back]


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
    """Return log N(x | class k) (B, N, K) of every pixel under its own mixture, N = X * Y."""
    index = batch.mixture_index
    return log_gaussian(
        flat(batch.image),
        output.mixture.means[index],
        output.mixture.covariances[index],
        present=batch.present[index],
    )


def negative_log_likelihood(output: DeepGMMOutput, batch: SliceBatch, objective: str) -> Tensor:
    """`nll` (weights of the mixture) or `nll_v` (responsibilities as weights) per voxel of the region.

    Schwab, Mayr, Haltmeier 2024, in log space. Mean over the voxels of each mixture, then over the
    mixtures of the batch.
    """
    index, region = batch.mixture_index, batch.region.flatten(1).long()  # (B, N)
    if objective == "nll":
        log_prior = region_log_prior(output.mixture.weights[index], batch.allowed, region)
    else:
        log_prior = flat(output.log_resp)
    per_voxel = -log_likelihood(log_prior, batch_log_density(output, batch))  # (B, N)
    return pool_mean(per_voxel, region > 0, index, batch.n_mixtures).mean()


def mean_distance(output: DeepGMMOutput, batch: SliceBatch, prior_means: Tensor) -> Tensor:
    """Squared distance of the class means from the population's, per mixture, then averaged.

    Per mixture, so that opposite errors of two studies do not cancel. Missing sequences do not count.

    Args:
        output: of the batch.
        batch: with S mixtures.
        prior_means: (K, C).
    """
    squared = (output.mixture.means - prior_means).square()  # (S, K, C)
    return (squared * batch.present[:, None, :]).sum(dim=(1, 2)).mean()
