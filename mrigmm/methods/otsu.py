"""`otsu`: Otsu's threshold on LGE inside the wall, the simplest of the clinical thresholds."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from mrigmm.data.study_tensors import StudyTensors
from mrigmm.methods.base import Segmentation, Task
from mrigmm.methods.grey_levels import otsu_threshold
from mrigmm.methods.threshold import lge_in_wall, threshold_segmentation


class Otsu:
    """Scar is what is brighter than Otsu's threshold on LGE; the rest of the wall is normal.

    N. Otsu, A threshold selection method from gray-level histograms, IEEE Trans. SMC 1979. It always
    finds two groups: a healthy wall gets a scar, too.
    """

    name = "otsu"

    def __init__(self, task: Task, overrides: Mapping[str, object]) -> None:
        self.task = task

    def describe(self) -> dict[str, Any]:
        """There is nothing to set."""
        return {}

    def segment(self, study: StudyTensors) -> Segmentation:
        """One threshold for all slices of the study."""
        given = lge_in_wall(study)
        threshold = otsu_threshold(given.lge[given.wall])
        scar = given.lge > threshold
        return threshold_segmentation(study, self.task, scar, details=given.figures(threshold))
