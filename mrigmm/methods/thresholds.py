"""The clinical thresholds on LGE inside the wall: `otsu`, `nsd`, `fwhm`, `two-gaussians`, `em-threshold`.

`needs.refuse_study` has seen to it that a study has LGE and a wall.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from scipy import ndimage
from scipy.optimize import brentq
from torch import Tensor

from mrigmm.data.standardise import ZScore
from mrigmm.data.study_tensors import StudyTensors
from mrigmm.errors import InputError
from mrigmm.labels import CAVITY_CLASSES, Region
from mrigmm.methods.base import Segmentation, SettableMethod, Task, present_sequences, segmentation_of, unpack
from mrigmm.methods.remote import Remote, find_remote, otsu_threshold
from mrigmm.methods.settings import EMThresholdSettings, FWHMSettings, MethodSettings, NSDSettings
from mrigmm.mixture import (
    EMResult,
    Mixture,
    fit_gmm,
    log_gaussian,
    m_step,
    order_by_channels,
    safe_log,
    statistics,
)

_NORMAL, _SCAR, _EDEMA = "myocardium", "scar", "edema"
# T2 this many standard deviations above remote myocardium is edema.
_EDEMA_SD = 2


@dataclass(frozen=True)
class LGEWall:
    """LGE of a study whose wall is known.

    Attributes:
        lge: (X, Y, Z) float64 z-scores.
        wall: (X, Y, Z) bool, not empty.
        zscore: how LGE was standardised.
    """

    lge: Tensor
    wall: Tensor
    zscore: ZScore

    def figures(self, threshold: float) -> dict[str, Any]:
        """A threshold (z-score) for the side file: as z-score, and as intensity of the LGE file."""
        return {"threshold_z": threshold, "threshold_lge": self.zscore.undo(threshold)}


def lge_in_wall(study: StudyTensors) -> LGEWall:
    """LGE and wall of a study that has both (`needs.refuse_study`)."""
    lge = study.image[study.sequences.index("LGE")].double()
    return LGEWall(lge, study.region == Region.WALL, study.zscores["LGE"])


def remote_myocardium(study: StudyTensors, given: LGEWall) -> Remote:
    """Remote myocardium of a study, with T2 where the study has it."""
    t2 = observed = None
    if "T2" in present_sequences(study):
        channel = study.sequences.index("T2")
        t2, observed = study.image[channel], study.observed[channel]
    return find_remote(given.lge, study.region, spacing_mm=study.spacing_mm, t2=t2, t2_observed=observed)


def remote_figures(remote: Remote, given: LGEWall) -> dict[str, Any]:
    """Remote myocardium for the side file; mean and SD in the units of the LGE file."""
    normal = given.lge[remote.mask]
    return {
        "sector": remote.sector,
        "mean_lge": given.zscore.undo(float(normal.mean())),
        "sd_lge": float(normal.std(correction=0)) * given.zscore.scale,
        "voxels": len(normal),
    }


def threshold_segmentation(
    study: StudyTensors,
    task: Task,
    scar: Tensor,
    *,
    edema: Tensor | None = None,
    details: Mapping[str, Any],
    warnings: tuple[str, ...] = (),
    n_iter: int = 0,
    converged: bool = True,
) -> Segmentation:
    """A study's segmentation from the probability of scar; the rest of the wall is normal, or edema.

    Args:
        study: the study, with a wall.
        task: its classes.
        scar: (X, Y, Z) probability of scar, or bool; what lies outside the wall is ignored.
        edema: (X, Y, Z) bool, where the wall is edema as far as it is not scar.
        details: for the side file.
        warnings: what the user should know.
        n_iter: iterations of a fit.
        converged: whether it settled.
    """
    wall = study.region == Region.WALL
    scar = torch.where(wall, scar.float(), 0.0)
    resp = torch.zeros((len(task.classes), *wall.shape))
    resp[task.classes.index(_SCAR)] = scar
    normal = wall
    if edema is not None:
        normal = wall & ~edema
        resp[task.classes.index(_EDEMA)] = torch.where(wall & edema, 1 - scar, 0.0)
    resp[task.classes.index(_NORMAL)] = torch.where(normal, 1 - scar, 0.0)
    for name in set(task.classes).intersection(CAVITY_CLASSES):
        resp[task.classes.index(name)] = (study.region == Region.CAVITY).float()
    return segmentation_of(
        study, resp, task.classes, n_iter=n_iter, converged=converged, details=details, warnings=warnings
    )


class Otsu(SettableMethod[MethodSettings]):
    """Scar is what is brighter than Otsu's threshold on LGE; the rest of the wall is normal.

    N. Otsu, A threshold selection method from gray-level histograms, IEEE Trans. SMC 1979. It always
    finds two groups: a healthy wall gets a scar, too.
    """

    name = "otsu"
    settings_type = MethodSettings

    def segment(self, study: StudyTensors) -> Segmentation:
        """One threshold for all slices of the study."""
        given = lge_in_wall(study)
        threshold = otsu_threshold(given.lge[given.wall])
        scar = given.lge > threshold
        return threshold_segmentation(study, self.task, scar, details=given.figures(threshold))


class NSD(SettableMethod[NSDSettings]):
    """LGE above mean + n SD of remote myocardium is scar; T2 above mean + 2 SD of it, where not scar, edema.

    The remote region is found by `remote.find_remote`, where the literature has a reader draw it
    (L. C. Amado et al., J. Am. Coll. Cardiol. 2004; H. Engblom et al., J. Cardiovasc. Magn. Reson. 2016).
    """

    name = "nsd"
    settings_type = NSDSettings

    def segment(self, study: StudyTensors) -> Segmentation:
        """One threshold for all slices of the study."""
        given = lge_in_wall(study)
        remote = remote_myocardium(study, given)
        normal = given.lge[remote.mask]
        threshold = float(normal.mean() + self.settings.n * normal.std(correction=0))
        edema, notes = self._edema(study, given, remote)
        return threshold_segmentation(
            study,
            self.task,
            given.lge > threshold,
            edema=edema,
            details={**given.figures(threshold), "remote": remote_figures(remote, given)},
            warnings=(*remote.warnings, *notes),
        )

    def _edema(
        self, study: StudyTensors, given: LGEWall, remote: Remote
    ) -> tuple[Tensor | None, tuple[str, ...]]:
        """Return where T2 is high (X, Y, Z), or None without T2 or class; and what the user should know."""
        if "edema" not in self.task.classes or "T2" not in present_sequences(study):
            return None, ()
        channel = study.sequences.index("T2")
        t2, acquired = study.image[channel].double(), study.observed[channel]
        normal = t2[remote.mask & acquired]
        if not len(normal):
            return None, ("T2 does not show the remote myocardium: no edema is sought",)
        threshold = normal.mean() + _EDEMA_SD * normal.std(correction=0)
        return torch.logical_and(given.wall & acquired, t2 > threshold), ()


class FWHM(SettableMethod[FWHMSettings]):
    """Scar is what is brighter than half of the maximum, or than midway between remote mean and maximum.

    L. C. Amado et al., Accurate and objective infarct sizing by contrast-enhanced magnetic resonance imaging,
    J. Am. Coll. Cardiol. 2004. There a reader points at the infarct whose maximum is taken; here it is the
    maximum of the whole wall.
    """

    name = "fwhm"
    settings_type = FWHMSettings

    def segment(self, study: StudyTensors) -> Segmentation:
        """One threshold for all slices of the study.

        Raises:
            InputError: half of the maximum is asked for, and LGE is no magnitude.
        """
        given = lge_in_wall(study)
        # Both are halfway up from a base: z-scores are affine, so that it can be taken in them.
        if self.settings.definition == "midway":
            remote = remote_myocardium(study, given)
            base = float(given.lge[remote.mask].mean())
            details, notes = {"remote": remote_figures(remote, given)}, remote.warnings
        else:
            base, details, notes = self._zero(study, given), {}, ()
        threshold = (base + float(given.lge[given.wall].max())) / 2
        return threshold_segmentation(
            study,
            self.task,
            given.lge > threshold,
            details={**given.figures(threshold), **details},
            warnings=notes,
        )

    def _zero(self, study: StudyTensors, given: LGEWall) -> float:
        """The z-score of intensity 0, for images that have nothing below it."""
        lowest, zero = float(given.lge[given.wall].min()), given.zscore.zero
        if lowest < zero:
            raise InputError(
                f"{self.name} by half of the maximum needs magnitudes",
                study=study.id,
                file=study.inputs["LGE"],
                expected="LGE of 0 and above",
                got=f"{given.zscore.undo(lowest):g} in the wall: phase-sensitive LGE, or a shifted scale",
                remedy="use --set definition=midway, which a shift does not change",
            )
        return zero


class TwoGaussians(SettableMethod[MethodSettings]):
    """Scar is where the posterior of the brighter of two Gaussians is above one half.

    It always finds two groups: a healthy wall gets a scar, too.
    """

    name = "two-gaussians"
    settings_type = MethodSettings

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
    """Return what the user should know about a fit."""
    return () if fit.converged else (f"the fit of two Gaussians stopped at {fit.n_iter} iterations",)


class EMThreshold(SettableMethod[EMThresholdSettings]):
    """Scar is what is brighter than where two Gaussians on LGE are equally probable, in large enough regions.

    Our own formulation in the spirit of the weighted methods (E. Heiberg et al., Radiology 2008; H. Engblom
    et al., J. Cardiovasc. Magn. Reson. 2016), not a reproduction of either: no rule about where infarcts
    lie, and no dark core is added.
    """

    name = "em-threshold"
    settings_type = EMThresholdSettings

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
    """Return where between their means the two weighted densities are equal.

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
