"""What EM returns."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from mrigmm.mixture.gaussian import Mixture


class ConvergenceWarning(UserWarning):
    """EM stopped at its iteration limit before the bound settled."""


@dataclass(frozen=True)
class EMResult:
    """What EM found for one study.

    Attributes:
        mixture: the fitted mixture, float64.
        resp: ``(N, K)`` posterior class probabilities under it.
        lower_bounds: mean log likelihood per voxel (with a prior: plus log prior / N) before each M-step.
        converged: whether the bound settled within the tolerance.
        n_iter: M-steps taken.
        log_likelihood: ``(N,)`` log likelihood of each voxel.
    """

    mixture: Mixture
    resp: Tensor
    lower_bounds: list[float]
    converged: bool
    n_iter: int
    log_likelihood: Tensor


@dataclass(frozen=True)
class BatchResult:
    """What EM found for S studies or slices at once.

    Attributes:
        mixture: the fitted mixtures, one per leading batch entry, float64.
        resp: ``(n, K)`` posterior of each voxel under its own mixture, in the order given.
        lower_bounds: S histories, as in ``EMResult``.
        converged: S flags.
        n_iter: M-steps of each mixture.
        log_likelihood: ``(n,)``.
    """

    mixture: Mixture
    resp: Tensor
    lower_bounds: list[list[float]]
    converged: list[bool]
    n_iter: list[int]
    log_likelihood: Tensor

    def only(self) -> EMResult:
        """The result of a batch of one."""
        ((bounds,), (converged,), (n_iter,)) = self.lower_bounds, self.converged, self.n_iter
        mixture = Mixture(self.mixture.weights[0], self.mixture.means[0], self.mixture.covariances[0])
        return EMResult(mixture, self.resp, bounds, converged, n_iter, self.log_likelihood)
