"""EM over voxels that do not fit into memory, or that lie on several machines."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from mrigmm.mixture.gaussian import Covariance, Mixture, log_gaussian, safe_log
from mrigmm.mixture.map_prior import MapPrior
from mrigmm.mixture.moments import Statistics, statistics
from mrigmm.mixture.objectives import log_likelihood, posterior
from mrigmm.mixture.updates import VARIANCE_FLOOR, m_step


@dataclass(frozen=True)
class Summary:
    """The E-step's sums over a part of the voxels. Parts add up in any order.

    Attributes:
        statistics: sufficient statistics under the mixture that was current.
        log_likelihood: ``()`` float64, sum over the voxels.
    """

    statistics: Statistics
    log_likelihood: Tensor

    def __add__(self, other: Summary) -> Summary:
        return Summary(self.statistics + other.statistics, self.log_likelihood + other.log_likelihood)

    @property
    def lower_bound(self) -> float:
        """Mean log likelihood per voxel under the mixture that was current."""
        return float(self.log_likelihood / self.statistics.n.sum().clamp_min(1.0))


def summarize(x: Tensor, mixture: Mixture) -> Summary:
    """Return the E-step of some voxels.

    Args:
        x: ``(N, C)``, any part of the voxels.
        mixture: the current mixture, the same for all parts.
    """
    log_density = log_gaussian(x, mixture.means, mixture.covariances)
    log_prior = safe_log(mixture.weights).to(log_density.dtype)
    stats = statistics(x, posterior(log_prior, log_density))
    return Summary(stats, log_likelihood(log_prior, log_density).to(stats.n.dtype).sum())


def from_summaries(
    summary: Summary,
    *,
    covariance: Covariance = "full",
    variance_floor: float = VARIANCE_FLOOR,
    prior: MapPrior | None = None,
) -> Mixture:
    """The M-step of the sum of all parts' summaries: exactly what EM on all voxels at once would do."""
    return m_step(summary.statistics, covariance=covariance, variance_floor=variance_floor, prior=prior)
