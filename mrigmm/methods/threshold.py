"""What the clinical thresholds on LGE share: what they need of a study, and what becomes of a threshold."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from mrigmm.data.standardise import ZScore
from mrigmm.data.study_tensors import StudyTensors
from mrigmm.labels import CAVITY_CLASSES, Region
from mrigmm.methods.base import Segmentation, Task, hard_labels, one_mixture, present_sequences
from mrigmm.methods.remote import Remote, find_remote

_NORMAL, _SCAR, _EDEMA = "myocardium", "scar", "edema"


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
    lge = study.image.as_tensor()[study.sequences.index("LGE")].double()
    return LGEWall(lge, study.region == Region.WALL, study.zscores["LGE"])


def remote_myocardium(study: StudyTensors, given: LGEWall) -> Remote:
    """Remote myocardium of a study, with T2 where the study has it."""
    t2 = observed = None
    if "T2" in present_sequences(study):
        channel = study.sequences.index("T2")
        t2, observed = study.image.as_tensor()[channel], study.observed[channel]
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
    mixture, density = one_mixture(study, study.region, resp, task.classes)
    return Segmentation(
        resp=resp,
        labels=hard_labels(resp, study.region, task.classes),
        mixture=mixture,
        sequences=present_sequences(study),
        log_likelihood=density,
        n_iter=n_iter,
        converged=converged,
        details=dict(details),
        warnings=warnings,
    )
