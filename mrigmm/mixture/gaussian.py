"""The Gaussian mixture of a study and its densities, in log space with Cholesky factors."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from mrigmm.mixture.features import REACH, coefficients, expand

Covariance = Literal["full", "diag", "tied", "spherical"]
COVARIANCES: tuple[Covariance, ...] = ("full", "diag", "tied", "spherical")

LOG_2PI = math.log(2.0 * math.pi)

# Share of the diagonal that is added, then tenfold more, until rounding no longer hides that a
# covariance is positive definite. float32 keeps seven digits.
_FIRST_JITTER = 1e-7


@dataclass(frozen=True)
class Mixture:
    """Gaussian mixtures of K classes over C sequences, one for each leading batch entry.

    Examples:
        >>> Mixture([0.3, 0.7], [[0.0], [4.0]], [[[1.0]], [[2.0]]]).n_classes
        2

    Attributes:
        weights: ``(..., K)``, sum 1.
        means: ``(..., K, C)`` in the units of the standardised intensities.
        covariances: ``(..., K, C, C)``, full matrices whatever the covariance type.
    """

    weights: Tensor
    means: Tensor
    covariances: Tensor

    def __post_init__(self) -> None:
        take_arrays(self, "weights", "means", "covariances")

    @property
    def n_classes(self) -> int:
        """K."""
        return self.means.shape[-2]

    @property
    def n_sequences(self) -> int:
        """C."""
        return self.means.shape[-1]

    def permute(self, order: Sequence[int]) -> Mixture:
        """Return the mixture whose class k is this one's class ``order[k]``."""
        if sorted(order) != list(range(self.n_classes)):
            raise ValueError(f"expected a permutation of 0..{self.n_classes - 1}, got {list(order)}")
        index = list(order)
        return Mixture(
            self.weights[..., index], self.means[..., index, :], self.covariances[..., index, :, :]
        )

    def channels(self, index: Sequence[int]) -> Mixture:
        """Exact marginal over the sequences ``index``: a Gaussian's rows and columns are dropped."""
        keep = list(index)
        return Mixture(self.weights, self.means[..., keep], self.covariances[..., keep, :][..., keep])

    def to(self, *, dtype: torch.dtype | None = None, device: torch.device | str | None = None) -> Mixture:
        """Return the same mixture in another dtype or on another device."""
        return Mixture(
            self.weights.to(dtype=dtype, device=device),
            self.means.to(dtype=dtype, device=device),
            self.covariances.to(dtype=dtype, device=device),
        )

    def detach(self) -> Mixture:
        """Return the same numbers without their gradient history."""
        return Mixture(self.weights.detach(), self.means.detach(), self.covariances.detach())


def take_arrays(parameters: object, *names: str) -> None:
    """Let a frozen dataclass of tensors be made of arrays and lists too."""
    for name in names:
        value = getattr(parameters, name)
        if not isinstance(value, Tensor):
            object.__setattr__(parameters, name, torch.as_tensor(value))


def parameter_dtype(device: torch.device) -> torch.dtype:
    """Return the dtype of sums and parameters: float64 wherever the device has it.

    There are few of them and they decide the accuracy; only voxel-wise work follows the images.
    """
    return torch.float32 if device.type == "mps" else torch.float64


def voxel_dtype(x: Tensor) -> torch.dtype:
    """Return the dtype of voxel-wise work: that of the images, but at least float32."""
    return torch.float64 if x.dtype == torch.float64 else torch.float32


def safe_log(values: Tensor) -> Tensor:
    """Natural log with -inf at 0 and no gradient there, where the plain one would give NaN."""
    positive = values > 0
    return torch.where(positive, torch.where(positive, values, 1.0).log(), float("-inf"))


def without_missing(covariances: Tensor, present: Tensor) -> Tensor:
    """Return covariances with an identity block in place of the missing sequences' rows and columns.

    Its Cholesky factor, determinant and Mahalanobis distances are those of the marginal.

    Args:
        covariances: ``(..., K, C, C)``.
        present: ``(..., C)`` bool.
    """
    both = (present[..., :, None] & present[..., None, :])[..., None, :, :]
    identity = torch.eye(covariances.shape[-1], dtype=covariances.dtype, device=covariances.device)
    return torch.where(both, covariances, identity)


def cholesky(covariances: Tensor) -> Tensor:
    """Lower Cholesky factors ``(..., C, C)`` that exist also where rounding spoilt definiteness.

    The matrix is scaled to unit diagonal first, so that sequences of very different scale do not
    harm each other; where the factor still does not exist, the diagonal is raised step by step.

    Raises:
        ValueError: a variance is not positive, or a value not finite.
    """
    variances = covariances.diagonal(dim1=-2, dim2=-1)
    if not bool(((variances > 0) & (variances < torch.inf)).all()):
        raise ValueError(f"covariances need positive finite variances, got {variances.detach().tolist()}")
    scale = variances.sqrt()
    correlation = covariances / (scale[..., :, None] * scale[..., None, :])
    if not bool(correlation.isfinite().all()):  # no step would end it
        raise ValueError(f"covariances need finite values, got {covariances.detach().tolist()}")
    factor, failed = torch.linalg.cholesky_ex(correlation)
    identity = torch.eye(covariances.shape[-1], dtype=covariances.dtype, device=covariances.device)
    jitter = _FIRST_JITTER
    while bool(failed.any()):
        # What has been raised stays so: matrices of one batch may need different steps.
        correlation = correlation + jitter * (failed > 0)[..., None, None] * identity
        factor, failed = torch.linalg.cholesky_ex(correlation)
        jitter *= 10.0
    return scale[..., :, None] * factor


def log_gaussian(x: Tensor, means: Tensor, covariances: Tensor, *, present: Tensor | None = None) -> Tensor:
    r"""Return log densities of every voxel under every class, natural log.

    ``log N = -(C log 2 pi + log |Sigma_k| + |A_k (x_n - mu_k)|^2) / 2`` with ``A_k = L_k^-1``.
    Missing sequences are integrated out exactly; C then counts those present. Differentiable.

    Args:
        x: ``(..., N, C)`` intensities; float16 is computed in float32.
        means: ``(..., K, C)``.
        covariances: ``(..., K, C, C)``, positive definite.
        present: ``(..., C)`` bool, the sequences that exist in each batch entry; all when None. What
            ``x`` and ``means`` hold for the others is ignored.

    Returns:
        ``(..., N, K)`` in the dtype of ``x``, at least float32.

    Raises:
        ValueError: shapes do not fit, or a variance is not positive.
    """
    C = x.shape[-1]
    if means.shape[-1] != C or covariances.shape[-2:] != (C, C):
        raise ValueError(
            f"expected means (..., K, {C}) and covariances (..., K, {C}, {C}) for x {tuple(x.shape)}, "
            f"got {tuple(means.shape)} and {tuple(covariances.shape)}"
        )
    exact = parameter_dtype(x.device)
    with torch.autocast(x.device.type, enabled=False):
        x, means, covariances = x.to(voxel_dtype(x)), means.to(exact), covariances.to(exact)
        n_present: Tensor | int = C
        if present is not None:
            x = torch.where(present[..., None, :], x, 0.0)
            means = torch.where(present[..., None, :], means, 0.0)
            covariances = without_missing(covariances, present)
            n_present = present.sum(-1)[..., None].to(exact)
        factor = cholesky(covariances)
        identity = torch.eye(C, dtype=factor.dtype, device=factor.device).expand_as(factor)
        whitener = torch.linalg.solve_triangular(factor, identity, upper=False)
        half_log_det = -whitener.diagonal(dim1=-2, dim2=-1).log().sum(-1)
        constant = -0.5 * LOG_2PI * n_present - half_log_det  # (..., K)
        rows = x.mT  # (..., C, N), the order in which images lie in memory
        if _cancels_safely(rows, means, whitener):
            linear = coefficients(constant, means, whitener.mT @ whitener).to(x.dtype)
            return (linear @ expand(rows)).mT
        # Far outliers and images far from zero: subtract before squaring.
        offset = x[..., None, :, :] - means.to(x.dtype)[..., :, None, :]  # (..., K, N, C)
        distance = (offset @ whitener.to(x.dtype).mT).square().sum(-1)  # (..., K, N)
        return (constant.to(x.dtype)[..., None] - 0.5 * distance).mT


def _cancels_safely(rows: Tensor, means: Tensor, whitener: Tensor) -> bool:
    """Return whether ``x^T P x`` and its like are small enough to be added up in the dtype of x."""
    if rows.numel() == 0 or means.numel() == 0:
        return True
    with torch.no_grad():
        low, high = rows.aminmax()
        furthest = torch.maximum(-low, high).to(means.dtype) + means.abs().amax()
        steepest = whitener.square().sum((-2, -1)).amax()
        return bool(furthest.square() * steepest <= REACH[rows.dtype])
