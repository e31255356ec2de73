"""Means and covariances of the classes as an output of the network."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn.functional import adaptive_avg_pool2d, softplus

from mrigmm.mixture import Covariance

# Weight of the features outside the region, so that a slice without region has an average, too.
_ELSEWHERE = 1e-6


class ParameterHead(nn.Module):
    """A linear layer on the bottleneck's features, averaged over the region of a mixture's slices.

    `Sigma_k = L_k L_k^T + variance_floor I` with a positive diagonal of the lower triangle L, which is a
    diagonal matrix for `covariance="diag"`. The features are instance-normalised, so that their average
    over a whole slice says nothing; their average over the region does.

    Args:
        n_features: F, channels of the bottleneck.
        n_classes: K.
        n_sequences: C.
        covariance: "full" or "diag".
        variance_floor: smallest variance in any direction (z units squared).
    """

    def __init__(
        self, n_features: int, n_classes: int, n_sequences: int, covariance: Covariance, variance_floor: float
    ) -> None:
        super().__init__()
        self.n_classes, self.n_sequences = n_classes, n_sequences
        self.n_lower = n_sequences * (n_sequences - 1) // 2 if covariance == "full" else 0
        self.variance_floor = variance_floor
        self.linear = nn.Linear(n_features, n_classes * (2 * n_sequences + self.n_lower))

    def forward(
        self, features: Tensor, region: Tensor, mixture_index: Tensor, n_mixtures: int
    ) -> tuple[Tensor, Tensor]:
        """Return means (S, K, C) and covariances (S, K, C, C) of S mixtures.

        Args:
            features: (B, F, X', Y') of the bottleneck.
            region: (B, X, Y) codes, 0 outside.
            mixture_index: (B,) which mixture each slice belongs to, 0 to S-1.
            n_mixtures: S.
        """
        inside = (region > 0).to(features).unsqueeze(1)  # (B, 1, X, Y)
        rows, columns = features.shape[-2:]
        weights = adaptive_avg_pool2d(inside, (rows, columns)) + _ELSEWHERE

        def pooled(values: Tensor) -> Tensor:
            per_slice = values.sum(dim=(2, 3))
            return per_slice.new_zeros(n_mixtures, values.shape[1]).index_add(0, mixture_index, per_slice)

        raw = self.linear(pooled(features * weights) / pooled(weights))  # (S, K * (2 C + n_lower))
        means, spread, lower = raw.unflatten(-1, (self.n_classes, -1)).split(
            [self.n_sequences, self.n_sequences, self.n_lower], dim=-1
        )
        factor = torch.diag_embed(softplus(spread))  # (S, K, C, C)
        if self.n_lower:
            i, j = torch.tril_indices(self.n_sequences, self.n_sequences, -1, device=raw.device)
            factor[..., i, j] = lower
        floor = self.variance_floor * torch.eye(self.n_sequences, dtype=raw.dtype, device=raw.device)
        return means, factor @ factor.mT + floor
