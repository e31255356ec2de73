"""`fwhm`: full width at half maximum on LGE inside the wall."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from mrigmm.data.study_tensors import StudyTensors
from mrigmm.errors import InputError
from mrigmm.methods.base import Segmentation, Task
from mrigmm.methods.settings import FWHMSettings, validated_settings
from mrigmm.methods.threshold import (
    LGEWall,
    lge_in_wall,
    remote_figures,
    remote_myocardium,
    threshold_segmentation,
)


class FWHM:
    """Scar is what is brighter than half of the maximum, or than midway between remote mean and maximum.

    L. C. Amado et al., Accurate and objective infarct sizing by contrast-enhanced magnetic resonance imaging,
    J. Am. Coll. Cardiol. 2004. There a reader points at the infarct whose maximum is taken; here it is the
    maximum of the whole wall.
    """

    name = "fwhm"

    def __init__(self, task: Task, overrides: Mapping[str, object]) -> None:
        self.settings = validated_settings(self.name, FWHMSettings, overrides)
        self.task = task

    def describe(self) -> dict[str, Any]:
        """Settings as plain values."""
        return self.settings.model_dump(mode="json")

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
