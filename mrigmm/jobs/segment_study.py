"""`mrigmm.segment`: studies in memory, with nothing written."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Unpack, overload

import numpy as np
import torch
from numpy.typing import NDArray

from mrigmm.data.geometry import Grid
from mrigmm.data.in_memory import AnyImage, LoadedStudy, array_affine, image_in_memory, region_in_memory
from mrigmm.data.manifest import Manifest, check_study_id
from mrigmm.data.study import frame_chooser, reference_sequence
from mrigmm.data.volumes import ChooseFrame, Volume
from mrigmm.errors import InputError, Problem, memory_checked, near_misses
from mrigmm.jobs.options import PredictOptions, SegmentKeywords, SegmentOptions, read_options, takes
from mrigmm.jobs.predicting.finished import make_request
from mrigmm.jobs.predicting.in_memory import SegmentedStudy
from mrigmm.jobs.predicting.segmented_study import solve
from mrigmm.jobs.predicting.segmenter import choose_segmenter, not_given


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
        return region_in_memory(region, lies, study=study)

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


Images = Mapping[str, AnyImage | None]


@overload
def segment(
    images: Images,
    region: AnyImage | None = None,
    *,
    spacing_mm: Sequence[float] | None = None,
    affine: object = None,
    study_id: str | None = None,
    frames: Mapping[str, int] | None = None,
    **options: Unpack[SegmentKeywords],
) -> SegmentedStudy: ...


@overload
def segment(
    images: Sequence[Images],
    region: Sequence[AnyImage | None] | None = None,
    *,
    spacing_mm: Sequence[float] | None = None,
    affine: object = None,
    study_id: Sequence[str] | None = None,
    frames: Mapping[str, int] | None = None,
    **options: Unpack[SegmentKeywords],
) -> list[SegmentedStudy]: ...


@takes(SegmentOptions, SegmentKeywords)
def segment(
    images: Images | Sequence[Images],
    region: Any = None,
    *,
    spacing_mm: Sequence[float] | None = None,
    affine: object = None,
    study_id: Any = None,
    frames: Mapping[str, int] | None = None,
    **options: Unpack[SegmentKeywords],
) -> SegmentedStudy | list[SegmentedStudy]:
    """Segment a study in memory, or several; nothing is written.

    Examples:
        >>> found = mrigmm.segment({"LGE": lge, "T2": t2}, spacing_mm=(1.2, 1.2, 10))  # doctest: +SKIP
        >>> found.quantities["infarct_mass_g"], found.labels.shape  # doctest: +SKIP

    Args:
        images: sequence name -> image of nibabel or SimpleITK, path, array or tensor (X, Y, Z), (X, Y) or,
            of a cine, (X, Y, Z, T); a list of such mappings gives a list of results.
        region: map of the ventricle (0 outside; 1 inside, or 1 = cavity and 2 = wall), in any of these
            forms; an array lies on the grid of the reference sequence. None: it is found. Of several
            studies a list.
        spacing_mm: distance of neighbouring voxels along the three axes of the arrays, in mm; one for all
            studies.
        affine: (4, 4) from index to mm in RAS+, in place of `spacing_mm`.
        study_id: name of the study, or a list of them; default the file name of the reference sequence, or
            "study".
        frames: sequence name -> frame, from 0, of an image with several; default of a cine end-diastole.
        **options: the fields of `SegmentOptions`, by name: `run` or `method`, and others.

    Returns:
        The segmented study, or a list of them in the order of `images`.

    Raises:
        InputError: studies that cannot be read, each of them named before any is segmented; studies that
            cannot be segmented.
    """
    chosen = read_options(SegmentOptions, options)
    several = isinstance(images, list | tuple)
    given = [_named(one) for one in (images if several else [images])]
    regions = _one_each(region, len(given), "region") if several else [region]
    ids = _one_each(study_id, len(given), "study_id") if several else [study_id]
    if not given:
        return []
    if len({str(name).casefold() for name in ids}) < len(ids) and ids[0] is not None:
        raise InputError("two studies have one name", got=", ".join(map(str, ids)))
    problems: list[Problem] = []
    studies: list[LoadedStudy] = []
    for number, (one, drawn, name) in enumerate(zip(given, regions, ids, strict=True), start=1):
        named = name or (f"study_{number}" if several else _default_id(one))
        try:
            with memory_checked():
                studies.append(load_given(named, one, drawn, spacing_mm, affine, frames or {}))
        except InputError as error:
            problems += error.problems
    if problems:
        raise InputError.from_problems(problems)
    sequences = tuple(dict.fromkeys(name for one in given for name in one))
    segmenter = choose_segmenter(Manifest(Path("images"), sequences, {}, {"test": tuple(studies)}), chosen)
    request = make_request(segmenter, studies, PredictOptions(**vars(chosen)))
    segmenter.fit_cohort(studies)
    notes = not_given(segmenter, chosen.prior)
    found: list[SegmentedStudy] = []
    for study, one in zip(studies, given, strict=True):
        try:
            with memory_checked():
                solved = solve(study, request, notes)
        except InputError as error:
            problems += error.problems
            continue
        found.append(SegmentedStudy(solved, segmenter, one[reference_sequence(one)]))
    if problems:
        raise InputError.from_problems(problems)
    return found if several else found[0]


def _named(images: object) -> dict[str, AnyImage]:
    """The sequences that are there.

    Raises:
        InputError: there are none, or they have no names.
    """
    if not isinstance(images, Mapping) or not all(isinstance(name, str) for name in images):
        raise InputError(
            "the images have no names",
            expected='a mapping such as {"LGE": image, "T2": image}, or a list of them',
            got=type(images).__name__,
        )
    there = {name: image for name, image in images.items() if image is not None}
    if not there:
        raise InputError("no image was given", expected='one at least, such as {"LGE": image}')
    return there


def _one_each(values: Any, n: int, name: str) -> Sequence[Any]:
    """A value for each of several studies."""
    if values is None:
        return [None] * n
    if not isinstance(values, list | tuple) or len(values) != n:
        got = f"{len(values)}" if isinstance(values, list | tuple) else type(values).__name__
        raise InputError(f"{name} of several studies is a list", expected=f"{n} of them", got=got)
    return values


def _default_id(images: Mapping[str, AnyImage]) -> str:
    reference = images[reference_sequence(images)]
    if not isinstance(reference, Path | str):
        return "study"
    return Path(reference).name.removesuffix(".gz").removesuffix(".nii")
