"""The inner loop of EM for many mixtures at once: two matrix products per iteration.

The log density of a Gaussian is linear in the features ``f(x) = [1, x, x x^T]`` and the sufficient statistics
are their responsibility-weighted sums. An E-step over packed voxels is therefore ``softmax(W f)`` and
``resp f^T``, in the images' precision on their device; the few parameters live in NumPy float64, where small
operations cost least. Same mathematics as ``log_gaussian``, ``statistics`` and ``m_step``, and tested equal.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from mrigmm.mixture.gaussian import LOG_2PI, Covariance, Mixture, cholesky, voxel_dtype
from mrigmm.mixture.updates import EMPTY, MapPrior, constrained_weights

Array = npt.NDArray[np.float64]

# Voxels per pass: features, logits and responsibilities of a chunk stay in the second-level cache.
_CHUNK = 32768

# Largest sum of squares that the features may cancel to a log density: rounding then stays below
# about 2e-3 in the worst voxel. Beyond it the next more careful formula takes over.
_REACH = {torch.float32: 3e4, torch.float64: 1e13}

# So many responsibilities, each at least 1 / K, are multiplied before taking a logarithm.
_PRODUCT = 8


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
        reach: ``(S, C)`` largest centred intensity.
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
    centre, reach = np.zeros((n_mixtures, C)), np.zeros((n_mixtures, C))
    for s in range(n_mixtures):
        own = rows[:, int(starts[s, 0]) : int(ends[s, -1])]
        if own.shape[1]:
            mean = own.mean(1, dtype=torch.float64)
            own -= mean[:, None].to(own.dtype)
            # What was subtracted, not what should have been.
            centre[s] = mean.to(own.dtype).cpu().numpy()
            low, high = own.aminmax(dim=1)
            reach[s] = torch.maximum(-low, high).cpu().numpy()
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
    reach: Array  # (S,), largest sum of squares that cancels


def _densities(parameters: Parameters, voxels: Voxels) -> _Densities:
    means, C = parameters.means, voxels.n_sequences
    whitener = _whitener(parameters.spread, voxels.diagonal)
    if voxels.diagonal:
        precision = variances_inverse = whitener * whitener
        linear = precision * means
        log_det = -2.0 * np.log(whitener).sum(-1)
        quadratic = -0.5 * precision
    else:
        precision = whitener.swapaxes(-1, -2) @ whitener
        linear = (precision @ means[..., None])[..., 0]
        log_det = -2.0 * np.log(np.diagonal(whitener, axis1=-2, axis2=-1)).sum(-1)
        variances_inverse = np.diagonal(precision, axis1=-2, axis2=-1)
        i, j = np.triu_indices(C)
        quadratic = -precision[..., i, j] * np.where(i == j, 0.5, 1.0)
    constant = -0.5 * (C * LOG_2PI + log_det + (linear * means).sum(-1))
    table = log_weights(parameters.weights, voxels.allowed)  # (S, R, K)
    S, R, K = table.shape
    coefficients = np.empty((S, R, K, 1 + C + quadratic.shape[-1]))
    coefficients[..., 0] = table + constant[:, None]
    coefficients[..., 1 : 1 + C] = linear[:, None]
    coefficients[..., 1 + C :] = quadratic[:, None]
    worst = (np.abs(means) + voxels.reach[:, None]) ** 2 * variances_inverse
    return _Densities(coefficients, whitener, log_det, worst.sum(-1).max(-1))


@dataclass(frozen=True)
class Workspace:
    """Buffers of one E-step, kept between iterations."""

    logits: Tensor
    resp: Tensor
    largest: Tensor
    sums: Tensor  # (segments, K, D)


def workspace(voxels: Voxels) -> Workspace:
    """Buffers that fit the longest segment."""
    K, D = voxels.allowed.shape[1], len(voxels.features)
    longest = max((s.voxels.stop - s.voxels.start for s in voxels.segments), default=0)
    new = voxels.features.new_empty
    return Workspace(new(K, longest), new(K, longest), new(longest), new(len(voxels.segments), K, D))


def _logits(
    voxels: Voxels, parameters: Parameters, densities: _Densities, segment: Segment
) -> tuple[Tensor, Tensor]:
    """``log pi + log N`` ``(K, m)`` in float64, and the features that go with it."""
    features = _more_exact(voxels, segment.voxels)
    s, r, C = segment.mixture, segment.region, voxels.n_sequences
    device = features.device
    coefficients = torch.from_numpy(densities.coefficients[s, r]).to(device)
    if densities.reach[s] <= _REACH[torch.float64]:
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
        voxels, both float64 and 0 where not active. Each chunk is summed in the voxels' precision, the chunks
        in float64.
    """
    densities = _densities(parameters, voxels)
    dtype = voxels.features.dtype
    plain = densities.reach <= _REACH[dtype]
    coefficients = torch.from_numpy(densities.coefficients).to(voxels.features)
    S, _, K, D = densities.coefficients.shape
    sums, log_likelihood = np.zeros((S, K, D)), np.zeros(S)
    used: list[int] = []
    partial: list[Tensor] = []
    for position, segment in enumerate(voxels.segments):
        s = segment.mixture
        if not active[s]:
            continue
        m = segment.voxels.stop - segment.voxels.start
        if plain[s]:
            features = voxels.features[:, segment.voxels]
            logits, resp = buffers.logits[:, :m], buffers.resp[:, :m]
            largest = buffers.largest[:m]
            torch.mm(coefficients[s, segment.region], features, out=logits)
            torch.softmax(logits, 0, out=resp)
            torch.mm(resp, features.mT, out=buffers.sums[position])
            used.append(position)
            partial.append(_log_evidence(logits, resp, largest))
        else:
            logits, features = _logits(voxels, parameters, densities, segment)
            resp = logits.softmax(0)
            sums[s] += (resp @ features.mT).cpu().numpy()
            log_likelihood[s] += float(logits.logsumexp(0).sum())
    if used:
        owners = np.array([voxels.segments[position].mixture for position in used])
        chunk_sums = buffers.sums if len(used) == len(buffers.sums) else buffers.sums[used]
        np.add.at(sums, owners, chunk_sums.cpu().numpy())
        np.add.at(log_likelihood, owners, torch.stack(partial).cpu().numpy())
    return sums, log_likelihood


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


def _log_evidence(logits: Tensor, resp: Tensor, largest: Tensor) -> Tensor:
    """``sum_n logsumexp_k logits`` as ``sum max logit - log prod max resp``: few logarithms."""
    m = logits.shape[1]
    torch.amax(logits, 0, out=largest)
    total = largest.sum(dtype=torch.float64)
    torch.amax(resp, 0, out=largest)
    grouped = m // _PRODUCT * _PRODUCT
    total = total - largest[:grouped].view(_PRODUCT, -1).prod(0).log_().sum(dtype=torch.float64)
    return total - largest[grouped:].log().sum(dtype=torch.float64)


def evaluate(voxels: Voxels, parameters: Parameters) -> tuple[Tensor, Tensor]:
    """Posterior ``(n, K)`` and log likelihood ``(n,)`` of the voxels in the order they were given."""
    densities = _densities(parameters, voxels)
    dtype, n = voxels.features.dtype, voxels.features.shape[1]
    coefficients = torch.from_numpy(densities.coefficients).to(voxels.features)
    resp = voxels.features.new_empty(n, voxels.allowed.shape[1])
    log_likelihood = voxels.features.new_empty(n)
    for segment in voxels.segments:
        s, own = segment.mixture, segment.voxels
        if densities.reach[s] <= _REACH[dtype]:
            logits = coefficients[s, segment.region] @ voxels.features[:, own]
        else:
            logits, _ = _logits(voxels, parameters, densities, segment)
        chunk = logits.softmax(0)
        evidence = logits.amax(0) - chunk.amax(0).log()
        target: slice | Tensor = own if voxels.order is None else voxels.order[own]
        resp[target] = chunk.mT.to(dtype)
        log_likelihood[target] = evidence.to(dtype)
    return resp, log_likelihood


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
        floored: Array = spread + (
            self.variance_floor if diagonal else self.variance_floor * np.eye(spread.shape[-1])
        )
        return floored

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
        positive = self.prior_weights > 0
        with np.errstate(divide="ignore"):
            log_pi = (self.prior_weights[positive] * np.log(parameters.weights[:, positive])).sum(-1)
        value: Array = log_niw.sum(-1) + (self.prior.a * total * log_pi if self.prior.a > 0 else 0.0)
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
    """Maximum likelihood with the vanishing pooled share of ``m_step``: means, scatter, count."""
    total = n.sum(-1)[:, None, None]
    some = total > 0
    safe = np.where(some, total, 1.0)
    pooled_x = sum_x.sum(1, keepdims=True) / safe
    unit = np.ones(sum_x.shape[-1]) if diagonal else np.eye(sum_x.shape[-1])
    extra = second.ndim - 3
    pooled = np.where(
        some.reshape(-1, *[1] * (2 + extra)),
        second.sum(1, keepdims=True) / safe.reshape(-1, *[1] * (2 + extra)),
        unit,
    )
    count = n + EMPTY
    means = (sum_x + EMPTY * pooled_x) / count[..., None]
    scatter = second + EMPTY * pooled - _like(count, second) * _square(means, diagonal)
    return means, scatter, count


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
    position = np.zeros((C, C), dtype=np.intp)
    i, j = np.triu_indices(C)
    position[i, j] = position[j, i] = np.arange(len(i))
    matrices: Array = pairs[..., position]
    return matrices
