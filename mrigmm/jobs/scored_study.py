"""One predicted study beside its reference: what `evaluate` and `compare` measure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from mrigmm.data.files import sha256
from mrigmm.data.geometry import with_slices_last
from mrigmm.data.manifest import Manifest, Study
from mrigmm.data.maps import (
    NO_CLASS,
    class_indices,
    read_reference_label,
    reference_classes,
    reference_volume,
)
from mrigmm.errors import InputError, Problem, some_of
from mrigmm.evaluation.calibration import Reliability, reliability
from mrigmm.evaluation.scores import Scores, mask_scores, study_scores
from mrigmm.jobs.reading.prediction_folder import Prediction
from mrigmm.labels import ComparedClass, compared_classes, merged_ids

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


@dataclass(frozen=True)
class ScoredStudy:
    """One study beside its reference.

    Attributes:
        scores: class or nested region -> scores.
        compared: class -> the classes of prediction and reference that count as it.
        doubts: why the scores may say little.
    """

    scores: dict[str, Scores]
    compared: dict[str, ComparedClass]
    doubts: tuple[Problem, ...] = ()


def score_study(study: Study, prediction: Prediction, cohort: Manifest, *others: Prediction) -> ScoredStudy:
    """Compare a prediction with the study's reference label, by class and nested region.

    Args:
        study: of the cohort.
        prediction: of this study.
        cohort: says what the ids of the reference labels mean.
        others: further predictions of the study, that are to be compared in the same classes.

    Raises:
        InputError: the reference is missing or damaged, or they do not fit each other.
    """
    also = [[*other.classes] for other in others]
    compared = compared_with_reference(study, cohort, [*prediction.classes], *also)
    drawn = reference_volume(study, prediction.labels.grid, cohort.labels)
    grid = prediction.labels.grid.measured_by(drawn.grid)
    in_plane = [axis for axis in range(3) if axis != grid.slice_axis]
    axes_mm = grid.affine[:3, [*in_plane, grid.slice_axis]]  # a column for each axis of an array, slices last
    reference = reference_classes(drawn, merged_ids(cohort.labels, compared), [*compared])
    ids = [[prediction.classes[name] for name in c.predicted] for c in compared.values()]
    predicted = class_indices(prediction.labels.data, ids)
    predicted, reference = with_slices_last(predicted, grid), with_slices_last(reference, grid)
    scores = study_scores(predicted, reference, [*compared], axes_mm)
    if cohort.labels.get(_MVO) and prediction.mvo is not None:
        true = reference_classes(drawn, cohort.labels, (_MVO,)) == 0
        scores[_MVO] = mask_scores(
            with_slices_last(prediction.mvo, grid), with_slices_last(true, grid), axes_mm
        )
    doubts = _unlabelled_slices(predicted, reference) if "myocardium" in compared else []
    doubts += _of_other_images(study, prediction)
    return ScoredStudy(scores, compared, tuple(replace(doubt, study=study.id) for doubt in doubts))


def _unlabelled_slices(predicted: NDArray[np.int64], reference: NDArray[np.int64]) -> list[Problem]:
    """A warning where the reference leaves out more slices (the last axis) than base and apex explain."""
    shown, drawn = ((labels != NO_CLASS).any(axis=(0, 1)) for labels in (predicted, reference))
    n, missing = int(shown.sum()), int((shown & ~drawn).sum())
    if missing < 2 or missing <= n / 3:
        return []
    what = (
        f"the reference labels nothing in {missing} of the {n} slices that were segmented, and all in them "
        "counts as wrong: where they were not labelled, leave the study out, or label them"
    )
    return [Problem(what, severity="warning")]


def _of_other_images(study: Study, prediction: Prediction) -> list[Problem]:
    """A warning where the manifest names another image than was segmented; the first one that both name."""
    digests = prediction.side.image_digests
    name = next((name for name in study.images if digests.get(name)), None)
    now = None if name is None else sha256(study.images[name])
    if name is None or now in (None, digests[name]):
        return []
    return [
        Problem(
            f"the {name} that the manifest names is not the one that was segmented",
            file=str(study.images[name]),
            expected="the file as predict read it",
            got="other content",
            remedy="evaluate with the manifest that predict was given; if the study of this id is another, "
            "the figures mean nothing",
            severity="warning",
        )
    ]


def study_reliability(study: Study, prediction: Prediction, cohort: Manifest) -> Reliability | None:
    """Return whether the probabilities of a prediction mean what they say, inside the region.

    Of classes that count as one, they are added up. What the reference gives no class there is predicted
    wrongly.

    Args:
        study: of the cohort.
        prediction: of this study.
        cohort: says what the ids of the reference labels mean.

    Returns:
        None where no probabilities were saved, where the label map was edited since, or where one of their
        classes counts as none of the reference.

    Raises:
        InputError: probabilities or reference are damaged, or they do not fit each other.
    """
    classes = [*prediction.classes]
    compared = compared_with_reference(study, cohort, classes)
    if {n for c in compared.values() for n in c.predicted} != {*classes}:
        return None
    volume = prediction.probabilities()
    if volume is None:
        return None
    reference = read_reference_label(study, volume.grid, merged_ids(cohort.labels, compared), [*compared])
    inside = volume.data.sum(axis=3) > 0
    given = volume.data[inside]  # (N, K)
    rows = [given[:, [classes.index(name) for name in c.predicted]].sum(axis=1) for c in compared.values()]
    return reliability(np.stack(rows), reference[inside])


def compared_with_reference(
    study: Study, cohort: Manifest, predicted: Sequence[str], *others: Sequence[str]
) -> dict[str, ComparedClass]:
    """The classes that a study's prediction is compared in; raises InputError where there are none."""
    compared = compared_classes(predicted, [name for name in cohort.classes if cohort.labels[name]], *others)
    if not compared:
        raise InputError(
            "prediction and reference have no class in common",
            study=study.id,
            expected=f"one of {', '.join(predicted)} under 'labels' in the manifest",
            got=", ".join(cohort.classes) or "no class",
        )
    return compared
