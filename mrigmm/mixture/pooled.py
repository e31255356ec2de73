"""EM for one mixture that all studies of a cohort share: study by study, on one process or several."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from mrigmm.mixture.gaussian import Covariance, Mixture, parameter_dtype
from mrigmm.mixture.missing import expected_statistics, log_gaussian_observed
from mrigmm.mixture.moments import Statistics
from mrigmm.mixture.objectives import log_likelihood, posterior, region_log_prior
from mrigmm.mixture.population_sums import AddUp, Array, StudySums
from mrigmm.mixture.updates import VARIANCE_FLOOR, constrained_weights, m_step


@dataclass(frozen=True)
class StudyVoxels:
    """Voxels of one study.

    Attributes:
        x: ``(N, C)`` intensities, the same sequences in every study.
        observed: ``(N, C)`` bool; False everywhere for a sequence that the study lacks.
        region: ``(N,)`` long, in 0..R-1.
    """

    x: Tensor
    observed: Tensor
    region: Tensor


@dataclass(frozen=True)
class PooledFit:
    """The result of EM on a cohort.

    Attributes:
        mixture: the fitted mixture, float64.
        lower_bounds: mean log likelihood per voxel of all studies before each M-step.
        converged: whether the bound settled within the tolerance.
        n_studies: studies with voxels, on all processes.
        region_counts: ``(R,)`` their voxels per region value.
    """

    mixture: Mixture
    lower_bounds: list[float]
    converged: bool
    n_studies: int
    region_counts: Tensor


def fit_gmm_pooled(
    studies: Iterable[tuple[int, StudyVoxels]],
    start: Mixture,
    *,
    allowed: Tensor,
    covariance: Covariance = "full",
    max_iter: int = 100,
    tol: float = 1e-4,
    variance_floor: float = VARIANCE_FLOOR,
    add_up: AddUp | None = None,
) -> PooledFit:
    """Fit one Gaussian mixture to the voxels of all studies, by EM with missing values.

    An iteration goes over the studies once and keeps of each its sufficient statistics, in float64
    (`StudySums`): of one study at a time the voxels are needed, and the result is the same to the bit
    however processes share the studies, as long as each of them works with as many threads.

    Args:
        studies: places in the cohort, as `StudySums.add` takes them, and voxels; gone over once in each
            iteration.
        start: the first mixture, the same on every process.
        allowed: ``(R, K)`` bool, the classes that each region value allows.
        covariance: ``full``, ``diag``, ``tied`` or ``spherical``.
        max_iter: M-steps at most.
        tol: EM stops once the mean log likelihood per voxel changes by less.
        variance_floor: added to every variance.
        add_up: adds up what the processes have; None where there is one only.

    Returns:
        The fit; that of no study is `start`.
    """
    mixture = start.detach().to(dtype=parameter_dtype(start.means.device))
    allowed = allowed.to(mixture.means.device)
    K, C = mixture.means.shape
    # Voxels per class, first and second moments, log likelihood, voxels per region value, studies.
    shapes = ((K,), (K, C), (K, C, C), (1,), (len(allowed),), (1,))
    bounds: list[float] = []
    converged = False
    n_studies, counts = 0, mixture.weights.new_zeros(len(allowed))
    while not converged and len(bounds) < max_iter:
        sums = StudySums(sum(map(math.prod, shapes)))
        for position, voxels in studies:
            sums.add(position, _study(voxels, mixture, allowed))
        if add_up is not None:
            sums.collect(add_up)
        ends = np.cumsum([math.prod(shape) for shape in shapes])[:-1]
        n, sum_x, sum_xx, evidence, counts, found = (
            torch.from_numpy(part.reshape(shape)).to(mixture.means)
            for part, shape in zip(np.split(sums.total(), ends), shapes, strict=True)
        )
        n_studies = int(found)
        if n_studies == 0:
            break
        bounds.append(float(evidence / counts.sum()))
        fitted = m_step(Statistics(n, sum_x, sum_xx), covariance=covariance, variance_floor=variance_floor)
        mixture = Mixture(constrained_weights(n, counts, allowed), fitted.means, fitted.covariances)
        converged = len(bounds) > 1 and abs(bounds[-1] - bounds[-2]) < tol
    return PooledFit(mixture, bounds, converged, n_studies, counts)


def classify(voxels: StudyVoxels, mixture: Mixture, allowed: Tensor) -> tuple[Tensor, Tensor]:
    """Return the E-step of some voxels.

    Args:
        voxels: of a study.
        mixture: of its sequences.
        allowed: ``(R, K)`` bool.

    Returns:
        Posterior class probabilities ``(N, K)`` and log likelihood ``(N,)``.
    """
    log_prior = region_log_prior(mixture.weights, allowed, voxels.region).to(voxels.x.dtype)
    density = log_gaussian_observed(voxels.x, mixture.means, mixture.covariances, voxels.observed)
    return posterior(log_prior, density), log_likelihood(log_prior, density)


def _study(voxels: StudyVoxels, mixture: Mixture, allowed: Tensor) -> Array:
    """Return the sums of a study, flat."""
    device = mixture.means.device
    voxels = StudyVoxels(voxels.x.to(device), voxels.observed.to(device), voxels.region.to(device))
    resp, evidence = classify(voxels, mixture, allowed)
    stats = expected_statistics(voxels.x, resp, mixture.means, mixture.covariances, voxels.observed)
    counts = torch.bincount(voxels.region, minlength=len(allowed))
    parts = (stats.n, stats.sum_x, stats.sum_xx, evidence.sum(), counts, torch.tensor(len(evidence) > 0))
    return torch.cat([part.double().cpu().flatten() for part in parts]).numpy()
