"""Mixtures whose labels form a Potts field: neighbours of the same region value attract each other.

Volumes are ``(..., X, Y, Z)`` with the slices along the last axis; neighbours are those in plane unless told
otherwise, and count by their distance in mm.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import partial

import torch
from torch import Tensor

from mrigmm.mixture.gaussian import Covariance, Mixture, log_gaussian, parameter_dtype, voxel_dtype
from mrigmm.mixture.moments import statistics
from mrigmm.mixture.objectives import region_log_prior
from mrigmm.mixture.population import MapPrior, log_map_prior
from mrigmm.mixture.problem import EMResult
from mrigmm.mixture.updates import VARIANCE_FLOOR, m_step


def potts_support(
    resp: Tensor, region: Tensor, *, spacing_mm: Sequence[float], in_plane: bool = True
) -> Tensor:
    """Return the share of each class among direct neighbours of the same region value, ``(K, X, Y, Z)``.

    ``s_k(n) = sum_m c_nm q_k(m)`` with ``c = (smallest spacing) / (distance of n and m)``: 1 for the nearest
    pair of neighbours, less across thick slices.
    """
    axes = (1, 2) if in_plane else (1, 2, 3)
    nearest = min(spacing_mm[axis - 1] for axis in axes)
    support = torch.zeros_like(resp)
    for axis in axes:
        coupling = nearest / spacing_mm[axis - 1]
        length = resp.shape[axis]
        if length < 2:
            continue
        near, far = (resp.narrow(axis, start, length - 1) for start in (0, 1))
        same_region = region.narrow(axis - 1, 0, length - 1) == region.narrow(axis - 1, 1, length - 1)
        link = (coupling * same_region).to(resp.dtype)
        support.narrow(axis, 0, length - 1).add_(far * link)
        support.narrow(axis, 1, length - 1).add_(near * link)
    return support


def potts_posterior(
    log_joint: Tensor,
    region: Tensor,
    *,
    beta: float,
    spacing_mm: Sequence[float],
    start: Tensor | None = None,
    n_sweeps: int = 3,
    in_plane: bool = True,
) -> Tensor:
    """Mean-field responsibilities under a Potts prior, ``(K, X, Y, Z)``.

    Each sweep sets ``q_k(n) ~ exp(log_joint_k(n) + beta s_k(n))`` on the black, then on the white voxels of
    the checkerboard. Voxels of one colour are not neighbours, so that no sweep can lower
    ``potts_bound`` (Zhang 1992).

    Args:
        log_joint: ``(K, X, Y, Z)`` ``log pi + log N``, -inf where a class is not allowed.
        region: ``(X, Y, Z)`` integers, 0 outside.
        beta: coupling per neighbour, 0 or more; 0 gives the plain posterior.
        spacing_mm: voxel size along X, Y, Z.
        start: ``(K, X, Y, Z)`` responsibilities to go on from; the plain posterior when None.
        n_sweeps: sweeps over both colours.
        in_plane: couple within slices only.
    """
    if beta < 0:
        raise ValueError(f"expected beta >= 0, got {beta}")
    inside = region != 0
    log_joint = torch.where(inside, log_joint, 0.0)
    q = torch.where(inside, log_joint.softmax(0) if start is None else start, 0.0)
    x, y, z = (torch.arange(size, device=region.device) for size in region.shape)
    parity = (x[:, None, None] + y[None, :, None] + z) % 2
    for _ in range(n_sweeps):
        for colour in (0, 1):
            support = potts_support(q, region, spacing_mm=spacing_mm, in_plane=in_plane)
            q = torch.where(inside & (parity == colour), (log_joint + beta * support).softmax(0), q)
    return q


def potts_bound(
    log_joint: Tensor,
    resp: Tensor,
    region: Tensor,
    *,
    beta: float,
    spacing_mm: Sequence[float],
    in_plane: bool = True,
) -> float:
    """``mean_n [sum_k q (log_joint - log q) + beta / 2 sum_k q s]`` over the region, without log Z(beta)."""
    inside = region != 0
    support = potts_support(resp, region, spacing_mm=spacing_mm, in_plane=in_plane)
    held = (resp > 0) & inside
    terms = torch.where(held, log_joint - torch.where(held, resp, 1.0).log() + 0.5 * beta * support, 0.0)
    energy = (torch.where(held, resp, 0.0) * terms).to(parameter_dtype(resp.device)).sum()
    return float(energy / inside.sum().clamp_min(1))


def fit_potts(
    image: Tensor,
    region: Tensor,
    *,
    start: Mixture,
    beta: float,
    spacing_mm: Sequence[float],
    covariance: Covariance = "full",
    prior: MapPrior | None = None,
    allowed: Tensor | None = None,
    present: Tensor | None = None,
    max_iter: int = 100,
    tol: float = 1e-4,
    n_sweeps: int = 3,
    in_plane: bool = True,
    variance_floor: float = VARIANCE_FLOOR,
) -> EMResult:
    """EM for a mixture whose labels form a Potts field, with a mean-field E-step.

    Means and covariances are fitted; the class weights are those of ``start`` throughout. Their M-step would
    need the field's partition function, and without it the largest class would swallow the others.

    Args:
        image: ``(C, X, Y, Z)`` standardised intensities.
        region: ``(X, Y, Z)`` integers, 0 outside.
        start: the first mixture.
        beta: coupling per neighbour, 0 or more.
        spacing_mm: voxel size along X, Y, Z.
        covariance: as in ``fit_gmm``.
        prior: as in ``fit_gmm``.
        allowed: ``(R, K)`` bool with row r for region value r (row 0 unused); everything when None.
        present: ``(C,)`` bool.
        max_iter: M-steps at most.
        tol: on ``potts_bound`` (with a prior: plus log prior / N).
        n_sweeps: mean-field sweeps per E-step.
        in_plane: couple within slices only.
        variance_floor: added to every variance.

    Returns:
        As ``fit_gmm`` gives for the voxels ``image[:, region > 0].T``; ``log_likelihood`` is that of the
        mixture without the coupling.
    """
    inside = region > 0
    x = image[:, inside].mT.to(voxel_dtype(image))  # (N, C)
    values = region[inside].long()
    K = start.n_classes
    if allowed is None:
        allowed = torch.ones(int(region.max()) + 1, K, dtype=torch.bool, device=region.device)
    mixture = start.to(dtype=parameter_dtype(x.device), device=x.device)

    solve = partial(
        potts_posterior, region=region, beta=beta, spacing_mm=spacing_mm, n_sweeps=n_sweeps, in_plane=in_plane
    )

    def joint(fitted: Mixture) -> tuple[Tensor, Tensor]:
        """Per voxel ``(N, K)``, and as a volume."""
        log_prior = region_log_prior(fitted.weights, allowed, values).to(x.dtype)
        voxels = log_prior + log_gaussian(x, fitted.means, fitted.covariances, present=present)
        volume = voxels.new_zeros(K, *region.shape)
        volume[:, inside] = voxels.mT
        return voxels, volume

    q: Tensor | None = None
    bounds: list[float] = []
    converged = len(x) == 0
    while not converged and len(bounds) < max_iter:
        _, log_joint = joint(mixture)
        q = solve(log_joint, start=q)
        bound = potts_bound(log_joint, q, region, beta=beta, spacing_mm=spacing_mm, in_plane=in_plane)
        if prior is not None:
            n_voxels = torch.tensor(float(len(x)), dtype=mixture.means.dtype, device=x.device)
            fixed = replace(prior, a=0.0)
            bound += float(log_map_prior(mixture, fixed, n_voxels, present=present)) / len(x)
        bounds.append(bound)
        stats = statistics(x, q[:, inside].mT)
        new = m_step(
            stats, covariance=covariance, variance_floor=variance_floor, prior=prior, present=present
        )
        mixture = Mixture(mixture.weights, new.means, new.covariances)
        converged = len(bounds) > 1 and abs(bounds[-1] - bounds[-2]) < tol
    voxels, log_joint = joint(mixture)
    final = solve(log_joint, start=q)
    return EMResult(mixture, final[:, inside].mT, bounds, converged, len(bounds), voxels.logsumexp(-1))
