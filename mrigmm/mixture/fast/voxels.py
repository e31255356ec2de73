"""Voxels of many mixtures: sorted, centred and expanded to features once, before EM starts."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from mrigmm.mixture.features import pairs, write_products
from mrigmm.mixture.gaussian import Covariance, voxel_dtype

Array = npt.NDArray[np.float64]
Counts = npt.NDArray[np.integer[Any]]

# Voxels per pass: features, logits and responsibilities of a chunk stay in the second-level cache.
CHUNK = 32768


@dataclass(frozen=True)
class Segment:
    """A run of at most ``CHUNK`` voxels of one mixture and one region value."""

    mixture: int
    region: int
    voxels: slice

    @property
    def size(self) -> int:
        """Voxels."""
        return int(self.voxels.stop - self.voxels.start)


@dataclass(frozen=True)
class Voxels:
    """Voxels of S mixtures, sorted by mixture and region value, as features.

    Attributes:
        features: ``(D, n)``: 1, the C centred intensities, their products (diagonal: squares).
        centre: ``(S, C)`` mean intensity of each mixture's voxels, which was subtracted.
        reach: ``(S,)`` sum over the sequences of the squared largest centred intensity.
        segments: in the order of the columns of ``features``.
        order: ``(n,)`` position of each column among the voxels as they were given; None: the same.
        region_counts: ``(S, R)`` voxels.
        totals: ``(S,)`` voxels.
        allowed: ``(R, K)`` bool.
        unconstrained: whether there is one region value and it allows every class.
        diagonal: whether the products are squares only.
    """

    features: Tensor
    centre: Array
    reach: Array
    segments: tuple[Segment, ...]
    order: Tensor | None
    region_counts: Array
    totals: Array
    allowed: npt.NDArray[np.bool_]
    unconstrained: bool
    diagonal: bool

    @property
    def n_mixtures(self) -> int:
        """S."""
        return self.centre.shape[0]

    @property
    def n_sequences(self) -> int:
        """C."""
        return self.centre.shape[1]

    def no_sums(self) -> Array:
        """Feature sums of nothing, ``(S, K, D)``."""
        return np.zeros((self.n_mixtures, self.allowed.shape[1], len(self.features)))

    def features_in_float64(self, columns: slice) -> Tensor:
        """Features of a chunk ``(D, m)``, the products computed in float64 too."""
        C = self.n_sequences
        chunk = self.features[:, columns].double()
        _write_second_moments(chunk[1 : 1 + C], self.diagonal, chunk[1 + C :])
        return chunk


def prepare(
    x: Tensor,
    index: Tensor | None,
    n_mixtures: int,
    allowed: Tensor,
    region: Tensor | None,
    covariance: Covariance,
) -> Voxels:
    """Sort, centre and expand voxels.

    Args:
        x: ``(n, C)`` finite intensities.
        index: ``(n,)`` mixture of each voxel; all 0 when None.
        n_mixtures: S.
        allowed: ``(R, K)`` bool.
        region: ``(n,)`` region value of each voxel; all 0 when None.
        covariance: type, which decides the features.
    """
    n, C = x.shape
    order, counts = _sorted(n, index, region, n_mixtures, len(allowed), x.device)
    diagonal = covariance in ("diag", "spherical")
    products = C if diagonal else len(pairs(C)[0])
    features = x.new_empty(1 + C + products, n, dtype=voxel_dtype(x))
    features[0] = 1.0
    rows = features[1 : 1 + C]
    rows.copy_(x.mT if order is None else x[order].mT)
    totals, classes = counts.sum(-1), allowed.cpu().numpy()
    centre, reach = _centre(rows, totals)
    _write_second_moments(rows, diagonal, features[1 + C :])
    return Voxels(
        features,
        centre,
        reach,
        _segments(counts),
        order,
        counts.astype(np.float64),
        totals.astype(np.float64),
        classes,
        len(classes) == 1 and bool(classes.all()),
        diagonal,
    )


def _sorted(
    n: int, index: Tensor | None, region: Tensor | None, S: int, R: int, device: torch.device
) -> tuple[Tensor | None, Counts]:
    """The order by mixture and region value, None if it is that already; and the counts ``(S, R)``."""
    if S * R == 1:
        return None, np.array([[n]])
    key = torch.zeros(n, dtype=torch.long, device=device) if index is None else index * R
    key = key if region is None else key + region
    counts: Counts = torch.bincount(key, minlength=S * R).reshape(S, R).cpu().numpy()
    in_order = not bool((key[1:] < key[:-1]).any())
    return (None if in_order else key.argsort(stable=True)), counts


def _segments(counts: Counts) -> tuple[Segment, ...]:
    """Runs of at most ``CHUNK`` voxels, of counts ``(S, R)``."""
    segments, begin = [], 0
    for (mixture, region), count in np.ndenumerate(counts):
        end = begin + int(count)
        for first in range(begin, end, CHUNK):
            segments.append(Segment(mixture, region, slice(first, min(first + CHUNK, end))))
        begin = end
    return tuple(segments)


def _centre(rows: Tensor, totals: Counts) -> tuple[Array, Array]:
    """Subtract each mixture's mean in place; the means ``(S, C)`` and the reach ``(S,)``."""
    centre, reach = np.zeros((len(totals), len(rows))), np.zeros(len(totals))
    ends = totals.cumsum()
    for s in totals.nonzero()[0].tolist():
        own = rows[:, int(ends[s] - totals[s]) : int(ends[s])]
        # What is subtracted, not what should be.
        mean = own.mean(1, dtype=torch.float64).to(own.dtype)
        own -= mean[:, None]
        centre[s] = mean.cpu().numpy()
        reach[s] = float(own.abs().amax(1).double().square().sum())
    return centre, reach


def _write_second_moments(rows: Tensor, diagonal: bool, out: Tensor) -> None:
    """Squares, or products of all pairs, of intensities ``(C, n)``."""
    if diagonal:
        torch.mul(rows, rows, out=out)
    else:
        write_products(rows, out)
