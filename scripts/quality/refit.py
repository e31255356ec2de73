"""One likelihood for all methods: that of a plain Gaussian mixture refitted from their responsibilities."""

from __future__ import annotations

import torch
from torch import Tensor

from mrigmm.mixture import log_gaussian, m_step, nll, safe_log, statistics


def refit_nll(x: Tensor, resp: Tensor) -> float:
    """Return negative log likelihood per voxel (nats) of the full-covariance mixture that goes with `resp`.

    One maximum-likelihood M-step without prior, then `-mean_n log sum_k pi_k N(x_n | k)` with one weight
    per class (`NLL`, not `NLL_V`) and without anatomy constraint. Methods with different models can be
    compared by it when `x` is the same: the same voxels, sequences and standardisation.

    Args:
        x: (N, C) intensities.
        resp: (N, K) responsibilities, rows sum to 1. A class without voxels has no part in it.

    Raises:
        ValueError: when the number of voxels differs, or rows do not sum to 1.
    """
    if len(x) != len(resp):
        raise ValueError(f"{len(x)} voxels but responsibilities of {len(resp)}")
    x, resp = x.double(), resp.double()
    if not torch.allclose(resp.sum(1), torch.ones(len(resp), dtype=resp.dtype), atol=1e-3):
        raise ValueError("the responsibilities of a voxel must sum to 1")
    mixture = m_step(statistics(x, resp), covariance="full")
    density = log_gaussian(x, mixture.means, mixture.covariances)  # (N, K)
    inside = torch.ones(len(x), dtype=torch.bool)
    return float(nll(safe_log(mixture.weights)[None], density, inside))
