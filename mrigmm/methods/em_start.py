"""Start of EM: the voxels of a study, and a first mixture of them."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from mrigmm.data.study_tensors import StudyTensors
from mrigmm.errors import InputError
from mrigmm.methods.base import Task
from mrigmm.mixture import Covariance, Mixture, PopulationPrior, m_step, statistics
from mrigmm.mixture.initial import kmeans_responsibilities
from mrigmm.mixture.updates import shaped


@dataclass(frozen=True)
class Voxels:
    """Voxels that share a mixture.

    Attributes:
        x: (N, C') float64 intensities; what stands where nothing was observed does not matter.
        observed: (N, C') bool, or None when every voxel has all sequences.
        region: (N,) `labels.Region` codes.
    """

    x: Tensor
    observed: Tensor | None
    region: Tensor

    def part(self, members: Tensor) -> Voxels:
        """Some of the voxels, by index (n,)."""
        observed = None if self.observed is None else self.observed[members]
        return Voxels(self.x[members], observed, self.region[members])


def require_voxels(study: StudyTensors, n: int, task: Task) -> None:
    """Refuse a region of fewer voxels than there are classes; raises InputError."""
    if n < len(task.classes):
        raise InputError(
            "the region has fewer voxels than there are classes",
            study=study.id,
            expected=f"at least {len(task.classes)} voxels",
            got=str(n),
            remedy="check the region map",
        )


def starting_mixture(
    voxels: Voxels,
    task: Task,
    prior: PopulationPrior | None,
    *,
    covariance: Covariance,
    variance_floor: float,
    seed: int,
) -> Mixture:
    """The population's mixture where it is known, else that of seeded k-means."""
    x = voxels.x
    if prior is not None:
        known = prior.mixture(x.dtype, x.device)
        return replace(
            known, covariances=shaped(known.covariances, torch.ones_like(known.weights), covariance)
        )
    generator = torch.Generator().manual_seed(seed)
    resp = kmeans_responsibilities(x, task.allowed[voxels.region], generator)
    return m_step(statistics(x, resp), covariance=covariance, variance_floor=variance_floor)


def study_voxels(study: StudyTensors, device: torch.device) -> Voxels:
    """All voxels of the region; float64, since the stop rule looks at small differences."""
    x, observed = study.present_voxels()
    return Voxels(
        x.double().to(device),
        None if observed is None else observed.to(device),
        study.region[study.region > 0].long().to(device),
    )
