"""The deep GMM's objective and optimiser as a Lightning module."""

from __future__ import annotations

import lightning
import torch
from lightning.pytorch.utilities.types import OptimizerLRScheduler
from torch import Tensor, nn

from mrigmm.config import RunConfig
from mrigmm.errors import InputError
from mrigmm.networks.deep_gmm import DeepGMM, full_precision, mean_distance, negative_log_likelihood
from mrigmm.training.augment_published import augmented
from mrigmm.training.batches import TrainingBatch
from mrigmm.training.ddp import mean_over_processes

HELD_OUT = "held_out"  # name of the held-out objective in logs


class EpochModule(lightning.LightningModule):
    """Steps, optimiser, schedule and logging per epoch, for both objectives.

    Args:
        network: what is trained.
        config: of the run.
    """

    def __init__(self, network: nn.Module, config: RunConfig) -> None:
        super().__init__()
        self.network = network
        self.config = config

    def augmented(self, batch: TrainingBatch) -> TrainingBatch:
        """Return the batch as it is trained on."""
        return batch

    def objectives(self, batch: TrainingBatch) -> tuple[dict[str, Tensor], Tensor]:
        """Return values to log, "objective" (what is minimised) among them, and how much the batch weighs."""
        raise NotImplementedError

    def training_step(self, batch: TrainingBatch, batch_idx: int) -> Tensor:
        """Return the objective of this process's share of a batch."""
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

    def configure_optimizers(self) -> OptimizerLRScheduler:
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

    prior_means: Tensor | None

    def __init__(self, network: DeepGMM, config: RunConfig, prior_means: Tensor | None) -> None:
        super().__init__(network, config)
        self.register_buffer("prior_means", prior_means, persistent=False)

    def augmented(self, batch: TrainingBatch) -> TrainingBatch:
        """Return the published augmentation; all chance follows from (seed, step)."""
        if not self.config.published_augmentation:
            return batch
        generator = torch.Generator().manual_seed(self.config.seed * 1_000_003 + self.global_step)
        with full_precision(batch.image.device):
            return augmented(
                batch,
                generator,
                whole_mixtures=self.config.spatial_dims == 3,
                standardise=self.config.standardise == "crop",
            )

    def objectives(self, batch: TrainingBatch) -> tuple[dict[str, Tensor], Tensor]:
        """Return the likelihood term and the whole objective; a batch weighs as much as it has mixtures."""
        output = self.network(batch)
        with full_precision(batch.image.device):
            likelihood = negative_log_likelihood(output, batch, self.config.objective)
            loss = likelihood
            if self.config.mean_regulariser > 0 and self.prior_means is not None:
                loss = loss + self.config.mean_regulariser * mean_distance(output, batch, self.prior_means)
        return {self.config.objective: likelihood, "objective": loss}, loss.new_tensor(batch.n_mixtures)
