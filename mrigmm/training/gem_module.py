"""The network steps of the deep generalised EM as a Lightning module."""

from __future__ import annotations

import torch
from torch import Tensor

from mrigmm.config import RunConfig
from mrigmm.networks.deep_gmm import SliceBatch
from mrigmm.networks.spatial_prior import N_ANATOMY_CHANNELS, SpatialPrior
from mrigmm.training.augment import drop_sequences, random_affine, random_intensities
from mrigmm.training.module import EpochModule


class DeepGEMModule(EpochModule):
    """Trains a `SpatialPrior` on the cross-entropy to posteriors.

    The batch's images hold C sequences, the anatomy channels, and the K responsibilities to learn.

    Args:
        network: the spatial prior.
        config: of the run, with `sequences` resolved.
    """

    def __init__(self, network: SpatialPrior, config: RunConfig) -> None:
        super().__init__(network, config)
        assert config.sequences is not None
        self.n_sequences = len(config.sequences)

    def training_step(self, batch: SliceBatch, batch_idx: int) -> Tensor:
        """Objective of one batch; all chance follows from (seed, step)."""
        generator = torch.Generator().manual_seed(self.config.seed * 1_000_003 + self.global_step)
        maps = random_affine(batch.image, generator)
        n_inputs = self.n_sequences + N_ANATOMY_CHANNELS
        image, anatomy, target = maps.tensor_split([self.n_sequences, n_inputs], dim=1)
        image = random_intensities(image, generator)
        image = drop_sequences(image, self.config.sequence_dropout, generator)
        log_prior = self.network(torch.cat([image, anatomy], dim=1))
        loss = cross_entropy(log_prior, target)
        self.log_epoch({"objective": loss, self.config.objective: loss}, batch.n_mixtures)
        return loss


def cross_entropy(log_prior: Tensor, target: Tensor) -> Tensor:
    """`-sum_k r_k log pi_k` per voxel of the wall.

    Args:
        log_prior: (B, K, X, Y).
        target: (B, K, X, Y) responsibilities, 0 outside the wall; where interpolation at the wall's border
            left less than 1 in sum, the voxel weighs less.
    """
    return -(target * log_prior).sum() / target.sum().clamp_min(1)
