"""Deep generalised EM: the default method.

The model is the spatially variant mixture `NLL_V = -mean log sum_k pi_k(x) N(x | k)` with
`pi(x) = softmax net(x)`. Its gradient with respect to the network is that of the cross-entropy
`-sum_k r_k log pi_k` to the current posteriors `r ~ pi N`, so that it can be fitted as EM: E-step,
MAP M-step per study, and network steps on the cross-entropy. The E-step that starts it is
`map-em-2step` (a flat prior). Cavity and wall are those of `map-em-2step`.
"""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from mrigmm.config import RunConfig
from mrigmm.data.crops import NetworkView, network_view
from mrigmm.data.priors.prior_file import MultiscalePrior
from mrigmm.data.run_folder import RunRecord
from mrigmm.data.study_tensors import StudyTensors
from mrigmm.data.ventricle import wall_depth
from mrigmm.labels import KEY_SEQUENCES, Region, wall_classes
from mrigmm.methods.base import Segmentation, Task, TrainedMethod, present_sequences
from mrigmm.methods.map_em_2step import MapEM2Step, Wall, wall_segmentation
from mrigmm.methods.needs import require_prior
from mrigmm.mixture import PopulationPrior
from mrigmm.mixture.threads import all_threads
from mrigmm.networks.spatial_prior import SpatialPrior

# Neither the network nor a study's fit is certain of anything that it has never seen.
_LOWEST_PRIOR = 1e-6
_LOWEST_POSTERIOR = 1e-4
# SDs of normal wall that are one unit of the network's input.
UNIT_SDS = 2.0


def build_spatial_prior(config: RunConfig) -> SpatialPrior:
    """The network of a run, with random weights."""
    assert config.sequences is not None
    assert config.classes is not None
    return SpatialPrior(
        len(config.sequences), len(wall_classes(config.classes)), filters=config.filters, levels=config.levels
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
    require_prior(MapEM2Step.name, task)
    return MapEM2Step(task, {"prior_strength": config.prior_strength, "covariance": config.covariance})


def wall_view(study: StudyTensors, wall: Wall, config: RunConfig, *, divisor: int) -> NetworkView:
    """Return what the network sees: sequences, cavity, wall and depth, then the responsibilities to learn.

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
    channels = torch.cat([wall_units(study, wall), anatomy, wall.resp])
    return network_view(
        replace(study, image=channels, region=wall.region),
        spacing_mm=config.spacing_mm,
        crop_mm=config.crop_mm,
        divisor=divisor,
    )


def wall_units(study: StudyTensors, wall: Wall) -> Tensor:
    """Intensities (C, X, Y, Z) as distances from the study's own normal wall, in two of its SDs.

    As n-SD thresholds do, it makes studies comparable however large their infarct is, which sets mean and
    SD of the region. 0 where a sequence was not acquired.
    """
    # The wall's largest class in the population, and of the features the sequences at the finest scale.
    normal = int(wall.prior.weights.argmax())
    n = int(study.present.sum())
    mean, sd = torch.zeros(len(study.sequences)), torch.ones(len(study.sequences))
    mean[study.present] = wall.fit.mixture.means[normal, :n].float().cpu()
    sd[study.present] = wall.fit.mixture.covariances[normal].diagonal()[:n].sqrt().float().cpu()
    units = (study.image - mean[:, None, None, None]) / (UNIT_SDS * sd[:, None, None, None])
    return torch.where(study.observed, units, 0.0)


class DeepGEMMethod(TrainedMethod[SpatialPrior]):
    """Segments the wall by a trained network and the study's own fit together."""

    name = "deep-gem"

    def __init__(
        self,
        network: SpatialPrior,
        config: RunConfig,
        record: RunRecord,
        start: MapEM2Step,
        device: torch.device,
    ) -> None:
        super().__init__(network, config, record, device)
        self.start = start

    def segment(self, study: StudyTensors) -> Segmentation:
        """Cavity by MAP-EM; classes of the wall by what network and MAP-EM say, `w^s q^(1 - s)`.

        `w` is the network's prior, `q` the smoothed posterior of the study's own fit, `s` `network_share`:
        what the cohort has in common, and what only this study shows. `s` is halved without LGE or without
        T2: the network then seldom calls a class that nothing shows, and the fit guesses better.
        """
        wall = self.start.solve(study)
        log_prior = self._log_prior(study, wall)  # (K, X, Y, Z)
        log_fit = wall.resp.clamp_min(_LOWEST_POSTERIOR).log()
        keys = {KEY_SEQUENCES[name] for name in self.record.classes if name in KEY_SEQUENCES}
        there = len(keys.intersection(present_sequences(study))) / len(keys) if keys else 1.0
        share = self.config.network_share * there
        pooled = (share * log_prior + (1 - share) * log_fit).softmax(dim=0)
        resp = torch.where(wall.region == Region.WALL, pooled, 0.0)
        return wall_segmentation(study, self.record.classes, wall, resp, wall.notes)

    @torch.inference_mode()
    def _log_prior(self, study: StudyTensors, wall: Wall) -> Tensor:
        """Network's log prior (K_wall, X, Y, Z) on the study's voxels."""
        view = wall_view(study, wall, self.config, divisor=self.network.unet.divisor)
        n_inputs = view.image.shape[0] - wall.resp.shape[0]
        maps = torch.zeros((wall.resp.shape[0], *view.region.shape))
        with all_threads():
            for z in range(view.region.shape[-1]):  # slice by slice: memory stays that of one slice
                if (view.region[..., z] > 0).any():
                    x = view.image[None, :n_inputs, ..., z].float().to(self.device)
                    maps[..., z] = self.network(x)[0].exp().cpu()
        prior = view.to_study_grid(maps).clamp_min(_LOWEST_PRIOR)
        return (prior / prior.sum(dim=0)).log()
