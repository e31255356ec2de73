"""The deep GMM's objective and optimiser as a Lightning module."""

from __future__ import annotations

from typing import Any

import lightning
import torch
from torch import Tensor, nn

from mrigmm.config import RunConfig
from mrigmm.networks.deep_gmm import DeepGMM, SliceBatch, mean_distance, negative_log_likelihood
from mrigmm.training.augment_published import augmented


class EpochModule(lightning.LightningModule):
    """What both objectives share: optimiser, schedule, logging per epoch.

    Args:
        network: what is trained.
        config: of the run.
    """

    def __init__(self, network: nn.Module, config: RunConfig) -> None:
        super().__init__()
        self.network = network
        self.config = config

    def transfer_batch_to_device(
        self, batch: SliceBatch, device: torch.device, dataloader_idx: int
    ) -> SliceBatch:
        """Move a batch; Lightning does not look into dataclasses of tensors that are frozen."""
        return batch.to(device)

    def log_epoch(self, values: dict[str, Tensor], weight: int) -> None:
        """Log epoch means, the objective's own name in the progress bar."""
        for name, value in values.items():
            self.log(
                name,
                value,
                prog_bar=name == self.config.objective,
                on_step=False,
                on_epoch=True,
                batch_size=weight,
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

    def training_step(self, batch: SliceBatch, batch_idx: int) -> Tensor:
        """Objective of one batch; all chance follows from (seed, step)."""
        if self.config.published_augmentation:
            generator = torch.Generator().manual_seed(self.config.seed * 1_000_003 + self.global_step)
            batch = augmented(
                batch,
                generator,
                whole_mixtures=self.config.spatial_dims == 3,
                standardise=self.config.standardise == "crop",
            )
        output = self.network(batch)
        likelihood = negative_log_likelihood(output, batch, self.config.objective)
        loss = likelihood
        if self.config.mean_regulariser > 0 and self.prior_means is not None:
            loss = loss + self.config.mean_regulariser * mean_distance(output, batch, self.prior_means)
        self.log_epoch({self.config.objective: likelihood, "objective": loss}, batch.n_mixtures)
        return loss
