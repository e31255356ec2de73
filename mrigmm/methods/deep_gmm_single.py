"""The published deep GMM for single images: a fresh network is fitted to every slice of a study.

Schwab, Mayr, Haltmeier 2024. The U-Net itself is the only prior (a deep image prior): there is no training
cohort, no augmentation, and no learning-rate schedule.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import ClassVar

import torch
from torch import Tensor

from mrigmm.data.crops import median_spacing_mm, network_input
from mrigmm.data.priors.choice import no_prior
from mrigmm.data.study_tensors import StudyTensors
from mrigmm.errors import InputError
from mrigmm.methods.base import (
    Segmentation,
    SettableMethod,
    Task,
    brightness_order,
    present_sequences,
    responsible_mixture,
)
from mrigmm.methods.deep_gmm import (
    allowed_by_region,
    segmentation_by_responsibilities,
    slice_batch,
    slice_of_voxel,
    slices_of,
    voxel_responsibilities,
)
from mrigmm.methods.settings import SingleSettings
from mrigmm.mixture import Mixture, match_to_prior
from mrigmm.mixture.threads import all_threads
from mrigmm.networks.deep_gmm import DeepGMM, SliceBatch, mean_distance, negative_log_likelihood


@dataclass(frozen=True)
class FittedSlice:
    """A network after its fit to one slice.

    Attributes:
        maps: (K, A, B) responsibilities, components in class order.
        n_epochs: steps taken.
        settled: whether the stop rule fired.
    """

    maps: Tensor
    n_epochs: int
    settled: bool


class DeepSingle(SettableMethod[SingleSettings]):
    """Base of `deepg-single` and `deepsvg-single`: all but the objective."""

    settings_type = SingleSettings
    objective: ClassVar[str]

    def __init__(self, task: Task, overrides: Mapping[str, object]) -> None:
        super().__init__(task, overrides)
        self.prior = task.crop_prior if self.settings.standardise == "crop" else task.prior
        if self.prior is None and task.prior is not None:
            raise InputError(
                f"{self.name}: the prior is stated for z-scores inside the region, the crop's are used",
                remedy="use the prior's units: --set standardise=region; or use the shipped prior",
            )
        if self.prior is None and self.settings.mean_regulariser > 0:
            who, remedy = f"{self.name}: mean_regulariser", "leave mean_regulariser at 0"
            raise no_prior(who, task.classes, task.sequences, remedy)

    def segment(self, study: StudyTensors) -> Segmentation:
        """Fit one network per slice; the caller's random numbers go on as if nothing had happened."""
        settings, classes = self.settings, self.task.classes
        study, view = network_input(
            study,
            standardise=settings.standardise,
            spacing_mm=settings.spacing_mm or median_spacing_mm([study.spacing_mm]),
            crop_mm=settings.crop_mm,
            divisor=2**settings.levels,
        )
        used = slices_of(study.region)
        maps = torch.zeros((len(classes), *view.region.shape))  # (K, A, B, Z)
        fits = []
        cuda = [self.task.device] if self.task.device.type == "cuda" else []
        with torch.random.fork_rng(devices=cuda):
            for z in used:
                torch.manual_seed(settings.seed)
                batch = slice_batch(view, [z], study.present, allowed_by_region(classes)).to(self.task.device)
                fits.append(self._fit(study, batch))
                maps[..., z] = fits[-1].maps

        restless = sum(not fit.settled for fit in fits)
        note = f"{restless} of {len(fits)} slices had not settled after {settings.epochs} epochs"
        return segmentation_by_responsibilities(
            study,
            voxel_responsibilities(study, view, maps, classes),
            slice_of_voxel(study.region),
            lambda _, *voxels: responsible_mixture(
                *voxels, covariance=settings.covariance, variance_floor=settings.variance_floor
            ),
            classes=classes,
            objective=self.objective,
            standardise=settings.standardise,
            n_iter=max(fit.n_epochs for fit in fits),
            converged=restless == 0,
            warnings=(note,) if restless else (),
        )

    @all_threads()
    def _fit(self, study: StudyTensors, batch: SliceBatch) -> FittedSlice:
        """Minimise the objective of one slice; global random numbers make the first weights."""
        settings = self.settings
        network = DeepGMM(
            len(self.task.sequences),
            len(self.task.classes),
            filters=settings.filters,
            levels=settings.levels,
            covariance=settings.covariance,
            variance_floor=settings.variance_floor,
            prior=None,
        ).to(self.task.device)
        means = None if self.prior is None else torch.tensor(self.prior.means, device=self.task.device)
        optimiser = torch.optim.AdamW(
            network.parameters(), lr=settings.learning_rate, weight_decay=settings.weight_decay
        )
        previous, settled, epoch = math.inf, False, 0
        while not settled and epoch < settings.epochs:
            epoch += 1
            output = network(batch)
            likelihood = loss = negative_log_likelihood(output, batch, self.objective)
            if settings.mean_regulariser > 0 and means is not None:
                loss = loss + settings.mean_regulariser * mean_distance(output, batch, means)
            optimiser.zero_grad()
            loss.backward()
            torch.nn.utils.clip_grad_norm_(network.parameters(), settings.clip_norm)
            optimiser.step()
            value = likelihood.item()
            if not math.isfinite(value):
                raise InputError(
                    "the fit diverged",
                    study=study.id,
                    got=f"objective {value} in epoch {epoch}",
                    remedy="lower learning_rate, or raise variance_floor",
                )
            settled = epoch > settings.min_epochs and abs(value - previous) < settings.stop_tolerance
            previous = value
        with torch.no_grad():
            order = self._order(network(batch).mixture, study)
            # Any class anywhere: interpolation back needs values around the region.
            everywhere = network(replace(batch, allowed=torch.ones_like(batch.allowed))).log_resp.exp()
        return FittedSlice(everywhere[0, order].cpu(), epoch, settled)

    def _order(self, mixture: Mixture, study: StudyTensors) -> list[int]:
        """Return which component is which class: by the regulariser, by the prior, or by brightness."""
        sequences = present_sequences(study)
        if self.prior is not None and self.settings.mean_regulariser > 0:
            return list(range(len(self.task.classes)))
        present = study.present.nonzero()[:, 0].tolist()
        only = Mixture(mixture.weights[0], mixture.means[0], mixture.covariances[0]).channels(present)
        if self.prior is not None:
            return match_to_prior(only, self.prior.select(sequences=sequences))
        return brightness_order(only, sequences, self.settings.order_by or self.task.order_by)


class DeepGSingle(DeepSingle):
    """Published deepG on single images: one weight per class."""

    name = "deepg-single"
    objective = "nll"


class DeepSVGSingle(DeepSingle):
    """Published deepSVG on single images: a weight per pixel."""

    name = "deepsvg-single"
    objective = "nll_v"
