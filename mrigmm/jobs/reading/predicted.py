"""A predicted study read back: its side file, its label map, and the images as predict saw them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import ValidationError

from mrigmm.config import RunConfig
from mrigmm.data.crops import standardised_by_percentiles
from mrigmm.data.geometry import with_slices_last
from mrigmm.data.manifest import Study
from mrigmm.data.maps import read_reference_label
from mrigmm.data.side_file import SideFile
from mrigmm.data.standardise import CROP_ZSCORE, REGION_PERCENTILES, REGION_ZSCORE, UNITS
from mrigmm.data.study import Corrections, load_study
from mrigmm.data.study_tensors import StudyTensors
from mrigmm.errors import InputError
from mrigmm.jobs.common import REGION_SUFFIX
from mrigmm.jobs.reading.prediction_folder import Prediction, read_prediction
from mrigmm.labels import Region, compared_classes, merged_ids
from mrigmm.methods.deep_gmm import run_input


@dataclass(frozen=True)
class PredictedStudy:
    """A predicted study, in the axes of its files but with the slices last.

    Attributes:
        prediction: label map and side file, in the order of the file.
        labels: class ids (X, Y, Z).
        spacing_mm: of those axes.
        mvo: where microvascular obstruction is (X, Y, Z); None when it was not looked for.
        reference: reference class ids (X, Y, Z), or None.
        reference_classes: class that the reference knows, too -> the predicted classes that count as it.
        images: sequence -> intensities (X, Y, Z) as they were segmented, in region z-scores; empty where
            they cannot be read any more.
        mixture_images: the same in the units of the mixture; empty where these cannot be made again.
        observed: sequence -> where it was acquired (X, Y, Z).
        note: why there are no images.
    """

    prediction: Prediction
    labels: NDArray[np.uint8]
    spacing_mm: tuple[float, float, float]
    mvo: NDArray[np.bool_] | None
    reference: NDArray[np.integer[Any]] | None
    reference_classes: Mapping[str, tuple[str, ...]]
    images: Mapping[str, NDArray[np.float32]]
    mixture_images: Mapping[str, NDArray[np.float32]]
    observed: Mapping[str, NDArray[np.bool_]]
    note: str | None

    @property
    def id(self) -> str:
        """Study id."""
        return self.prediction.study

    @property
    def side(self) -> SideFile:
        """Side file, without what no longer belongs to an edited label map."""
        return self.prediction.side

    @property
    def volume_ml(self) -> dict[str, float]:
        """Volume of each class, and of microvascular obstruction inside the scar, in the map as it is now."""
        ml = self.prediction.labels.grid.voxel_volume_ml
        volumes = {name: float((self.labels == i).sum()) * ml for name, i in self.side.classes.items()}
        scar = self.side.classes.get("scar")
        if self.prediction.mvo is not None and scar is not None:
            volumes["mvo"] = float((self.prediction.mvo & (self.prediction.labels.data == scar)).sum()) * ml
        return volumes


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
    prediction = read_prediction(folder, study)
    side, labels, mvo = prediction.side, prediction.labels, prediction.mvo
    truth = None
    known: dict[str, tuple[str, ...]] = {name: (name,) for name in side.classes}
    if reference is not None:
        ids = reference_ids or {"background": (0,), **{name: (i,) for name, i in side.classes.items()}}
        compared = compared_classes([*side.classes], [name for name in ids if ids[name]])
        own = Study(study, {}, label=reference)
        index = read_reference_label(own, labels.grid, merged_ids(ids, compared), list(side.classes))
        truth = with_slices_last(np.array([*side.classes.values(), 0])[index], labels.grid)  # NO_CLASS: last
        known = {name: found.predicted for name, found in compared.items()}
    ids_map = labels.data.astype(np.uint8)
    images, in_units, observed, note = {}, {}, {}, None
    try:
        tensors = _tensors(prediction, ids_map)
        images, observed = _by_sequence(tensors, tensors.image), _by_sequence(tensors, tensors.observed)
        converted = _in_mixture_units(tensors, side)
        in_units = {} if converted is None else _by_sequence(converted, converted.image)
    except InputError as error:
        note = error.problems[0].brief
    across, up = np.delete(labels.grid.spacing_mm, labels.grid.slice_axis)
    return PredictedStudy(
        prediction=prediction,
        labels=with_slices_last(ids_map, labels.grid),
        spacing_mm=(float(across), float(up), float(labels.grid.spacing_mm[labels.grid.slice_axis])),
        mvo=None if mvo is None else with_slices_last(mvo, labels.grid),
        reference=truth,
        reference_classes=known,
        images=images,
        mixture_images=in_units,
        observed=observed,
        note=note,
    )


def _tensors(prediction: Prediction, labels: NDArray[np.uint8]) -> StudyTensors:
    """The study as it was read for the prediction.

    Where the region was no file (a rule), the labelled voxels are it.
    """
    study, side = prediction.study, prediction.side
    if not side.inputs:
        raise InputError("the side file names no images", study=study)
    # A region that the anatomy stage found lies beside the labels.
    region = side.region_file or prediction.folder / f"{study}{REGION_SUFFIX}"
    has_map = region.is_file()
    tensors = load_study(
        Study(study, side.inputs, region=region if has_map else None, frames=side.frames),
        tuple(side.inputs),
        tuple(side.classes),
        region=None if has_map else np.where(labels > 0, Region.LV, Region.OUTSIDE).astype(np.uint8),
        corrections=Corrections(bias_correction=bool(side.bias_field), registration=bool(side.motion)),
    )
    if not tensors.output.grid.same_as(prediction.labels.grid):
        raise InputError(
            "the image is no longer on the grid of the label map", study=study, file=tensors.output.file
        )
    return tensors


def _by_sequence(study: StudyTensors, maps: torch.Tensor) -> dict[str, NDArray[Any]]:
    on_file = with_slices_last(study.to_input_grid(torch.as_tensor(maps)), study.output.grid)
    return dict(zip(study.sequences, on_file, strict=True))


def _in_mixture_units(study: StudyTensors, side: SideFile) -> StudyTensors | None:
    """The study in the units of its mixture; None without one, and for units that are not known here."""
    if side.mixture is None:
        return None
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
