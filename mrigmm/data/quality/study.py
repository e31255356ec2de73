"""All findings about one study that has been read: the same for every command that reads one."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from mrigmm.data.cine import values_in_region
from mrigmm.data.geometry import Grid, plane_box, with_slices_last
from mrigmm.data.nifti_place import itk_opens
from mrigmm.data.quality.cohort import same_images
from mrigmm.data.quality.correspondence import looks_turned, turned_sequences
from mrigmm.data.quality.grids import implausible_spacing, not_parallel, sheared, size_problems
from mrigmm.data.quality.regions import (
    cavity_contrast,
    looks_swapped,
    misplaced,
    negative,
    saturated,
    swapped,
    touches_border,
)
from mrigmm.data.quality.topology import doubtful_parts, slice_shapes
from mrigmm.data.volumes import Volume
from mrigmm.errors import Problem
from mrigmm.labels import CAVITY_CLASSES, of_the_ventricle


def study_problems(
    images: Mapping[str, Volume],
    reference: str,
    region: NDArray[np.uint8],
    on_grid: Mapping[str, tuple[NDArray[np.float32], NDArray[np.bool_]]],
    classes: Sequence[str],
) -> Iterator[Problem]:
    """All findings about a study that can be loaded.

    Args:
        images: sequence name -> what was read of it, in the units of its file.
        reference: name of the sequence that gives the grid of the region.
        region: (X, Y, Z) `labels.Region` codes, not empty and not exchanged.
        on_grid: sequence name -> intensities (X, Y, Z) on the grid of the region, and where it was acquired.
        classes: what is segmented; size, parts and contrasts are known of the left ventricle only.
    """
    grid = images[reference].grid
    yield from grid_problems(images, reference)
    same = same_images({name: volume.data for name, volume in images.items()})
    yield from (replace(problem, severity="warning") for problem in same)
    for name, volume in images.items():
        values = values_in_region(volume.data[..., None], volume.grid, region > 0, grid)
        found = [saturated(name, values), negative(name, values)] if values.size else []
        yield from (replace(problem, file=volume.file) for problem in found if problem is not None)
    in_order = {
        name: (with_slices_last(v, grid), with_slices_last(s, grid)) for name, (v, s) in on_grid.items()
    }
    yield from turned_sequences(reference, in_order, float(np.delete(grid.spacing_mm, grid.slice_axis).min()))
    cut = touches_border(with_slices_last(region, grid))
    if cut is not None:
        yield cut
    if of_the_ventricle(classes):
        yield from region_problems(region, grid, classes)
        yield from _contrast_problems(region, grid, on_grid)


def misleading(findings: Sequence[Problem]) -> bool:
    """Return whether, by its findings, a study is not what it says: sequences of other names or places, or a
    region elsewhere; what is calibrated on studies that are says nothing of it.
    """
    return looks_swapped(findings) or looks_turned(findings)


def grid_problems(images: Mapping[str, Volume], reference: str) -> Iterator[Problem]:
    """Findings about the grids of the sequences, against that of the reference sequence where it was read.

    Args:
        images: sequence name -> what was read of it.
        reference: name of the sequence that gives the output grid.
    """
    for name, volume in images.items():
        found = [
            sheared(name, volume.grid, itk_opens=itk_opens(volume.header)),
            implausible_spacing(name, volume.grid),
        ]
        if reference in images:
            found.append(not_parallel(name, volume.grid, reference, images[reference].grid))
        yield from (replace(problem, file=volume.file) for problem in found if problem is not None)


def region_problems(region: NDArray[np.uint8], grid: Grid, classes: Sequence[str]) -> Iterator[Problem]:
    """Findings about size and parts of a left ventricle.

    Args:
        region: (X, Y, Z) `labels.Region` codes, not empty and not exchanged.
        grid: of it.
        classes: of the left ventricle; without blood among them the region needs no cavity.
    """
    codes, spacing = codes_slices_last(region, grid)
    yield from size_problems(codes, spacing, grid.voxel_volume_ml)
    with_cavity = any(name in CAVITY_CLASSES for name in classes)
    yield from doubtful_parts(slice_shapes(codes, spacing), spacing[2], with_cavity=with_cavity)


def _contrast_problems(
    region: NDArray[np.uint8],
    grid: Grid,
    on_grid: Mapping[str, tuple[NDArray[np.float32], NDArray[np.bool_]]],
) -> Iterator[Problem]:
    """Sequences that look exchanged, and a region that lies elsewhere."""
    codes, spacing = codes_slices_last(region, grid)
    box = plane_box(codes > 0)
    contrasts = {}
    for name, maps in on_grid.items():
        values, seen = (with_slices_last(part, grid)[box] for part in maps)
        contrast = cavity_contrast(values, codes[box], seen.astype(np.bool_), spacing)
        if contrast is not None:
            contrasts[name] = contrast
    yield from swapped(contrasts)
    elsewhere = misplaced(contrasts)
    if elsewhere is not None:
        yield elsewhere


def codes_slices_last(
    region: NDArray[np.uint8], grid: Grid
) -> tuple[NDArray[np.uint8], tuple[float, float, float]]:
    """Codes with the slices last, in the order of the file, and the spacing of their axes in mm."""
    x, y = np.delete(grid.spacing_mm, grid.slice_axis)
    return with_slices_last(region, grid), (float(x), float(y), float(grid.spacing_mm[grid.slice_axis]))
