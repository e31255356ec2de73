"""One study of the report: from its files to what the page shows of it."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from mrigmm.data.geometry import slices_last_grid
from mrigmm.data.manifest import RegionRule
from mrigmm.data.standardise import UNITS_IN_WORDS
from mrigmm.jobs.common import versions_text
from mrigmm.jobs.quantifying.plausible import EXPECTED
from mrigmm.jobs.reading.evaluated import ReadEvaluation, StudyQuantities
from mrigmm.jobs.reading.predicted import PredictedStudy, read_predicted_study
from mrigmm.jobs.reading.prediction_folder import EDITED, Prediction
from mrigmm.labels import of_the_ventricle
from mrigmm.quantification.segments import Orientation
from mrigmm.quantification.view import View, short_axis_view
from mrigmm.quantification.volumes import clinical_numbers, volumes_ml
from mrigmm.reporting.bulls_eye import bulls_eye
from mrigmm.reporting.mixture_plot import mixture_picture
from mrigmm.reporting.page import ClassRow, Quantity, StudyPage
from mrigmm.reporting.pictures import Picture
from mrigmm.reporting.slices import Slices, study_slices
from mrigmm.reporting.viewer import ViewerStudy, viewer_study

_EDITED_NOTE = (
    f"Edited: {EDITED}. Volumes and pictures are those of the map as it is now; warnings are those of the "
    "prediction before."
)


def read_study(folder: Path, study: str, evaluation: ReadEvaluation | None) -> PredictedStudy:
    """Read a study, with its reference where it was evaluated.

    Raises:
        InputError: prediction, side file or reference cannot be read.
    """
    if evaluation is None:
        return read_predicted_study(folder, study)
    reference = evaluation.references.get(study)
    return read_predicted_study(
        folder,
        study,
        reference=reference if reference is not None and reference.exists() else None,
        reference_ids=evaluation.reference_ids,
    )


def study_page(
    study: PredictedStudy,
    evaluation: ReadEvaluation | None,
    quantities: StudyQuantities,
    *,
    interactive: bool = False,
    detailed: bool = True,
) -> StudyPage:
    """Return what the page shows of a study.

    Args:
        study: label map and images.
        evaluation: of the folder, where there is one.
        quantities: of this label map.
        interactive: with volumes for the viewer.
        detailed: with pictures; without, numbers alone.
    """
    side, edited = study.side, study.prediction.edited
    notes = [*([_EDITED_NOTE] if edited else []), *side.notes, *quantities.notes]
    view = view_of(study.prediction, quantities.numbering)
    picture = None
    if detailed and study.note is not None:
        notes.append(f"The images cannot be shown: {study.note}.")
    elif detailed:
        picture = _mixture_picture(study)
        if picture is None and side.mixture is not None:
            notes.append(
                f"No mixture plot: the voxels are not to be had in its units ({side.mixture.units})."
            )
    numbers = {**_numbers(study), **quantities.values}
    return StudyPage(
        id=study.id,
        classes=_class_rows(study, evaluation),
        quantities=[
            Quantity(name, value, numbers.get(EXPECTED + name), quantities.intervals.get(name))
            for name, value in numbers.items()
            if not name.startswith(EXPECTED)
        ],
        warnings=side.warnings,
        notes=notes,
        slices=_slices(study, view) if detailed and study.note is None else None,
        bulls_eye=bulls_eye(quantities.transmurality, numbered_by(quantities.numbering))
        if detailed and quantities.transmurality
        else None,
        mixture=picture,
        facts=_study_facts(study.prediction),
        edited=edited,
        verdict=None if side.review is None else side.review.verdict,
        volumes=_volumes_to_view(study, view) if detailed and interactive else None,
        detailed=detailed,
    )


def view_of(prediction: Prediction, numbering: Orientation | None) -> View:
    """Return how slices are looked at: as the bull's eye, where the segments are numbered."""
    affine = slices_last_grid(prediction.labels.grid).affine
    if numbering is None:
        return short_axis_view(affine)
    return short_axis_view(
        affine, base_first=numbering.base_first, insertion_degrees=numbering.insertion_degrees
    )


def numbered_by(numbering: Orientation | None) -> str:
    """Return what segments are numbered by, in words."""
    if numbering is None:
        return "numbered by an older version of mrigmm"
    if numbering.automatic:
        return "numbered automatically, by the right ventricle that the program found"
    return "numbered by the insertion point that was given"


def _numbers(study: PredictedStudy) -> dict[str, float | None]:
    """Clinical numbers of the label map as it is now; None where something was not looked for."""
    classes, prediction = study.side.classes, study.prediction
    if not of_the_ventricle([*classes]):
        return {}
    ml = volumes_ml(study.labels, classes, prediction.labels.grid.voxel_volume_ml)
    if "mvo" in study.volume_ml:
        ml["mvo"] = study.volume_ml["mvo"]
    if not prediction.edema_sought and ml.get("edema") == 0:
        del ml["edema"], ml["area_at_risk"]
    found = clinical_numbers(ml, ventricle=True)
    return {name: float(value) if math.isfinite(value) else None for name, value in found.items()}


def _slices(study: PredictedStudy, view: View) -> Slices:
    reference = study.reference
    return study_slices(
        {name: view.turn(image) for name, image in study.images.items()},
        view.turn(study.labels),
        study.side.classes,
        spacing_mm=view.spacing_mm,
        numbers=view.numbers(study.labels.shape[2]),
        edges=view.edges,
        seen=_seen(study, view),
        mvo=None if study.mvo is None else view.turn(study.mvo),
        reference=None if reference is None else view.turn(reference),
        reference_classes=study.reference_classes,
    )


def _seen(study: PredictedStudy, view: View) -> str:
    """Return from where and in which order slices are shown, in words."""
    ventricle = of_the_ventricle([*study.side.classes])
    if ventricle and view.base_known:
        return "Slices from base to apex, seen from the apex"
    unknown = "; which end is the base is not known" if ventricle else ""
    return f"Slices seen from the feet, the left or the front{unknown}"


def _volumes_to_view(study: PredictedStudy, view: View) -> ViewerStudy | None:
    if not study.images:
        return None
    return viewer_study(
        {name: view.turn(image) for name, image in study.images.items()},
        view.turn(study.labels),
        spacing_mm=view.spacing_mm,
        numbers=view.numbers(study.labels.shape[2]),
    )


def _class_rows(study: PredictedStudy, evaluation: ReadEvaluation | None) -> list[ClassRow]:
    """Classes of the prediction, then the nested regions of the evaluation."""
    overlaps = {} if evaluation is None else evaluation.studies.get(study.id, {})
    volume_ml = study.volume_ml
    names = list(dict.fromkeys((*volume_ml, *overlaps)))
    return [
        ClassRow(
            name,
            volume_ml.get(name, overlaps[name].predicted_ml if name in overlaps else None),
            overlaps[name].reference_ml if name in overlaps else None,
            overlaps[name].dice if name in overlaps else None,
            overlaps[name].remark(name) if name in overlaps else None,
        )
        for name in names
    ]


def _mixture_picture(study: PredictedStudy) -> Picture | None:
    """The study's voxels in the plane of its mixture; None without one, or where its units
    are not known.

    Of mixtures of single slices, that of the slice with most of the region.
    """
    mixture = study.side.mixture
    if mixture is None:
        return None
    n_mixtures, n_classes, _ = mixture.means.shape
    if n_classes != len(study.side.classes) or not set(mixture.sequences) <= set(study.mixture_images):
        return None
    inside = study.labels > 0
    for name in mixture.sequences:
        inside = inside & study.observed[name]
    index, place = 0, ""
    if n_mixtures > 1:
        slices = np.flatnonzero((study.labels > 0).any(axis=(0, 1)))
        if len(slices) != n_mixtures:
            return None
        index = int(inside[..., slices].sum(axis=(0, 1)).argmax())
        place = f", slice {slices[index] + 1}"
        inside = inside & (np.arange(inside.shape[2]) == slices[index])
    if not inside.any():
        return None
    return mixture_picture(
        np.stack([study.mixture_images[name][inside] for name in mixture.sequences], axis=1),
        study.labels[inside],
        study.side.classes,
        sequences=mixture.sequences,
        units=UNITS_IN_WORDS.get(mixture.units, mixture.units) + place,
        weights=mixture.weights[index],
        means=mixture.means[index],
        covariances=mixture.covariances[index],
    )


def _study_facts(prediction: Prediction) -> dict[str, str]:
    side = prediction.side
    facts = {
        "method": prediction.method,
        "sequences": ", ".join(
            f"{name} ({file.name}{f', frame {side.frames[name]}' if name in side.frames else ''})"
            for name, file in side.inputs.items()
        ),
        **({} if side.region is None else {"region": _region_text(side.region)}),
        "versions": versions_text(side.versions),
    }
    if side.seconds is not None:
        facts["seconds"] = f"{side.seconds:.1f}"
    if side.review is not None:
        review = side.review
        said = f"{review.verdict or 'open'}, {review.by}, {review.at}"
        facts["review"] = f"{said}: {review.comment}" if review.comment else said
    if side.run is not None:
        facts["run"] = side.run.name
    if side.command is not None:
        facts["command line"] = side.command
    return facts


def _region_text(region: str | Mapping[str, Any]) -> str:
    """Return where a region comes from."""
    if isinstance(region, str):
        return f"rule {region}" if region in RegionRule.KINDS else Path(region).name
    if "found_by" in region:
        return (
            f"the program's own, found by the {region['found_by']}; quality {float(region['quality']):.3g} "
            "(from 0 to 1: mean probability of what is called so)"
        )
    own = "the program's own, found by the anatomy stage"
    quality, lowest = region.get("quality_0_to_1"), region.get("lowest_quality_0_to_1")
    if quality is None or lowest is None:  # a generative head, or a file of an older version
        quality, lowest = region.get("quality"), region.get("lowest_quality")
        scale = "no fixed scale: higher is better"
    else:
        scale = "from 0 to 1: mean probability of the tissues in and around the ventricle"
    if quality is None or lowest is None:
        return own
    return f"{own}; quality {float(quality):.3g} ({scale}; below {float(lowest):.3g} is low)"
