"""A study in memory: standardised tensors with the slices last, and the way back to the grid of its files."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from mrigmm.data.bias_field import Shading
from mrigmm.data.geometry import Grid, Turn
from mrigmm.data.manifest import RegionRule
from mrigmm.data.registration import SliceMotion
from mrigmm.data.standardise import ZScore
from mrigmm.errors import Problem, lines

# Rows and columns of a part of the plane.
PlaneBox = tuple[slice, slice]
WHOLE: PlaneBox = (slice(None), slice(None))


@dataclass(frozen=True)
class OutputGrid:
    """Grid and header of the reference sequence's file, to write a map exactly on it."""

    grid: Grid
    header: nib.nifti1.Nifti1Header
    stored_shape: tuple[int, ...]
    file: Path | None  # None: it was in memory


@dataclass(frozen=True)
class StudyTensors:
    """A study in memory, slices along the last axis.

    Attributes:
        id: study id.
        sequences: names of the C channels.
        image: (C, X, Y, Z) float32, standardised inside the region, NaN-free, 0 for a missing
            sequence.
        observed: (C, X, Y, Z) bool, where each sequence was acquired and varies; the image is 0
            elsewhere.
        region: (X, Y, Z) uint8 `labels.Region` codes; above 0 where at least one class is allowed.
        label: (X, Y, Z) int64 class indices from 0, `maps.NO_CLASS` elsewhere; None when not asked for.
        spacing_mm: voxel spacing (3,) in mm of the array axes.
        turn: how the file's arrays were turned so that the slices lie last.
        output: the grid to write results on.
        inputs: file of each sequence that was read; None: it was in memory.
        frames: the frame, from 0, that was taken of each file that holds several.
        zscores: how the intensities of each sequence that the study has became `image`.
        found_region: how sure the anatomy stage is of the region that it found; None where one was given.
        scribbles: (X, Y, Z) int64 class indices that a user named, `maps.NO_CLASS` elsewhere; None when
            there are none or they were not asked for.
        region_source: file or rule of the region map.
        findings: what the user should know about this study, warnings and notes.
        motion: what each registered sequence was moved by, per slice of the reference file.
        shading: what the bias field of each corrected sequence was.
    """

    id: str
    sequences: tuple[str, ...]
    image: Tensor
    observed: Tensor
    region: Tensor
    label: Tensor | None
    spacing_mm: tuple[float, float, float]
    turn: Turn
    output: OutputGrid
    inputs: Mapping[str, Path | None]
    region_source: Path | RegionRule | None = None
    findings: tuple[Problem, ...] = ()
    frames: Mapping[str, int] = field(default_factory=dict)
    motion: Mapping[str, tuple[SliceMotion, ...]] = field(default_factory=dict)
    shading: Mapping[str, Shading] = field(default_factory=dict)
    zscores: Mapping[str, ZScore] = field(default_factory=dict)
    found_region: Mapping[str, Any] | None = None
    scribbles: Tensor | None = None

    @cached_property
    def present(self) -> Tensor:
        """(C,) bool, which sequences the study has."""
        return self.observed.flatten(1).any(dim=1)

    @property
    def warnings(self) -> tuple[str, ...]:
        """Return what a careful user would act on, a line each."""
        return lines(self.findings, "warning")

    @property
    def notes(self) -> tuple[str, ...]:
        """Return what is good to know and needs no action, a line each."""
        return lines(self.findings, "note")

    @property
    def voxels(self) -> Tensor:
        """Intensities (N, C) of the region's voxels, in `region.nonzero()` order."""
        return packed(self.image, self.region).T

    def present_voxels(self) -> tuple[Tensor, Tensor | None]:
        """Intensities (N, C') of the sequences that the study has, and where they were acquired.

        Returns:
            The second is (N, C') bool, or None when every voxel has all of them.
        """
        observed = packed(self.observed, self.region).T[:, self.present]
        return self.voxels[:, self.present], None if bool(observed.all()) else observed

    def in_plane_box(self, box: PlaneBox) -> StudyTensors:
        """Return a part of the plane, with what is computed from: channels and region."""
        image, observed = (maps[:, *box] for maps in (self.image, self.observed))
        return replace(self, image=image, observed=observed, region=self.region[box])

    def from_plane_box(self, maps: Tensor, box: PlaneBox) -> Tensor:
        """Return maps (..., X, Y, Z) of this study from those of a part of the plane; 0 beyond it."""
        whole = maps.new_zeros((*maps.shape[:-3], *self.region.shape))
        whole[..., *box, :] = maps
        return whole

    def to_input_grid(self, maps: Tensor) -> NDArray[np.generic]:
        """Put maps (M, X, Y, Z) of this study back on the grid of the reference file.

        Returns:
            (M, *grid shape), dtype kept; flips and permutations are undone exactly.
        """
        return self.turn.undo(maps.detach().cpu().numpy())


def packed(maps: Tensor, region: Tensor) -> Tensor:
    """The voxels (M, N) of maps (M, X, Y, Z) inside the region (X, Y, Z), in `region.nonzero()` order."""
    # By index: a boolean mask is looked through again for every map.
    return maps.flatten(1).index_select(1, region.flatten().nonzero()[:, 0])
