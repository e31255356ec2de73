"""The E-step: responsibilities, and what the M-step needs of them."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from mrigmm.mixture.fast.blocks import Workspace, log_evidence
from mrigmm.mixture.fast.densities import Densities, densities, logits_in_float64
from mrigmm.mixture.fast.parameters import Parameters
from mrigmm.mixture.fast.voxels import Array, Voxels


def e_step(
    voxels: Voxels, parameters: Parameters, buffers: Workspace, active: npt.NDArray[np.bool_]
) -> tuple[Array, Array]:
    """Statistics and log likelihoods of the active mixtures.

    Returns:
        ``(S, K, D)`` responsibility-weighted sums of the features and ``(S,)`` log likelihoods summed over
        voxels, both float64; what they hold for the others is meaningless. Each segment is summed in the
        voxels' precision, the segments in float64.
    """
    given = densities(parameters, voxels)
    plain = given.within_reach(voxels.features.dtype)
    working = (active & plain).tolist()
    table = given.coefficients.reshape(-1, *given.coefficients.shape[2:])
    for span, block in buffers.blocks:
        used = [i for i, segment in enumerate(span) if working[buffers.mixture[segment]]]
        if used:
            buffers.log_likelihood[span.start : span.stop] = block.run(table, used)
    sums, log_likelihood = _per_mixture(voxels, buffers)
    for s in (active & ~plain).nonzero()[0].tolist():
        sums[s], log_likelihood[s] = _careful(voxels, given, s)
    return sums, log_likelihood


def _per_mixture(voxels: Voxels, buffers: Workspace) -> tuple[Array, Array]:
    """The segments' sums and log likelihoods added up in float64."""
    by_segment = buffers.sums.cpu().numpy()
    if voxels.n_mixtures == 1:
        return by_segment.sum(0, dtype=np.float64, keepdims=True), buffers.log_likelihood.sum(keepdims=True)
    sums, log_likelihood = voxels.no_sums(), np.zeros(voxels.n_mixtures)
    np.add.at(sums, buffers.mixture, by_segment)
    np.add.at(log_likelihood, buffers.mixture, buffers.log_likelihood)
    return sums, log_likelihood


def _careful(voxels: Voxels, given: Densities, mixture: int) -> tuple[Array, float]:
    """The E-step of one mixture in float64."""
    sums, log_likelihood = voxels.no_sums()[0], 0.0
    for segment in voxels.segments:
        if segment.mixture == mixture:
            logits, features = logits_in_float64(voxels, given, segment)
            sums += (logits.softmax(0) @ features.mT).cpu().numpy()
            log_likelihood += float(logits.logsumexp(0).sum())
    return sums, log_likelihood


def feature_sums(voxels: Voxels, resp: Tensor) -> Array:
    """Feature sums ``(S, K, D)`` under responsibilities ``(n, K)`` in the order the voxels were given."""
    sums = voxels.no_sums()
    for segment in voxels.segments:
        own = segment.voxels
        rows = resp[own] if voxels.order is None else resp[voxels.order[own]]
        features = voxels.features_in_float64(own)
        sums[segment.mixture] += (rows.mT.to(features) @ features.mT).cpu().numpy()
    return sums


def evaluate(voxels: Voxels, parameters: Parameters) -> tuple[Tensor, Tensor]:
    """Posterior ``(n, K)`` and log likelihood ``(n,)`` of the voxels in the order they were given."""
    given, features = densities(parameters, voxels), voxels.features
    plain = given.within_reach(features.dtype)
    coefficients = torch.from_numpy(given.coefficients).to(features)
    resp = features.new_empty(voxels.allowed.shape[1], features.shape[1])
    log_likelihood = features.new_empty(features.shape[1])
    for segment in voxels.segments:
        s, own = segment.mixture, segment.voxels
        if plain[s]:
            logits = coefficients[s, segment.region] @ features[:, own]
        else:
            logits, _ = logits_in_float64(voxels, given, segment)
        posterior = logits.softmax(0)
        resp[:, own] = posterior
        log_likelihood[own] = log_evidence(logits, posterior)
    if voxels.order is not None:
        back = voxels.order.argsort()
        return resp[:, back].mT, log_likelihood[back]
    return resp.mT, log_likelihood
