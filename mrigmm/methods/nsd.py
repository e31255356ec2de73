"""`nsd`: scar is what is n standard deviations brighter on LGE than remote myocardium."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from mrigmm.data.study_tensors import StudyTensors
from mrigmm.methods.base import Segmentation, Task, present_sequences
from mrigmm.methods.remote import Remote
from mrigmm.methods.settings import NSDSettings, validated_settings
from mrigmm.methods.threshold import (
    LGEWall,
    lge_in_wall,
    remote_figures,
    remote_myocardium,
    threshold_segmentation,
)

# T2 this many standard deviations above remote myocardium is edema.
_EDEMA_SD = 2


class NSD:
    """LGE above mean + n SD of remote myocardium is scar; T2 above mean + 2 SD of it, where not scar, edema.

    The remote region is found by `remote.find_remote`, where the literature has a reader draw it
    (L. C. Amado et al., J. Am. Coll. Cardiol. 2004; H. Engblom et al., J. Cardiovasc. Magn. Reson. 2016).
    """

    name = "nsd"

    def __init__(self, task: Task, overrides: Mapping[str, object]) -> None:
        self.settings = validated_settings(self.name, NSDSettings, overrides)
        self.task = task

    def describe(self) -> dict[str, Any]:
        """Settings as plain values."""
        return self.settings.model_dump(mode="json")

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
        """Where T2 is high (X, Y, Z), or None without T2 or class; and what the user should know."""
        if "edema" not in self.task.classes or "T2" not in present_sequences(study):
            return None, ()
        channel = study.sequences.index("T2")
        t2, acquired = study.image.as_tensor()[channel].double(), study.observed[channel]
        normal = t2[remote.mask & acquired]
        if not len(normal):
            return None, ("T2 does not show the remote myocardium: no edema is sought",)
        threshold = normal.mean() + _EDEMA_SD * normal.std(correction=0)
        return torch.logical_and(given.wall & acquired, t2 > threshold), ()
