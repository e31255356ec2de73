"""Findings about voxel grids."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from mrigmm.data.geometry import Grid, shear_degrees, slice_normal
from mrigmm.data.limits import IN_PLANE_MM, MAX_SHEAR_DEGREES, MAX_TILT_DEGREES, SLICE_DISTANCE_MM
from mrigmm.errors import Problem

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
    """Voxels of a size that no cardiac sequence has: a lost header, or another unit."""
    if grid.has_usual_voxels:
        return None
    low, high = IN_PLANE_MM
    return Problem(
        f"{name} has voxels of an implausible size",
        expected=f"{low:g} to {high:g} mm in plane, slices {SLICE_DISTANCE_MM[0]:g} to "
        f"{SLICE_DISTANCE_MM[1]:g} mm apart",
        got=grid.describe(),
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
