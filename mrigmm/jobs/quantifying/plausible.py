"""Whether what was segmented can be a left ventricle: the same checks as of a region map, on a label map."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from torch import Tensor

from mrigmm.data import quality
from mrigmm.data.geometry import plane_box
from mrigmm.data.study_tensors import StudyTensors
from mrigmm.errors import Problem, some_of
from mrigmm.labels import CAVITY_CLASSES, Region, class_ids, of_the_ventricle
from mrigmm.quantification.study import Maps


def is_divided(study: StudyTensors) -> bool:
    """Whether the region of a study tells cavity from wall."""
    return not bool((study.region == Region.LV).any())


def result_problems(study: StudyTensors, labels: Tensor, classes: Sequence[str]) -> list[Problem]:
    """Findings about the size of a ventricle that the method, not the region, has divided.

    Args:
        study: what was segmented.
        labels: (X, Y, Z) class ids on its array.
        classes: names of the classes.
    """
    if is_divided(study) or not of_the_ventricle(classes):
        return []  # the region's own findings say all
    ids, box = class_ids(classes), plane_box(study.region.numpy() > 0)
    labels = labels[box]
    cavity = np.isin(labels.numpy(), [ids[name] for name in classes if name in CAVITY_CLASSES])
    codes = np.where(labels.numpy() == 0, Region.OUTSIDE, np.where(cavity, Region.CAVITY, Region.WALL))
    voxel_ml = study.output.grid.voxel_volume_ml
    found = quality.implausible_size(codes.astype(np.uint8), study.spacing_mm, voxel_ml)
    whole = quality.implausible_size(study.region.numpy(), study.spacing_mm, voxel_ml)
    if found is None or (whole is not None and whole.got == found.got):
        return []
    return [replace(found, what=f"{found.what} as it was segmented", study=study.id)]


def cavity_and_wall_exchanged(maps: Maps) -> Problem | None:
    """Return a warning where the wall of a label map, slices last, lies inside its cavity."""
    codes = np.where(maps.cavity, Region.CAVITY, np.where(maps.wall, Region.WALL, Region.OUTSIDE))
    slices = quality.exchanged(quality.slice_shapes(codes.astype(np.uint8), maps.grid.spacing_mm.tolist()))
    if not slices:
        return None
    return Problem(
        "cavity and wall are exchanged: the classes of the wall lie inside the blood",
        expected="blood that the classes of the wall enclose",
        got=f"a wall that blood encloses in slices {some_of(list(map(str, slices)))} (from 1)",
        remedy="exchange the ids of blood and myocardium: in the map, or where --labels names them",
        severity="warning",
    )


def map_problems(study: str, maps: Maps, *, divided: bool) -> list[Problem]:
    """Findings about the ventricle in a label map.

    Args:
        study: id, for messages.
        maps: its label map, slices last.
        divided: whether its parts were drawn; else only its size is judged.
    """
    cavity, wall = maps.cavity, maps.wall
    if not maps.ventricle or not (cavity | wall).any():
        return []
    codes = np.where(cavity, Region.CAVITY, np.where(wall, Region.WALL, Region.OUTSIDE)).astype(np.uint8)
    if divided:
        turned = cavity_and_wall_exchanged(maps)
        found = [turned] if turned else list(quality.region_problems(codes, maps.grid, list(maps.ids)))
    else:
        spacing = maps.grid.spacing_mm.tolist()
        found = list(quality.size_problems(codes, spacing, maps.grid.voxel_volume_ml))
    lost = quality.implausible_spacing("the label map", maps.grid)
    found += [] if lost is None else [lost]
    return [replace(problem, study=study) for problem in found]


EXPECTED = "expected_"
# Not calibrated as volumes: an interval of 3 to 92 g for an infarct of 42 g says nothing.
_NOT_SHOWN = ("pretrained",)


def is_shown(method: str) -> bool:
    """Whether volumes by a method's probabilities say anything of the true ones."""
    return method not in _NOT_SHOWN


def shown(row: Mapping[str, Any], method: str) -> dict[str, Any]:
    """Return a study's numbers (`Quantities.as_dict`) without what its method's probabilities do not tell."""
    if is_shown(method):
        return dict(row)
    volumes = {name: value for name, value in row["volumes"].items() if not name.startswith(EXPECTED)}
    return {**row, "volumes": volumes, "intervals": {}}
