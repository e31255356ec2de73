"""The parameters of one mixture in NumPy: its log densities as coefficients, and its M-step.

For `fast`, whose voxels are centred and expanded to the features ``[1, x, x_i x_j]``. The M-step is that of
``updates.m_step`` and ``constrained_weights``, on feature sums.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from mrigmm.mixture.features import REACH, pair_factors, pair_positions, pairs
from mrigmm.mixture.gaussian import LOG_2PI, Covariance, Mixture, cholesky, parameter_dtype
from mrigmm.mixture.objectives import region_log_table
from mrigmm.mixture.population import MapPrior
from mrigmm.mixture.updates import (
    EMPTY,
    WEAK,
    class_fractions,
    constrained_weights,
    region_log_weights,
    weights_are_fractions,
)

Array = npt.NDArray[np.float64]

# Log weight of a class that is not allowed: no voxel makes up for it, and unlike -inf it may be
# multiplied by 0 inside a matrix product.
_FORBIDDEN = -1e30


@dataclass(frozen=True)
class Parameters:
    """A mixture in centred intensities, float64.

    Attributes:
        weights: ``(K,)``.
        means: ``(K, C)``.
        spread: covariances ``(K, C, C)``, or variances ``(K, C)`` of a diagonal type.
    """

    weights: Array
    means: Array
    spread: Array

    @classmethod
    def of(cls, mixture: Mixture, centre: Array, *, diagonal: bool) -> Parameters:
        """Return those of a mixture, with the intensities ``centre`` ``(C,)`` subtracted."""
        weights, means, spread = (
            value.detach().cpu().double().numpy()
            for value in (mixture.weights, mixture.means, mixture.covariances)
        )
        return cls(weights, means - centre, np.diagonal(spread, axis1=-2, axis2=-1) if diagonal else spread)

    def mixture(self, centre: Array, device: torch.device) -> Mixture:
        """Return the mixture in the intensities' own units."""
        diagonal = self.spread.ndim == self.means.ndim
        spread = self.spread[..., None] * np.eye(len(centre)) if diagonal else self.spread
        values = (self.weights, self.means + centre, spread)
        dtype = parameter_dtype(device)
        return Mixture(*(torch.from_numpy(v.copy()).to(device=device, dtype=dtype) for v in values))


def whiten(spread: Array, diagonal: bool) -> tuple[Array, Array]:
    """Return ``A`` with ``A^T A = Sigma^-1`` and ``log |Sigma|`` ``(K,)``.

    A is lower triangular ``(K, C, C)``, or its diagonal ``(K, C)`` where Sigma is diagonal.
    """
    if diagonal:
        inverse_sd: Array = 1.0 / np.sqrt(spread)
        return inverse_sd, -2.0 * np.log(inverse_sd).sum(-1)
    try:
        factor = np.linalg.cholesky(spread)
    except np.linalg.LinAlgError:
        factor = cholesky(torch.from_numpy(spread)).numpy()
    whitener: Array = np.linalg.inv(factor)
    return whitener, -2.0 * np.log(whitener.diagonal(0, -2, -1)).sum(-1)


@dataclass(frozen=True)
class Densities:
    """Log weights plus log densities of the classes, as a linear function of the features.

    Attributes:
        coefficients: ``(R, K, D)``, ``log pi_nk + log N(x_n | k)`` per feature.
        means: ``(K, C)``.
        whitener: ``(K, C, C)``, or its diagonal ``(K, C)``.
        constant: ``(R, K)``, ``log pi - (C log 2 pi + log |Sigma|) / 2``.
        reach: a bound on the squares that cancel in ``coefficients @ features``.
    """

    coefficients: Array
    means: Array
    whitener: Array
    constant: Array
    reach: float

    def within_reach(self, dtype: torch.dtype) -> bool:
        """Return whether features of a precision are exact enough."""
        return self.reach <= REACH[dtype]

    def exact_logits(self, features: Tensor, region: int) -> Tensor:
        """Return ``log pi + log N`` ``(K, m)`` of float64 features ``(D, m)``, exact whatever their reach."""
        if self.within_reach(torch.float64):
            return torch.from_numpy(self.coefficients[region]) @ features
        # Differences first: exact however far an outlier lies.
        whitener, means = torch.from_numpy(self.whitener), torch.from_numpy(self.means)
        offset = features[1 : 1 + means.shape[1]] - means[..., None]  # (K, C, m)
        diagonal = whitener.dim() == 2
        white = whitener[..., None] * offset if diagonal else whitener @ offset
        return torch.from_numpy(self.constant[region])[:, None] - 0.5 * white.square().sum(1)


def densities(parameters: Parameters, allowed: Tensor, reach: float) -> Densities:
    """Return the log densities of a mixture (the same as ``features.coefficients``).

    Args:
        parameters: of the mixture.
        allowed: ``(R, K)`` bool.
        reach: sum over the sequences of the squared largest centred intensity.
    """
    means, (K, C) = parameters.means, parameters.means.shape
    diagonal = parameters.spread.ndim == 2
    whitener, log_det = whiten(parameters.spread, diagonal)
    if diagonal:
        precision = whitener * whitener
        linear = precision * means
        quadratic = -0.5 * precision
    else:
        precision = whitener.swapaxes(-1, -2) @ whitener
        linear = (precision @ means[..., None])[..., 0]
        i, j = pairs(C)
        quadratic = precision[..., i, j] * pair_factors(C)
    constant = _log_weights(parameters.weights, allowed) - 0.5 * (log_det + C * LOG_2PI)
    coefficients = np.empty((len(constant), K, 1 + C + quadratic.shape[-1]))
    coefficients[..., 0] = constant - 0.5 * np.einsum("kc,kc->k", linear, means)
    coefficients[..., 1 : 1 + C] = linear
    coefficients[..., 1 + C :] = quadratic
    # (|x| + |mu|)^2 / variance, with |mu| <= |x|; a prior's mean may lie further out.
    largest = max(reach, float(np.einsum("kc,kc->k", means, means).max()))
    steepest = float(precision.max())  # a diagonal element: the matrix is positive definite
    return Densities(coefficients, means, whitener, constant, 4.0 * largest * steepest)


def _log_weights(weights: Array, allowed: Tensor) -> Array:
    """``(R, K)`` as ``region_log_prior`` has it for each region value, but never -inf."""
    if len(allowed) == 1 and allowed.numpy().all():  # quicker than torch on so few
        with np.errstate(divide="ignore"):
            table = np.log(weights / weights.sum(-1, keepdims=True))[None]
    else:
        table = region_log_table(torch.from_numpy(weights), allowed).numpy()
    finite: Array = np.maximum(table, _FORBIDDEN)
    return finite


class MStep:
    """Parameters from feature sums, and what the prior adds to the bound.

    Args:
        centre: ``(C,)``, which was subtracted from the intensities.
        region_counts: ``(R,)`` voxels.
        allowed: ``(R, K)`` bool.
        covariance: type.
        variance_floor: added to every variance.
        prior: maximum a posteriori when given.
    """

    def __init__(
        self,
        centre: Array,
        region_counts: Array,
        allowed: Tensor,
        covariance: Covariance,
        variance_floor: float,
        prior: MapPrior | None,
    ) -> None:
        self._covariance = covariance
        self._diagonal = covariance in ("diag", "spherical")
        self._variance_floor = variance_floor
        self._counts, self._allowed = torch.from_numpy(region_counts), allowed
        self._fractions = weights_are_fractions(self._counts, allowed)
        total = float(region_counts.sum())
        self._prior = None if prior is None else _CentredPrior(prior, centre, total, self._diagonal)

    def __call__(self, sums: Array) -> Parameters:
        """Return parameters from feature sums ``(K, D)``."""
        n, sum_x, second = self._moments(sums)
        if self._prior is None:
            means, scatter, count = _ml(n, sum_x, second, self._diagonal)
        else:
            means, scatter, count = self._prior.map(n, sum_x, second)
        return Parameters(self._weights(n), means, self._shaped(scatter, count))

    def log_prior(self, parameters: Parameters) -> float:
        """Return ``log_map_prior`` of the mixture; 0 without a prior."""
        if self._prior is None:
            return 0.0
        value = self._prior.log_niw(parameters)
        if self._prior.given.a > 0:
            log_weights = region_log_weights(
                torch.from_numpy(parameters.weights), self._counts, self._allowed
            ).numpy()
            positive = self._prior.weights > 0
            expected = (self._prior.weights[positive] * log_weights[positive]).sum(-1)
            value = value + self._prior.given.a * self._prior.total * expected
        return float(value)

    def _moments(self, sums: Array) -> tuple[Array, Array, Array]:
        """``n (K,)``, ``sum_x (K, C)`` and second moments ``(K, C, C)``, or their diagonal ``(K, C)``."""
        D = sums.shape[1]
        C = (D - 1) // 2 if self._diagonal else int((np.sqrt(8 * D + 1) - 3) / 2)
        second = sums[..., 1 + C :]
        return (
            sums[..., 0],
            sums[..., 1 : 1 + C],
            second if self._diagonal else second[..., pair_positions(C)],
        )

    def _shaped(self, scatter: Array, count: Array) -> Array:
        """Return covariances of the type, with the variance floor."""
        if self._covariance == "tied":
            pooled = scatter.sum(0, keepdims=True) / count.sum()
            spread = np.repeat(pooled, len(scatter), axis=0)
        else:
            spread = scatter / _like(count, scatter)
        if self._covariance == "spherical":
            spread = np.repeat(spread.mean(-1, keepdims=True), spread.shape[-1], axis=-1)
        # A fresh array: it can be raised in place. Rounding leaves less than 0 beside a far outlier.
        variances = spread if self._diagonal else np.einsum("...ii->...i", spread)
        np.maximum(variances, 0.0, out=variances)
        variances += self._variance_floor
        return spread

    def _weights(self, n: Array) -> Array:
        total = n.sum()
        if self._prior is None and self._fractions and total:
            plain: Array = n / total
            return plain
        prior, counts = None if self._prior is None else self._prior.given, torch.from_numpy(n)
        if self._fractions:
            weights = class_fractions(counts, prior)
        else:
            weights = constrained_weights(counts, self._counts, self._allowed, prior=prior)
        return np.asarray(weights.numpy())


class _CentredPrior:
    """A prior over a mixture of ``total`` voxels whose intensities were centred."""

    def __init__(self, prior: MapPrior, centre: Array, total: float, diagonal: bool) -> None:
        self.given = prior.to(dtype=torch.float64, device="cpu")
        self.weights: Array = self.given.weights.detach().numpy()  # (K,)
        self.total = total
        self._means: Array = self.given.means.detach().numpy() - centre  # (K, C)
        spread = self.given.covariances.detach()
        self._spread: Array = (spread.diagonal(0, -2, -1) if diagonal else spread).numpy()
        self._diagonal = diagonal

    def map(self, n: Array, sum_x: Array, second: Array) -> tuple[Array, Array, Array]:
        """Return the maximum a posteriori: means, scatter, count."""
        total = n.sum(keepdims=True)
        kappa = self.given.kappa * total
        kappa = np.where(kappa > 0, kappa, EMPTY)
        pseudo = self.given.nu * total + sum_x.shape[-1] + 2
        means = (kappa[..., None] * self._means + sum_x) / (kappa + n)[..., None]
        scatter = second + _like(pseudo, second) * self._spread
        scatter = scatter + _like(n, second) * _square(means, self._diagonal)
        scatter = scatter - _symmetric(means, sum_x, self._diagonal)
        scatter = scatter + _like(kappa, second) * _square(means - self._means, self._diagonal)
        return means, scatter, pseudo + n

    def log_niw(self, parameters: Parameters) -> float:
        """Return the log normal-inverse-Wishart density up to a constant."""
        whitener, log_det = whiten(parameters.spread, self._diagonal)
        shift = parameters.means - self._means
        if self._diagonal:
            trace = (whitener**2 * self._spread).sum(-1)
            distance = ((whitener * shift) ** 2).sum(-1)
        else:
            trace = ((whitener @ self._spread) * whitener).sum((-2, -1))
            distance = ((whitener @ shift[..., None])[..., 0] ** 2).sum(-1)
        pseudo = self.given.nu * self.total + self._means.shape[-1] + 2
        return float(-0.5 * (pseudo * (log_det + trace) + self.given.kappa * self.total * distance).sum(-1))


def _ml(n: Array, sum_x: Array, second: Array, diagonal: bool) -> tuple[Array, Array, Array]:
    """Return the maximum likelihood: means, scatter, count."""
    if n.min() < WEAK:
        n, second = _with_pooled_ghost(n, second, diagonal)
    means = sum_x / n[..., None]
    return means, second - _like(n, second) * _square(means, diagonal), n


def _with_pooled_ghost(n: Array, second: Array, diagonal: bool) -> tuple[Array, Array]:
    """The vanishing share of the pooled voxels that ``m_step`` gives a class without voxels of its own.

    Their mean is 0: the intensities are centred.
    """
    C, total = second.shape[-1], n.sum()
    unit = np.ones(C) if diagonal else np.eye(C)
    pooled = second.sum(0, keepdims=True) / total if total > 0 else unit
    ghost = np.where(n < WEAK, EMPTY, 0.0)
    return n + ghost, second + _like(ghost, second) * pooled


def _like(values: Array, target: Array) -> Array:
    """``(K or 1,)`` with trailing axes for broadcasting."""
    return values.reshape(*values.shape, *[1] * (target.ndim - 1))


def _square(values: Array, diagonal: bool) -> Array:
    """``v v^T``, or its diagonal."""
    squared: Array = values * values if diagonal else values[..., :, None] * values[..., None, :]
    return squared


def _symmetric(a: Array, b: Array, diagonal: bool) -> Array:
    """``a b^T + b a^T``, or its diagonal."""
    if diagonal:
        doubled: Array = 2.0 * a * b
        return doubled
    product = a[..., :, None] * b[..., None, :]
    both: Array = product + product.swapaxes(-1, -2)
    return both
