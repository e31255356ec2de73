"""`mrigmm report`: a predicted cohort as one HTML file."""

from __future__ import annotations

import base64
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mrigmm.data.files import write_text
from mrigmm.data.geometry import Grid
from mrigmm.data.volumes import read_image, read_map
from mrigmm.errors import InputError, Problem
from mrigmm.jobs.common import DISCLAIMER, Outcome, Track, no_progress, versions
from mrigmm.jobs.evaluate import METRICS_FILE
from mrigmm.jobs.predict import LABELS_SUFFIX
from mrigmm.reporting.figures import overlay_figure
from mrigmm.reporting.html import MetricsTable, StudySection, render_report


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
    studies: list[StudySection] = []
    contents: list[dict[str, Any]] = []
    problems: list[Problem] = []
    for path in track(found, "Reporting"):
        study = path.name.removesuffix(LABELS_SUFFIX)
        try:
            content = _side_file(folder, study)
            figure = study_figure(folder, study)
        except InputError as error:
            problems += error.problems
            continue
        contents.append(content)
        studies.append(
            StudySection(
                id=study,
                volume_ml=content["volume_ml"],
                warnings=[str(text) for text in content["warnings"]],
                figure=None if figure is None else base64.b64encode(figure).decode(),
            )
        )
    if not studies:
        raise InputError.from_problems(problems)
    path = folder / "report.html" if out is None else Path(out)
    html = render_report(
        folder=folder.name,
        methods=sorted({str(content["method"]) for content in contents}),
        version=versions()["mrigmm"],
        disclaimer=DISCLAIMER,
        classes=list(contents[0]["classes"]),
        metrics=[table for f in (folder, *map(Path, beside)) if (table := _metrics(f)) is not None],
        studies=studies,
    )
    write_text(path, html)
    return Outcome(path, tuple(study.id for study in studies), tuple(problems))


def _side_file(folder: Path, study: str) -> dict[str, Any]:
    path = folder / f"{study}.json"
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        missing = {"method", "classes", "volume_ml", "inputs", "warnings"} - content.keys()
    except (OSError, ValueError, AttributeError) as error:
        raise InputError(
            "the side file of the prediction cannot be read", study=study, file=path, got=str(error)
        ) from None
    if missing:
        raise InputError(
            "the side file of the prediction is incomplete",
            study=study,
            file=path,
            got=f"no {sorted(missing)}",
        )
    return dict(content)


def study_figure(predictions: Path, study: str, *, reference: Path | None = None) -> bytes | None:
    """Overlay of a predicted study on the images that were segmented, as PNG.

    Args:
        predictions: folder that `predict` wrote.
        study: study id.
        reference: reference label map on the same grid and with the same ids, to draw beneath.

    Returns:
        None when the images are no longer where they were read from.
    """
    content = _side_file(predictions, study)
    labels = read_map(predictions / f"{study}{LABELS_SUFFIX}", study=study, role="predicted label")
    images: dict[str, NDArray[np.float32]] = {}
    for name, file in content["inputs"].items():
        try:
            volume = read_image(Path(file), study=study, role=str(name))
        except InputError:
            continue
        # Sequences on another grid are left out here: drawing is no place to resample.
        if volume.grid.same_as(labels.grid):
            images[str(name)] = _slices_last(volume.data.astype(np.float32), labels.grid)
    if not images:
        return None
    shown = _slices_last(labels.data.astype(np.uint8), labels.grid)
    across, up = np.delete(labels.grid.spacing_mm, labels.grid.slice_axis)
    ids = {str(name): int(i) for name, i in content["classes"].items()}
    truth = None
    if reference is not None:
        truth = _slices_last(read_map(reference, study=study, role="label").data, labels.grid)
    return overlay_figure(images, shown, ids, pixel_aspect=float(up / across), reference=truth)


def _slices_last(array: NDArray[Any], grid: Grid) -> NDArray[Any]:
    return np.moveaxis(array, grid.slice_axis, -1)


def _metrics(folder: Path) -> MetricsTable | None:
    """The evaluation of a folder, when there is one."""
    try:
        summary = json.loads((folder / METRICS_FILE).read_text(encoding="utf-8"))["summary"]
        return MetricsTable(folder.name, [{"name": name, **figures} for name, figures in summary.items()])
    except FileNotFoundError:
        return None
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise InputError(
            "the evaluation cannot be read",
            file=folder / METRICS_FILE,
            got=str(error),
            remedy="run mrigmm evaluate again",
        ) from None
