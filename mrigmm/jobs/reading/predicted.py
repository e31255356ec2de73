"""A predicted study read back: its side file, its label map, and the images as predict saw them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import ValidationError

from mrigmm.config import RunConfig
from mrigmm.data.crops import standardised_by_percentiles
from mrigmm.data.geometry import Grid, with_slices_last
from mrigmm.data.manifest import RegionRule, Study
from mrigmm.data.maps import read_reference_label
from mrigmm.data.standardise import CROP_ZSCORE, REGION_PERCENTILES, REGION_ZSCORE, UNITS
from mrigmm.data.study import Corrections, load_study
from mrigmm.data.study_tensors import StudyTensors
from mrigmm.errors import InputError
from mrigmm.jobs.common import REGION_SUFFIX
from mrigmm.jobs.reading.prediction_folder import class_ids_of, read_labels, read_side_file
from mrigmm.labels import Region
from mrigmm.methods.deep_gmm import run_input


@dataclass(frozen=True)
class SavedMixture:
    """The mixture of a side file: weights (S, K), means (S, K, C), covariances (S, K, C, C)."""

    sequences: tuple[str, ...]
    units: str
    weights: NDArray[np.float64]
    means: NDArray[np.float64]
    covariances: NDArray[np.float64]


@dataclass(frozen=True)
class SideFile:
    """What a report needs of `<id>.json`.

    Attributes:
        classes: class name -> id.
        inputs: file of each sequence that was read.
        frames: frame, from 0, of files that hold several.
        region: region map; None where it is no file.
        region_source: where the region comes from, in words; None where the side file does not say.
        corrections: what was done to the images.
        settings: of the method.
        run: folder of the trained run; None for a method without one.
        command: command line of the prediction; None in files of older versions.
    """

    method: str
    classes: Mapping[str, int]
    volume_ml: Mapping[str, float]
    mixture: SavedMixture
    inputs: Mapping[str, Path]
    frames: Mapping[str, int]
    region: Path | None
    region_source: str | None
    corrections: Corrections
    settings: Mapping[str, Any]
    warnings: tuple[str, ...]
    seconds: float | None
    versions: Mapping[str, str]
    run: Path | None
    command: str | None


def _side_file(found_region: Path, content: Mapping[str, Any]) -> SideFile:
    region = content.get("region")
    run, command, seconds = content.get("run"), content.get("command"), content.get("seconds")
    if not isinstance(content["settings"], dict):
        raise TypeError("settings")
    return SideFile(
        method=str(content["method"]),
        classes=class_ids_of(content),
        volume_ml={str(name): float(ml) for name, ml in content["volume_ml"].items()},
        mixture=_mixture(content["mixture"]),
        inputs={str(name): Path(file) for name, file in content["inputs"].items()},
        frames={str(name): int(frame) for name, frame in content.get("frames", {}).items()},
        # A region that the anatomy stage found lies beside the labels; a rule's has no file.
        region=Path(region) if isinstance(region, str) else found_region,
        region_source=None if region is None else _region_source(region),
        corrections=Corrections(bias_correction="bias_field" in content, registration="motion" in content),
        settings=content["settings"],
        warnings=tuple(str(text) for text in content["warnings"]),
        seconds=None if seconds is None else float(seconds),
        versions={str(name): str(number) for name, number in content.get("versions", {}).items()},
        run=None if run is None else Path(run),
        command=None if command is None else str(command),
    )


def _region_source(region: Any) -> str:
    """Where a region comes from, as it stands in a side file."""
    if not isinstance(region, dict):
        return f"rule {region}" if region in RegionRule.KINDS else Path(str(region)).name
    own = "the program's own, found by the anatomy stage"
    quality, lowest = region.get("quality_0_to_1"), region.get("lowest_quality_0_to_1")
    if quality is None or lowest is None:  # a generative head, or a file of an older version
        quality, lowest = region.get("quality"), region.get("lowest_quality")
        scale = "no fixed scale: higher is better"
    else:
        scale = "from 0 to 1: mean probability of the tissues in and around the ventricle"
    if quality is None or lowest is None:
        return own
    return f"{own}; quality {float(quality):.3g} ({scale}; below {float(lowest):.3g} is low)"


def _mixture(content: Mapping[str, Any]) -> SavedMixture:
    weights, means, covariances = (
        np.array(content[name], dtype=float) for name in ("weights", "means", "covariances")
    )
    sequences = tuple(str(name) for name in content["sequences"])
    if means.ndim != 3 or means.shape[2] != len(sequences):
        raise ValueError(f"means of shape {means.shape}")
    if weights.shape != means.shape[:2] or covariances.shape != (*means.shape, len(sequences)):
        raise ValueError(f"weights of shape {weights.shape}, covariances of shape {covariances.shape}")
    if not all(np.isfinite(part).all() for part in (weights, means, covariances)):
        raise ValueError("the mixture is not finite")
    return SavedMixture(sequences, str(content["units"]), weights, means, covariances)


@dataclass(frozen=True)
class PredictedStudy:
    """A predicted study, in the axes of its files but with the slices last.

    Attributes:
        id: study id.
        side: its side file.
        labels: class ids (X, Y, Z).
        spacing_mm: of those axes.
        reference: reference class ids (X, Y, Z), or None.
        reference_classes: classes that the reference knows.
        images: sequence -> intensities (X, Y, Z) as they were segmented, in region z-scores; empty where
            they cannot be read any more.
        mixture_images: the same in the units of the mixture; empty where these cannot be made again.
        observed: sequence -> where it was acquired (X, Y, Z).
        note: why there are no images.
    """

    id: str
    side: SideFile
    labels: NDArray[np.uint8]
    spacing_mm: tuple[float, float, float]
    reference: NDArray[np.integer[Any]] | None
    reference_classes: tuple[str, ...]
    images: Mapping[str, NDArray[np.float32]]
    mixture_images: Mapping[str, NDArray[np.float32]]
    observed: Mapping[str, NDArray[np.bool_]]
    note: str | None


def read_predicted_study(
    folder: Path,
    study: str,
    *,
    reference: Path | None = None,
    reference_ids: Mapping[str, Sequence[int]] | None = None,
) -> PredictedStudy:
    """Read a predicted study, and its images in the way that predict did.

    Args:
        folder: folder that `predict` wrote.
        study: study id.
        reference: reference label map on the same grid.
        reference_ids: class name -> ids in that map; default those of the prediction.

    Raises:
        InputError: prediction, side file or reference cannot be read. Images that cannot are no error.
    """
    side = read_side_file(folder, study, partial(_side_file, folder / f"{study}{REGION_SUFFIX}"))
    labels = read_labels(folder, study, side.classes)
    truth, known = None, tuple(side.classes)
    if reference is not None:
        ids = reference_ids or {"background": (0,), **{name: (i,) for name, i in side.classes.items()}}
        index = read_reference_label(Study(study, {}, label=reference), labels.grid, ids, list(side.classes))
        truth = with_slices_last(np.array([*side.classes.values(), 0])[index], labels.grid)  # NO_CLASS: last
        known = tuple(name for name in side.classes if ids.get(name))
    ids_map = labels.data.astype(np.uint8)
    images, in_units, observed, note = {}, {}, {}, None
    try:
        tensors = _tensors(study, side, ids_map, labels.grid)
        images, observed = _by_sequence(tensors, tensors.image), _by_sequence(tensors, tensors.observed)
        converted = _in_mixture_units(tensors, side)
        in_units = {} if converted is None else _by_sequence(converted, converted.image)
    except InputError as error:
        note = error.problems[0].brief
    across, up = np.delete(labels.grid.spacing_mm, labels.grid.slice_axis)
    return PredictedStudy(
        id=study,
        side=side,
        labels=with_slices_last(ids_map, labels.grid),
        spacing_mm=(float(across), float(up), float(labels.grid.spacing_mm[labels.grid.slice_axis])),
        reference=truth,
        reference_classes=known,
        images=images,
        mixture_images=in_units,
        observed=observed,
        note=note,
    )


def _tensors(study: str, side: SideFile, labels: NDArray[np.uint8], grid: Grid) -> StudyTensors:
    """The study as it was read for the prediction.

    Where the region was no file (a rule), the labelled voxels are it.
    """
    has_map = side.region is not None and side.region.is_file()
    tensors = load_study(
        Study(study, side.inputs, region=side.region if has_map else None, frames=side.frames),
        tuple(side.inputs),
        tuple(side.classes),
        region=None if has_map else np.where(labels > 0, Region.LV, Region.OUTSIDE).astype(np.uint8),
        corrections=side.corrections,
    )
    if not tensors.output.grid.same_as(grid):
        raise InputError(
            "the image is no longer on the grid of the label map", study=study, file=tensors.output.file
        )
    return tensors


def _by_sequence(study: StudyTensors, maps: torch.Tensor) -> dict[str, NDArray[Any]]:
    on_file = with_slices_last(study.to_input_grid(torch.as_tensor(maps)), study.output.grid)
    return dict(zip(study.sequences, on_file, strict=True))


def _in_mixture_units(study: StudyTensors, side: SideFile) -> StudyTensors | None:
    """The study in the units of its mixture; None for units that are not known here."""
    units = {name: key for key, name in UNITS.items()}.get(side.mixture.units)
    if units == REGION_ZSCORE:
        return study
    if units == REGION_PERCENTILES:
        return standardised_by_percentiles(study)
    if units != CROP_ZSCORE:
        return None
    try:
        config = RunConfig.model_validate(side.settings.get("config"))
    except ValidationError:
        return None
    return None if config.spacing_mm is None else run_input(study, config, 2**config.levels)[0]
