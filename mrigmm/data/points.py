"""Points in the world, by study: a table of our own, and the files that 3D Slicer writes of its markups.

3D Slicer writes LPS+ unless told otherwise, and says so in the file; everything here is turned to RAS+, the
world of NIfTI files.
"""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mrigmm.errors import InputError

COLUMNS = ("study", "x_mm", "y_mm", "z_mm")
_TO_RAS = {"RAS": (1, 1, 1), "LPS": (-1, -1, 1), "0": (1, 1, 1), "1": (-1, -1, 1)}
_FCSV_COLUMNS = ("id", "x", "y", "z", "ow", "ox", "oy", "oz", "vis", "sel", "lock", "label")
# Name of a point, its position as it stands in the file, and the coordinate system of it.
_Found = tuple[str, Sequence[Any], str]
_SLICER_SUFFIXES = (".mrk.json", ".fcsv")
_FORMATS = (
    f"a CSV file with the columns {', '.join(COLUMNS)} (RAS+); points of 3D Slicer whose labels are study "
    "ids (.mrk.json, .fcsv, or .csv with label and l, p, s or r, a, s); or a folder of <id>.mrk.json or "
    "<id>.fcsv with one point each; every study once"
)


def read_points(path: Path) -> dict[str, NDArray[np.float64]]:
    """Read one point per study.

    Args:
        path: file, whose rows or labels name the studies; or a folder, whose file names do.

    Returns:
        Study -> point (3,) in mm, RAS+.

    Raises:
        InputError: no such file, another format, a coordinate system that is not named, or a study twice.
    """
    points: dict[str, NDArray[np.float64]] = {}
    file = path
    try:
        for file in _files(path):
            found = [*_points(file)]
            if path.is_dir() and len(found) != 1:
                raise ValueError(f"{len(found)} points in {file.name}")
            for name, point in found:
                study = file.name.removesuffix(_suffix(file)) if path.is_dir() else name
                if not np.isfinite(point).all() or study in points:
                    raise ValueError(f"{study}: no finite numbers, or a study for the second time")
                points[study] = point
    except (OSError, ValueError, TypeError, LookupError, AttributeError, RecursionError, csv.Error) as error:
        raise InputError(
            "the insertions of the right ventricle cannot be read",
            file=file,
            expected=_FORMATS,
            got=str(error),
        ) from None
    return points


def _files(path: Path) -> list[Path]:
    if not path.is_dir():
        return [path]
    files = sorted(file for file in path.iterdir() if _suffix(file) in _SLICER_SUFFIXES)
    if not files:
        raise ValueError(f"a folder without files {' or '.join(_SLICER_SUFFIXES)}")
    return files


def _suffix(file: Path) -> str:
    return next((s for s in _SLICER_SUFFIXES if file.name.lower().endswith(s)), file.suffix.lower())


def _points(file: Path) -> Iterator[tuple[str, NDArray[np.float64]]]:
    """Name and point (3,) in RAS+ mm, one after the other."""
    text = file.read_text(encoding="utf-8-sig")
    readers = {".mrk.json": _markups, ".json": _markups, ".fcsv": _fiducials}
    for name, position, system in readers.get(_suffix(file), _table)(text):
        if system not in _TO_RAS:
            raise ValueError(f"the coordinate system '{system}' of {name}, not RAS or LPS")
        yield name, np.array([float(v) for v in position], dtype=np.float64) * _TO_RAS[system]


def _table(text: str) -> Iterator[_Found]:
    """Read our own table, or the one of control points that 3D Slicer exports.

    Where the header has semicolons, as spreadsheets of many countries write them, commas are decimal.
    """
    header = text.partition("\n")[0]
    semicolons = ";" in header and "," not in header
    table = csv.DictReader(io.StringIO(text, newline=""), delimiter=";" if semicolons else ",")
    names = tuple(name.strip().lower() for name in table.fieldnames or ())
    table.fieldnames = list(names)
    if names == COLUMNS:
        study, axes, system = "study", COLUMNS[1:], "RAS"
    elif {"label", "l", "p", "s"} <= set(names):
        study, axes, system = "label", ("l", "p", "s"), "LPS"
    elif {"label", "r", "a", "s"} <= set(names):
        study, axes, system = "label", ("r", "a", "s"), "RAS"
    else:
        raise ValueError(f"columns {', '.join(names)}")
    for row in table:
        if any(row.get(None) or ()):
            raise ValueError(f"line {table.line_num}: more than {len(names)} columns (decimal commas?)")
        if row.get("defined", "1") == "0":
            raise ValueError(f"line {table.line_num}: a point that was not placed")
        position = [row[axis] for axis in axes]
        yield row[study], [v.replace(",", ".") for v in position] if semicolons else position, system


def _fiducials(text: str) -> Iterator[_Found]:
    """Read an older file of fiducials (.fcsv), whose header names system and columns."""
    said = (line.lstrip("# ").partition("=") for line in text.splitlines() if line.startswith("#"))
    head = {name.strip(): value.strip() for name, _, value in said}
    columns = [name.strip() for name in head.get("columns", ",".join(_FCSV_COLUMNS)).split(",")]
    lines = [line for line in text.splitlines() if line.strip() and not line.startswith("#")]
    for values in csv.reader(lines):
        row = dict(zip(columns, values, strict=False))
        yield row["label"], [row[axis] for axis in "xyz"], head["CoordinateSystem"].upper()


def _markups(text: str) -> Iterator[_Found]:
    """Read the markups of 3D Slicer (.mrk.json); where it names no system, its schema means LPS."""
    for markup in json.loads(text)["markups"]:
        if markup.get("coordinateUnits", "mm") not in ("mm", ["mm", "mm", "mm"]):
            raise ValueError(f"coordinates in {markup['coordinateUnits']}, not mm")
        for point in markup["controlPoints"]:
            if point.get("positionStatus", "defined") == "undefined":
                raise ValueError(f"{point['label']}: a point that was not placed")
            x, y, z = point["position"]
            yield str(point["label"]), [x, y, z], str(markup.get("coordinateSystem", "LPS")).upper()
