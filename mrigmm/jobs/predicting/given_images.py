"""Images that a caller of `mrigmm.segment` has in memory, as a study."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from mrigmm.data.geometry import Grid
from mrigmm.data.in_memory import AnyImage, LoadedStudy, array_affine, image_in_memory, map_in_memory
from mrigmm.data.manifest import check_study_id
from mrigmm.data.study import frame_chooser, reference_sequence
from mrigmm.data.volumes import ChooseFrame, Volume
from mrigmm.errors import InputError, Problem, near_misses
from mrigmm.labels import REGION_FILE_IDS


def load_given(
    study: str,
    images: Mapping[str, AnyImage],
    region: AnyImage | None,
    spacing_mm: Sequence[float] | None,
    affine: object,
    frames: Mapping[str, int],
) -> LoadedStudy:
    """Make volumes of a study's images and region map.

    Raises:
        InputError: what is wrong with any of them.
    """
    reason = check_study_id(study)
    if reason:
        raise InputError(reason, got=study, remedy="name the study with study_id=")
    for name in frames:
        if name not in images:
            remedy = near_misses(name, [*images])
            raise InputError(f"a frame of '{name}' is named, but no such image", study=study, remedy=remedy)
    of_arrays = array_affine(spacing_mm, affine, study=study)
    arrays = {
        name: tuple(image.shape)
        for name, image in {**images, "region": region}.items()
        if isinstance(image, np.ndarray | torch.Tensor)
    }
    _require_one_grid(study, arrays)
    first = reference_sequence(images)
    volumes: dict[str, Volume] = {}
    problems: list[Problem] = []

    def drawn_on(grid: Grid) -> Volume | None:
        if region is None:
            return None
        lies = grid.affine if of_arrays is None else of_arrays
        return map_in_memory(region, lies, study=study, role="region", known=REGION_FILE_IDS)

    def chooser(name: str) -> ChooseFrame | None:
        def choose(frames: NDArray[np.generic], grid: Grid) -> int:
            on = volumes[first].grid if first in volumes else grid
            chosen = frame_chooser(LoadedStudy(study, {}, drawn=drawn_on(on)), name, {})
            assert chosen is not None
            return chosen(frames, grid)

        return None if frame_chooser(LoadedStudy(study, {}), name, {}) is None else choose

    for name in sorted(images, key=lambda other: other != first):  # the region lies on the grid of the first
        options: dict[str, Any] = {"frame": frames.get(name), "choose_frame": chooser(name)}
        try:
            volumes[name] = image_in_memory(images[name], of_arrays, study=study, role=name, **options)
        except InputError as error:
            problems += error.problems
    drawn = None
    if first in volumes:
        try:
            drawn = drawn_on(volumes[first].grid)
        except InputError as error:
            problems += error.problems
    if problems:
        raise InputError.from_problems(problems)
    if of_arrays is not None and not arrays:
        raise InputError(
            "spacing_mm and affine belong to arrays, and there are none",
            study=study,
            remedy="leave them out: the images say themselves where they lie",
        )
    return LoadedStudy(
        study,
        {name: Path(image) for name, image in images.items() if isinstance(image, Path | str)},
        Path(region) if isinstance(region, Path | str) else None,
        frames=frames,
        volumes={name: volumes[name] for name in images},
        drawn=drawn,
    )


def _require_one_grid(study: str, shapes: Mapping[str, tuple[int, ...]]) -> None:
    """Refuse arrays of different shapes: they share one place in space."""
    if len({(*shape, 1)[:3] for shape in shapes.values()}) > 1:
        raise InputError(
            "the arrays have different shapes, and one place in space",
            study=study,
            expected="arrays on one voxel grid",
            got=", ".join(f"{name} {shape}" for name, shape in shapes.items()),
            remedy="resample them onto one, or give images of nibabel or SimpleITK, which say where they lie",
        )
