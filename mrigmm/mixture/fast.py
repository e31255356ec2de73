"""The inner loop of EM for many mixtures at once: two matrix products per iteration.

The log density of a Gaussian is linear in the features ``f(x) = [1, x, x x^T]`` and the sufficient statistics
are their responsibility-weighted sums. An E-step over packed voxels is therefore ``softmax(W f)`` and
``resp f^T``, in the images' precision on their device; the few parameters live in NumPy float64, where small
operations cost least. Same mathematics as ``log_gaussian``, ``statistics`` and ``m_step``, and tested equal.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from itertools import pairwise
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from mrigmm.mixture.features import REACH
from mrigmm.mixture.gaussian import LOG_2PI, Covariance, Mixture, cholesky, voxel_dtype
from mrigmm.mixture.updates import EMPTY, WEAK, MapPrior, constrained_weights, region_log_weights

Array = npt.NDArray[np.float64]
Values = npt.NDArray[Any]  # in the voxels' precision

# Voxels per pass: features, logits and responsibilities of a chunk stay in the second-level cache.
_CHUNK = 32768


# Log weight of a class that is not allowed: no voxel makes up for it, and unlike -inf it may be
# multiplied by 0 inside a matrix product.
_FORBIDDEN = -1e30


@dataclass(frozen=True)
class Segment:
    """A run of at most ``_CHUNK`` voxels of one mixture and one region value."""

    mixture: int
    region: int
    voxels: slice


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
        allowed: ``(R, K)`` bool.
        diagonal: whether the products are squares only.
    """

    features: Tensor
    centre: Array
    reach: Array
    segments: tuple[Segment, ...]
    order: Tensor | None
    region_counts: Array
    allowed: npt.NDArray[np.bool_]
    diagonal: bool

    @property
    def n_sequences(self) -> int:
        """C."""
        return self.centre.shape[1]


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
    R = len(allowed)
    order: Tensor | None = None
    counts = np.array([[n]]) if n_mixtures * R == 1 else None
    if counts is None:
        key = torch.zeros(n, dtype=torch.long, device=x.device) if index is None else index * R
        key = key if region is None else key + region
        counts = torch.bincount(key, minlength=n_mixtures * R).reshape(n_mixtures, R).cpu().numpy()
        if bool((key[1:] < key[:-1]).any()):
            order = key.argsort(stable=True)
            x = x[order]
    ends = counts.ravel().cumsum().reshape(counts.shape)
    starts = ends - counts
    segments = tuple(
        Segment(s, r, slice(first, min(first + _CHUNK, int(ends[s, r]))))
        for s in range(n_mixtures)
        for r in range(R)
        for first in range(int(starts[s, r]), int(ends[s, r]), _CHUNK)
    )
    diagonal = covariance in ("diag", "spherical")
    products = C if diagonal else C * (C + 1) // 2
    features = x.new_empty(1 + C + products, n, dtype=voxel_dtype(x))
    features[0] = 1.0
    rows = features[1 : 1 + C]
    rows.copy_(x.mT)
    centre, reach = np.zeros((n_mixtures, C)), np.zeros(n_mixtures)
    for s in range(n_mixtures):
        own = rows[:, int(starts[s, 0]) : int(ends[s, -1])]
        if own.shape[1]:
            mean = own.mean(1, dtype=torch.float64)
            own -= mean[:, None].to(own.dtype)
            # What was subtracted, not what should have been.
            centre[s] = mean.to(own.dtype).cpu().numpy()
            reach[s] = float(own.abs().amax(1).double().square().sum())
    _products(rows, diagonal, out=features[1 + C :])
    return Voxels(
        features, centre, reach, segments, order, counts.astype(np.float64), allowed.cpu().numpy(), diagonal
    )


def _products(rows: Tensor, diagonal: bool, *, out: Tensor) -> None:
    """Squares, or products of the pairs i <= j, of intensities ``(C, n)``."""
    C = len(rows)
    if diagonal:
        torch.mul(rows, rows, out=out)
        return
    row = 0
    for i in range(C):
        torch.mul(rows[i], rows[i:], out=out[row : row + C - i])
        row += C - i


def _more_exact(voxels: Voxels, columns: slice) -> Tensor:
    """Features of a chunk in float64, products included."""
    C = voxels.n_sequences
    chunk = voxels.features[:, columns].double()
    _products(chunk[1 : 1 + C], voxels.diagonal, out=chunk[1 + C :])
    return chunk


def from_mixture(mixture: Mixture, voxels: Voxels) -> Parameters:
    """Parameters ``(S, ...)`` in centred intensities, of mixtures ``(S, ...)`` or one for all."""
    weights, means, spread = (
        value.detach().cpu().double().numpy()
        for value in (mixture.weights, mixture.means, mixture.covariances)
    )
    if voxels.diagonal:
        spread = np.diagonal(spread, axis1=-2, axis2=-1)
    S = len(voxels.centre)
    K, C = means.shape[-2:]
    return Parameters(
        np.broadcast_to(weights, (S, K)),
        means - voxels.centre[:, None, :],
        np.broadcast_to(spread, (S, K, *[C] * (spread.ndim - means.ndim + 1))),
    )


def to_mixture(parameters: Parameters, voxels: Voxels, device: torch.device) -> Mixture:
    """The mixtures ``(S, ...)`` in the intensities' own units."""
    spread = parameters.spread
    if voxels.diagonal:
        spread = spread[..., None] * np.eye(spread.shape[-1])
    values = (parameters.weights, parameters.means + voxels.centre[:, None, :], spread)
    dtype = torch.float32 if device.type == "mps" else torch.float64
    weights, means, covariances = (torch.from_numpy(v.copy()).to(device=device, dtype=dtype) for v in values)
    return Mixture(weights, means, covariances)


def _whitener(spread: Array, diagonal: bool) -> Array:
    """``A`` with ``A^T A = Sigma^-1``; its diagonal ``(S, K, C)`` where Sigma is diagonal."""
    if diagonal:
        inverse_sd: Array = 1.0 / np.sqrt(spread)
        return inverse_sd
    try:
        factor = np.linalg.cholesky(spread)
    except np.linalg.LinAlgError:
        factor = cholesky(torch.from_numpy(spread)).numpy()
    whitener: Array = np.linalg.inv(factor)
    return whitener


def log_weights(weights: Array, allowed: npt.NDArray[np.bool_]) -> Array:
    """``(S, R, K)`` as ``region_log_prior`` has it for each region value."""
    if len(allowed) == 1 and allowed.all():
        with np.errstate(divide="ignore"):
            everywhere: Array = np.log(weights)[:, None, :]
            return everywhere
    masses = np.where(allowed, weights[:, None, :], 0.0)
    total = masses.sum(-1, keepdims=True)
    masses = np.where(total > 0, masses, allowed)
    with np.errstate(divide="ignore", invalid="ignore"):
        table: Array = np.log(masses / masses.sum(-1, keepdims=True))
    return table


@dataclass(frozen=True)
class _Densities:
    """What the E-step needs of the parameters."""

    coefficients: Array  # (S, R, K, D)
    whitener: Array  # (S, K, C, C) or (S, K, C)
    log_det: Array  # (S, K), of Sigma
    reach: Array  # (S,), a bound on the squares that cancel


def _densities(parameters: Parameters, voxels: Voxels) -> _Densities:
    means, C = parameters.means, voxels.n_sequences
    whitener = _whitener(parameters.spread, voxels.diagonal)
    table = log_weights(parameters.weights, voxels.allowed)  # (S, R, K)
    S, R, K = table.shape
    coefficients = np.empty((S, R, K, voxels.features.shape[0]))
    if voxels.diagonal:
        precision = whitener * whitener
        linear = precision * means
        log_det = -2.0 * np.log(whitener).sum(-1)
        coefficients[..., 1 + C :] = -0.5 * precision[:, None]
    else:
        precision = whitener.swapaxes(-1, -2) @ whitener
        linear = (precision @ means[..., None])[..., 0]
        log_det = -2.0 * np.log(whitener.diagonal(0, -2, -1)).sum(-1)
        flat = precision.reshape(S, K, C * C)
        position, factor = _pairs(C)
        coefficients[..., 1 + C :] = (flat[..., position] * factor)[:, None]
    coefficients[..., 1 : 1 + C] = linear[:, None]
    constant = log_det + (linear * means).sum(-1) + C * LOG_2PI
    coefficients[..., 0] = np.maximum(table, _FORBIDDEN) - 0.5 * constant[:, None]
    # (|x| + |mu|)^2 / variance, with |mu| <= |x|; a prior's mean may lie further out.
    largest = np.maximum(voxels.reach, (means * means).sum(-1).max(-1))
    steepest = precision.reshape(S, -1).max(-1)  # a diagonal element: the matrix is positive definite
    return _Densities(coefficients, whitener, log_det, 4.0 * largest * steepest)


@cache
def _pairs(C: int) -> tuple[npt.NDArray[np.intp], Array]:
    """Where the pairs i <= j stand in a flattened matrix, and their factor in ``-x^T P x / 2``."""
    i, j = np.triu_indices(C)
    return i * C + j, np.where(i == j, -0.5, -1.0)


@dataclass(frozen=True)
class _TorchBlock:
    """Neighbouring segments that share the operations in which voxels do not meet; on any device."""

    segments: range
    table: list[int]  # mixture * R + region value, per segment
    starts: npt.NDArray[np.intp]  # of the segments within the block
    features: list[Tensor]  # (D, m) per segment
    logits: Tensor  # (K, width)
    resp: Tensor
    sums: Tensor  # (segments, K, D)

    def run(self, coefficients: Tensor, used: list[int]) -> Array:
        """Fill ``sums`` of the used segments; returns each segment's log likelihood."""
        spans = [slice(a, b) for a, b in pairwise([*self.starts.tolist(), self.logits.shape[1]])]
        for i in used:
            torch.mm(coefficients[self.table[i]], self.features[i], out=self.logits[:, spans[i]])
        torch.softmax(self.logits, 0, out=self.resp)
        for i in used:
            torch.mm(self.resp[:, spans[i]], self.features[i].mT, out=self.sums[i])
        evidence = _log_evidence(self.logits, self.resp)
        return np.array([float(evidence[span].sum(dtype=torch.float64)) for span in spans])


@dataclass(frozen=True)
class _NumpyBlock:
    """The same on the CPU, where NumPy's smaller overhead and faster exponential halve the time."""

    table: list[int]
    starts: npt.NDArray[np.intp]
    features: list[Values]
    features_t: list[Values]
    logits: Values
    logits_parts: list[Values]  # per segment
    resp: Values
    resp_parts: list[Values]
    sums: list[Values]
    one: bool  # a single segment

    @classmethod
    def of(cls, block: _TorchBlock) -> _NumpyBlock:
        """Views of the same memory."""
        features = [chunk.numpy() for chunk in block.features]
        logits, resp = block.logits.numpy(), block.resp.numpy()
        cuts = block.starts[1:]
        return cls(
            block.table,
            block.starts,
            features,
            [chunk.T for chunk in features],
            logits,
            np.split(logits, cuts, axis=1),
            resp,
            np.split(resp, cuts, axis=1),
            list(block.sums.numpy()),
            len(features) == 1,
        )

    def run(self, coefficients: Values, used: list[int]) -> Array:
        """As ``_TorchBlock.run``."""
        logits, resp = self.logits, self.resp
        for i in used:
            np.matmul(coefficients[self.table[i]], self.features[i], out=self.logits_parts[i])
        evidence = logits.max(0)
        np.subtract(logits, evidence, out=logits)
        np.exp(logits, out=resp)
        total = resp.sum(0)
        np.divide(resp, total, out=resp)
        for i in used:
            np.matmul(self.resp_parts[i], self.features_t[i], out=self.sums[i])
        np.log(total, out=total)
        evidence += total
        if self.one:
            return evidence.sum(dtype=np.float64, keepdims=True)
        sums: Array = np.add.reduceat(evidence, self.starts, dtype=np.float64)
        return sums


@dataclass(frozen=True)
class Workspace:
    """Buffers of the E-step, kept between iterations."""

    blocks: Sequence[_NumpyBlock | _TorchBlock]
    spans: list[range]  # segments of each block
    sums: Tensor  # (segments, K, D)
    log_likelihood: Array  # (segments,)
    mixture: list[int]  # of each segment


def workspace(voxels: Voxels) -> Workspace:
    """Group the segments into blocks of at most ``_CHUNK`` voxels and lay out the buffers."""
    K, D = voxels.allowed.shape[1], len(voxels.features)
    lengths = [segment.voxels.stop - segment.voxels.start for segment in voxels.segments]
    groups: list[list[int]] = []
    filled = _CHUNK
    for position, length in enumerate(lengths):
        if filled + length > _CHUNK:
            groups.append([])
            filled = 0
        groups[-1].append(position)
        filled += length
    widths = [sum(lengths[position] for position in group) for group in groups]
    widest = max(widths, default=0)
    zeros = voxels.features.new_zeros
    logits, resp, sums = zeros(K, widest), zeros(K, widest), zeros(len(lengths), K, D)
    R = len(voxels.allowed)
    blocks = []
    for group, width in zip(groups, widths, strict=True):
        segments = range(group[0], group[-1] + 1)
        members = [voxels.segments[position] for position in segments]
        blocks.append(
            _TorchBlock(
                segments,
                [segment.mixture * R + segment.region for segment in members],
                np.cumsum([0, *[lengths[position] for position in group[:-1]]]),
                [voxels.features[:, segment.voxels] for segment in members],
                logits[:, :width],
                resp[:, :width],
                sums[segments.start : segments.stop],
            )
        )
    return Workspace(
        [_NumpyBlock.of(block) for block in blocks] if _on_cpu(voxels) else blocks,
        [block.segments for block in blocks],
        sums,
        np.zeros(len(lengths)),
        [segment.mixture for segment in voxels.segments],
    )


def _on_cpu(voxels: Voxels) -> bool:
    return voxels.features.device.type == "cpu"


def _logits(
    voxels: Voxels, parameters: Parameters, densities: _Densities, segment: Segment
) -> tuple[Tensor, Tensor]:
    """``log pi + log N`` ``(K, m)`` in float64, and the features that go with it."""
    features = _more_exact(voxels, segment.voxels)
    s, r, C = segment.mixture, segment.region, voxels.n_sequences
    device = features.device
    coefficients = torch.from_numpy(densities.coefficients[s, r]).to(device)
    if densities.reach[s] <= REACH[torch.float64]:
        return coefficients @ features, features
    # Differences first: exact however far an outlier lies.
    means, whitener = (torch.from_numpy(v[s]).to(device) for v in (parameters.means, densities.whitener))
    offset = features[1 : 1 + C] - means[..., None]  # (K, C, m)
    white = whitener[..., None] * offset if voxels.diagonal else whitener @ offset
    log_prior = log_weights(parameters.weights[s : s + 1], voxels.allowed)[0, r]
    constant = torch.from_numpy(log_prior - 0.5 * (C * LOG_2PI + densities.log_det[s])).to(device)
    return constant[:, None] - 0.5 * white.square().sum(1), features


def e_step(
    voxels: Voxels, parameters: Parameters, buffers: Workspace, active: npt.NDArray[np.bool_]
) -> tuple[Array, Array]:
    """Statistics and log likelihoods of the active mixtures.

    Returns:
        ``(S, K, D)`` responsibility-weighted sums of the features and ``(S,)`` log likelihoods summed over
        voxels, both float64; what they hold for the others is meaningless. Each segment is summed in the
        voxels' precision, the segments in float64.
    """
    densities = _densities(parameters, voxels)
    plain = densities.reach <= REACH[voxels.features.dtype]
    working = (active & plain).tolist()
    table = densities.coefficients.reshape(-1, *densities.coefficients.shape[2:])
    if _on_cpu(voxels):
        coefficients: Any = table.astype(np.float64 if voxels.features.dtype == torch.float64 else np.float32)
    else:
        coefficients = torch.from_numpy(table).to(voxels.features)
    for block, span in zip(buffers.blocks, buffers.spans, strict=True):
        used = [i for i, position in enumerate(span) if working[buffers.mixture[position]]]
        if used:
            buffers.log_likelihood[span.start : span.stop] = block.run(coefficients, used)
    chunk_sums = buffers.sums.cpu().numpy()
    if len(active) == 1:
        sums = chunk_sums.sum(0, dtype=np.float64, keepdims=True)
        log_likelihood = buffers.log_likelihood.sum(keepdims=True)
    else:
        sums, log_likelihood = no_sums(voxels), np.zeros(len(active))
        np.add.at(sums, buffers.mixture, chunk_sums)
        np.add.at(log_likelihood, buffers.mixture, buffers.log_likelihood)
    for s in (active & ~plain).nonzero()[0].tolist():
        sums[s], log_likelihood[s] = _careful(voxels, parameters, densities, s)
    return sums, log_likelihood


def _careful(
    voxels: Voxels, parameters: Parameters, densities: _Densities, mixture: int
) -> tuple[Array, float]:
    """The E-step of one mixture in float64."""
    sums, log_likelihood = no_sums(voxels)[0], 0.0
    for segment in voxels.segments:
        if segment.mixture == mixture:
            logits, features = _logits(voxels, parameters, densities, segment)
            sums += (logits.softmax(0) @ features.mT).cpu().numpy()
            log_likelihood += float(logits.logsumexp(0).sum())
    return sums, log_likelihood


def _log_evidence(logits: Tensor, resp: Tensor) -> Tensor:
    """``logsumexp_k logits`` of each voxel as ``max logit - log max resp``: no second exponential.

    The largest responsibility is 1 / K at least, so that its logarithm is accurate.
    """
    return logits.amax(0) - resp.amax(0).log()


def no_sums(voxels: Voxels) -> Array:
    """Feature sums of nothing, ``(S, K, D)``."""
    return np.zeros((len(voxels.centre), voxels.allowed.shape[1], len(voxels.features)))


def feature_sums(voxels: Voxels, resp: Tensor) -> Array:
    """Feature sums ``(S, K, D)`` under responsibilities ``(n, K)`` in the order the voxels were given."""
    sums = no_sums(voxels)
    for segment in voxels.segments:
        own = segment.voxels
        rows = resp[own] if voxels.order is None else resp[voxels.order[own]]
        features = _more_exact(voxels, own)
        sums[segment.mixture] += (rows.mT.to(features) @ features.mT).cpu().numpy()
    return sums


def evaluate(voxels: Voxels, parameters: Parameters) -> tuple[Tensor, Tensor]:
    """Posterior ``(n, K)`` and log likelihood ``(n,)`` of the voxels in the order they were given."""
    densities = _densities(parameters, voxels)
    dtype, n = voxels.features.dtype, voxels.features.shape[1]
    coefficients = torch.from_numpy(densities.coefficients).to(voxels.features)
    resp = voxels.features.new_empty(voxels.allowed.shape[1], n)
    log_likelihood = voxels.features.new_empty(n)
    for segment in voxels.segments:
        s, own = segment.mixture, segment.voxels
        if densities.reach[s] <= REACH[dtype]:
            logits = coefficients[s, segment.region] @ voxels.features[:, own]
            torch.softmax(logits, 0, out=resp[:, own])
            log_likelihood[own] = _log_evidence(logits, resp[:, own])
        else:
            logits, _ = _logits(voxels, parameters, densities, segment)
            resp[:, own] = logits.softmax(0).to(dtype)
            log_likelihood[own] = logits.logsumexp(0).to(dtype)
    if voxels.order is not None:
        back = voxels.order.argsort()
        return resp[:, back].mT, log_likelihood[back]
    return resp.mT, log_likelihood


@dataclass(frozen=True)
class Updater:
    """The M-step of ``m_step`` and ``constrained_weights`` on feature sums, for centred intensities."""

    covariance: Covariance
    variance_floor: float
    prior: MapPrior | None
    prior_means: Array  # (S, K, C), centred; empty without a prior
    prior_spread: Array  # (K, C, C) or (K, C)
    prior_weights: Array  # (K,)
    separate_weights: bool  # the regions share no class, or are all alike

    @classmethod
    def build(
        cls, voxels: Voxels, covariance: Covariance, variance_floor: float, prior: MapPrior | None
    ) -> Updater:
        """An M-step for these voxels."""
        occurring = voxels.allowed[voxels.region_counts.sum(0) > 0]
        separate = bool((occurring.sum(0) <= 1).all() or (occurring == occurring[:1]).all())
        if prior is None:
            nothing = np.empty(0)
            return cls(covariance, variance_floor, None, nothing, nothing, nothing, separate)
        means, spread, weights = (
            value.detach().cpu().double().numpy() for value in (prior.means, prior.covariances, prior.weights)
        )
        if voxels.diagonal:
            spread = np.diagonal(spread, axis1=-2, axis2=-1)
        centred = means - voxels.centre[:, None, :]
        return cls(covariance, variance_floor, prior, centred, spread, weights, separate)

    def __call__(self, sums: Array, voxels: Voxels) -> Parameters:
        """Parameters from feature sums ``(S, K, D)``."""
        C, diagonal = voxels.n_sequences, voxels.diagonal
        n, sum_x, second = sums[..., 0], sums[..., 1 : 1 + C], sums[..., 1 + C :]
        if not diagonal:
            second = _unpacked(second, C)
        if self.prior is None:
            means, scatter, count = _ml(n, sum_x, second, diagonal)
        else:
            means, scatter, count = self._map(self.prior, n, sum_x, second, diagonal)
        return Parameters(self._weights(n, voxels), means, self._shaped(scatter, count, diagonal))

    def _map(
        self, prior: MapPrior, n: Array, sum_x: Array, second: Array, diagonal: bool
    ) -> tuple[Array, Array, Array]:
        total = n.sum(-1, keepdims=True)
        kappa = prior.kappa * total
        kappa = np.where(kappa > 0, kappa, EMPTY)
        pseudo = prior.nu * total + sum_x.shape[-1] + 2
        means = (kappa[..., None] * self.prior_means + sum_x) / (kappa + n)[..., None]
        scatter = second + _like(pseudo, second) * self.prior_spread
        scatter = scatter + _like(n, second) * _square(means, diagonal)
        scatter = scatter - _symmetric(means, sum_x, diagonal)
        scatter = scatter + _like(kappa, second) * _square(means - self.prior_means, diagonal)
        return means, scatter, pseudo + n

    def _shaped(self, scatter: Array, count: Array, diagonal: bool) -> Array:
        if self.covariance == "tied":
            pooled = scatter.sum(1, keepdims=True) / count.sum(1)[:, None, None, None]
            spread = np.repeat(pooled, scatter.shape[1], axis=1)
        else:
            spread = scatter / _like(count, scatter)
        if self.covariance == "spherical":
            spread = np.repeat(spread.mean(-1, keepdims=True), spread.shape[-1], axis=-1)
        if diagonal:
            return spread + self.variance_floor
        # A fresh array: its diagonal can be raised in place.
        np.einsum("...ii->...i", spread)[...] += self.variance_floor
        return spread

    def _weights(self, n: Array, voxels: Voxels) -> Array:
        if not self.separate_weights:
            weights = [
                constrained_weights(
                    torch.from_numpy(own),
                    torch.from_numpy(counts),
                    torch.from_numpy(voxels.allowed),
                    prior=None if self.prior is None else self.prior.to(device="cpu"),
                ).numpy()
                for own, counts in zip(n, voxels.region_counts, strict=True)
            ]
            return np.stack(weights)
        total = n.sum(-1, keepdims=True)
        some = total > 0
        if self.prior is None:
            if some.all():
                plain: Array = n / total
                return plain
            return np.where(some, n / np.where(some, total, 1.0), 1.0 / n.shape[-1])
        a = np.where(some, self.prior.a * total, 1.0)
        weights_map: Array = (n + a * self.prior_weights) / (total + a)
        return weights_map

    def log_prior(self, parameters: Parameters, voxels: Voxels) -> Array:
        """``log_map_prior`` of each mixture, ``(S,)``; 0 without a prior."""
        if self.prior is None:
            return np.zeros(len(parameters.weights))
        whitener = _whitener(parameters.spread, voxels.diagonal)
        shift = parameters.means - self.prior_means
        if voxels.diagonal:
            log_det = -2.0 * np.log(whitener).sum(-1)
            trace = (whitener**2 * self.prior_spread).sum(-1)
            distance = (whitener * shift).__pow__(2).sum(-1)
        else:
            log_det = -2.0 * np.log(np.diagonal(whitener, axis1=-2, axis2=-1)).sum(-1)
            trace = ((whitener @ self.prior_spread) * whitener).sum((-2, -1))
            distance = ((whitener @ shift[..., None])[..., 0] ** 2).sum(-1)
        total = voxels.region_counts.sum(-1)
        pseudo = self.prior.nu * total + voxels.n_sequences + 2
        log_niw = -0.5 * (pseudo[:, None] * (log_det + trace) + self.prior.kappa * total[:, None] * distance)
        value: Array = log_niw.sum(-1)
        if self.prior.a > 0:
            log_weights = region_log_weights(
                torch.from_numpy(parameters.weights.copy()),
                torch.from_numpy(voxels.region_counts),
                torch.from_numpy(voxels.allowed),
            ).numpy()
            positive = self.prior_weights > 0
            expected = (self.prior_weights[positive] * log_weights[:, positive]).sum(-1)
            value = value + self.prior.a * total * expected
        return value


def keep(old: Parameters, new: Parameters, active: npt.NDArray[np.bool_]) -> Parameters:
    """New parameters of the active mixtures, old ones of the others."""
    if active.all():
        return new
    return Parameters(
        np.where(active[:, None], new.weights, old.weights),
        np.where(active[:, None, None], new.means, old.means),
        np.where(active.reshape(-1, *[1] * (old.spread.ndim - 1)), new.spread, old.spread),
    )


def _ml(n: Array, sum_x: Array, second: Array, diagonal: bool) -> tuple[Array, Array, Array]:
    """Maximum likelihood: means, scatter, count."""
    if n.min() < WEAK:
        n, sum_x, second = _with_pooled_ghost(n, sum_x, second, diagonal)
    means = sum_x / n[..., None]
    return means, second - _like(n, second) * _square(means, diagonal), n


def _with_pooled_ghost(n: Array, sum_x: Array, second: Array, diagonal: bool) -> tuple[Array, Array, Array]:
    """The vanishing share of the pooled voxels that ``m_step`` gives a class without voxels of its own."""
    total = n.sum(-1)[:, None, None]
    some = total > 0
    safe = np.where(some, total, 1.0)
    unit = np.ones(sum_x.shape[-1]) if diagonal else np.eye(sum_x.shape[-1])
    shape = (-1, *[1] * (second.ndim - 1))
    pooled = second.sum(1, keepdims=True) / safe.reshape(shape)
    pooled = np.where(some.reshape(shape), pooled, unit)
    ghost = np.where(n < WEAK, EMPTY, 0.0)
    mean = sum_x.sum(1, keepdims=True) / safe
    return n + ghost, sum_x + ghost[..., None] * mean, second + _like(ghost, second) * pooled


def _like(values: Array, target: Array) -> Array:
    """``(S, K or 1)`` with trailing axes for broadcasting."""
    return values.reshape(*values.shape, *[1] * (target.ndim - 2))


def _square(values: Array, diagonal: bool) -> Array:
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


def _unpacked(pairs: Array, C: int) -> Array:
    """Symmetric matrices ``(..., C, C)`` from the products of pairs i <= j."""
    matrices: Array = pairs[..., _pair_position(C)]
    return matrices


@cache
def _pair_position(C: int) -> npt.NDArray[np.intp]:
    position = np.zeros((C, C), dtype=np.intp)
    i, j = np.triu_indices(C)
    position[i, j] = position[j, i] = np.arange(len(i))
    return position
