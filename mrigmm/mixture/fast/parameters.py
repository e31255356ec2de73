"""The parameters of many mixtures as NumPy arrays, in centred intensities."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch

from mrigmm.mixture.fast.voxels import Array, Voxels
from mrigmm.mixture.gaussian import Mixture, cholesky, parameter_dtype


@dataclass(frozen=True)
class Parameters:
    """S mixtures in centred intensities, float64.

    Attributes:
        weights: ``(S, K)``.
        means: ``(S, K, C)``.
        spread: covariances ``(S, K, C, C)``, or variances ``(S, K, C)`` of a diagonal type.
    """

    weights: Array
    means: Array
    spread: Array


def from_mixture(mixture: Mixture, voxels: Voxels) -> Parameters:
    """Parameters ``(S, ...)`` in centred intensities, of mixtures ``(S, ...)`` or one for all."""
    weights, means, spread = (
        value.detach().cpu().double().numpy()
        for value in (mixture.weights, mixture.means, mixture.covariances)
    )
    if voxels.diagonal:
        spread = np.diagonal(spread, axis1=-2, axis2=-1)
    S = voxels.n_mixtures
    K, C = means.shape[-2:]
    return Parameters(
        np.broadcast_to(weights, (S, K)).copy(),
        means - voxels.centre[:, None, :],
        np.broadcast_to(spread, (S, K, C) if voxels.diagonal else (S, K, C, C)),
    )


def to_mixture(parameters: Parameters, voxels: Voxels, device: torch.device) -> Mixture:
    """The mixtures ``(S, ...)`` in the intensities' own units."""
    spread = parameters.spread
    if voxels.diagonal:
        spread = spread[..., None] * np.eye(spread.shape[-1])
    values = (parameters.weights, parameters.means + voxels.centre[:, None, :], spread)
    dtype = parameter_dtype(device)
    weights, means, covariances = (torch.from_numpy(v.copy()).to(device=device, dtype=dtype) for v in values)
    return Mixture(weights, means, covariances)


def where(chosen: npt.NDArray[np.bool_], one: Parameters, other: Parameters) -> Parameters:
    """``one`` for the chosen mixtures ``(S,)``, ``other`` for the rest."""
    if chosen.all():
        return one
    return Parameters(
        np.where(chosen[:, None], one.weights, other.weights),
        np.where(chosen[:, None, None], one.means, other.means),
        np.where(chosen.reshape(-1, *[1] * (one.spread.ndim - 1)), one.spread, other.spread),
    )


def whiten(spread: Array, diagonal: bool) -> tuple[Array, Array]:
    """``A`` with ``A^T A = Sigma^-1`` and ``log |Sigma|`` ``(S, K)``.

    A is lower triangular ``(S, K, C, C)``, or its diagonal ``(S, K, C)`` where Sigma is diagonal.
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
