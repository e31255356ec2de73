"""`em-threshold`: a threshold between two Gaussians, and an infarct size weighted by intensity."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from scipy import ndimage
from scipy.optimize import brentq
from torch import Tensor

from mrigmm.data.study_tensors import StudyTensors
from mrigmm.methods.base import Segmentation, Task
from mrigmm.methods.settings import EMThresholdSettings, validated_settings
from mrigmm.methods.threshold import lge_in_wall, threshold_segmentation
from mrigmm.methods.two_gaussians import fit_notes, fit_two_gaussians
from mrigmm.mixture import Mixture, log_gaussian, safe_log


class EMThreshold:
    """Scar is what is brighter than where two Gaussians on LGE are equally probable, in large enough regions.

    Our own formulation in the spirit of the weighted methods (E. Heiberg et al., Radiology 2008; H. Engblom
    et al., J. Cardiovasc. Magn. Reson. 2016), not a reproduction of either: no rule about where infarcts
    lie, and no dark core is added.
    """

    name = "em-threshold"

    def __init__(self, task: Task, overrides: Mapping[str, object]) -> None:
        self.settings = validated_settings(self.name, EMThresholdSettings, overrides)
        self.task = task

    def describe(self) -> dict[str, Any]:
        """Settings as plain values."""
        return self.settings.model_dump(mode="json")

    def segment(self, study: StudyTensors) -> Segmentation:
        """One threshold for all slices of the study."""
        given = lge_in_wall(study)
        fit = fit_two_gaussians(given.lge[given.wall])
        normal, infarct = fit.mixture.means[:, 0].tolist()
        threshold = crossing(fit.mixture)
        voxel_ml = study.output.grid.voxel_volume_ml
        above = given.wall & (given.lge > threshold)
        scar = large_regions(above, min_ml=self.settings.min_region_ml, voxel_ml=voxel_ml)
        weights = partial_volume(given.lge[scar], remote=normal, infarct=infarct)
        return threshold_segmentation(
            study,
            self.task,
            scar,
            details={
                **given.figures(threshold),
                "normal_lge": given.zscore.undo(normal),
                "infarct_lge": given.zscore.undo(infarct),
                "weighted_scar_ml": float(weights.sum()) * voxel_ml,
                "removed_ml": float((above & ~scar).sum()) * voxel_ml,
            },
            warnings=fit_notes(fit),
            n_iter=fit.n_iter,
            converged=fit.converged,
        )


def crossing(mixture: Mixture) -> float:
    """Where between their means the two weighted densities are equal.

    Where one of them lies above the other all the way, it is the other's mean.

    Args:
        mixture: two components, means (2, 1), the darker one first.
    """
    low, high = mixture.means[:, 0].tolist()

    def ahead(x: float) -> float:
        """Log odds of the brighter component."""
        density = log_gaussian(mixture.means.new_full((1, 1), x), mixture.means, mixture.covariances)[0]
        odds = density + safe_log(mixture.weights)
        return float(odds[1] - odds[0])

    if ahead(low) >= 0:
        return float(low)
    if ahead(high) <= 0:
        return float(high)
    return float(brentq(ahead, low, high))


def large_regions(mask: Tensor, *, min_ml: float, voxel_ml: float) -> Tensor:
    """The connected regions (across faces, slices too) of a mask (X, Y, Z) that have at least a volume.

    Args:
        mask: (X, Y, Z) bool.
        min_ml: in ml.
        voxel_ml: volume of a voxel in ml.
    """
    labels, _ = ndimage.label(mask.numpy())
    # Half a voxel's thousandth: 10 voxels of 0.1 ml are 1 ml, whatever the rounding.
    large = np.bincount(labels.ravel()) * voxel_ml >= min_ml - 5e-4 * voxel_ml
    large[0] = False
    return torch.from_numpy(large[labels])


def partial_volume(lge: Tensor, *, remote: float, infarct: float) -> Tensor:
    """Share of infarct in each voxel, by intensity: `clip((x - remote) / (infarct - remote), 0, 1)`.

    Args:
        lge: (N,) intensities.
        remote: mean of normal wall.
        infarct: mean of infarct, not below `remote`; where both are the same, every share is 0.
    """
    if infarct <= remote:
        return torch.zeros_like(lge)
    return ((lge - remote) / (infarct - remote)).clamp(0, 1)
