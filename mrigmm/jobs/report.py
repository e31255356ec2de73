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
    metrics = [_metrics(folder)] if (folder / METRICS_FILE).exists() else []
    metrics += [_metrics(Path(other)) for other in beside]
    studies: list[StudySection] = []
    sides: list[_SideFile] = []
    problems: list[Problem] = []
    for path in track(found, "Reporting"):
        study = path.name.removesuffix(LABELS_SUFFIX)
        try:
            side = _side_file(folder, study)
            figure = study_figure(folder, study)
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


def study_figure(predictions: Path, study: str, *, reference: Path | None = None) -> bytes | None:
    """Overlay of a predicted study on the images that were segmented, as PNG.

    Args:
        predictions: folder that `predict` wrote.
        study: study id.
        reference: reference label map on the same grid and with the same ids, to draw beneath.

    Returns:
        None when the images are no longer where they were read from.
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
        truth = _slices_last(read_map(reference, study=study, role="label").data, labels.grid)
    return overlay_figure(images, shown, side.classes, pixel_aspect=float(up / across), reference=truth)


def _slices_last(array: NDArray[Any], grid: Grid) -> NDArray[Any]:
    return np.moveaxis(array, grid.slice_axis, -1)


def _metrics(folder: Path) -> MetricsTable:
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
    return MetricsTable(folder.resolve().name, rows, dice)
