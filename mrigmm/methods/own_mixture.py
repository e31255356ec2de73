"""The study's own mixture with class probabilities as spatial prior: a spatially variant mixture."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from mrigmm.data.study_tensors import StudyTensors, packed
from mrigmm.methods.base import class_log_density, responsible_mixture, unpack
from mrigmm.mixture import Mixture, smooth_posterior

ITERATIONS = 5
_SMOOTHING_MM = 1.5
_LOWEST = 1e-4  # no network is certain of what it has not seen


@dataclass(frozen=True)
class OwnFit:
    """EM of the spatially variant mixture `sum_k pi_k(x) N(x | k)` with pi given.

    Attributes:
        resp: (K, X, Y, Z) responsibilities, smoothed in plane inside the region; 0 outside.
        mixture: one, with the mean responsibilities as weights.
        nll_v: mean over voxels of `-log sum_k pi_k(x) N(x | k)`.
    """

    resp: Tensor
    mixture: Mixture
    nll_v: float


def own_fit(study: StudyTensors, region: Tensor, prior: Tensor) -> OwnFit:
    """Fit the study's class means and covariances, from the prior's own responsibilities.

    Args:
        study: the study.
        region: (X, Y, Z) codes; classes that a code forbids have probability 0 in `prior`.
        prior: (K, X, Y, Z) probabilities, sum 1 inside the region.
    """
    x, observed = replace(study, region=region).present_voxels()
    x = x.double()
    pi = packed(prior, region).T.double()  # (N, K)
    log_pi = torch.where(pi > 0, pi.clamp_min(_LOWEST), pi).log()  # a forbidden class stays so
    resp = pi
    mixture = responsible_mixture(x, resp, observed)
    for _ in range(ITERATIONS):
        resp = (log_pi + class_log_density(x, mixture, observed)).softmax(dim=1)
        mixture = responsible_mixture(x, resp, observed)
    nll_v = -(log_pi + class_log_density(x, mixture, observed)).logsumexp(dim=1).mean()
    smooth = smooth_posterior(
        unpack(resp.float(), region), region.long(), sigma_mm=_SMOOTHING_MM, spacing_mm=study.spacing_mm
    )
    return OwnFit(smooth, mixture, float(nll_v))
