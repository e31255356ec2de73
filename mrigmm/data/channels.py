"""The channels of a study: each sequence on the reference grid, standardised inside the region, stacked."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn.functional import grid_sample

from mrigmm.data.geometry import Grid, coverage, in_field_of_view, index_affine, index_along
from mrigmm.data.limits import MAX_BETWEEN_MM
from mrigmm.data.manifest import Study
from mrigmm.data.registration import SliceMotion, sample, sampling_index
from mrigmm.data.standardise import ZScore, fit_zscore
from mrigmm.data.volumes import Volume
from mrigmm.errors import InputError

# A sequence must cover at least this share of the region: less is another examination, or a lost header.
MIN_COVERAGE = 0.5


@dataclass(frozen=True)
class OnGrid:
    """A sequence on the reference grid.

    Attributes:
        data: (X, Y, Z) intensities.
        acquired: (X, Y, Z), where the field of view reaches; None: everywhere.
        notes: what the user should know.
    """

    data: NDArray[np.float32]
    acquired: NDArray[np.bool_] | None = None
    notes: tuple[str, ...] = ()


def on_reference_grid(
    volume: Volume,
    reference: Volume,
    inside: NDArray[np.bool_],
    motion: tuple[SliceMotion, ...] | None,
    study: str,
    name: str,
) -> OnGrid:
    """One sequence on the reference grid, linearly where the grids differ or the sequence moved.

    Args:
        volume: the sequence as it was read.
        reference: the reference sequence, whose grid is (X, Y, Z).
        inside: (X, Y, Z) bool, the region.
        motion: what the sequence was moved by, per slice; None where it was not registered.
        study: id of the study, for messages.
        name: of the sequence.

    Raises:
        InputError: the sequence covers less than `MIN_COVERAGE` of the region.
    """
    if motion is None and volume.grid.same_as(reference.grid):
        return OnGrid(volume.data.astype(np.float32, copy=False))
    if motion is None:
        acquired = coverage(reference.grid, volume.grid)
    else:
        index = sampling_index(reference.grid, inside, motion, volume.grid)
        acquired = in_field_of_view(index, volume.grid.shape)
    covered = float(acquired[inside].mean())
    if covered < MIN_COVERAGE:
        raise InputError(
            f"{name} does not show the region: its grid lies elsewhere",
            study=study,
            file=volume.path,
            expected=f"a grid that covers the region; reference: {reference.grid.describe()}",
            got=f"{volume.grid.describe()}; covers {100 * covered:.0f} % of the region",
            remedy=f"repair the header of {name}, crop the region to the common field of view, "
            "or leave the sequence out (null)",
        )
    notes = []
    if covered < 1:
        notes.append(f"{name} covers {100 * covered:.1f} % of the region and counts as missing in the rest")
    if motion is not None:
        data = sample(volume.data, index)
    else:
        data = resample_linear(volume.data.astype(np.float32, copy=False), volume.grid, reference.grid)
        between = _between_slices(reference.grid, inside & acquired, volume.grid)
        if between > 0:
            notes.append(
                f"{name} has slices {volume.grid.spacing_mm[volume.grid.slice_axis]:.3g} mm apart: "
                f"{100 * between:.0f} % of the region lies more than {MAX_BETWEEN_MM:g} mm from any, and is "
                "interpolated"
            )
    return OnGrid(data, None if acquired.all() else acquired, tuple(notes))


def _between_slices(reference: Grid, inside: NDArray[np.bool_], sequence: Grid) -> float:
    """Share of the voxels inside (X, Y, Z) that lie farther than `MAX_BETWEEN_MM` from any slice."""
    axis = sequence.slice_axis
    index = index_along(index_affine(reference, sequence), reference.shape, axis)[inside]
    away = np.abs(index - np.rint(index)) * sequence.spacing_mm[axis]
    return float((away > MAX_BETWEEN_MM).mean())


def stack_channels(
    study: Study,
    sequences: Sequence[str],
    on_grid: Mapping[str, OnGrid],
    region: NDArray[np.uint8],
    warnings: list[str],
    notes: list[str],
) -> tuple[NDArray[np.float32], NDArray[np.bool_], dict[str, ZScore]]:
    """Stack the sequences in region z-score units.

    Args:
        study: for messages.
        sequences: the C channels, in their order.
        on_grid: by name, what `on_reference_grid` made of those that the study has.
        region: (X, Y, Z) region codes, 0 outside.
        warnings: what the user should act on is added to it.
        notes: what is good to know is added to it.

    Returns:
        The image (C, X, Y, Z), 0 where nothing was acquired; where each channel carries information
        (C, X, Y, Z) bool; and how each sequence was standardised.

    Raises:
        InputError: no sequence varies inside the region.
    """
    image = np.zeros((len(sequences), *region.shape), dtype=np.float32)
    observed = np.zeros(image.shape, dtype=bool)
    zscores: dict[str, ZScore] = {}
    inside = region > 0
    for index, name in enumerate(sequences):
        if name not in on_grid:
            continue
        channel, acquired = on_grid[name].data, on_grid[name].acquired
        zscore = fit_zscore(channel[inside if acquired is None else acquired & inside])
        if not zscore.varies:
            warnings.append(f"{name} is constant inside the region and is left out")
            continue
        if zscore.n_clipped:
            notes.append(f"{name}: {zscore.n_clipped} extreme voxels of the region were clipped")
        zscores[name] = zscore
        image[index] = zscore.apply(channel)
        observed[index] = True if acquired is None else acquired
        if acquired is not None:
            image[index][~acquired] = 0
    if not observed.any():
        raise InputError(
            "no sequence varies inside the region",
            study=study.id,
            file=next(iter(study.images.values()), None),
            expected="an image with contrast inside the region",
            got=f"one value in all {int((region > 0).sum())} voxels",
            remedy="check that region and images belong together",
        )
    return image, observed, zscores


def resample_linear(data: NDArray[np.float32], source: Grid, target: Grid) -> NDArray[np.float32]:
    """Trilinear interpolation of `data` (X', Y', Z') on `source` at the voxel centres of `target`.

    Beyond the outermost voxel centres the border's value holds. Any two affines will do, sheared and
    left-handed ones included. The same as MONAI's `ResampleToMatch` (bilinear, border, float64), without
    its copies.

    Returns:
        (X, Y, Z), computed in float64.
    """
    to_source = index_affine(target, source)
    coordinates = np.empty((*target.shape, 3))
    for axis, n in enumerate(source.shape):
        # Index i is at (2 i + 1) / n - 1 in grid_sample's units, which takes the last axis first.
        scaled = to_source.copy()
        scaled[axis] = 2 / n * to_source[axis]
        scaled[axis, 3] += 1 / n - 1
        coordinates[..., 2 - axis] = index_along(scaled, target.shape, axis)
    sampled = grid_sample(
        torch.from_numpy(data.astype(np.float64))[None, None],
        torch.from_numpy(coordinates)[None],
        mode="bilinear",
        padding_mode="border",
        align_corners=False,
    )
    return np.asarray(sampled[0, 0].numpy(), dtype=np.float32)
