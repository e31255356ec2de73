"""Input of `mrigmm quantify`: predictions and reference labels."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mrigmm.data.geometry import slices_last_grid, with_slices_last
from mrigmm.data.manifest import Manifest, Study
from mrigmm.data.maps import NO_CLASS, reference_classes, reference_volume
from mrigmm.jobs.reading.prediction_folder import Prediction
from mrigmm.jobs.scored_study import compared_with_reference
from mrigmm.labels import merged_ids, of_the_ventricle
from mrigmm.quantification.study import Maps
from mrigmm.quantification.volumes import clinical_numbers, volumes_ml


@dataclass(frozen=True)
class Reference:
    """Reference labels of a study on the grid of its prediction, slices last."""

    volumes: dict[str, float]
    rv: NDArray[np.bool_] | None


def maps_of(prediction: Prediction) -> Maps:
    """Read a study's maps, and put their slices last.

    Raises:
        InputError: probabilities or right ventricle are damaged, or lie on another grid.
    """
    grid, mvo, rv = prediction.labels.grid, prediction.mvo, prediction.right_ventricle()
    volume = prediction.probabilities()
    return Maps(
        with_slices_last(prediction.labels.data, grid),
        prediction.classes,
        slices_last_grid(grid),
        None if volume is None else with_slices_last(np.moveaxis(volume.data, -1, 0), grid),
        None if mvo is None else with_slices_last(mvo, grid),
        prediction.edema_sought,
        None if rv is None else with_slices_last(rv, grid),
    )


def read_reference(study: Study, prediction: Prediction, cohort: Manifest) -> Reference:
    """Reference labels of a study, of the classes that its prediction has, too (`labels.compared_classes`).

    Raises:
        InputError: as `reference_volume`, and when there is no class in common.
    """
    grid, classes = prediction.labels.grid, [*prediction.classes]
    compared = compared_with_reference(study, cohort, classes)
    drawn = reference_volume(study, grid, cohort.labels)
    index = reference_classes(drawn, merged_ids(cohort.labels, compared), [*compared])
    ml = volumes_ml(index, {name: i for i, name in enumerate(compared)}, grid.voxel_volume_ml)
    parts = {
        name: reference_classes(drawn, cohort.labels, (name,)) != NO_CLASS
        for name in ("mvo", "rv_blood")
        if cohort.labels.get(name)
    }
    if "mvo" in parts and prediction.mvo is not None:
        ml["mvo"] = int(parts["mvo"].sum()) * grid.voxel_volume_ml
    numbers = clinical_numbers(ml, ventricle=of_the_ventricle(classes))
    rv = np.moveaxis(parts["rv_blood"], grid.slice_axis, -1) if "rv_blood" in parts else None
    return Reference({name: float(value) for name, value in numbers.items()}, rv)
