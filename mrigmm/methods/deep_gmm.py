"""A trained deep GMM as a method: one forward pass and one M-step per study."""

from __future__ import annotations

from collections.abc import Callable, Iterable

import torch
from torch import Tensor

from mrigmm.config import RunConfig
from mrigmm.data.crops import NetworkView, network_input
from mrigmm.data.run_folder import RunRecord
from mrigmm.data.standardise import STANDARDISATIONS, UNITS
from mrigmm.data.study_tensors import StudyTensors
from mrigmm.labels import allowed_classes, class_ids
from mrigmm.methods.base import (
    Segmentation,
    TrainedMethod,
    brightness_order,
    class_log_density,
    hard_labels,
    present_sequences,
    responsible_mixture,
    stacked,
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
from mrigmm.mixture.threads import all_threads
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
        parameters=config.parameters,
        spatial_dims=config.spatial_dims,
    )


def run_input(study: StudyTensors, config: RunConfig, divisor: int) -> tuple[StudyTensors, NetworkView]:
    """The study in the run's units, and what the network sees of it."""
    assert config.spacing_mm is not None
    return network_input(
        study,
        standardise=config.standardise,
        spacing_mm=config.spacing_mm,
        crop_mm=config.crop_mm,
        divisor=divisor,
    )


def slice_batch(view: NetworkView, slices: list[int], present: Tensor, allowed: Tensor) -> SliceBatch:
    """Some slices of a study that share one mixture.

    Args:
        view: of the study.
        slices: indices along the last axis.
        present: (C,) bool.
        allowed: (R, K) anatomy constraint.
    """
    return SliceBatch(
        image=view.image[..., slices].movedim(-1, 0).float(),
        region=view.region[..., slices].movedim(-1, 0),
        mixture_index=torch.zeros(len(slices), dtype=torch.long),
        present=present[None],
        allowed=allowed,
    )


def slices_of(region: Tensor) -> list[int]:
    """Indices of the slices that a region map (X, Y, Z) touches."""
    return [int(z) for z in (region > 0).flatten(0, 1).any(dim=0).nonzero()[:, 0]]


def allowed_by_region(classes: tuple[str, ...]) -> Tensor:
    """(R, K) bool, classes that each region code allows."""
    return torch.tensor(allowed_classes(classes), dtype=torch.bool)


def voxel_responsibilities(
    study: StudyTensors, view: NetworkView, maps: Tensor, classes: tuple[str, ...]
) -> Tensor:
    """Responsibilities (N, K) of the study's own voxels from maps (K, A, B, Z) of its view."""
    inside = study.region > 0
    allowed = allowed_by_region(classes)[study.region[inside].long()]  # (N, K)
    resp = view.to_study_grid(maps)[:, inside].T.clamp_min(0) * allowed
    # Off the crop's edge, or where only forbidden classes were seen: all allowed ones alike.
    nothing = resp.sum(1, keepdim=True) < 1e-6
    resp = torch.where(nothing, allowed.float(), resp)
    return resp / resp.sum(1, keepdim=True)


def segmentation_by_responsibilities(
    study: StudyTensors,
    resp: Tensor,
    mixture_of_voxel: Tensor,
    mixture_of: Callable[[int, Tensor, Tensor, Tensor | None], Mixture],
    *,
    classes: tuple[str, ...],
    objective: str,
    standardise: str,
    n_iter: int = 0,
    converged: bool = True,
    warnings: tuple[str, ...] = (),
) -> Segmentation:
    """Label by argmax of `w`, as published, with the posterior's labels reported beside it.

    Args:
        study: in the units of the mixtures.
        resp: (N, K) responsibilities `w` of the region's voxels.
        mixture_of_voxel: (N,) from 0 to S-1.
        mixture_of: (index, x (n, C'), resp (n, K), observed (n, C') or None) -> that mixture.
        classes: K class names.
        objective: "nll" (posterior under the mixture's weights) or "nll_v" (under `w`).
        standardise: "region", "crop" or "percentile".
        n_iter: for the side file.
        converged: for the side file.
        warnings: for the user.
    """
    region = study.region[study.region > 0].long()  # (N,)
    x, observed = study.present_voxels()  # (N, C')
    mixtures, posteriors, densities = [], torch.zeros_like(resp), torch.zeros(len(resp), 1)
    for index in range(int(mixture_of_voxel.max()) + 1):
        members = mixture_of_voxel == index
        seen = None if observed is None else observed[members]
        mixture = mixture_of(index, x[members], resp[members], seen)
        log_density = class_log_density(x[members], mixture, seen)
        if objective == "nll":
            log_prior = region_log_prior(mixture.weights, allowed_by_region(classes), region[members])
        else:
            log_prior = safe_log(resp[members])
        posteriors[members] = posterior(log_prior, log_density).to(resp.dtype)
        densities[members, 0] = log_likelihood(log_prior, log_density).to(resp.dtype)
        mixtures.append(mixture)
    labels, by_posterior = (
        hard_labels(unpack(p, study.region), study.region, classes) for p in (resp, posteriors)
    )
    agree = (labels == by_posterior)[study.region > 0].float().mean()
    voxel_ml = study.output.grid.voxel_volume_ml
    return Segmentation(
        resp=unpack(resp, study.region),
        labels=labels,
        mixture=stacked(mixtures),
        sequences=present_sequences(study),
        log_likelihood=unpack(densities, study.region)[0],
        n_iter=n_iter,
        converged=converged,
        # The objective leaves w badly identified: how far labels by w and by posterior agree.
        details={
            "posterior_agreement": float(agree),
            "posterior_volume_ml": {
                name: float((by_posterior == i).sum()) * voxel_ml for name, i in class_ids(classes).items()
            },
        },
        warnings=warnings,
        units=UNITS[STANDARDISATIONS[standardise]],
    )


class DeepGMMMethod(TrainedMethod[DeepGMM]):
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
        super().__init__(network, config, record, device)
        self.prior = prior

    def segment(self, study: StudyTensors) -> Segmentation:
        """Forward pass, responsibilities back on the study's voxels, M-step (or the head's mixture) there."""
        study, view = run_input(study, self.config, self.network.unet.divisor)
        maps, predicted = self._forward(study, view)
        sequences = present_sequences(study)
        prior = None if self.prior is None else self.prior.select(sequences=sequences)
        present = study.present.nonzero()[:, 0].tolist()

        def mixture_of(index: int, x: Tensor, resp: Tensor, observed: Tensor | None) -> Mixture:
            if self.config.parameters == "head":
                known = predicted[index].permute(self.record.component_order).channels(present)
                return Mixture(resp.double().mean(0), known.means, known.covariances)
            return responsible_mixture(
                x,
                resp,
                observed,
                covariance=self.config.covariance,
                variance_floor=self.config.variance_floor,
                prior=_map_prior(self.config, prior),
            )

        return segmentation_by_responsibilities(
            study,
            voxel_responsibilities(study, view, maps, self.record.classes),
            self._mixture_of_voxel(study),
            mixture_of,
            classes=self.record.classes,
            objective=self.config.objective,
            standardise=self.config.standardise,
        )

    @all_threads()
    @torch.inference_mode()
    def _forward(self, study: StudyTensors, view: NetworkView) -> tuple[Tensor, list[Mixture]]:
        """Responsibilities (K, A, B, Z) in output order, and the network's mixtures in its own order."""
        used = slices_of(study.region)
        together = self.config.spatial_dims == 3 or (
            self.config.parameters == "head" and self.config.scope == "study"
        )
        # All of the crop may be any class: interpolation back needs values around the region.
        anywhere = torch.ones_like(allowed_by_region(self.record.classes))
        maps = torch.zeros((len(self.record.classes), *view.region.shape))  # (K, A, B, Z)
        mixtures = []
        for slices in [used] if together else [[z] for z in used]:  # one by one: memory of one slice
            output = self.network(slice_batch(view, slices, study.present, anywhere).to(self.device))
            w = output.log_resp.exp().cpu()[:, list(self.record.component_order)]  # (n, K, A, B)
            maps[..., slices] = w.movedim(0, -1)
            found = output.mixture.to(device="cpu")
            mixtures.append(Mixture(found.weights[0], found.means[0], found.covariances[0]))
        return maps, mixtures

    def _mixture_of_voxel(self, study: StudyTensors) -> Tensor:
        """Return which mixture each packed voxel belongs to, counted from 0."""
        if self.config.scope == "study":
            return torch.zeros(int((study.region > 0).sum()), dtype=torch.long)
        return slice_of_voxel(study.region)


def slice_of_voxel(region: Tensor) -> Tensor:
    """Return which of the slices that the region touches each packed voxel lies in, (N,) from 0."""
    return (region > 0).nonzero()[:, 2].unique(return_inverse=True)[1]


def component_order(
    method: DeepGMMMethod, studies: Iterable[StudyTensors], prior: PopulationPrior | None
) -> list[int]:
    """Return which network output is which class, decided without labels.

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
