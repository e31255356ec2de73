"""All numbers of one study, from its label map and, where known, its probabilities."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mrigmm.data.geometry import Grid, plane_box
from mrigmm.data.limits import WHOLE_STACK_MM
from mrigmm.data.quality.grids import extent
from mrigmm.errors import counted
from mrigmm.labels import of_the_ventricle, wall_classes
from mrigmm.quantification.predictive import draw_volumes_ml, intervals
from mrigmm.quantification.segments import (
    N_RINGS,
    N_SEGMENTS,
    Orientation,
    automatic_orientation,
    plane_axes,
    segment_numbers,
    slice_rings,
    towards_septum,
)
from mrigmm.quantification.transmurality import (
    cavity_bodies,
    ray_degrees,
    ray_transmurality,
    summarise_rays,
)
from mrigmm.quantification.volumes import clinical_numbers, probabilities, volumes_ml

# Infarct and edema move together within it, so that its draws say nothing about its spread.
WITHOUT_INTERVAL = ("salvage_percent_of_area_at_risk",)
# A slice with more rays that meet no wall is worth a note.
_OPEN_PERCENT = 10.0
NO_EDEMA = "the method gave no voxel any probability of edema: edema counts as not looked for"

Mask = NDArray[np.bool_]


@dataclass(frozen=True)
class Maps:
    """Maps of a study to measure, in file order with the slices moved to the last axis.

    Attributes:
        labels: (X, Y, Z) class ids.
        ids: class name -> id, in the order of `resp`.
        grid: of these arrays.
        resp: (K, X, Y, Z) probabilities, or None.
        mvo: (X, Y, Z) microvascular obstruction, part of scar; None when it was not looked for.
        edema_sought: False when edema was not looked for, so that none found says nothing.
        rv: (X, Y, Z) right-ventricular blood that the method found; None when it was not looked for.
    """

    labels: NDArray[np.integer[Any]]
    ids: Mapping[str, int]
    grid: Grid
    resp: NDArray[np.floating[Any]] | None = None
    mvo: Mask | None = None
    edema_sought: bool = True
    rv: Mask | None = None

    @property
    def ventricle(self) -> bool:
        """Whether the classes are tissues of the left ventricle."""
        return of_the_ventricle(list(self.ids))

    def mask(self, *classes: str) -> Mask:
        """Return where (X, Y, Z) a voxel is one of the classes that exist."""
        found = np.zeros_like(self.labels, dtype=np.bool_)
        for name in set(classes) & set(self.ids):
            found |= self.labels == self.ids[name]
        return found

    @cached_property
    def cavity(self) -> Mask:
        """(X, Y, Z)."""
        return self.mask("blood")

    @cached_property
    def wall(self) -> Mask:
        """(X, Y, Z), infarct included."""
        return self.mask(*wall_classes(list(self.ids)))

    @cached_property
    def bodies(self) -> Mask:
        """(X, Y, Z), the cavity of every slice in one piece (`cavity_body`)."""
        return cavity_bodies(self.cavity, self.wall)

    @cached_property
    def scar(self) -> Mask:
        """(X, Y, Z)."""
        return self.mask("scar")

    def cropped(self) -> Maps:
        """Return the part of the plane that holds everything, which is all that there is to measure.

        In memory slice after slice, as they are looked at.
        """
        found = [self.labels != 0, *([] if self.rv is None else [self.rv])]
        found += [] if self.resp is None else [self.resp.max(axis=0) > 0]
        box = plane_box(np.logical_or.reduce(found))
        affine = self.grid.affine.copy()
        affine[:3, 3] += affine[:3, :2] @ [box[0].start, box[1].start]
        labels = _by_slice(self.labels[box])
        x, y, z = labels.shape
        return replace(
            self,
            labels=labels,
            grid=Grid((x, y, z), affine),
            resp=None if self.resp is None else self.resp[:, box[0], box[1]],
            mvo=None if self.mvo is None else _by_slice(self.mvo[box]),
            rv=None if self.rv is None else _by_slice(self.rv[box]),
        )


def _by_slice(array: NDArray[Any]) -> NDArray[Any]:
    """An array (X, Y, Z) whose slices lie one after the other in memory."""
    return np.moveaxis(np.ascontiguousarray(np.moveaxis(array, 2, 0)), 0, 2)


@dataclass(frozen=True)
class Quantities:
    """The numbers of a study; names end in their units.

    Attributes:
        volumes: hard counts, and from probabilities with `expected_` before the same name.
        intervals: 95 % intervals.
        draws: (S,) of what has an interval.
        slices: transmurality of each slice with wall, numbered from 1 in file order.
        segments: transmurality of each AHA segment; empty when they are not numbered.
        orientation: what they are numbered by.
        notes: what could not be measured, and why.
    """

    volumes: Mapping[str, float]
    intervals: Mapping[str, tuple[float, float]]
    draws: Mapping[str, NDArray[np.float64]]
    slices: tuple[Mapping[str, float], ...]
    segments: tuple[Mapping[str, float], ...]
    orientation: Orientation | None
    notes: tuple[str, ...]

    def as_dict(self) -> dict[str, Any]:
        """Return the content of a study's JSON."""
        by = self.orientation
        numbering = {} if by is None else {"numbering": {"automatic": by.automatic, **asdict(by)}}
        return {
            "volumes": dict(self.volumes),
            "intervals": {name: list(ends) for name, ends in self.intervals.items()},
            "slices": [dict(row) for row in self.slices],
            "segments": [dict(row) for row in self.segments],
            **numbering,
            "notes": list(self.notes),
        }


def quantify_maps(
    maps: Maps, orientation: Orientation | None = None, *, base_first: bool | None = None
) -> Quantities:
    """Measure a study.

    Args:
        maps: at least a label map.
        orientation: where base and septum are, to number the AHA segments; None: as the ventricles show
            it, where the right one was found.
        base_first: what is known of the base without an orientation.
    """
    notes: list[str] = []
    maps = maps.cropped()
    voxel_ml = maps.grid.voxel_volume_ml
    hard = volumes_ml(maps.labels, maps.ids, voxel_ml)
    if maps.mvo is not None:
        hard["mvo"] = int((maps.mvo & maps.scar).sum()) * voxel_ml
    expected: dict[str, float] = {}
    draws: dict[str, NDArray[np.float64]] = {}
    if maps.resp is not None:
        resp = maps.resp.reshape(len(maps.ids), -1)
        inside = resp[:, np.flatnonzero(resp.max(axis=0) > 0)]  # (K, N)
        for tissue, probability in probabilities(inside, list(maps.ids)).items():
            expected[tissue] = float(probability.sum()) * voxel_ml
            draws[tissue] = draw_volumes_ml(probability, voxel_ml)
    # A method that knows no edema, not a ventricle without any.
    if expected.get("edema") == 0 or (not maps.edema_sought and hard.get("edema") == 0):
        notes.append(NO_EDEMA)
        for name in ("edema", "area_at_risk"):
            del hard[name]
            expected.pop(name, None)
            draws.pop(name, None)
    numbers = clinical_numbers(hard, ventricle=maps.ventricle)
    volumes = {name: float(value) for name, value in numbers.items()}
    spread: dict[str, NDArray[np.float64]] = {}
    if expected:
        numbers = clinical_numbers(expected, ventricle=maps.ventricle)
        volumes |= {f"expected_{name}": float(v) for name, v in numbers.items() if "mvo" not in name}
        spread = {
            name: np.asarray(values)
            for name, values in clinical_numbers(draws, ventricle=maps.ventricle).items()
            if name not in WITHOUT_INTERVAL and np.isfinite(values).all()
        }
    slices: list[dict[str, float]] = []
    segments: list[dict[str, float]] = []
    if not maps.ventricle:
        notes.append("these are no classes of the left ventricle: volumes only")
    else:
        ventricle = maps.cavity | maps.wall
        n, length = extent(ventricle, maps.grid.spacing_mm[2]) if ventricle.any() else (0, WHOLE_STACK_MM)
        if length < WHOLE_STACK_MM:
            shown = counted(n, "slice")
            notes.append(f"a part of the ventricle: {shown} over {length:.3g} mm, which is no whole stack")
        missing = [name for name in ("myocardium", "edema", "scar") if name not in maps.ids]
        if missing:
            notes.append(f"no class {', '.join(missing)}: what needs it is not measured")
        if {"myocardium", "scar"} <= set(maps.ids):
            rays = _rays(maps)
            slices = _slices(maps, rays, notes)
            orientation = orientation or _found_orientation(maps, base_first, notes)
            segments = _segments(maps, rays, orientation, notes)
    return Quantities(
        volumes,
        intervals(spread),
        spread,
        tuple(slices),
        tuple(segments),
        orientation if segments else None,
        tuple(notes),
    )


def _rays(maps: Maps) -> NDArray[np.float64]:
    """Transmurality (%) of every slice and ray (Z, N_RAYS)."""
    _, in_plane = plane_axes(maps.grid.affine)
    box = plane_box(maps.cavity | maps.wall)
    cavity, wall, scar, bodies = (part[box] for part in (maps.cavity, maps.wall, maps.scar, maps.bodies))
    return np.stack(
        [
            ray_transmurality(cavity[..., z], wall[..., z], scar[..., z], in_plane, body=bodies[..., z])
            for z in range(wall.shape[2])
        ]
    )


def _slices(maps: Maps, rays: NDArray[np.float64], notes: list[str]) -> list[dict[str, float]]:
    """Return one row for each slice with wall."""
    rows = []
    for z in np.flatnonzero(maps.wall.any(axis=(0, 1))):
        rows.append({"slice": int(z) + 1, **summarise_rays(rays[z])})
        unmet = 100 * float(np.isnan(rays[z]).mean())
        if unmet == 100:
            notes.append(f"slice {z + 1}: no cavity inside the wall, so no transmurality")
        elif unmet > _OPEN_PERCENT:
            notes.append(f"slice {z + 1}: the wall is open, {unmet:.0f} % of the rays meet none")
    if not rows:
        notes.append("the label map has no wall")
    return rows


def _found_orientation(maps: Maps, base_first: bool | None, notes: list[str]) -> Orientation | None:
    """Return base and insertion by the right ventricle that was found, with what to know in `notes`."""
    if maps.rv is None:
        notes.append(
            "AHA segments are not numbered: base and anterior insertion of the right ventricle are not known"
        )
        return None
    found = automatic_orientation(
        maps.rv, maps.cavity, maps.wall, maps.grid.affine, base_first=base_first, bodies=maps.bodies
    )
    if isinstance(found, str):
        notes.append(f"AHA segments are not numbered: {found}")
        return None
    notes.append(
        "AHA segments are numbered automatically, by the right ventricle that the program found; its "
        f"anterior insertion differs by {found.spread_degrees:.0f} degrees (SD) between slices"
    )
    return found


def _segments(
    maps: Maps, rays: NDArray[np.float64], orientation: Orientation | None, notes: list[str]
) -> list[dict[str, float]]:
    """Return one row for each AHA segment, or none with the reason in `notes`."""
    if orientation is None:
        return []
    used = np.flatnonzero(np.isfinite(rays).any(axis=1))
    if used.size < N_RINGS:
        notes.append(f"AHA segments are not numbered: {used.size} slices with cavity and wall, 3 are needed")
        return []
    ordered = used if orientation.base_first else used[::-1]
    degrees = towards_septum(orientation.base_first) * (ray_degrees() - orientation.insertion_degrees)
    segments = np.array([segment_numbers(int(ring), degrees) for ring in slice_rings(used.size)])
    return [
        {"segment": number, **summarise_rays(rays[ordered][segments == number])}
        for number in range(1, N_SEGMENTS + 1)
    ]
