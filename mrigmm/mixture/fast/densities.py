"""From parameters to log densities: the coefficients ``W`` of the features, and the careful formula."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from mrigmm.mixture.fast.parameters import Parameters, whiten
from mrigmm.mixture.fast.voxels import Array, Segment, Voxels
from mrigmm.mixture.features import REACH, pair_factors, pairs
from mrigmm.mixture.gaussian import LOG_2PI
from mrigmm.mixture.objectives import region_log_table

# Log weight of a class that is not allowed: no voxel makes up for it, and unlike -inf it may be
# multiplied by 0 inside a matrix product.
_FORBIDDEN = -1e30


@dataclass(frozen=True)
class Densities:
    """What the E-step needs of the parameters.

    Attributes:
        coefficients: ``(S, R, K, D)``, ``log pi_nk + log N(x_n | k)`` per feature.
        means: ``(S, K, C)``.
        whitener: ``(S, K, C, C)``, or its diagonal ``(S, K, C)``.
        constant: ``(S, R, K)``, ``log pi - (C log 2 pi + log |Sigma|) / 2``.
        reach: ``(S,)``, a bound on the squares that cancel in ``coefficients @ features``.
    """

    coefficients: Array
    means: Array
    whitener: Array
    constant: Array
    reach: Array

    def within_reach(self, dtype: torch.dtype) -> np.typing.NDArray[np.bool_]:
        """Which mixtures ``(S,)`` the features are exact enough for."""
        return self.reach <= REACH[dtype]


def densities(parameters: Parameters, voxels: Voxels) -> Densities:
    """Log densities as a linear function of the features (``features.coefficients``)."""
    means, C = parameters.means, voxels.n_sequences
    whitener, log_det = whiten(parameters.spread, voxels.diagonal)
    if voxels.diagonal:
        precision = whitener * whitener
        linear = precision * means
        quadratic = -0.5 * precision
    else:
        precision = whitener.swapaxes(-1, -2) @ whitener
        linear = (precision @ means[..., None])[..., 0]
        i, j = pairs(C)
        quadratic = precision[..., i, j] * pair_factors(C)
    constant = _log_weights(parameters.weights, voxels) - 0.5 * (log_det + C * LOG_2PI)[:, None]
    S, R, K = constant.shape
    coefficients = np.empty((S, R, K, len(voxels.features)))
    coefficients[..., 0] = constant - 0.5 * np.einsum("skc,skc->sk", linear, means)[:, None]
    coefficients[..., 1 : 1 + C] = linear[:, None]
    coefficients[..., 1 + C :] = quadratic[:, None]
    # (|x| + |mu|)^2 / variance, with |mu| <= |x|; a prior's mean may lie further out.
    largest = np.maximum(voxels.reach, np.einsum("skc,skc->sk", means, means).max(-1))
    steepest = precision.reshape(S, -1).max(-1)  # a diagonal element: the matrix is positive definite
    return Densities(coefficients, means, whitener, constant, 4.0 * largest * steepest)


def _log_weights(weights: Array, voxels: Voxels) -> Array:
    """``(S, R, K)`` as ``region_log_prior`` has it for each region value, but never -inf."""
    if voxels.unconstrained:
        with np.errstate(divide="ignore"):
            table = np.log(weights / weights.sum(-1, keepdims=True))[:, None]
    else:
        table = region_log_table(torch.from_numpy(weights), torch.from_numpy(voxels.allowed)).numpy()
    finite: Array = np.maximum(table, _FORBIDDEN)
    return finite


def logits_in_float64(voxels: Voxels, given: Densities, segment: Segment) -> tuple[Tensor, Tensor]:
    """``log pi + log N`` ``(K, m)`` and features ``(D, m)`` of one segment, exact whatever its reach."""
    features = voxels.features_in_float64(segment.voxels)
    s, r, C = segment.mixture, segment.region, voxels.n_sequences

    def tensor(values: Array) -> Tensor:
        return torch.from_numpy(values).to(features.device)

    if given.within_reach(torch.float64)[s]:
        return tensor(given.coefficients[s, r]) @ features, features
    # Differences first: exact however far an outlier lies.
    whitener, means, constant = (
        tensor(given.whitener[s]),
        tensor(given.means[s]),
        tensor(given.constant[s, r]),
    )
    offset = features[1 : 1 + C] - means[..., None]  # (K, C, m)
    white = whitener[..., None] * offset if voxels.diagonal else whitener @ offset
    return constant[:, None] - 0.5 * white.square().sum(1), features
