"""`mrigmm report`: a predicted cohort as one HTML file."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from mrigmm.data.files import require_own, write_text
from mrigmm.data.manifest import RegionRule
from mrigmm.data.run_folder import RunFolder, read_log
from mrigmm.data.side_file import SideFile
from mrigmm.errors import InputError, Problem, some_of
from mrigmm.evaluation.volume_agreement import MIN_STUDIES, measured_agreement
from mrigmm.jobs.common import (
    DISCLAIMER,
    METRICS_FILE,
    QUANTITIES_FILE,
    REPORT_FILE,
    Outcome,
    Track,
    command_line,
    no_progress,
    versions,
)
from mrigmm.jobs.quantifying.posterior import EXPECTED
from mrigmm.jobs.reading.evaluated import (
    ReadEvaluation,
    StudyOverlap,
    StudyQuantities,
    read_evaluation,
    read_quantities,
    without_stale,
)
from mrigmm.jobs.reading.failures import failures, no_prediction
from mrigmm.jobs.reading.label_maps import is_of
from mrigmm.jobs.reading.predicted import PredictedStudy, read_predicted_study
from mrigmm.jobs.reading.prediction_folder import EDITED, Prediction, predicted_studies, require_predictions
from mrigmm.reporting.bland_altman import VolumePairs, bland_altman_picture
from mrigmm.reporting.bulls_eye import bulls_eye_figure
from mrigmm.reporting.figures import loss_figure
from mrigmm.reporting.mixture_plot import mixture_picture
from mrigmm.reporting.page import REPORT_MARK, ClassRow, Quantity, Report, StudyPage, render_report
from mrigmm.reporting.pictures import Picture, saved_diagram
from mrigmm.reporting.slices import slice_pictures
from mrigmm.reporting.viewer import ViewerStudy, viewer_study

_EDITED_NOTE = (
    f"Edited: {EDITED}. Volumes and pictures are those of the map as it is now; warnings are those of the "
    "prediction before."
)


def report(
    predictions: Path | str,
    *,
    out: Path | str | None = None,
    beside: Sequence[Path | str] = (),
    interactive: bool = False,
    track: Track = no_progress,
) -> Outcome:
    """Write a report of a folder of predictions (docs/report.md).

    Examples:
        >>> mrigmm.report("predictions")  # doctest: +SKIP

    Args:
        predictions: folder that `predict` wrote.
        out: HTML file; default `report.html` in `predictions`.
        beside: other evaluated folders whose agreement is shown for comparison.
        interactive: put the volumes and a viewer into the page.
        track: progress bar.

    Returns:
        The HTML file; studies that could not be read are among its problems.

    Raises:
        InputError: when there is nothing to report, or the file to write is there and no report.
    """
    folder = Path(predictions)
    path = folder / REPORT_FILE if out is None else Path(out)
    require_own(path, mark=REPORT_MARK)
    others, problems = _evaluations(folder, beside)
    found = sorted(predicted_studies(folder), key=_natural)
    own = None
    if (folder / METRICS_FILE).exists():
        own, stale = without_stale(read_evaluation(folder), folder)
        problems += stale
    quantities = read_quantities(folder)
    pages: list[StudyPage] = []
    sides: list[SideFile] = []
    classes: dict[str, None] = {}
    unmeasured: list[str] = []
    for name in track(found, "Reporting"):
        try:
            study = _read(folder, name, own)
            numbers = quantities.get(name, StudyQuantities())
            if not is_of(numbers.label_map, study.prediction):
                unmeasured += [name] if name in quantities else []
                numbers = StudyQuantities()
            page = _study_page(study, own, numbers)
            pages.append(replace(page, volumes=_volumes_to_view(study)) if interactive else page)
        except InputError as error:
            problems += error.problems
            continue
        sides.append(study.side)
        classes |= dict.fromkeys(study.volume_ml)
        problems += study.prediction.notes()
    problems += _not_measured(unmeasured, folder)
    if not pages:
        raise InputError.from_problems(problems)
    failed = failures(folder)
    volumes = {} if own is None else volume_pairs(own.studies)
    html = render_report(
        Report(
            folder=folder.resolve().name,
            methods=sorted({side.method for side in sides}),
            classes=[*classes],
            quantities=list(
                dict.fromkeys(q.name for page in pages for q in page.quantities if q.value is not None)
            ),
            disclaimer=DISCLAIMER,
            studies=pages,
            metrics=[found.table for found in (own, *others) if found and found.table],
            volumes=volumes,
            class_ids=sides[0].classes,
            bland_altman=bland_altman_picture(volumes) if volumes else None,
            loss=_loss_picture(sides),
            problems=[
                f"{p.study}: {p.brief}" if p.study else p.brief for p in problems if p.severity != "note"
            ],
            no_prediction={name: failed[name].brief for name in sorted(failed, key=_natural)},
            facts={"command line": command_line(), "versions": _versions_text(versions())},
            settings={
                side.method: json.dumps(side.settings, indent=1, ensure_ascii=False)
                for side in reversed(sides)  # of each method those of its first study
            },
        )
    )
    write_text(path, html)
    return Outcome(path, tuple(page.id for page in pages), (*problems, *no_prediction(failed)))


def _not_measured(studies: Sequence[str], folder: Path) -> list[Problem]:
    """A warning that names studies whose quantities are of another label map."""
    if not studies:
        return []
    what = (
        f"the quantities are of label maps that have changed since ({some_of(studies)}), and are left out; "
        "run mrigmm quantify again"
    )
    return [Problem(what, file=str(folder / QUANTITIES_FILE), severity="warning")]


def _evaluations(
    predictions: Path, beside: Sequence[Path | str]
) -> tuple[list[ReadEvaluation], list[Problem]]:
    """The evaluations of other folders, and warnings of what in them does not hold any more.

    Raises:
        InputError: what is wrong with them or the first folder, all at once.
    """
    found: list[ReadEvaluation] = []
    stale: list[Problem] = []
    problems: list[Problem] = []
    try:
        require_predictions(predictions)
    except InputError as error:
        problems += error.problems
    for folder in beside:
        try:
            evaluation, told = without_stale(read_evaluation(Path(folder)), Path(folder))
            found.append(evaluation)
            stale += told
        except InputError as error:
            problems += error.problems
    if problems:
        raise InputError.from_problems(problems)
    return found, stale


def _natural(study: str) -> list[tuple[int, str]]:
    """Order of ids as a reader expects it: p2 before p10."""
    return [(int(part), "") if part.isdecimal() else (-1, part) for part in re.split(r"(\d+)", study)]


def _read(folder: Path, study: str, evaluation: ReadEvaluation | None) -> PredictedStudy:
    if evaluation is None:
        return read_predicted_study(folder, study)
    reference = evaluation.references.get(study)
    return read_predicted_study(
        folder,
        study,
        reference=reference if reference is not None and reference.exists() else None,
        reference_ids=evaluation.reference_ids,
    )


def _study_page(
    study: PredictedStudy, evaluation: ReadEvaluation | None, quantities: StudyQuantities
) -> StudyPage:
    side, edited = study.side, study.prediction.edited
    notes = [*([_EDITED_NOTE] if edited else []), *side.notes, *quantities.notes]
    rows: list[Picture] = []
    plots: list[Picture] = []
    if study.note is not None:
        notes.append(f"The images cannot be shown: {study.note}.")
    else:
        rows = slice_pictures(
            study.images,
            study.labels,
            side.classes,
            spacing_mm=study.spacing_mm,
            mvo=study.mvo,
            reference=study.reference,
            reference_classes=study.reference_classes,
        )
        picture = _mixture_picture(study)
        plots += [] if picture is None else [picture]
        if picture is None and side.mixture is not None:
            notes.append(
                f"No mixture plot: the voxels are not to be had in its units ({side.mixture.units})."
            )
    if quantities.transmurality:
        figure = bulls_eye_figure(quantities.transmurality, title="Transmurality", unit="%")
        alt = "Transmurality of the scar in the AHA segments"
        plots.append(saved_diagram(figure, title="Bull's eye", alt=alt))
    return StudyPage(
        id=study.id,
        classes=_class_rows(study, evaluation),
        quantities=[
            Quantity(name, value, quantities.values.get(EXPECTED + name), quantities.intervals.get(name))
            for name, value in quantities.values.items()
            if not name.startswith(EXPECTED)
        ],
        warnings=side.warnings,
        notes=notes,
        rows=rows,
        plots=plots,
        facts=_study_facts(study.prediction),
        edited=edited,
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
        units=mixture.units + place,
        weights=mixture.weights[index],
        means=mixture.means[index],
        covariances=mixture.covariances[index],
    )


def _volumes_to_view(study: PredictedStudy) -> ViewerStudy | None:
    if not study.images:
        return None
    return viewer_study(study.images, study.labels, spacing_mm=study.spacing_mm)


def volume_pairs(studies: Mapping[str, Mapping[str, StudyOverlap]]) -> dict[str, VolumePairs]:
    """Volumes of the classes of which enough studies are scored to speak of agreement.

    Args:
        studies: study -> class or nested region -> overlap.
    """
    found: dict[str, list[tuple[float, float]]] = {}
    for regions in studies.values():
        for name, scored in regions.items():
            found.setdefault(name, []).append((scored.predicted_ml, scored.reference_ml))
    pairs: dict[str, VolumePairs] = {}
    for name, rows in found.items():
        if len(rows) < MIN_STUDIES:
            continue
        predicted, reference = zip(*rows, strict=True)
        agree = measured_agreement(predicted, reference)
        limits = (agree.lower_limit.value, agree.upper_limit.value)
        pairs[name] = VolumePairs(predicted, reference, agree.bias.value, limits)
    return pairs


def _loss_picture(sides: Sequence[SideFile]) -> Picture | None:
    """The training of the run that made the predictions, where there is one such run and its log."""
    runs = {side.run for side in sides}
    run = runs.pop() if len(runs) == 1 else None
    if run is None or not RunFolder(run).log.is_file():
        return None
    try:
        png = loss_figure(read_log(RunFolder(run).log))
    except (OSError, ValueError, KeyError, IndexError, TypeError) as error:
        raise InputError(
            "the log of the run is damaged",
            file=RunFolder(run).log,
            got=f"{type(error).__name__}: {error}",
            remedy="copy the run folder again, or move it away to report without it",
        ) from None
    return saved_diagram(png, title=f"Run {run.name}", alt="Objective and learning rate per epoch")


def _study_facts(prediction: Prediction) -> dict[str, str]:
    side = prediction.side
    facts = {
        "method": prediction.method,
        "sequences": ", ".join(
            f"{name} ({file.name}{f', frame {side.frames[name]}' if name in side.frames else ''})"
            for name, file in side.inputs.items()
        ),
        **({} if side.region is None else {"region": _region_text(side.region)}),
        "versions": _versions_text(side.versions),
    }
    if side.seconds is not None:
        facts["seconds"] = f"{side.seconds:.1f}"
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


def _versions_text(numbers: Mapping[str, str]) -> str:
    return ", ".join(f"{name} {number}" for name, number in numbers.items())
