"""First responsibilities of EM (k-means++ or random), and the classes of fitted components."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from mrigmm.mixture.gaussian import Mixture
from mrigmm.mixture.population import PopulationPrior

Start = Literal["kmeans++", "random"]

_LLOYD_ITERATIONS = 20


def random_responsibilities(allowed: Tensor, generator: torch.Generator) -> Tensor:
    """Uniform random responsibilities over the allowed classes, as scikit-learn's ``init_params="random"``.

    Args:
        allowed: ``(N, K)`` bool.
        generator: on the CPU, so that a seed means the same on every device.

    Returns:
        ``(N, K)`` float64, rows sum to 1.
    """
    # 1 - rand is never 0.
    draws = 1.0 - torch.rand(allowed.shape, generator=generator, dtype=torch.float64)
    draws = draws.to(allowed.device) * allowed
    return draws / draws.sum(-1, keepdim=True)


def kmeans_responsibilities(x: Tensor, allowed: Tensor, generator: torch.Generator) -> Tensor:
    """Hard k-means assignment started by k-means++ (Arthur and Vassilvitskii 2007).

    The seed of class k is drawn among the voxels that may be class k, with a probability proportional to
    the squared distance to the nearest seed that they may belong to.

    Args:
        x: ``(N, C)`` finite, N > 0.
        allowed: ``(N, K)`` bool.
        generator: on the CPU.

    Returns:
        ``(N, K)`` float64 one-hot rows.
    """
    x = x.to(torch.float64)
    centres = _kmeans_seeds(x, allowed, generator)
    labels = _nearest(x, centres, allowed)
    for _ in range(_LLOYD_ITERATIONS):
        one_hot = torch.nn.functional.one_hot(labels, allowed.shape[1]).to(x.dtype)
        count = one_hot.sum(0)[:, None]
        centres = torch.where(count > 0, one_hot.mT @ x / count.clamp_min(1.0), centres)
        before, labels = labels, _nearest(x, centres, allowed)
        if torch.equal(before, labels):
            break
    return torch.nn.functional.one_hot(labels, allowed.shape[1]).to(x.dtype)


def _kmeans_seeds(x: Tensor, allowed: Tensor, generator: torch.Generator) -> Tensor:
    distance = torch.ones(len(x), dtype=x.dtype, device=x.device)
    nearest = torch.full_like(distance, torch.inf)
    seeds = []
    for k in range(allowed.shape[1]):
        probability = (distance * allowed[:, k]).cumsum(0)
        if not bool(probability[-1] > 0):  # identical voxels, or a class that is allowed nowhere
            probability = torch.ones_like(distance).cumsum(0)
        draw = torch.rand(1, generator=generator, dtype=torch.float64).to(x.device) * probability[-1]
        chosen = torch.searchsorted(probability, draw, right=True).clamp_max(len(x) - 1)
        seed = x[chosen[0]]
        seeds.append(seed)
        to_seed = (x - seed).square().sum(-1)
        nearest = torch.where(allowed[:, k], torch.minimum(nearest, to_seed), nearest)
        # A voxel that no seed may own yet counts like the first draw.
        distance = torch.where(nearest.isinf(), 1.0, nearest)
    return torch.stack(seeds)


def _nearest(x: Tensor, centres: Tensor, allowed: Tensor) -> Tensor:
    distance = torch.stack([(x - centre).square().sum(-1) for centre in centres], dim=-1)
    return torch.where(allowed, distance, torch.inf).argmin(-1)


def match_to_prior(mixture: Mixture, prior: PopulationPrior) -> list[int]:
    """Return components in the order of the prior's classes, by the cheapest one-to-one assignment.

    The cost of component j as class k is the squared Mahalanobis distance
    ``(mu_j - m_k)^T Sigma_0k^-1 (mu_j - m_k)``: no label of the study is used.

    Args:
        mixture: one mixture, means ``(K, C)``.
        prior: K classes over the same C sequences.

    Returns:
        Entry k is the component that is class k: ``mixture.permute(match_to_prior(...))`` has the
        prior's order.

    Raises:
        ValueError: another number of classes or sequences.
    """
    means = mixture.means.detach().cpu().double().numpy()
    if means.shape != prior.means.shape:
        raise ValueError(f"expected means {prior.means.shape} as in the prior, got {means.shape}")
    offset = means[None, :, :] - prior.means[:, None, :]  # (class, component, C)
    precision = np.linalg.inv(prior.covariances)
    cost = np.einsum("kjc,kcd,kjd->kj", offset, precision, offset)
    from scipy.optimize import linear_sum_assignment  # takes long to import

    _, components = linear_sum_assignment(cost)
    return [int(component) for component in components]


def order_by_channels(means: Tensor, channels: Sequence[int]) -> list[int]:
    """Return components in ascending order of the sum of some sequences' means.

    Args:
        means: ``(K, C)``.
        channels: sequences to add up, for instance LGE and T2, in which pathology is bright.
    """
    score = means.detach()[:, list(channels)].sum(-1)
    return [int(component) for component in score.argsort(stable=True)]
