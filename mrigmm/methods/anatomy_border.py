"""The border of a found ventricle, sharpened by the intensities of the study itself."""

from __future__ import annotations

import torch
from scipy import ndimage
from torch import Tensor

from mrigmm.mixture import log_gaussian, m_step, statistics
from mrigmm.mixture.initial import kmeans_responsibilities
from mrigmm.networks.anatomy_net import NEAR_MM

# Gaussians of outside (lung, fat, liver, right ventricle, ...), cavity, and wall (normal, edema, scar).
COMPONENTS = (5, 1, 3)
ITERATIONS = 10
SMOOTHING_MM = 1.5
# Of z-scores: components of few pixels stay wide.
VARIANCE_FLOOR = 0.05
# What the network holds possible everywhere, since it can be wrong and sure.
LEAST = 1e-4
TAIL = 0.001  # share of the values that is clipped on either side
MAX_FITTED = 20_000  # pixels that the mixture is fitted to


def sharpened(
    probabilities: Tensor, image: Tensor, inside: Tensor, spacing_mm: tuple[float, float, float]
) -> Tensor:
    """Posterior of outside, cavity and wall under a mixture of the study's own intensities.

    The model is a spatially variant mixture: the prior of a class at a voxel is what the network says, its
    density a mixture of Gaussians (`COMPONENTS`), fitted by EM to the voxels near the ventricle; the
    posterior is smoothed within slices. Farther away nothing changes.

    Args:
        probabilities: (3, X, Y, Z) of outside, cavity and wall, slices along the last axis.
        image: (C, X, Y, Z) z-scores of the sequences that the study has.
        inside: (X, Y, Z) bool, where all of them show something.
        spacing_mm: of the voxels.

    Returns:
        (3, X, Y, Z); the input where it calls nothing, or nearly nothing, ventricle.
    """
    ventricle = (probabilities.argmax(dim=0) > 0).numpy()
    x_mm, y_mm, _ = spacing_mm
    size = (2 * round(NEAR_MM / x_mm) + 1, 2 * round(NEAR_MM / y_mm) + 1, 1)
    near = torch.from_numpy(ndimage.maximum_filter(ventricle, size=size)) & inside
    prior = probabilities[:, near].T.double().clamp_min(LEAST)  # (N, 3)
    x = image[:, near].T.double()  # (N, C)
    allowed = torch.nn.functional.one_hot(prior.argmax(dim=1), 3).bool()
    if int(allowed.sum(dim=0).min()) < 10 * sum(COMPONENTS) * x.shape[1]:
        return probabilities
    posterior = _posterior(x, prior, allowed)
    found = probabilities.clone()
    found[:, near] = posterior.T.to(found.dtype)
    sigma = (SMOOTHING_MM / x_mm, SMOOTHING_MM / y_mm, 0)
    return torch.stack([torch.from_numpy(ndimage.gaussian_filter(p.numpy(), sigma)) for p in found])


def _posterior(x: Tensor, prior: Tensor, allowed: Tensor) -> Tensor:
    """Posterior (N, 3) of EM over the components of all classes together."""
    of_class = torch.repeat_interleave(torch.arange(3), torch.tensor(COMPONENTS))  # (M,)
    generator = torch.Generator().manual_seed(0)
    some = torch.randperm(len(x), generator=generator)[:MAX_FITTED]
    low, high = torch.quantile(x[some], torch.tensor([TAIL, 1 - TAIL], dtype=x.dtype), dim=0)
    x = x.clamp(low, high)  # else a far outlier has a component of its own
    fitted, given = x[some], prior[some].log()[:, of_class]
    resp = kmeans_responsibilities(fitted, allowed[some][:, of_class], generator)
    for _ in range(ITERATIONS):
        mixture = m_step(statistics(fitted, resp), covariance="full", variance_floor=VARIANCE_FLOOR)
        share = torch.zeros(3, dtype=x.dtype).index_add(0, of_class, mixture.weights)
        log_share = (mixture.weights / share[of_class]).log()  # of a component in its class
        resp = (given + log_share + log_gaussian(fitted, mixture.means, mixture.covariances)).softmax(dim=1)
    density = log_share + log_gaussian(x, mixture.means, mixture.covariances)  # (N, M)
    joint = (prior.log()[:, of_class] + density).softmax(dim=1)
    return torch.zeros_like(prior).index_add(1, of_class, joint)
