"""The result of EM."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from mrigmm.mixture.gaussian import Mixture


class ConvergenceWarning(UserWarning):
    """`GaussianMixture` stopped at its iteration limit before the bound settled, or has too few rows."""


@dataclass(frozen=True)
class EMResult:
    """The result of EM on one study.

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
