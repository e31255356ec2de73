"""The M-step: ``updates.m_step`` and ``constrained_weights`` on feature sums, in centred intensities."""

from __future__ import annotations

import numpy as np
import torch

from mrigmm.mixture.class_weights import (
    class_fractions,
    constrained_weights,
    region_log_weights,
    weights_are_fractions,
)
from mrigmm.mixture.fast.parameters import Parameters, whiten
from mrigmm.mixture.fast.voxels import Array, Voxels
from mrigmm.mixture.features import pair_positions
from mrigmm.mixture.gaussian import Covariance
from mrigmm.mixture.map_prior import MapPrior
from mrigmm.mixture.updates import EMPTY, WEAK


class MStep:
    """Parameters from feature sums, and what the prior adds to the bound.

    Args:
        voxels: of S mixtures.
        covariance: type.
        variance_floor: added to every variance.
        prior: maximum a posteriori when given, shared by the mixtures.
    """

    def __init__(
        self, voxels: Voxels, covariance: Covariance, variance_floor: float, prior: MapPrior | None
    ) -> None:
        self._voxels = voxels
        self._covariance = covariance
        self._variance_floor = variance_floor
        self._counts = torch.from_numpy(voxels.region_counts)
        self._allowed = torch.from_numpy(voxels.allowed)
        self._fractions = weights_are_fractions(self._counts, self._allowed)
        self._prior = None if prior is None else _CentredPrior(prior, voxels)

    def __call__(self, sums: Array) -> Parameters:
        """Parameters from feature sums ``(S, K, D)``."""
        C, diagonal = self._voxels.n_sequences, self._voxels.diagonal
        n, sum_x, second = sums[..., 0], sums[..., 1 : 1 + C], sums[..., 1 + C :]
        if not diagonal:
            second = second[..., pair_positions(C)]
        if self._prior is None:
            means, scatter, count = _ml(n, sum_x, second, diagonal)
        else:
            means, scatter, count = self._prior.map(n, sum_x, second)
        return Parameters(self._weights(n), means, self._shaped(scatter, count))

    def log_prior(self, parameters: Parameters) -> Array | float:
        """``log_map_prior`` of each mixture, ``(S,)``; 0 without a prior."""
        if self._prior is None:
            return 0.0
        value = self._prior.log_niw(parameters)
        if self._prior.given.a > 0:
            log_weights = region_log_weights(
                torch.from_numpy(parameters.weights), self._counts, self._allowed
            ).numpy()
            positive = self._prior.weights > 0
            expected = (self._prior.weights[positive] * log_weights[:, positive]).sum(-1)
            value = value + self._prior.given.a * self._voxels.totals * expected
        return value

    def _shaped(self, scatter: Array, count: Array) -> Array:
        """Covariances of the type, with the variance floor."""
        if self._covariance == "tied":
            pooled = scatter.sum(1, keepdims=True) / count.sum(1)[:, None, None, None]
            spread = np.repeat(pooled, scatter.shape[1], axis=1)
        else:
            spread = scatter / _like(count, scatter)
        if self._covariance == "spherical":
            spread = np.repeat(spread.mean(-1, keepdims=True), spread.shape[-1], axis=-1)
        # A fresh array: it can be raised in place. Rounding leaves less than 0 beside a far outlier.
        variances = spread if self._voxels.diagonal else np.einsum("...ii->...i", spread)
        np.maximum(variances, 0.0, out=variances)
        variances += self._variance_floor
        return spread

    def _weights(self, n: Array) -> Array:
        total = n.sum(-1, keepdims=True)
        if self._prior is None and self._fractions and total.all():
            plain: Array = n / total
            return plain
        prior, counts = None if self._prior is None else self._prior.given, torch.from_numpy(n)
        if self._fractions:
            weights = class_fractions(counts, prior)
        else:
            weights = constrained_weights(counts, self._counts, self._allowed, prior=prior)
        return np.asarray(weights.numpy())


class _CentredPrior:
    """A prior over S mixtures whose intensities were centred."""

    def __init__(self, prior: MapPrior, voxels: Voxels) -> None:
        self.given = prior.to(dtype=torch.float64, device="cpu")
        self.weights: Array = self.given.weights.detach().numpy()  # (K,)
        self._means: Array = self.given.means.detach().numpy() - voxels.centre[:, None, :]  # (S, K, C)
        spread = self.given.covariances.detach()
        self._spread: Array = (spread.diagonal(0, -2, -1) if voxels.diagonal else spread).numpy()
        self._diagonal = voxels.diagonal
        self._totals = voxels.totals

    def map(self, n: Array, sum_x: Array, second: Array) -> tuple[Array, Array, Array]:
        """Maximum a posteriori: means, scatter, count."""
        total = n.sum(-1, keepdims=True)
        kappa = self.given.kappa * total
        kappa = np.where(kappa > 0, kappa, EMPTY)
        pseudo = self.given.nu * total + sum_x.shape[-1] + 2
        means = (kappa[..., None] * self._means + sum_x) / (kappa + n)[..., None]
        scatter = second + _like(pseudo, second) * self._spread
        scatter = scatter + _like(n, second) * _square(means, self._diagonal)
        scatter = scatter - _symmetric(means, sum_x, self._diagonal)
        scatter = scatter + _like(kappa, second) * _square(means - self._means, self._diagonal)
        return means, scatter, pseudo + n

    def log_niw(self, parameters: Parameters) -> Array:
        """Log normal-inverse-Wishart density up to a constant, ``(S,)``."""
        whitener, log_det = whiten(parameters.spread, self._diagonal)
        shift = parameters.means - self._means
        if self._diagonal:
            trace = (whitener**2 * self._spread).sum(-1)
            distance = ((whitener * shift) ** 2).sum(-1)
        else:
            trace = ((whitener @ self._spread) * whitener).sum((-2, -1))
            distance = ((whitener @ shift[..., None])[..., 0] ** 2).sum(-1)
        total = self._totals[:, None]
        pseudo = self.given.nu * total + self._means.shape[-1] + 2
        value: Array = -0.5 * (pseudo * (log_det + trace) + self.given.kappa * total * distance).sum(-1)
        return value


def _ml(n: Array, sum_x: Array, second: Array, diagonal: bool) -> tuple[Array, Array, Array]:
    """Maximum likelihood: means, scatter, count."""
    if n.min() < WEAK:
        n, second = _with_pooled_ghost(n, second, diagonal)
    means = sum_x / n[..., None]
    return means, second - _like(n, second) * _square(means, diagonal), n


def _with_pooled_ghost(n: Array, second: Array, diagonal: bool) -> tuple[Array, Array]:
    """The vanishing share of the pooled voxels that ``m_step`` gives a class without voxels of its own.

    Their mean is 0: the intensities are centred.
    """
    C = second.shape[-1]
    total = n.sum(-1).reshape(-1, *[1] * (second.ndim - 1))
    some = total > 0
    pooled = second.sum(1, keepdims=True) / np.where(some, total, 1.0)
    pooled = np.where(some, pooled, np.ones(C) if diagonal else np.eye(C))
    ghost = np.where(n < WEAK, EMPTY, 0.0)
    return n + ghost, second + _like(ghost, second) * pooled


def _like(values: Array, target: Array) -> Array:
    """``(S, K or 1)`` with trailing axes for broadcasting."""
    return values.reshape(*values.shape, *[1] * (target.ndim - 2))


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
