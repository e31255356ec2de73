"""Deep generalised EM: the default method.

The model is the spatially variant mixture `NLL_V = -mean log sum_k pi_k(x) N(x | k)` with
`pi(x) = softmax net(x)`. Its gradient with respect to the network is that of the cross-entropy
`-sum_k r_k log pi_k` to the current posteriors `r ~ pi N`, so that it can be fitted as EM: E-step,
MAP M-step per study, and network steps on the cross-entropy. The E-step that starts it is
`map-em-2step` (a flat prior). Cavity and wall are those of `map-em-2step`.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import torch
from monai.data import MetaTensor
from torch import Tensor

from mrigmm.config import RunConfig
from mrigmm.data.crops import NetworkView, network_view
from mrigmm.data.depth import wall_depth
from mrigmm.data.priors import MultiscalePrior
from mrigmm.data.run_folder import RunRecord
from mrigmm.data.study import StudyTensors
from mrigmm.labels import Region
from mrigmm.methods.base import Segmentation, Task, class_log_density, responsible_mixture, unpack
from mrigmm.methods.map_em_2step import MapEM2Step, Wall, wall_classes, wall_segmentation
from mrigmm.mixture import PopulationPrior
from mrigmm.networks.spatial_prior import SpatialPrior

# The network's prior is not certain of anything that it has never seen.
_LOWEST_PRIOR = 1e-6
# MAP-EM iterations under the network's prior.
_ITERATIONS = 5


def build_spatial_prior(config: RunConfig) -> SpatialPrior:
    """The network of a run, with random weights."""
    assert config.sequences is not None
    assert config.classes is not None
    return SpatialPrior(
        len(config.sequences),
        len(wall_classes(config.classes)),
        filters=config.filters,
        levels=config.levels,
    )


def starting_method(
    config: RunConfig, prior: PopulationPrior | None, multiscale: MultiscalePrior | None
) -> MapEM2Step:
    """The method that finds the cavity and gives the first E-step.

    Raises:
        InputError: without a population prior, or with fewer than two classes of the wall.
    """
    assert config.sequences is not None
    assert config.classes is not None
    task = Task(config.classes, config.sequences, prior, multiscale=multiscale)
    return MapEM2Step(task, {"prior_strength": config.prior_strength, "covariance": config.covariance})


def wall_view(study: StudyTensors, wall: Wall, config: RunConfig, *, divisor: int) -> NetworkView:
    """What the network sees: sequences, cavity, wall and depth, then the responsibilities to learn.

    Returns:
        A view with C + 3 + K_wall channels.
    """
    assert config.spacing_mm is not None
    anatomy = torch.stack(
        [
            (wall.region == Region.CAVITY).float(),
            (wall.region == Region.WALL).float(),
            wall_depth(wall.region, spacing_mm=study.spacing_mm),
        ]
    )
    channels = torch.cat([study.image.as_tensor(), anatomy, wall.resp])
    stacked = MetaTensor(
        channels, affine=study.image.affine, applied_operations=study.image.applied_operations
    )
    return network_view(
        replace(study, image=stacked, region=wall.region),
        spacing_mm=config.spacing_mm,
        crop_mm=config.crop_mm,
        divisor=divisor,
    )


class DeepGEMMethod:
    """Segments the wall by a trained network, with `density_power` > 0 as prior of MAP-EM iterations."""

    name = "deep-gem"

    def __init__(
        self,
        network: SpatialPrior,
        config: RunConfig,
        record: RunRecord,
        start: MapEM2Step,
        device: torch.device,
    ) -> None:
        self.network = network.to(device).eval()
        self.config = config
        self.record = record
        self.start = start
        self.device = device

    def describe(self) -> dict[str, Any]:
        """Configuration of the run and the versions that trained it."""
        return {"config": self.config.model_dump(mode="json"), "trained_with": self.record.versions}

    def segment(self, study: StudyTensors) -> Segmentation:
        """Cavity by MAP-EM, classes of the wall by the network, or by the posterior under its prior."""
        wall = self.start.solve(study)
        inside = wall.region == Region.WALL
        log_prior = self._log_prior(study, wall)[:, inside].T.double()  # (N, K)
        resp = log_prior.exp()
        for _ in range(_ITERATIONS if self.config.density_power > 0 else 0):
            mixture = responsible_mixture(
                wall.features,
                resp,
                wall.observed,
                covariance=self.config.covariance,
                variance_floor=self.config.variance_floor,
                prior=wall.prior,
            )
            log_density = class_log_density(wall.features, mixture, wall.observed)
            # Neighbours repeat each other, so that the density counts for less than it says. The network
            # has learnt from the densities of the whole cohort, and by default it has the last word.
            resp = (log_prior + self.config.density_power * log_density).softmax(dim=1)
        return wall_segmentation(
            study, self.record.classes, wall, unpack(resp.float(), inside), fit=None, notes=wall.notes
        )

    @torch.inference_mode()
    def _log_prior(self, study: StudyTensors, wall: Wall) -> Tensor:
        """Network's log prior (K_wall, X, Y, Z) on the study's voxels."""
        view = wall_view(study, wall, self.config, divisor=self.network.unet.divisor)
        n_inputs = view.image.shape[0] - wall.resp.shape[0]
        maps = torch.zeros((wall.resp.shape[0], *view.region.shape))
        for z in range(view.region.shape[-1]):  # slice by slice: memory stays that of one slice
            if (view.region[..., z] > 0).any():
                x = view.image.as_tensor()[None, :n_inputs, ..., z].float().to(self.device)
                maps[..., z] = self.network(x)[0].exp().cpu()
        prior = view.to_study_grid(maps).clamp_min(_LOWEST_PRIOR)
        return (prior / prior.sum(dim=0)).log()
