"""`mrigmm quantify`: clinical numbers of predicted studies, with units, intervals and AHA segments."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from mrigmm.data.files import require_not_input
from mrigmm.data.geometry import slices_last_grid
from mrigmm.data.manifest_file import read_manifest
from mrigmm.data.points import read_points
from mrigmm.data.study_tensors import StudyTensors
from mrigmm.errors import InputError, Problem, some_of
from mrigmm.export.side_files import finite, read_json
from mrigmm.jobs.common import LABELS_SUFFIX, QUANTITIES_FILE, Outcome, Track, no_progress
from mrigmm.jobs.quantifying.inputs import Reference, maps_of, read_reference
from mrigmm.jobs.quantifying.insertions import (
    check_base,
    check_header,
    check_place,
    check_studies,
    landmarks,
    require_base,
    reviewed_landmarks,
    without_effect,
)
from mrigmm.jobs.quantifying.plausible import EXPECTED, is_shown, map_problems, shown
from mrigmm.jobs.quantifying.tables import SEQUENCES, columns_of, quantity_files, visits_of, write_quantities
from mrigmm.jobs.reading.failures import failures, no_prediction
from mrigmm.jobs.reading.prediction_folder import (
    EDITED,
    Prediction,
    is_of,
    label_map_digests,
    of_other_images,
    predicted_studies,
    read_prediction,
    require_different,
)
from mrigmm.jobs.shown import ShownTable, figure
from mrigmm.labels import class_ids
from mrigmm.methods.base import Segmentation
from mrigmm.methods.study_verdict import VERDICT, verdict_numbers
from mrigmm.quantification.predictive import N_DRAWS, crps_ensemble, intervals
from mrigmm.quantification.segments import Orientation
from mrigmm.quantification.study import WITHOUT_INTERVAL, Maps, quantify_maps

# Of the ventricle; of another organ, the volume of each class.
_SHOWN = ("lv_cavity_ml", "lv_mass_g", "infarct_mass_g", "infarct_percent_of_lv_mass", "edema_mass_g")


@dataclass(frozen=True, repr=False)
class Quantified(Outcome):
    """Measured studies.

    Attributes:
        studies: study id -> number (a column of `quantities.csv`, docs/quantities.md) -> value, None where it
            was not measured.
    """

    studies: dict[str, dict[str, float | None]] = field(default_factory=dict)

    def tables(self) -> tuple[ShownTable, ...]:
        """A row per study."""
        measured = dict.fromkeys(name for row in self.studies.values() for name in row)
        ours = [name for name in _SHOWN if name in measured]
        columns = ours or [name for name in measured if not name.startswith(EXPECTED)]
        rows = (
            (study, *(figure(row.get(name), 1) for name in columns)) for study, row in self.studies.items()
        )
        return (ShownTable(("study", *columns), tuple(rows)),)


def quantify(
    predictions: Path | str,
    *,
    manifest: Path | str | None = None,
    data_root: Path | str | None = None,
    members: Sequence[Path | str] = (),
    rv_insertion: Path | str | None = None,
    base: str | None = None,
    redcap: bool = False,
    track: Track = no_progress,
) -> Quantified:
    """Measure the label maps of a folder; write `quantities.csv` and the tables beside it there.

    Examples:
        >>> mrigmm.quantify("predictions", manifest="cohort/manifest.json")  # doctest: +SKIP

    Args:
        predictions: folder that `predict` wrote.
        manifest: cohort with reference labels, to compare with; right-ventricular blood in them
            (`rv_blood`) shows where the AHA segments begin.
        data_root: folder that the manifest's paths resolve against; default the manifest's.
        members: folders of other predictions of the same studies (methods or seeds), whose volumes join
            the predictive distribution.
        rv_insertion: the anterior insertion of the right ventricle in world (scanner) coordinates: CSV of
            study, x_mm, y_mm, z_mm in RAS+, or points of 3D Slicer (`data.points.read_points`).
        base: "first" or "last", the slice of the files that is nearest to the base.
        redcap: write a data dictionary and records for REDCap, too.
        track: progress bar.

    Returns:
        `studies` holds the numbers; studies that failed are among its problems.

    Raises:
        InputError: when no study at all can be measured, or an option cannot be used.
    """
    folder = Path(predictions)
    found = predicted_studies(folder)
    require_base(base)
    require_different([folder, *map(Path, members)])
    if manifest is None and data_root is not None:
        raise InputError("a data root belongs to a manifest", remedy="give --manifest, too")
    cohort = None
    if manifest is not None:
        cohort = read_manifest(manifest, data_root)
    at = None if rv_insertion is None else Path(rv_insertion)
    points = {} if at is None else read_points(at)
    inputs = [Path(file) for file in (manifest, rv_insertion) if file is not None]
    require_not_input(*quantity_files(folder), inputs=inputs)
    known = {study.id: study for study in cohort.split("all")} if cohort else {}

    rows: dict[str, dict[str, Any]] = {}
    measured_maps: dict[str, Prediction] = {}
    problems: list[Problem] = [] if at is None else check_studies(points, found, at)
    no_base: list[str] = []
    no_insertion: list[str] = []
    for name in track(found, "Measuring"):
        try:
            reference = None
            prediction = read_prediction(folder, name)
            if cohort is not None and name in known and known[name].label is not None:
                reference = read_reference(known[name], prediction, cohort)
            maps, rv, point = (
                maps_of(prediction),
                None if reference is None else reference.rv,
                points.get(name),
            )
            doubts = [] if point is None or at is None else check_place(point, maps, name, at)
            doubts += [] if base is None else check_base(base, maps, rv, name)
            point_seen, base_seen = reviewed_landmarks(prediction.side)
            point = point_seen if point is None else point
            base_first, degrees = landmarks(maps, rv, point, base_seen if base is None else base == "first")
            if rv is not None and point is None and base_first is not None:
                doubts += check_header(rv, maps, name, base_first=base_first)
            others = [read_prediction(Path(member), name) for member in members]
            doubts += of_other_images([prediction, *others])
            rows[name] = _measure(
                prediction, maps, reference, others, _orientation(base_first, degrees), base_first
            )
        except InputError as error:
            problems += error.problems
            continue
        drawn = prediction.edited or prediction.side.region_divided
        problems += [*map_problems(name, maps, divided=drawn), *doubts]
        no_base += [name] if base_first is None else []
        no_insertion += [name] if degrees is None and not rows[name]["segments"] else []
        measured_maps[name] = prediction
        problems += prediction.notes()
    if not rows:
        raise InputError.from_problems(problems)
    without = [name for name, row in rows.items() if "reference" not in row]
    if cohort is not None and without:
        what = f"no reference label for {len(without)} of the studies: {some_of(without)}"
        problems.append(Problem(what, severity="warning"))
    problems += without_effect(base=base, points=points, no_insertion=no_insertion, no_base=no_base)
    failed = failures(folder)
    problems += no_prediction(failed)
    visits = visits_of(measured_maps.values()) | {
        name: (study.patient, study.visit) for name, study in known.items() if study.patient and study.visit
    }
    problems += write_quantities(folder, rows, measured_maps, failed, visits=visits, redcap=redcap)
    return Quantified(
        folder / QUANTITIES_FILE,
        tuple(rows),
        tuple(problems),
        studies={name: columns_of(row) for name, row in rows.items()},
    )


def predicted_quantities(
    study: StudyTensors, result: Segmentation, classes: tuple[str, ...], method: str
) -> dict[str, Any]:
    """The numbers of a study that was just segmented, for its side file."""
    grid = study.output.grid

    def in_file(maps: Tensor) -> NDArray[Any]:  # a view: what is measured is cut out first
        return np.moveaxis(study.turn.undone(maps.numpy(force=True)), grid.slice_axis - 3, -1)

    maps = Maps(
        in_file(result.labels),
        class_ids(classes),
        slices_last_grid(grid),
        in_file(result.resp),
        None if result.mvo is None else in_file(result.mvo),
        rv=None if result.rv is None else in_file(result.rv),
    )
    row = shown(quantify_maps(maps).as_dict(), method)
    row["volumes"] |= verdict_numbers(result.details)
    present = [name for name, there in zip(study.sequences, study.present, strict=True) if there]
    return {**row, SEQUENCES: present}


def measure_now(prediction: Prediction, maps: Maps) -> dict[str, Any]:
    """The numbers of a study as it is now, numbered by insertion and base of its review where it has them."""
    base_first, degrees = landmarks(maps, None, *reviewed_landmarks(prediction.side))
    return _measure(prediction, maps, None, [], _orientation(base_first, degrees), base_first)


def _orientation(base_first: bool | None, degrees: float | None) -> Orientation | None:
    return None if base_first is None or degrees is None else Orientation(base_first, degrees)


def write_recorded(folder: Path, *, changed: Collection[str] | None = None) -> list[Problem]:
    """Write the tables of a folder from the numbers that stand in its side files; returns what is damaged.

    Label maps that somebody changed are measured as they are now, and so are reviewed studies.

    Args:
        folder: that `predict` wrote.
        changed: studies whose rows are made anew, with the references that they had; the other rows of the
            tables stay while they are of their label maps. Default: all rows are made anew.
    """
    rows: dict[str, dict[str, Any]] = {}
    maps: dict[str, Prediction] = {}
    problems: list[Problem] = []
    before, digests = ({}, {}) if changed is None else _recorded_rows(folder)
    for path in sorted(folder.glob(f"*{LABELS_SUFFIX}")):
        name = path.name.removesuffix(LABELS_SUFFIX)
        try:
            prediction = read_prediction(folder, name)
            recorded, point_and_base = prediction.side.quantities, reviewed_landmarks(prediction.side)
            if name in before and name not in (changed or ()) and is_of(digests.get(name), prediction):
                rows[name] = before[name]
            elif prediction.edited or any(named is not None for named in point_and_base):
                rows[name] = measure_now(prediction, maps_of(prediction))
            elif recorded is not None:
                rows[name] = {**shown(recorded, prediction.side.method), SEQUENCES: prediction.sequences}
            if name in rows and "reference" in before.get(name, {}):
                rows[name] |= {"reference": before[name]["reference"], "crps": {}}
        except InputError as error:
            problems += [replace(problem, severity="warning") for problem in error.problems]
            continue
        maps[name] = prediction
    return problems + write_quantities(folder, rows, maps, failures(folder))


def _recorded_rows(folder: Path) -> tuple[dict[str, dict[str, Any]], dict[str, str]]:
    """Rows of the tables of a folder and the label maps that they are of; none where they are damaged."""
    try:
        return read_json(
            folder / QUANTITIES_FILE,
            lambda content: ({**content["studies"]}, label_map_digests(content)),
            command="quantify",
            missing="the folder has not been quantified",
            damaged="the quantities cannot be read",
        )
    except InputError:
        return {}, {}


def _measure(
    prediction: Prediction,
    maps: Maps,
    reference: Reference | None,
    members: Sequence[Prediction],
    orientation: Orientation | None,
    base_first: bool | None = None,
) -> dict[str, Any]:
    """The numbers of one study as they stand in the JSON file."""
    row, draws = _numbers(prediction, maps, orientation, base_first)
    row[SEQUENCES] = prediction.sequences
    if members and not prediction.edited:
        draws = _pooled([(row, draws), *(_numbers(member, maps_of(member)) for member in members)])
        row["intervals"] = {name: list(ends) for name, ends in intervals(draws).items()}
    if reference is not None:
        row["reference"] = reference.volumes
        row["crps"] = {
            name: crps_ensemble(values, reference.volumes[name])
            for name, values in draws.items()
            if math.isfinite(reference.volumes.get(name, math.nan))
        }
        if not draws and not prediction.edited:
            saved = "predict with --save-probabilities, or "
            how = saved if is_shown(prediction.side.method) else ""
            row["notes"].append(f"no CRPS: {how}give members")
    finished: dict[str, Any] = finite(row)
    return finished


def _numbers(
    prediction: Prediction, maps: Maps, orientation: Orientation | None = None, base_first: bool | None = None
) -> tuple[dict[str, Any], dict[str, NDArray[np.float64]]]:
    """The numbers of a prediction, and draws of those that probabilities were saved of."""
    notes = []
    if maps.mvo is not None and (maps.mvo & ~maps.mask("scar")).any():
        n = int((maps.mvo & ~maps.mask("scar")).sum())
        notes.append(f"{n} voxels of microvascular obstruction are no scar in the label map and do not count")
    if prediction.edited:
        notes.append(f"{EDITED}: no expected values and no intervals")
    found = quantify_maps(maps, orientation, base_first=base_first)
    method = prediction.side.method
    row = shown(found.as_dict(), method)
    recorded = prediction.side.quantities
    if maps.resp is None and recorded is not None:
        # What `predict` found while the probabilities were in memory.
        before = shown(recorded, method)
        kept = {name: v for name, v in before["volumes"].items() if name.startswith((EXPECTED, *VERDICT))}
        row = {**row, "volumes": {**row["volumes"], **kept}, "intervals": before["intervals"]}
    row["notes"] = [*notes, *row["notes"]]
    return row, dict(found.draws) if is_shown(method) else {}


def _pooled(
    members: Sequence[tuple[Mapping[str, Any], Mapping[str, NDArray[np.float64]]]],
) -> dict[str, NDArray[np.float64]]:
    """Draws of all members together, of a member without probabilities its one volume; what all measured."""
    pooled: dict[str, list[NDArray[np.float64]]] = {}
    for row, draws in members:
        for name, value in row["volumes"].items():
            if value is not None and math.isfinite(value):
                pooled.setdefault(name, []).append(draws.get(name, np.full(N_DRAWS, value)))
    return {
        name: np.concatenate(parts)
        for name, parts in pooled.items()
        if len(parts) == len(members)
        and not name.startswith((EXPECTED, *VERDICT))
        and name not in WITHOUT_INTERVAL
    }
