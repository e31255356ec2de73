"""The network steps of the deep generalised EM as a Lightning module."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from mrigmm.config import RunConfig
from mrigmm.networks.deep_gmm import full_precision
from mrigmm.networks.spatial_prior import N_ANATOMY_CHANNELS, SpatialPrior
from mrigmm.training.augment import Chance, drop_sequences, random_affine, random_intensities
from mrigmm.training.batches import TrainingBatch
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

    def augmented(self, batch: TrainingBatch) -> TrainingBatch:
        """Moved, changed and thinned-out slices; all chance follows from (seed, step)."""
        generator = torch.Generator().manual_seed(self.config.seed * 1_000_003 + self.global_step)
        chance = Chance(generator, batch.n_rows, batch.rows)
        with full_precision(batch.image.device):
            maps = random_affine(batch.image, chance)
            image, rest = maps.tensor_split([self.n_sequences], dim=1)
            image = random_intensities(image, chance)
            image = drop_sequences(image, self.config.sequence_dropout, chance)
        return replace(batch, image=torch.cat([image, rest], dim=1))

    def objectives(self, batch: TrainingBatch) -> tuple[dict[str, Tensor], Tensor]:
        """Return the cross-entropy; a batch weighs as much as there is wall in it."""
        # Slices that do not count must not count in batch norm either.
        image = batch.image if batch.counts else batch.image[:0]
        inputs, target = image.tensor_split([self.n_sequences + N_ANATOMY_CHANNELS], dim=1)
        loss = cross_entropy(self.network(inputs), target)
        return {"objective": loss, self.config.objective: loss}, target.sum()


def cross_entropy(log_prior: Tensor, target: Tensor) -> Tensor:
    """`-sum_k r_k log pi_k` per voxel of the wall.

    Args:
        log_prior: (B, K, X, Y).
        target: (B, K, X, Y) responsibilities, 0 outside the wall; where interpolation at the wall's border
            left less than 1 in sum, the voxel weighs less.
    """
    return -(target * log_prior).sum() / target.sum().clamp_min(1)
