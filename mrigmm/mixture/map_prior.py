"""The prior over one mixture's parameters: normal-inverse-Wishart and Dirichlet."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from mrigmm.mixture.gaussian import Mixture, cholesky, safe_log, take_arrays, without_missing


@dataclass(frozen=True)
class MapPrior:
    """Normal-inverse-Wishart and Dirichlet prior over one mixture, stated by its mode.

    The strengths are shares of the region's voxel count N: ``kappa = 0.05`` weighs as much as 5 % of
    the study's own voxels, whatever its size. That *tempers* the prior against strongly correlated
    voxels. It is not the spread between studies and cannot be read off a cohort.

    Attributes:
        means: ``(K, C)`` prior means m.
        covariances: ``(K, C, C)`` prior covariances ``Sigma_0``.
        weights: ``(K,)`` prior weights ``pi_0``, sum 1.
        kappa: strength of the means.
        nu: strength of the covariances.
        a: strength of the weights.
    """

    means: Tensor
    covariances: Tensor
    weights: Tensor
    kappa: float
    nu: float
    a: float

    def __post_init__(self) -> None:
        take_arrays(self, "means", "covariances", "weights")
        K, C = self.means.shape
        if self.covariances.shape != (K, C, C) or self.weights.shape != (K,):
            raise ValueError(
                f"expected covariances {(K, C, C)} and weights {(K,)} for means {(K, C)}, "
                f"got {tuple(self.covariances.shape)} and {tuple(self.weights.shape)}"
            )
        if min(self.kappa, self.nu, self.a) < 0:
            raise ValueError(f"strengths cannot be negative, got {self.kappa}, {self.nu}, {self.a}")

    def mixture(self) -> Mixture:
        """Return the prior's mode, as a start for EM."""
        return Mixture(self.weights, self.means, self.covariances)

    def to(self, *, dtype: torch.dtype | None = None, device: torch.device | str | None = None) -> MapPrior:
        """Return the same prior in another dtype or on another device."""
        return MapPrior(
            self.means.to(dtype=dtype, device=device),
            self.covariances.to(dtype=dtype, device=device),
            self.weights.to(dtype=dtype, device=device),
            self.kappa,
            self.nu,
            self.a,
        )


def log_map_prior(
    mixture: Mixture,
    prior: MapPrior,
    n_voxels: Tensor,
    *,
    present: Tensor | None = None,
    log_weights: Tensor | None = None,
) -> Tensor:
    r"""Log prior density of a mixture up to a constant, ``(...)``: what MAP adds to the log likelihood.

    ``sum_k -((nu + C + 2)(log|Sigma_k| + tr(Sigma_k^-1 Sigma_0k)) + kappa |mu_k - m_k|^2_Sigma_k) / 2``
    ``+ a sum_k pi_0k log pi_k``, strengths in voxels (the shares times ``n_voxels``).

    Args:
        mixture: one per leading batch entry.
        prior: the prior that the mixture was fitted with.
        n_voxels: ``(...)`` voxels of the region.
        present: ``(..., C)`` bool, as in ``m_step``.
        log_weights: ``(..., K)`` from ``region_log_weights`` where the region constrains the classes;
            ``log pi`` when None.
    """
    means, covariances, mode_weights = (
        value.to(mixture.means) for value in (prior.means, prior.covariances, prior.weights)
    )
    shift, fitted, mode = mixture.means - means, mixture.covariances, covariances
    n_present: Tensor | int = mixture.n_sequences
    if present is not None:
        fitted, shift = without_missing(fitted, present), torch.where(present[..., None, :], shift, 0.0)
        both = (present[..., :, None] & present[..., None, :])[..., None, :, :]
        mode, n_present = torch.where(both, mode, 0.0), present.sum(-1)
    factor = cholesky(fitted)
    log_det = 2.0 * factor.diagonal(dim1=-2, dim2=-1).log().sum(-1)
    trace = torch.cholesky_solve(mode.expand_as(factor), factor).diagonal(dim1=-2, dim2=-1).sum(-1)
    distance = torch.linalg.solve_triangular(factor, shift[..., None], upper=False).square().sum((-2, -1))
    pseudo = prior.nu * n_voxels + n_present + 2
    log_niw = -0.5 * (pseudo[..., None] * (log_det + trace) + prior.kappa * n_voxels[..., None] * distance)
    if prior.a == 0:
        return log_niw.sum(-1)
    log_weights = safe_log(mixture.weights) if log_weights is None else log_weights
    log_weights = torch.where(mode_weights > 0, mode_weights * log_weights, 0.0)
    return log_niw.sum(-1) + prior.a * n_voxels * log_weights.sum(-1)
