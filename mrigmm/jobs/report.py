"""`mrigmm report`: a predicted cohort as one HTML file."""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mrigmm.data.files import write_text
from mrigmm.data.geometry import Grid
from mrigmm.data.manifest import Study
from mrigmm.data.maps import read_reference_label
from mrigmm.data.volumes import read_image, read_map
from mrigmm.errors import InputError, Problem
from mrigmm.evaluation.cohort import ClassSummary
from mrigmm.jobs.common import (
    DISCLAIMER,
    LABELS_SUFFIX,
    METRICS_FILE,
    REPORT_FILE,
    Outcome,
    Track,
    no_progress,
    versions,
)
from mrigmm.reporting.figures import overlay_figure
from mrigmm.reporting.html import MetricsTable, StudySection, render_report

_AGAIN = "run mrigmm predict again"


def report(
    predictions: Path | str,
    *,
    out: Path | str | None = None,
    beside: Sequence[Path | str] = (),
    track: Track = no_progress,
) -> Outcome:
    """Write a report of a folder of predictions: agreement when evaluated, volumes, overlays.

    Example:
        >>> mrigmm.report("predictions")  # doctest: +SKIP

    Args:
        predictions: folder that `predict` wrote.
        out: HTML file; default `report.html` in `predictions`.
        beside: other evaluated folders whose agreement is shown for comparison.
        track: progress bar.

    Raises:
        InputError: when there is nothing to report.
    """
    folder = Path(predictions)
    found = sorted(folder.glob(f"*{LABELS_SUFFIX}"))
    if not found:
        raise InputError(
            "there are no label maps to report on",
            file=folder,
            remedy="give a folder that mrigmm predict wrote",
        )
    own = _evaluation(folder) if (folder / METRICS_FILE).exists() else None
    metrics = [found.table for found in (own, *(_evaluation(Path(other)) for other in beside)) if found]
    studies: list[StudySection] = []
    sides: list[_SideFile] = []
    problems: list[Problem] = []
    for path in track(found, "Reporting"):
        study = path.name.removesuffix(LABELS_SUFFIX)
        try:
            side = _side_file(folder, study)
            reference = None if own is None else own.references.get(study)
            figure = study_figure(
                folder,
                study,
                reference=reference if reference and reference.exists() else None,
                reference_ids=None if own is None else own.reference_ids,
            )
        except InputError as error:
            problems += error.problems
            continue
        sides.append(side)
        studies.append(
            StudySection(
                id=study,
                volume_ml=side.volume_ml,
                warnings=side.warnings,
                figure=None if figure is None else base64.b64encode(figure).decode(),
            )
        )
    if not studies:
        raise InputError.from_problems(problems)
    path = folder / REPORT_FILE if out is None else Path(out)
    html = render_report(
        folder=folder.resolve().name,
        methods=sorted({side.method for side in sides}),
        version=versions()["mrigmm"],
        disclaimer=DISCLAIMER,
        classes=list(dict.fromkeys(name for side in sides for name in side.classes)),
        metrics=metrics,
        studies=studies,
    )
    write_text(path, html)
    return Outcome(path, tuple(study.id for study in studies), tuple(problems))


@dataclass(frozen=True)
class _SideFile:
    """What a report needs of `<id>.json`."""

    method: str
    classes: Mapping[str, int]
    volume_ml: Mapping[str, float]
    inputs: Mapping[str, Path]
    frames: Mapping[str, int]
    warnings: tuple[str, ...]


def _side_file(folder: Path, study: str) -> _SideFile:
    path = folder / f"{study}.json"
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        return _SideFile(
            method=str(content["method"]),
            classes={str(name): int(i) for name, i in content["classes"].items()},
            volume_ml={str(name): float(ml) for name, ml in content["volume_ml"].items()},
            inputs={str(name): Path(file) for name, file in content["inputs"].items()},
            frames={str(name): int(frame) for name, frame in content.get("frames", {}).items()},
            warnings=tuple(str(text) for text in content["warnings"]),
        )
    except FileNotFoundError:
        raise InputError("the prediction has no side file", study=study, file=path, remedy=_AGAIN) from None
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise InputError(
            "the side file of the prediction is damaged",
            study=study,
            file=path,
            got=f"{type(error).__name__}: {error}",
            remedy=_AGAIN,
        ) from None


def study_figure(
    predictions: Path,
    study: str,
    *,
    reference: Path | None = None,
    reference_ids: Mapping[str, Sequence[int]] | None = None,
) -> bytes | None:
    """Overlay of a predicted study on the images that were segmented, as PNG.

    Args:
        predictions: folder that `predict` wrote.
        study: study id.
        reference: reference label map on the same grid, to draw beneath.
        reference_ids: class name -> ids in that map; default those of the prediction.

    Returns:
        None when the images are no longer where they were read from.

    Raises:
        InputError: prediction, side file or reference cannot be read.
    """
    side = _side_file(predictions, study)
    labels = read_map(
        predictions / f"{study}{LABELS_SUFFIX}",
        study=study,
        role="predicted label",
        known=(0, *side.classes.values()),
    )
    images: dict[str, NDArray[np.float32]] = {}
    for name, file in side.inputs.items():
        try:
            volume = read_image(file, study=study, role=name, frame=side.frames.get(name))
        except InputError:
            continue
        # Sequences on another grid are left out here: drawing is no place to resample.
        if volume.grid.same_as(labels.grid):
            images[name] = _slices_last(volume.data.astype(np.float32), labels.grid)
    if not images:
        return None
    shown = _slices_last(labels.data.astype(np.uint8), labels.grid)
    across, up = np.delete(labels.grid.spacing_mm, labels.grid.slice_axis)
    truth = None
    if reference is not None:
        ids = reference_ids or {"background": (0,), **{name: (i,) for name, i in side.classes.items()}}
        named = Study(study, {}, label=reference)
        index = read_reference_label(named, labels.grid, ids, list(side.classes))
        truth = _slices_last(np.array([*side.classes.values(), 0])[index], labels.grid)  # NO_CLASS: last
    return overlay_figure(images, shown, side.classes, pixel_aspect=float(up / across), reference=truth)


def _slices_last(array: NDArray[Any], grid: Grid) -> NDArray[Any]:
    return np.moveaxis(array, grid.slice_axis, -1)


@dataclass(frozen=True)
class _Evaluation:
    """What a report needs of `metrics.json`; older files name no references."""

    table: MetricsTable
    references: Mapping[str, Path]
    reference_ids: Mapping[str, tuple[int, ...]]


def _evaluation(folder: Path) -> _Evaluation:
    """The evaluation of a folder."""
    path = folder / METRICS_FILE
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        summary = content["summary"]
        dice = {
            str(study): {str(name): figures["dice"] for name, figures in found.items()}
            for study, found in content["studies"].items()
        }
        rows = [
            {"name": str(name), **{f.name: figures[f.name] for f in fields(ClassSummary)}}
            for name, figures in summary.items()
        ]
        references = {str(study): Path(file) for study, file in content.get("references", {}).items()}
        ids = {
            str(name): tuple(int(i) for i in found)
            for name, found in content.get("reference_ids", {}).items()
        }
    except FileNotFoundError:
        raise InputError(
            "the folder has not been evaluated", file=path, remedy="run mrigmm evaluate on it"
        ) from None
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise InputError(
            "the evaluation cannot be read",
            file=path,
            got=f"{type(error).__name__}: {error}",
            remedy="run mrigmm evaluate again",
        ) from None
    return _Evaluation(MetricsTable(folder.resolve().name, rows, dice), references, ids)
