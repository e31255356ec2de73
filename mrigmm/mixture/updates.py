"""M-steps: maximum likelihood and maximum a posteriori, for every covariance type; and of class weights
where the region says which classes are allowed.
"""

from __future__ import annotations

import torch
from torch import Tensor

from mrigmm.mixture.gaussian import (
    COVARIANCES,
    Covariance,
    Mixture,
    parameter_dtype,
    safe_log,
    without_missing,
)
from mrigmm.mixture.moments import Statistics
from mrigmm.mixture.population import MapPrior

# Of the minorise-maximise steps.
_ITERATIONS = 200
_TOLERANCE = 1e-12


def class_fractions(n: Tensor, prior: MapPrior | None) -> Tensor:
    """``(n + a pi_0) / (N + a)``; a mixture without voxels gets ``pi_0``, or equal weights."""
    total = n.sum(-1, keepdim=True)
    if prior is None:
        return torch.where(total > 0, n / torch.where(total > 0, total, 1.0), 1.0 / n.shape[-1])
    a = torch.where(total > 0, prior.a * total, 1.0)
    return (n + a * prior.weights) / (total + a)


def weights_are_fractions(region_counts: Tensor, allowed: Tensor) -> bool:
    """Return whether the best weights are plain class fractions.

    They are where the region values that occur share no class, or are all alike.

    Args:
        region_counts: ``(..., R)`` voxels per region value.
        allowed: ``(R, K)`` bool.
    """
    occurring = allowed[(region_counts > 0).reshape(-1, len(allowed)).any(0)]
    return bool((occurring.sum(0) <= 1).all()) or bool((occurring == occurring[:1]).all())


def constrained_weights(
    n: Tensor, region_counts: Tensor, allowed: Tensor, *, prior: MapPrior | None = None
) -> Tensor:
    r"""Return class weights where the region says which classes are allowed, ``(..., K)``.

    A voxel of region r has ``pi_k = w_k / sum_{j in A_r} w_j``, so the M-step maximises
    ``sum_k n'_k log w_k - sum_r N'_r log sum_{j in A_r} w_j``, n' and N' with the prior's pseudo-voxels.
    Where the regions share no class the maximum is the plain ``(n + a pi_0) / (N + a)``; else it is
    found by the minorise-maximise step ``w_k = n'_k / sum_{r: k in A_r} (N'_r / W_r)`` (Hunter 2004).

    Args:
        n: ``(..., K)`` voxels per class.
        region_counts: ``(..., R)`` voxels per region value.
        allowed: ``(R, K)`` bool.
        prior: adds ``a N pi_0`` pseudo-voxels, spread over the regions that allow their class.
    """
    weights = class_fractions(n, prior)
    counts = region_counts.to(n.dtype)
    membership = allowed.to(n.dtype)  # (R, K)
    if prior is not None:
        pseudo = prior.a * n.sum(-1, keepdim=True) * prior.weights.to(n)
        home = counts @ membership  # (..., K) voxels that may be class k
        share = torch.where(home > 0, pseudo / torch.where(home > 0, home, 1.0), 0.0)
        n = n + pseudo
        counts = counts * (1.0 + share @ membership.mT)
    if weights_are_fractions(region_counts, allowed):
        return weights
    for _ in range(_ITERATIONS):
        mass = weights @ membership.mT  # (..., R)
        rate = torch.where(mass > 0, counts / torch.where(mass > 0, mass, 1.0), 0.0) @ membership
        new = torch.where(rate > 0, n / torch.where(rate > 0, rate, 1.0), weights)
        new = new / new.sum(-1, keepdim=True)
        change, weights = (new - weights).abs().max(), new
        if bool(change < _TOLERANCE):
            break
    return weights


def region_log_weights(weights: Tensor, region_counts: Tensor, allowed: Tensor) -> Tensor:
    """Return the mean log class weight over the voxels that may be the class, ``(..., K)``.

    ``sum_{r: k in A_r} N_r log(w_k / W_r) / sum_{r: k in A_r} N_r``, which is what the prior's pseudo-voxels
    of class k see; ``log w_k`` without a constraint, 0 for a class that may be nowhere.

    Args:
        weights: ``(..., K)``.
        region_counts: ``(..., R)`` voxels per region value.
        allowed: ``(R, K)`` bool.
    """
    counts, membership = region_counts.to(weights.dtype), allowed.to(weights.dtype)
    mass = weights @ membership.mT  # (..., R)
    log_mass = torch.where(mass > 0, mass, 1.0).log()
    home = counts @ membership  # (..., K)
    share = (counts * log_mass) @ membership / torch.where(home > 0, home, 1.0)
    return torch.where(home > 0, safe_log(weights) - share, 0.0)


# Added to every variance, in squared units of a z-score: a thirtieth of a standard deviation.
VARIANCE_FLOOR = 1e-3

# A class with fewer voxels than WEAK also gets EMPTY voxels of the whole mixture: far below what a
# responsibility can mean, far above what would overflow in a gradient.
WEAK = 1.0
EMPTY = 1e-9


def _outer(a: Tensor, b: Tensor) -> Tensor:
    return a[..., :, None] * b[..., None, :]


def _scatter(stats: Statistics, means: Tensor) -> Tensor:
    """``sum_n r_nk (x_n - mu_k)(x_n - mu_k)^T``, ``(..., K, C, C)``."""
    cross = _outer(means, stats.sum_x)
    return stats.sum_xx - cross - cross.mT + stats.n[..., None, None] * _outer(means, means)


def shaped(scatter: Tensor, count: Tensor, covariance: Covariance) -> Tensor:
    """Return the covariances of a type that maximise ``-count log|Sigma| / 2 - tr(Sigma^-1 scatter) / 2``.

    Args:
        scatter: ``(..., K, C, C)``.
        count: ``(..., K)``, positive.
        covariance: the type; ``tied`` sums scatter and count over the classes first.
    """
    C = scatter.shape[-1]
    if covariance == "full":
        return scatter / count[..., None, None]
    if covariance == "tied":
        pooled = scatter.sum(-3, keepdim=True) / count.sum(-1)[..., None, None, None]
        return pooled.expand_as(scatter)
    variances = scatter.diagonal(dim1=-2, dim2=-1) / count[..., None]
    if covariance == "spherical":
        variances = variances.mean(-1, keepdim=True).expand(*variances.shape[:-1], C)
    return torch.diag_embed(variances)


def _with_pooled_ghost(stats: Statistics) -> Statistics:
    """Return statistics in which a class without voxels owns a vanishing share of the whole mixture's.

    It then has the pooled mean and covariance, with a bounded gradient. A mixture without voxels has mean 0
    and unit covariance.
    """
    C = stats.sum_x.shape[-1]
    total = stats.n.sum(-1)[..., None, None]
    any_voxel = total > 0
    safe = torch.where(any_voxel, total, 1.0)
    identity = torch.eye(C, dtype=total.dtype, device=total.device)
    mean = stats.sum_x.sum(-2, keepdim=True) / safe
    second = torch.where(any_voxel[..., None], stats.sum_xx.sum(-3, keepdim=True) / safe[..., None], identity)
    few = torch.where(stats.n < WEAK, EMPTY, 0.0).to(stats.n)
    return Statistics(
        stats.n + few, stats.sum_x + few[..., None] * mean, stats.sum_xx + few[..., None, None] * second
    )


def _ml(stats: Statistics, covariance: Covariance) -> tuple[Tensor, Tensor]:
    if bool((stats.n < WEAK).any()):
        stats = _with_pooled_ghost(stats)
    means = stats.sum_x / stats.n[..., None]
    return means, shaped(_scatter(stats, means), stats.n, covariance)


def _map(
    stats: Statistics, prior: MapPrior, n_present: Tensor | int, covariance: Covariance
) -> tuple[Tensor, Tensor]:
    total = stats.n.sum(-1)[..., None]  # (..., 1)
    kappa, nu = prior.kappa * total, prior.nu * total
    kappa = torch.where(kappa > 0, kappa, EMPTY)
    means = (kappa[..., None] * prior.means + stats.sum_x) / (kappa + stats.n)[..., None]
    shift = means - prior.means
    pseudo = nu + n_present + 2
    scatter = (
        pseudo[..., None, None] * prior.covariances
        + _scatter(stats, means)
        + kappa[..., None, None] * _outer(shift, shift)
    )
    return means, shaped(scatter, pseudo + stats.n, covariance)


def m_step(
    stats: Statistics,
    *,
    covariance: Covariance = "full",
    variance_floor: float = VARIANCE_FLOOR,
    prior: MapPrior | None = None,
    present: Tensor | None = None,
) -> Mixture:
    r"""Return the mixture that maximises the expected log likelihood, or log posterior with a prior.

    Maximum likelihood: ``mu = sum r x / n``, ``Sigma = sum r (x - mu)(x - mu)^T / n``, ``pi = n / N``.
    Maximum a posteriori, with ``kappa``, ``nu``, ``a`` as shares of N::

        mu    = (kappa N m + sum r x) / (kappa N + n)
        Sigma = [Psi + sum r (x - mu)(x - mu)^T + kappa N (mu - m)(mu - m)^T] / (nu N + n + C + 2)
        Psi   = (nu N + C + 2) Sigma_0
        pi    = (n + a N pi_0) / (N + a N)

    Other covariance types maximise the same function within their family. Differentiable, and never
    NaN: a class without voxels takes the pooled mean and covariance of its mixture, or the prior.

    Args:
        stats: sums of one mixture per leading batch entry.
        covariance: ``full``, ``diag``, ``tied`` (one matrix for all classes) or ``spherical``.
        variance_floor: added to every variance afterwards, in squared intensity units.
        prior: maximum a posteriori when given.
        present: ``(..., C)`` bool, the sequences that exist. The others' rows and columns are dropped
            (C counts the present ones) and come back as mean 0 or m and an uncorrelated block.

    Returns:
        The mixture in float64, whatever the images' dtype.

    Raises:
        ValueError: an unknown covariance type, or a prior of another shape.
    """
    if covariance not in COVARIANCES:
        raise ValueError(f"expected a covariance type out of {COVARIANCES}, got {covariance!r}")
    K, C = stats.sum_x.shape[-2:]
    exact = parameter_dtype(stats.n.device)
    stats = Statistics(stats.n.to(exact), stats.sum_x.to(exact), stats.sum_xx.to(exact))
    n_present: Tensor | int = C
    if prior is not None:
        if prior.means.shape != (K, C):
            raise ValueError(f"expected a prior with means {(K, C)}, got {tuple(prior.means.shape)}")
        prior = prior.to(dtype=exact, device=stats.n.device)
    with torch.autocast(stats.n.device.type, enabled=False):
        if present is not None:
            stats = _marginal(stats, present)
            n_present = present.sum(-1)[..., None]
        if prior is None:
            means, covariances = _ml(stats, covariance)
        else:
            means, covariances = _map(stats, prior, n_present, covariance)
        # Rounding leaves less than 0 beside a far outlier.
        lacking = (-covariances.diagonal(dim1=-2, dim2=-1)).clamp_min(0.0)
        covariances = covariances + torch.diag_embed(lacking + variance_floor)
        if present is not None:
            covariances = _fill_missing(covariances, present, prior)
            missing_mean = torch.zeros_like(means) if prior is None else prior.means.expand_as(means)
            means = torch.where(present[..., None, :], means, missing_mean)
        return Mixture(class_fractions(stats.n, prior), means, covariances)


def _marginal(stats: Statistics, present: Tensor) -> Statistics:
    """Return statistics with zeros for the missing sequences."""
    both = (present[..., :, None] & present[..., None, :])[..., None, :, :]
    return Statistics(
        stats.n, torch.where(present[..., None, :], stats.sum_x, 0.0), torch.where(both, stats.sum_xx, 0.0)
    )


def _fill_missing(covariances: Tensor, present: Tensor, prior: MapPrior | None) -> Tensor:
    """Return covariances whose missing rows and columns are the prior's block, or the identity."""
    kept = without_missing(covariances, present)
    if prior is None:
        return kept
    absent = (~present[..., :, None] & ~present[..., None, :])[..., None, :, :]
    return torch.where(absent, prior.covariances, kept)
