"""Training of the anatomy stage from few labelled and many unlabelled slices, as a Lightning module."""

from __future__ import annotations

import math
from copy import deepcopy
from dataclasses import dataclass
from typing import Any

import lightning
import torch
from lightning.pytorch.utilities.types import OptimizerLRScheduler
from torch import Tensor, nn
from torch.utils.data import DataLoader

from mrigmm.config_anatomy import AnatomyConfig
from mrigmm.data.run_folder import RunFolder
from mrigmm.networks.anatomy_net import AnatomyFeatures, AnatomyNet
from mrigmm.training import anatomy_losses as losses
from mrigmm.training.augment import Chance, drop_sequences, moved, random_intensities, random_motion
from mrigmm.training.callbacks import EpochLog, EpochTrack, Track, epoch_row
from mrigmm.training.checkpoints import last_checkpoint, require_checkpoint
from mrigmm.training.fit import quiet_trainer, run_trainer
from mrigmm.training.hardware import Hardware

CLUSTERS = 10  # per head: the joint of a few dozen slices has no more to say
HEADS = 3
# Of the running joint that a step's slices replace.
JOINT_RATE = 0.3
TEACHER_MOMENTUM = 0.99
WARM_UP = 0.1  # share of the training in which the learning rate rises
RAMP = 0.3  # share of the training in which the unlabelled terms come in
# Of gain and offset, in SDs of the image: the contrast of a few studies must stand for all.
INTENSITY_SD = 0.3


@dataclass(frozen=True)
class AnatomySlices:
    """All slices of a training in memory.

    Attributes:
        labelled: (N, C, A, A) z-scores.
        anatomy: (N, 3, A, A) probabilities of outside, cavity, wall.
        unlabelled: (M, C, A, A).
    """

    labelled: Tensor
    anatomy: Tensor
    unlabelled: Tensor


class ClusterHead(nn.Module):
    """Soft assignment of features to clusters, by several heads.

    Args:
        n_features: channels.
        pooled: one assignment per slice, by the mean over its pixels; else one per pixel.
    """

    def __init__(self, n_features: int, *, pooled: bool) -> None:
        super().__init__()
        self.pooled = pooled
        # Means over slices hardly differ from slice to slice: without it the clusters never part.
        self.norm = nn.BatchNorm2d(n_features, affine=False) if pooled else nn.Identity()
        self.linear = nn.Conv2d(n_features, HEADS * CLUSTERS, kernel_size=1)

    def forward(self, features: Tensor) -> Tensor:
        """Return probabilities (B, H, S) or (B, H, S, A, A) for features (B, F, A, A)."""
        if self.pooled:
            features = features.mean(dim=(2, 3), keepdim=True)
        x = self.linear(self.norm(features))
        x = x.view(len(x), HEADS, CLUSTERS, *x.shape[2:]).softmax(dim=2)
        return x[..., 0, 0] if self.pooled else x


class AnatomyModule(lightning.LightningModule):
    """Supervised Dice and cross-entropy, and what unlabelled slices add.

    Args:
        network: what is trained.
        config: of the run.
        slices: what it is trained on.
    """

    joint: Tensor

    def __init__(self, network: AnatomyNet, config: AnatomyConfig, slices: AnatomySlices) -> None:
        super().__init__()
        self.network = network
        self.config = config
        self.slices = slices
        width = config.filters
        self.heads = nn.ModuleDict(
            {
                "of_slices": ClusterHead(width * 2**config.levels, pooled=True),
                "at_half": ClusterHead(2 * width, pooled=False),
                "at_full": ClusterHead(width, pooled=False),
            }
        )
        self.register_buffer("joint", torch.full((HEADS, CLUSTERS, CLUSTERS), CLUSTERS**-2.0))
        self.teacher = deepcopy(network).requires_grad_(False) if config.mean_teacher > 0 else None

    def train_dataloader(self) -> DataLoader[int]:
        """Return the steps of an epoch; what a step sees follows from its number."""
        steps = list(range(self.config.steps_per_epoch))
        return DataLoader(steps, batch_size=None)  # type: ignore[arg-type]

    def training_step(self, batch: Tensor, batch_idx: int) -> Tensor:
        """Return the objective of a step."""
        generator = torch.Generator().manual_seed(self.config.seed * 1_000_003 + self.global_step)
        terms = {"supervised": self._supervised(generator)}
        total = terms["supervised"]
        if self.config.uses_unlabelled:
            done = self.global_step / (RAMP * self.config.epochs * self.config.steps_per_epoch)
            for name, value in self._unlabelled(generator).items():
                terms[name] = value
                total = total + min(done, 1.0) * float(getattr(self.config, name)) * value
        for name, term in {"objective": total, **terms}.items():
            self.log(name, term.detach(), on_step=False, on_epoch=True, batch_size=1)
        return total

    def on_train_batch_end(self, *_: Any) -> None:
        """Let the teacher follow."""
        if self.teacher is None:
            return
        with torch.no_grad():
            for old, new in zip(self.teacher.parameters(), self.network.parameters(), strict=True):
                old.lerp_(new, 1 - TEACHER_MOMENTUM)
            for kept, now in zip(self.teacher.buffers(), self.network.buffers(), strict=True):
                kept.copy_(now)

    def configure_optimizers(self) -> OptimizerLRScheduler:
        """AdamW; the rate rises linearly, then falls as a cosine, step by step."""
        config = self.config
        optimiser = torch.optim.AdamW(
            self.parameters(), lr=config.learning_rate, weight_decay=config.weight_decay
        )
        steps = config.epochs * config.steps_per_epoch
        warm = max(1, round(WARM_UP * steps))

        def rate(step: int) -> float:
            if step < warm:
                return (step + 1) / warm
            return 0.5 + 0.5 * math.cos(math.pi * min(1.0, (step - warm) / max(1, steps - warm)))

        schedule = torch.optim.lr_scheduler.LambdaLR(optimiser, rate)
        return {"optimizer": optimiser, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}

    def _drawn(self, pool: Tensor, n: int, generator: torch.Generator) -> Tensor:
        """Return indices (n,) of slices, without repeats where there are enough."""
        if len(pool) >= n:
            return torch.randperm(len(pool), generator=generator)[:n]
        return torch.randint(len(pool), (n,), generator=generator)

    def _seen(self, image: Tensor, chance: Chance) -> Tensor:
        """Return slices under a random change of intensities, some without a sequence."""
        return drop_sequences(
            random_intensities(image, chance, INTENSITY_SD), self.config.sequence_dropout, chance
        )

    def _supervised(self, generator: torch.Generator) -> Tensor:
        n = self.config.batch_labelled
        index = self._drawn(self.slices.labelled, n, generator)
        chance = Chance(generator, n, torch.arange(n))
        maps = torch.cat([self.slices.labelled[index], self.slices.anatomy[index]], dim=1)
        maps = moved(maps.to(self.device), random_motion(chance))
        image, anatomy = maps.tensor_split([self.slices.labelled.shape[1]], dim=1)
        inside = anatomy[:, 1:]
        anatomy = torch.cat([1 - inside.sum(dim=1, keepdim=True), inside], dim=1)  # what came in is outside
        found = self.network.features(self._seen(image, chance))
        if self.network.mixtures is not None:
            self.network.mixtures.learn(found.full.detach(), anatomy, generator)
        loss: Tensor = losses.supervised(found.logits, anatomy)
        return loss

    def _unlabelled(self, generator: torch.Generator) -> dict[str, Tensor]:
        """Return the terms that are switched on, by the name of their weight."""
        config, n = self.config, self.config.batch_unlabelled
        image = self.slices.unlabelled[self._drawn(self.slices.unlabelled, n, generator)].to(self.device)
        chance = Chance(generator, n, torch.arange(n))
        theta = random_motion(chance)
        first = self._seen(image, chance)
        second = self._seen(moved(image, theta), chance)
        together = self.network.features(torch.cat([first, second]))
        here = AnatomyFeatures(*(part[:n] for part in _parts(together)))
        there = AnatomyFeatures(*(part[n:] for part in _parts(together)))
        valid = (moved(torch.ones_like(image[:, :1]), theta) > 0.99).float()
        near = losses.near_ventricle(there.logits, config.spacing_mm)
        found: dict[str, Tensor] = {}
        if config.consistency > 0:
            target = moved(here.logits.detach().softmax(dim=1), theta)
            found["consistency"] = losses.consistency(there.logits, target, valid)
        if self.teacher is not None:
            with torch.no_grad():
                target = moved(self.teacher(first).softmax(dim=1), theta)
            found["mean_teacher"] = losses.consistency(there.logits, target, valid)
        if config.entropy > 0:
            found["entropy"] = losses.entropy(there.logits, near)
        if config.global_mi > 0:
            head = self.heads["of_slices"]
            both = head(together.bottleneck)
            now = losses.joint_of_slices(both[:n], both[n:])
            joint = (1 - JOINT_RATE) * self.joint + JOINT_RATE * now
            # Divided by the rate, its gradient is that of a batch as large as the memory.
            found["global_mi"] = -losses.mutual_information(joint).mean() / JOINT_RATE
            self.joint = joint.detach()
        if config.local_mi > 0:
            found["local_mi"] = self._local(here, there, theta, near * valid)
        return found

    def _local(self, here: AnatomyFeatures, there: AnatomyFeatures, theta: Tensor, weight: Tensor) -> Tensor:
        """Minus the mutual information of neighbours at half and at full resolution."""
        total = here.logits.new_zeros(())
        for name, stride in (("half", 1), ("full", 2)):  # every second pixel at full resolution
            head = self.heads[f"at_{name}"]
            p = head(moved(getattr(here, name), theta)[..., ::stride, ::stride])
            q = head(getattr(there, name)[..., ::stride, ::stride])
            joints = losses.joint_of_neighbours(p, q, weight[..., ::2, ::2], step=1)
            total = total - losses.mutual_information(joints).mean() / 2
        return total


def _parts(features: AnatomyFeatures) -> tuple[Tensor, ...]:
    return features.bottleneck, features.half, features.full, features.logits, features.typicality


class AnatomyKeeper(EpochLog):
    """Writes log and weights after every epoch.

    The last weights are kept: choosing the best would need labels that are held out, and there are few.
    """

    def __init__(self, run: RunFolder) -> None:
        super().__init__(run.log)
        self.run = run

    def on_train_epoch_end(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        """Log, and keep the weights."""
        assert isinstance(pl_module, AnatomyModule)
        terms = {name: float(value) for name, value in trainer.callback_metrics.items()}
        self.add_row(trainer, epoch_row(trainer, terms))
        self.run.write_weights(pl_module.network)


def fit_anatomy(
    module: AnatomyModule,
    config: AnatomyConfig,
    run: RunFolder,
    hardware: Hardware,
    *,
    resume: bool,
    track: Track,
) -> None:
    """Train and leave the weights in the run folder.

    Raises:
        InputError: a damaged checkpoint, or training diverged.
    """
    if resume and run.checkpoint.exists():
        require_checkpoint(run, module)
    callbacks = [AnatomyKeeper(run), last_checkpoint(run.checkpoint), EpochTrack(track)]
    trainer = quiet_trainer(hardware, callbacks, max_epochs=config.epochs, clip_norm=config.clip_norm)
    run_trainer(trainer, module, checkpoint=run.checkpoint if resume else None)
