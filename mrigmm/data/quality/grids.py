"""Findings about voxel grids, and about what a left ventricle measures on them, in mm, ml and g."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from mrigmm.data.geometry import Grid, plane_box, shear_degrees, slice_normal
from mrigmm.data.limits import (
    DIAMETER_MM,
    IN_PLANE_MM,
    MASS_G,
    MAX_LENGTH_MM,
    MAX_SHEAR_DEGREES,
    MAX_TILT_DEGREES,
    SHORT_STACK_MM,
    SLICE_DISTANCE_MM,
    VOLUME_ML,
    WALL_MM,
    WHOLE_STACK_MM,
)
from mrigmm.errors import Problem
from mrigmm.labels import MYOCARDIUM_G_PER_ML, Region

_STUDIES_NAMED = 5


def sheared(name: str, grid: Grid, *, itk_opens: bool) -> Problem | None:
    """The array axes are not perpendicular to each other, or not so exactly that ITK programs read them.

    Args:
        name: of the sequence.
        grid: its grid.
        itk_opens: whether ITK reads the file's header (`nifti_place.itk_opens`).
    """
    angle = shear_degrees(grid)
    if itk_opens and angle <= MAX_SHEAR_DEGREES:
        return None
    axes = f"axes that are {angle:.2g} degrees off"
    if itk_opens:
        return Problem(
            f"{name} has a sheared grid",
            expected="perpendicular voxel axes",
            got=f"{axes}; used as they are, volumes and results are right",
            remedy="none needed here; programs built on ITK read the qform, whose axes are perpendicular",
            severity="note",
        )
    return Problem(
        f"ITK programs (3D Slicer, ITK-SNAP, SimpleITK) will refuse {name}",
        expected="voxel axes that are perpendicular within 0.005 degrees, or a qform",
        got=f"{axes}, and no qform; used as they are, volumes and results are right",
        remedy="none needed here, and the label map is written so that they open it; for the image, add a "
        "qform (nibabel: image.set_qform(image.affine, 1)) and save it",
        severity="note",
    )


def implausible_spacing(name: str, grid: Grid) -> Problem | None:
    """Voxels of a size that no cardiac sequence has: a lost header, or another unit.

    Where nobody knew the size, programs write 1 mm, which few slices cannot be apart.
    """
    slices = grid.shape[grid.slice_axis]
    lost = bool(np.allclose(grid.spacing_mm, 1.0)) and 1 < slices < SHORT_STACK_MM
    if grid.has_usual_voxels and not lost:
        return None
    low, high = IN_PLANE_MM
    return Problem(
        f"{name} has voxels of an implausible size",
        expected=f"{low:g} to {high:g} mm in plane, slices {SLICE_DISTANCE_MM[0]:g} to "
        f"{SLICE_DISTANCE_MM[1]:g} mm apart",
        got=grid.describe() + (", as in an empty header" if lost else ""),
        remedy="convert the file again from DICOM, or correct the spacing in its header",
        severity="warning",
    )


def not_parallel(name: str, grid: Grid, reference_name: str, reference: Grid) -> Problem | None:
    """The slices of a sequence are tilted against the reference's: another view of the heart."""
    cosine = abs(float(slice_normal(grid) @ slice_normal(reference)))
    angle = float(np.rad2deg(np.arccos(min(cosine, 1.0))))
    if angle <= MAX_TILT_DEGREES:
        return None
    return Problem(
        f"{name} shows another view than {reference_name}",
        expected=f"slices within {MAX_TILT_DEGREES:g} degrees of those of {reference_name}",
        got=f"{angle:.0f} degrees; {name}: {grid.describe()}; {reference_name}: {reference.describe()}",
        remedy="give the same view of every sequence, for example the short axis",
        severity="warning",
    )


def on_another_grid(name: str, distances_mm: Mapping[str, float | None]) -> Problem | None:
    """Some studies have this sequence on another grid than the reference sequence.

    Args:
        name: of the sequence.
        distances_mm: per study that has it, the largest distance in mm between matching corners of the
            two grids: None when the grids are the same, infinite when their shapes differ.
    """
    other = {study: distance for study, distance in distances_mm.items() if distance is not None}
    if not other:
        return None
    named = [
        f"{study} ({'other shape' if np.isinf(distance) else f'corners up to {distance:.1f} mm apart'})"
        for study, distance in list(other.items())[:_STUDIES_NAMED]
    ]
    more = ", ..." if len(other) > _STUDIES_NAMED else ""
    return Problem(
        f"{name} lies on another grid than the reference sequence and is resampled",
        got=f"{len(other)} of {len(distances_mm)} studies: {', '.join(named)}{more}",
        remedy="none needed if the patient lay still between the two; compare them in a viewer",
        severity="note",
    )


def size_problems(
    codes: NDArray[np.uint8], spacing_mm: Sequence[float], voxel_ml: float
) -> Iterator[Problem]:
    """All findings about the size of a ventricle; the arguments are those of `implausible_size`."""
    found = implausible_size(codes, spacing_mm, voxel_ml), part_of_a_ventricle(codes, spacing_mm[2])
    yield from (problem for problem in found if problem is not None)


def implausible_size(
    codes: NDArray[np.uint8], spacing_mm: Sequence[float], voxel_ml: float
) -> Problem | None:
    """The ventricle measures what no left ventricle does; thickness and mass where its wall is known.

    Args:
        codes: (X, Y, Z) `labels.Region` codes, slices along the last axis; not empty.
        spacing_mm: (3,) of the axes.
        voxel_ml: volume of a voxel.
    """
    codes = codes[plane_box(codes != Region.OUTSIDE)]
    inside, wall = codes != Region.OUTSIDE, codes == Region.WALL
    pixel_mm2 = spacing_mm[0] * spacing_mm[1]
    _, stack_mm = extent(inside, spacing_mm[2])
    whole = stack_mm >= WHOLE_STACK_MM
    area = float(inside.sum(axis=(0, 1)).max()) * pixel_mm2
    volume = float(inside.sum()) * voxel_ml
    measured = [
        ("diameter", 2 * float(np.sqrt(area / np.pi)), "mm", DIAMETER_MM),
        ("volume", volume, "ml", (VOLUME_ML[0] if whole else 0.0, VOLUME_ML[1])),
    ]
    if codes.shape[2] > 1:  # what a header says of a single slice is its thickness, or nothing
        measured.append(("length", stack_mm, "mm", (0.0, MAX_LENGTH_MM)))
    thickness = wall_thickness_mm(codes, pixel_mm2)
    if thickness is not None:
        measured.append(("wall thickness", thickness, "mm", WALL_MM))
    if wall.any():
        mass = MYOCARDIUM_G_PER_ML * float(wall.sum()) * voxel_ml
        measured.append(("mass", mass, "g", (MASS_G[0] if whole else 0.0, MASS_G[1])))
    wrong = [row for row in measured if not row[3][0] <= row[1] <= row[3][1]]
    if not wrong:
        return None
    return Problem(
        "no adult left ventricle has this size",
        expected=", ".join(f"{name} {_limits(ends, unit)}" for name, _, unit, ends in wrong),
        got=", ".join(f"{name} {value:.3g} {unit}" for name, value, unit, _ in wrong),
        remedy="check the map's ids and the voxel size in the headers; for other organs and animals, none",
        severity="warning",
    )


def part_of_a_ventricle(codes: NDArray[np.uint8], slice_distance_mm: float) -> Problem | None:
    """Masses of so few slices are plausible, and are those of a part of the ventricle.

    Args:
        codes: (X, Y, Z) `labels.Region` codes, slices along the last axis; not empty.
        slice_distance_mm: between neighbouring slices.
    """
    n, length = extent(codes != Region.OUTSIDE, slice_distance_mm)
    if length >= SHORT_STACK_MM:
        return None
    return Problem(
        "only a part of the left ventricle is measured",
        expected=f"slices over {WHOLE_STACK_MM:g} mm or more from base to apex",
        got=f"{n} slices over {length:.3g} mm" if n > 1 else f"1 slice of {length:.3g} mm",
        remedy="give the whole stack, or correct the slice distance in the header; else compare volumes and "
        "masses with those of the same slices only",
        severity="warning",
    )


def extent(inside: NDArray[np.bool_], slice_distance_mm: float) -> tuple[int, float]:
    """Slices (the last axis) from the first to the last with anything inside: number, and length in mm."""
    slices = np.flatnonzero(inside.any(axis=(0, 1)))
    n = int(slices[-1] - slices[0]) + 1
    return n, round(n * slice_distance_mm, 1)


def wall_thickness_mm(codes: NDArray[np.uint8], pixel_mm2: float) -> float | None:
    """Mean thickness of the wall around the cavity, as of two circles of their areas, median over slices.

    Args:
        codes: (X, Y, Z) `labels.Region` codes, slices along the last axis.
        pixel_mm2: area of a pixel.

    Returns:
        None where no slice has both cavity and wall.
    """
    cavity = (codes == Region.CAVITY).sum(axis=(0, 1))
    wall = (codes == Region.WALL).sum(axis=(0, 1))
    both = (cavity > 0) & (wall > 0)
    if not both.any():
        return None
    outer, inner = np.sqrt((cavity + wall)[both]), np.sqrt(cavity[both])
    return float(np.median(outer - inner)) * float(np.sqrt(pixel_mm2 / np.pi))


def _limits(ends: tuple[float, float], unit: str) -> str:
    low, high = ends
    return f"{low:g} to {high:g} {unit}" if low > 0 else f"at most {high:g} {unit}"
