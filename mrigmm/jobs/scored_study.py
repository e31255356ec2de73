"""One predicted study beside its reference: what `evaluate` and `compare` measure."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mrigmm.data.geometry import Grid, with_slices_last
from mrigmm.data.manifest import Manifest, Study
from mrigmm.data.maps import (
    NO_CLASS,
    read_reference_label,
    reference_classes,
    reference_volume,
)
from mrigmm.errors import InputError, Problem, some_of
from mrigmm.evaluation.calibration import Reliability, reliability
from mrigmm.evaluation.scores import Scores, mask_scores, study_scores
from mrigmm.jobs.reading.prediction_folder import Prediction

_MVO = "mvo"


def with_reference(studies: Sequence[Study]) -> tuple[list[Study], list[Problem]]:
    """The studies that have a reference label, and a note that names those that have none.

    Raises:
        InputError: no study has one; each is named.
    """
    without = [study.id for study in studies if study.label is None]
    if len(without) == len(studies):
        remedy = "add 'label' to it in the manifest"
        raise InputError.from_problems(
            Problem("the study has no reference label", study, remedy=remedy) for study in without
        )
    if not without:
        return [*studies], []
    what = f"no reference label for {len(without)} of the studies: {some_of(without)}"
    return [study for study in studies if study.label is not None], [Problem(what, severity="warning")]


def score_study(study: Study, prediction: Prediction, cohort: Manifest) -> dict[str, Scores]:
    """Compare a prediction with the study's reference label, by class and nested region.

    Args:
        study: of the cohort.
        prediction: of this study.
        cohort: says what the ids of the reference labels mean.

    Raises:
        InputError: the reference is missing or damaged, or they do not fit each other.
    """
    ids = prediction.classes
    classes = [name for name in cohort.classes if name in ids and cohort.labels[name]]
    if not classes:
        raise InputError(
            "prediction and reference have no class in common",
            study=study.id,
            expected=f"one of {', '.join(ids)} under 'labels' in the manifest",
            got=", ".join(cohort.classes) or "no class",
        )
    drawn = reference_volume(study, prediction.labels.grid, cohort.labels)
    grid = prediction.labels.grid.measured_by(drawn.grid)
    axes_mm = _axes_mm(grid)
    reference = reference_classes(drawn, cohort.labels, classes)
    predicted = class_indices(prediction.labels.data, [ids[name] for name in classes])
    scores = study_scores(
        with_slices_last(predicted, grid), with_slices_last(reference, grid), classes, axes_mm
    )
    if cohort.labels.get(_MVO) and prediction.mvo is not None:
        true = reference_classes(drawn, cohort.labels, (_MVO,)) == 0
        scores[_MVO] = mask_scores(
            with_slices_last(prediction.mvo, grid), with_slices_last(true, grid), axes_mm
        )
    return scores


def study_reliability(study: Study, prediction: Prediction, cohort: Manifest) -> Reliability | None:
    """Whether the probabilities of a prediction mean what they say, inside the region.

    What the reference gives no class there is predicted wrongly.

    Args:
        study: of the cohort.
        prediction: of this study.
        cohort: says what the ids of the reference labels mean.

    Returns:
        None where no probabilities were saved, where the label map was edited since, or where the reference
        does not know all of their classes.

    Raises:
        InputError: probabilities or reference are damaged, or they do not fit each other.
    """
    classes = [*prediction.classes]
    if not all(cohort.labels.get(name) for name in classes):
        return None
    volume = prediction.probabilities()
    if volume is None:
        return None
    reference = read_reference_label(study, volume.grid, cohort.labels, classes)
    inside = volume.data.sum(axis=3) > 0
    return reliability(volume.data[inside].T, reference[inside])


def class_indices(labels: NDArray[Any], ids: list[int]) -> NDArray[np.int64]:
    """Ids of a label map as indices into `ids`, `NO_CLASS` elsewhere."""
    indices = np.full(labels.shape, NO_CLASS)
    for index, i in enumerate(ids):
        indices[labels == i] = index
    return indices


def _axes_mm(grid: Grid) -> NDArray[np.float64]:
    """Step in mm (a column) along each axis of an array whose slices were put last."""
    last = grid.slice_axis
    return grid.affine[:3, [*(axis for axis in range(3) if axis != last), last]]
