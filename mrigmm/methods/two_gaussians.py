"""`two-gaussians`: two components on LGE inside the wall, of which the brighter is scar."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from mrigmm.data.study_tensors import StudyTensors
from mrigmm.methods.base import Segmentation, Task, unpack
from mrigmm.methods.grey_levels import otsu_threshold
from mrigmm.methods.threshold import lge_in_wall, threshold_segmentation
from mrigmm.mixture import EMResult, fit_gmm, m_step, order_by_channels, statistics


class TwoGaussians:
    """Scar is where the posterior of the brighter of two Gaussians is above one half.

    It always finds two groups: a healthy wall gets a scar, too.
    """

    name = "two-gaussians"

    def __init__(self, task: Task, overrides: Mapping[str, object]) -> None:
        self.task = task

    def describe(self) -> dict[str, Any]:
        """There is nothing to set."""
        return {}

    def segment(self, study: StudyTensors) -> Segmentation:
        """One mixture for all slices of the study."""
        given = lge_in_wall(study)
        x = given.lge[given.wall]  # (N,)
        fit = fit_two_gaussians(x)
        # A wide bright component also claims what is darker than any normal wall.
        scar = torch.where(x > fit.mixture.means[0, 0], fit.resp[:, 1], 0.0)
        return threshold_segmentation(
            study,
            self.task,
            unpack(scar[:, None], given.wall)[0],
            details={"means_lge": [given.zscore.undo(float(mean)) for mean in fit.mixture.means[:, 0]]},
            warnings=fit_notes(fit),
            n_iter=fit.n_iter,
            converged=fit.converged,
        )


def fit_two_gaussians(x: Tensor) -> EMResult:
    """Two Gaussians by EM, the darker one first.

    EM starts at the two sides of Otsu's threshold, so that nothing is random.

    Args:
        x: (N,) intensities, N >= 1.
    """
    values = x.double()[:, None]
    bright = values > otsu_threshold(x)
    start = m_step(statistics(values, torch.cat([~bright, bright], dim=1).double()))
    fit = fit_gmm(values, start=start)
    order = order_by_channels(fit.mixture.means, [0])
    return replace(fit, mixture=fit.mixture.permute(order), resp=fit.resp[:, order])


def fit_notes(fit: EMResult) -> tuple[str, ...]:
    """What the user should know about a fit."""
    return () if fit.converged else (f"the fit of two Gaussians stopped at {fit.n_iter} iterations",)
