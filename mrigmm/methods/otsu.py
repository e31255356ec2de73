"""`otsu`: Otsu's threshold on LGE inside the wall, the simplest of the clinical thresholds."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from skimage.filters import threshold_otsu

from mrigmm.data.study import StudyTensors
from mrigmm.errors import InputError
from mrigmm.labels import CAVITY_CLASSES, Region
from mrigmm.methods.base import Segmentation, Task, hard_labels, one_mixture, present_sequences

_SEQUENCE, _NORMAL, _SCAR = "LGE", "myocardium", "scar"


class Otsu:
    """Scar is what is brighter than Otsu's threshold on LGE; the rest of the wall is normal.

    N. Otsu, A threshold selection method from gray-level histograms, IEEE Trans. SMC 1979. It always
    finds two groups: a healthy wall gets a scar, too.
    """

    name = "otsu"

    def __init__(self, task: Task, overrides: Mapping[str, object]) -> None:
        if overrides:
            raise InputError("otsu has no settings", got=", ".join(overrides))
        missing = [name for name in (_NORMAL, _SCAR) if name not in task.classes]
        if missing:
            raise InputError(f"otsu needs the classes {_NORMAL} and {_SCAR}", got=", ".join(task.classes))
        self.task = task

    def describe(self) -> dict[str, Any]:
        """There is nothing to set."""
        return {}

    def segment(self, study: StudyTensors) -> Segmentation:
        """One threshold for all slices of the study."""
        if (study.region == Region.LV).any():
            raise InputError(
                "otsu needs to know the wall",
                study=study.id,
                expected="a region map with 1 = cavity and 2 = wall",
                got="the left ventricle as a whole",
                remedy="give such a map, or use map-em-2step",
            )
        present = present_sequences(study)
        if _SEQUENCE not in present:
            raise InputError("otsu needs LGE", study=study.id, got=", ".join(present))
        lge = study.image.as_tensor()[study.sequences.index(_SEQUENCE)]
        wall = study.region == Region.WALL
        threshold = float(threshold_otsu(lge[wall].numpy().astype(np.float64)))
        resp = torch.zeros((len(self.task.classes), *study.region.shape))
        resp[self.task.classes.index(_SCAR)] = (wall & (lge > threshold)).float()
        resp[self.task.classes.index(_NORMAL)] = (wall & (lge <= threshold)).float()
        for name in CAVITY_CLASSES:
            if name in self.task.classes:
                resp[self.task.classes.index(name)] = (study.region == Region.CAVITY).float()
        mixture, density = one_mixture(study, study.region, resp, self.task.classes)
        return Segmentation(
            resp=resp,
            labels=hard_labels(resp, study.region, self.task.classes),
            mixture=mixture,
            sequences=present,
            log_likelihood=density,
            n_iter=0,
            converged=True,
            details={"threshold_z": threshold},
        )
