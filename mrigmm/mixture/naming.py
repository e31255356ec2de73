"""Assign fitted components to tissue classes."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from torch import Tensor

from mrigmm.mixture.gaussian import Mixture
from mrigmm.mixture.population import PopulationPrior


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
