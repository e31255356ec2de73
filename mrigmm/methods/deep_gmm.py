"""A trained deep GMM as a method: one forward pass and one M-step per study."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor

from mrigmm.config import RunConfig
from mrigmm.data.crops import network_view
from mrigmm.data.run_folder import RunRecord
from mrigmm.data.study import StudyTensors
from mrigmm.labels import allowed_classes
from mrigmm.methods.base import (
    Segmentation,
    brightness_order,
    class_log_density,
    hard_labels,
    present_sequences,
    responsible_mixture,
    unpack,
)
from mrigmm.mixture import (
    MapPrior,
    Mixture,
    PopulationPrior,
    log_likelihood,
    match_to_prior,
    posterior,
    region_log_prior,
    safe_log,
)
from mrigmm.networks.deep_gmm import DeepGMM, SliceBatch

# Objective -> name of the method that it trains.
_NAMES = {"nll": "deepg", "nll_v": "deepsvg"}


def build_network(config: RunConfig, prior: PopulationPrior | None) -> DeepGMM:
    """The network of a run, with random weights."""
    assert config.sequences is not None
    assert config.classes is not None
    return DeepGMM(
        len(config.sequences),
        len(config.classes),
        filters=config.filters,
        levels=config.levels,
        covariance=config.covariance,
        variance_floor=config.variance_floor,
        prior=_map_prior(config, prior),
    )


class DeepGMMMethod:
    """Segments by the responsibilities of a trained network (label: argmax of `w`, as published)."""

    def __init__(
        self,
        network: DeepGMM,
        config: RunConfig,
        record: RunRecord,
        prior: PopulationPrior | None,
        device: torch.device,
    ) -> None:
        self.name = _NAMES[config.objective]
        self.network = network.to(device).eval()
        self.config = config
        self.record = record
        self.prior = prior
        self.device = device
        self.allowed = torch.tensor(allowed_classes(record.classes), dtype=torch.bool)

    def describe(self) -> dict[str, Any]:
        """Configuration of the run, the versions that trained it, and what computes its network."""
        return {
            "config": self.config.model_dump(mode="json"),
            "trained_with": self.record.versions,
            "runtime": self.network.unet.runtime,
        }

    def segment(self, study: StudyTensors) -> Segmentation:
        """Forward pass, responsibilities back on the study's voxels, M-step there."""
        resp = self._responsibilities(study)  # (N, K)
        region = study.region[study.region > 0].long()  # (N,)
        x, observed = study.present_voxels()  # (N, C')
        group = self._mixture_of_voxel(study)  # (N,)
        sequences = present_sequences(study)
        prior = None if self.prior is None else self.prior.select(sequences=sequences)
        mixtures, posteriors, densities = [], torch.zeros_like(resp), torch.zeros(len(resp), 1)
        for index in range(int(group.max()) + 1):
            members = group == index
            seen = None if observed is None else observed[members]
            mixture = responsible_mixture(
                x[members],
                resp[members],
                seen,
                covariance=self.config.covariance,
                variance_floor=self.config.variance_floor,
                prior=_map_prior(self.config, prior),
            )
            log_density = class_log_density(x[members], mixture, seen)
            if self.config.objective == "nll":
                log_prior = region_log_prior(mixture.weights, self.allowed, region[members])
            else:
                log_prior = safe_log(resp[members])
            posteriors[members] = posterior(log_prior, log_density).to(resp.dtype)
            densities[members, 0] = log_likelihood(log_prior, log_density).to(resp.dtype)
            mixtures.append(mixture)
        maps = unpack(resp, study.region)
        differs = (posteriors.argmax(1) != resp.argmax(1)).float().mean()
        return Segmentation(
            resp=maps,
            labels=hard_labels(maps, study.region, self.record.classes),
            mixture=Mixture(
                torch.stack([m.weights for m in mixtures]),
                torch.stack([m.means for m in mixtures]),
                torch.stack([m.covariances for m in mixtures]),
            ),
            sequences=sequences,
            log_likelihood=unpack(densities, study.region)[0],
            n_iter=0,
            converged=True,
            # The objective leaves w badly identified: how far labels by w and by posterior agree.
            details={"share_labelled_otherwise_by_posterior": float(differs)},
        )

    @torch.inference_mode()
    def _responsibilities(self, study: StudyTensors) -> Tensor:
        """Class responsibilities (N, K) of the region's voxels, classes in output order."""
        assert self.config.spacing_mm is not None
        view = network_view(
            study,
            spacing_mm=self.config.spacing_mm,
            crop_mm=self.config.crop_mm,
            divisor=self.network.unet.divisor,
        )
        n_slices = view.region.shape[-1]
        maps = torch.zeros((len(self.record.classes), *view.region.shape))  # (K, A, B, Z)
        for z in range(n_slices):  # slice by slice: memory stays that of one slice
            if not (view.region[..., z] > 0).any():
                continue
            batch = SliceBatch(
                image=view.image.as_tensor()[None, ..., z].float(),
                # All of the crop counts as inside: interpolation back needs values around the region.
                region=torch.ones_like(view.region[None, ..., z]),
                mixture_index=torch.zeros(1, dtype=torch.long),
                present=study.present[None],
                allowed=torch.ones_like(self.allowed),
            ).to(self.device)
            w = self.network(batch).resp[0].cpu()  # (K, A, B)
            maps[..., z] = w[list(self.record.component_order)]
        back = view.to_study_grid(maps)  # (K, X, Y, Z)
        inside = study.region > 0
        resp = back[:, inside].T.clamp_min(0)  # (N, K)
        resp = resp * self.allowed[study.region[inside].long()]
        # Off the crop's edge, or where only forbidden classes were seen: all allowed ones alike.
        nothing = resp.sum(1, keepdim=True) < 1e-6
        resp = torch.where(nothing, self.allowed[study.region[inside].long()].float(), resp)
        return resp / resp.sum(1, keepdim=True)

    def _mixture_of_voxel(self, study: StudyTensors) -> Tensor:
        """Which mixture each packed voxel belongs to, counted from 0."""
        if self.config.scope == "study":
            return torch.zeros(int((study.region > 0).sum()), dtype=torch.long)
        return (study.region > 0).nonzero()[:, 2].unique(return_inverse=True)[1]


def component_order(
    method: DeepGMMMethod, studies: Iterable[StudyTensors], prior: PopulationPrior | None
) -> list[int]:
    """Which network output is which class, decided without labels.

    With a prior: Hungarian matching of the cohort's average components to the classes. Without one:
    by rising brightness in `order_by`.

    Args:
        method: the trained network with components in network order.
        studies: of the training cohort that have all sequences.
        prior: population prior of classes and sequences, or None.
    """
    mixtures = [method.segment(study).mixture for study in studies]
    means = torch.cat([m.means for m in mixtures]).mean(0)
    covariances = torch.cat([m.covariances for m in mixtures]).mean(0)
    weights = torch.cat([m.weights for m in mixtures]).mean(0)
    average = Mixture(weights, means, covariances)
    if prior is not None:
        return match_to_prior(average, prior)
    return brightness_order(average, method.record.sequences, method.config.order_by)


def _map_prior(config: RunConfig, prior: PopulationPrior | None) -> MapPrior | None:
    if prior is None or config.prior_strength == 0:
        return None
    return prior.map_prior(config.prior_strength, dtype=torch.float64)
