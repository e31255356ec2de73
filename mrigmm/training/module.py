"""The deep GMM's objective and optimiser as a Lightning module."""

from __future__ import annotations

from typing import Any

import lightning
import torch
from torch import Tensor, nn

from mrigmm.config import RunConfig
from mrigmm.errors import InputError
from mrigmm.mixture import log_likelihood, pool_mean, region_log_prior
from mrigmm.networks.deep_gmm import (
    DeepGMM,
    DeepGMMOutput,
    SliceBatch,
    batch_log_density,
    flat,
    full_precision,
)
from mrigmm.training.batches import TrainingBatch
from mrigmm.training.processes import mean_over_processes

HELD_OUT = "held_out"  # name of the held-out objective in logs


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


class EpochModule(lightning.LightningModule):
    """What both objectives share: steps, optimiser, schedule, logging per epoch.

    Args:
        network: what is trained.
        config: of the run.
    """

    def __init__(self, network: nn.Module, config: RunConfig) -> None:
        super().__init__()
        self.network = network
        self.config = config

    def augmented(self, batch: TrainingBatch) -> TrainingBatch:
        """The batch as it is trained on."""
        return batch

    def objectives(self, batch: TrainingBatch) -> tuple[dict[str, Tensor], Tensor]:
        """Values to log, "objective" (what is minimised) among them, and how much the batch weighs."""
        raise NotImplementedError

    def training_step(self, batch: TrainingBatch, batch_idx: int) -> Tensor:
        """Objective of this process's share of a batch."""
        values, weight = self.objectives(self.augmented(batch))
        # Gradients are averaged over the processes: together they are those of the whole batch's mean.
        means, part = mean_over_processes(values, weight * batch.counts)
        for name, value in means.items():
            self.log_epoch(name, value, batch)
        return values["objective"] * part

    def validation_step(self, batch: TrainingBatch, batch_idx: int) -> None:
        """Objective of held-out studies, without augmentation."""
        values, weight = self.objectives(batch)
        means, _ = mean_over_processes({HELD_OUT: values["objective"]}, weight * batch.counts)
        self.log_epoch(HELD_OUT, means[HELD_OUT], batch)

    def transfer_batch_to_device(
        self, batch: TrainingBatch | InputError, device: torch.device, dataloader_idx: int
    ) -> TrainingBatch:
        """Move a batch; Lightning does not look into dataclasses of tensors that are frozen."""
        if isinstance(batch, InputError):
            raise batch
        return batch.to(device)

    def log_epoch(self, name: str, value: Tensor, batch: TrainingBatch) -> None:
        """Log an epoch mean, the objective's own name in the progress bar."""
        self.log(
            name,
            value,
            prog_bar=name == self.config.objective,
            on_step=False,
            on_epoch=True,
            batch_size=batch.n_groups,
            sync_dist=self.trainer.world_size > 1,  # equal everywhere already, but Lightning cannot know
        )

    def configure_optimizers(self) -> dict[str, Any]:
        """AdamW with polynomial decay `(1 - epoch / epochs) ** 0.9`."""
        optimiser = torch.optim.AdamW(
            self.network.parameters(), lr=self.config.learning_rate, weight_decay=self.config.weight_decay
        )
        epochs = self.config.epochs
        schedule = torch.optim.lr_scheduler.LambdaLR(
            optimiser, lambda epoch: (1 - min(epoch, epochs) / epochs) ** 0.9
        )
        return {"optimizer": optimiser, "lr_scheduler": {"scheduler": schedule, "interval": "epoch"}}


class DeepGMMModule(EpochModule):
    """Trains a `DeepGMM` on the (spatially variant) negative log-likelihood.

    Args:
        network: the deep GMM.
        config: of the run.
        prior_means: (K, C) population means for the mean regulariser, or None.
    """

    def __init__(self, network: DeepGMM, config: RunConfig, prior_means: Tensor | None) -> None:
        super().__init__(network, config)
        self.register_buffer("prior_means", prior_means, persistent=False)

    def objectives(self, batch: TrainingBatch) -> tuple[dict[str, Tensor], Tensor]:
        """The likelihood term and the whole objective; a batch weighs as much as it has mixtures."""
        output = self.network(batch)
        with full_precision(batch.image.device):
            likelihood = negative_log_likelihood(output, batch, self.config.objective)
            loss = likelihood
            if self.config.mean_regulariser > 0 and self.prior_means is not None:
                loss = loss + self.config.mean_regulariser * mean_distance(output, batch, self.prior_means)
        return {self.config.objective: likelihood, "objective": loss}, loss.new_tensor(batch.n_mixtures)
