"""What `mrigmm quantify` reads: predictions, their side files, reference labels, insertions of the RV."""

from __future__ import annotations

import csv
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mrigmm.data.geometry import Grid, with_slices_last
from mrigmm.data.manifest import Manifest, Study
from mrigmm.data.maps import NO_CLASS, reference_classes, reference_volume, require_grid
from mrigmm.data.volumes import read_probabilities
from mrigmm.errors import InputError
from mrigmm.jobs.common import PROBABILITIES_SUFFIX
from mrigmm.jobs.quantifying.tables import SEQUENCES
from mrigmm.jobs.reading.prediction_folder import class_ids_of, read_labels, read_mvo, read_side_file
from mrigmm.quantification.study import Maps
from mrigmm.quantification.volumes import clinical_numbers, volumes_ml

_POINT_COLUMNS = ("study", "x_mm", "y_mm", "z_mm")


@dataclass(frozen=True)
class SideFile:
    """What is needed of `<id>.json`; older ones have no numbers.

    Attributes:
        sequences: that the study has, and that vary in its region; in older files those that were read.
    """

    classes: dict[str, int]
    volume_ml: dict[str, float]
    quantities: dict[str, Any] | None
    sequences: tuple[str, ...]


@dataclass(frozen=True)
class MeasuredStudy:
    """A predicted study: maps, and the numbers that `predict` recorded."""

    id: str
    maps: Maps
    side: SideFile
    file_grid: Grid  # as in the file

    @property
    def changed(self) -> bool:
        """Whether the label map is no longer the one that `predict` wrote."""
        voxel_ml = self.maps.grid.voxel_volume_ml
        recorded = {name: ml / voxel_ml for name, ml in self.side.volume_ml.items() if name in self.maps.ids}
        return any(abs(int(self.maps.mask(name).sum()) - n) > 0.5 for name, n in recorded.items())


@dataclass(frozen=True)
class Reference:
    """Reference labels of a study on the grid of its prediction, slices last."""

    volumes: dict[str, float]
    rv: NDArray[np.bool_] | None


def read_side(folder: Path, name: str) -> SideFile:
    """The side file of a study.

    Raises:
        InputError: there is none, or it is damaged.
    """
    return read_side_file(folder, name, _side_file)


def _side_file(content: Mapping[str, Any]) -> SideFile:
    found = content.get("quantities")
    if found is not None:
        ends = [end for pair in found["intervals"].values() for end in (pair[0], pair[1])]
        rows = (found["volumes"], *found["slices"], *found["segments"])
        values = [value for row in rows for value in row.values() if value is not None]
        if not all(isinstance(number, int | float) for number in (*ends, *values)):
            raise ValueError("a quantity that is no number")
        found["notes"] = [str(text) for text in found["notes"]]
    volume_ml = {str(key): float(ml) for key, ml in content.get("volume_ml", {}).items()}
    present = (found or {}).get(SEQUENCES, [*content.get("inputs", {})])
    return SideFile(class_ids_of(content), volume_ml, found, tuple(str(name) for name in present))


def read_measured(folder: Path, name: str) -> MeasuredStudy:
    """A study of a folder that `predict` wrote.

    Raises:
        InputError: a file of it is missing, damaged or lies on another grid.
    """
    side = read_side(folder, name)
    labels = read_labels(folder, name, side.classes)
    mvo = read_mvo(folder, name, labels)
    resp: NDArray[Any] | None = None
    file = folder / f"{name}{PROBABILITIES_SUFFIX}"
    if file.exists():
        volume = read_probabilities(file, study=name, n_classes=len(side.classes))
        require_grid(volume, labels.grid, name, "probability")
        resp = with_slices_last(np.moveaxis(volume.data, -1, 0), labels.grid)
    maps = Maps(
        with_slices_last(labels.data, labels.grid),
        side.classes,
        slices_last_grid(labels.grid),
        resp,
        None if mvo is None else with_slices_last(mvo, labels.grid),
    )
    return MeasuredStudy(name, maps, side, labels.grid)


def read_reference(study: Study, prediction: MeasuredStudy, cohort: Manifest) -> Reference:
    """Reference labels of a study, of the classes that its prediction has, too.

    Raises:
        InputError: as `reference_volume`, and when there is no class in common.
    """
    maps, grid = prediction.maps, prediction.file_grid
    classes = [name for name in cohort.classes if name in maps.ids and cohort.labels[name]]
    if not classes:
        raise InputError(
            "prediction and reference have no class in common",
            study=study.id,
            expected=f"one of {', '.join(maps.ids)} under 'labels' in the manifest",
            got=", ".join(cohort.classes) or "no class",
        )
    drawn = reference_volume(study, grid, cohort.labels)
    index = reference_classes(drawn, cohort.labels, classes)
    ml = volumes_ml(index, {name: i for i, name in enumerate(classes)}, grid.voxel_volume_ml)
    parts = {
        name: reference_classes(drawn, cohort.labels, (name,)) != NO_CLASS
        for name in ("mvo", "rv_blood")
        if cohort.labels.get(name)
    }
    if "mvo" in parts and maps.mvo is not None:
        ml["mvo"] = int(parts["mvo"].sum()) * grid.voxel_volume_ml
    numbers = clinical_numbers(ml, ventricle=maps.ventricle)
    rv = np.moveaxis(parts["rv_blood"], grid.slice_axis, -1) if "rv_blood" in parts else None
    return Reference({name: float(value) for name, value in numbers.items()}, rv)


def read_points(file: Path) -> dict[str, NDArray[np.float64]]:
    """Study -> point (3,) in mm.

    Raises:
        InputError: no such table.
    """
    points: dict[str, NDArray[np.float64]] = {}
    try:
        with file.open(encoding="utf-8-sig", newline="") as lines:
            table = csv.DictReader(lines)
            if tuple(table.fieldnames or ()) != _POINT_COLUMNS:
                raise ValueError(f"columns {', '.join(table.fieldnames or ())}")
            for row in table:
                point = np.array([float(row[name]) for name in _POINT_COLUMNS[1:]])
                if not np.isfinite(point).all() or row["study"] in points:
                    raise ValueError(
                        f"line {table.line_num}: no finite numbers, or a study for the second time"
                    )
                points[row["study"]] = point
    except (OSError, ValueError, TypeError, csv.Error) as error:
        raise InputError(
            "the insertions of the right ventricle cannot be read",
            file=file,
            expected=f"a CSV file with the columns {', '.join(_POINT_COLUMNS)}, each study once",
            got=str(error),
        ) from None
    return points


def slices_last_grid(grid: Grid) -> Grid:
    """The grid of an array whose slice axis was moved to the end."""
    order = [axis for axis in range(3) if axis != grid.slice_axis] + [grid.slice_axis]
    x, y, z = (grid.shape[axis] for axis in order)
    return Grid((x, y, z), grid.affine[:, [*order, 3]])
