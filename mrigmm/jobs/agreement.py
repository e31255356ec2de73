"""`mrigmm agreement`: how far several readers agree: programs, seeds or people, by their label maps."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from mrigmm.data.files import require_new_folder, require_not_input
from mrigmm.data.maps import class_indices
from mrigmm.data.points import read_points
from mrigmm.data.study_tensors import OutputGrid
from mrigmm.errors import InputError
from mrigmm.evaluation.agreement import (
    QuantityAgreement,
    StudyAgreement,
    quantity_agreement,
    segment_kappas,
    study_agreement,
    summarise_agreement,
)
from mrigmm.export.nifti import write_map
from mrigmm.jobs.agreement_files import AGREEMENT_FILE, Agreement, write_agreement
from mrigmm.jobs.common import Track, no_progress
from mrigmm.jobs.quantifying.inputs import maps_of
from mrigmm.jobs.quantifying.insertions import Points, check_studies, landmarks, require_base
from mrigmm.jobs.reading.masks import Mask, open_readers, turned
from mrigmm.jobs.reading.prediction_folder import Prediction, folder_names, of_other_images
from mrigmm.labels import compared_classes
from mrigmm.methods.base import AGREEMENT
from mrigmm.quantification.segments import N_SEGMENTS, Orientation, automatic_orientation
from mrigmm.quantification.study import quantify_maps

AGREEMENT_SUFFIX = f"_{AGREEMENT}.nii.gz"


@dataclass(frozen=True)
class _Compared:
    """One study by J readers: overlap, quantities by name (J,), transmurality (J, 16)."""

    overlap: StudyAgreement
    volumes: Mapping[str, Sequence[float]]
    transmurality: NDArray[np.float64]


def agreement(
    folders: Sequence[Path | str],
    out: Path | str,
    *,
    labels: Sequence[str] = (),
    rv_insertion: Path | str | None = None,
    base: str | None = None,
    overwrite: bool = False,
    track: Track = no_progress,
) -> Agreement:
    """Compare the label maps of several readers, programs or people; no reference is needed.

    Writes `<id>_agreement.nii.gz`, the share of the readers that have the most frequent label of a voxel;
    `agreement.json`, and as tables `agreement.md`, `agreement.csv` (Dice of every pair),
    `agreement_quantities.csv` and `agreement_segments.csv`; and as a picture `agreement.png`.

    Examples:
        >>> mrigmm.agreement(["reader_a", "reader_b"], "agreement", labels=["emidec"])  # doctest: +SKIP

    Args:
        folders: two or more, that `predict` or `measure` wrote, or of masks of anybody; or files.
        out: folder to write to.
        labels: what the ids of masks mean, as in `measure`; one for all, or one for each folder of masks.
        rv_insertion: as in `quantify`; default the right ventricle of the first reader that has it.
        base: as in `quantify`.
        overwrite: allow to replace results in `out`.
        track: progress bar.

    Returns:
        The agreement; `output` is the JSON file, with maps and tables beside it.

    Raises:
        InputError: when no study at all can be compared.
    """
    sources, out = [Path(folder) for folder in folders], Path(out)
    if len(sources) < 2:
        raise InputError("agreement needs two folders at least", got=str(len(sources)))
    require_base(base)
    readers = open_readers(sources, [labels] if isinstance(labels, str) else labels)
    # Beside the predictions, a map of agreement is that of a consensus's members.
    require_not_input(out, inputs=sources)
    require_new_folder(
        out,
        holds=f"*{AGREEMENT_SUFFIX}",
        overwrite=overwrite,
        instead="allow to replace them with --overwrite",
    )
    ids = sorted({study for reader in readers for study in reader.studies})
    alone = [reader.studies[0] for reader in readers if len(reader.studies) == 1]
    if len(alone) == len(readers):  # a single study, whatever its files are called
        ids = alone[:1]
    points: Points = {} if rv_insertion is None else read_points(Path(rv_insertion))
    problems = [problem for reader in readers for problem in reader.problems]
    if rv_insertion is not None:
        problems += check_studies(points, ids, Path(rv_insertion))
    found: dict[str, _Compared] = {}
    edited: dict[Path, list[str]] = {source: [] for source in sources}
    for study in track(ids, "Comparing"):
        try:
            predictions = [
                reader.read(reader.studies[0] if len(alone) == len(readers) else study) for reader in readers
            ]
            first = None if base is None else base == "first"
            found[study] = _compare_study(study, predictions, out, points.get(study), first)
        except InputError as error:
            problems += error.problems
            continue
        problems += of_other_images(predictions)
        for source, prediction in zip(sources, predictions, strict=True):
            edited[source] += [study] * prediction.edited
            problems += prediction.notes()
    if not found:
        raise InputError.from_problems(problems)
    names = folder_names(sources)
    overlaps = {study: one.overlap for study, one in found.items()}
    transmurality = np.stack([one.transmurality for one in found.values()])  # (N, J, 16)
    result = Agreement(
        out / AGREEMENT_FILE,
        tuple(found),
        tuple(problems),
        names=names,
        studies=overlaps,
        summary=summarise_agreement(overlaps),
        quantities=_quantities(list(found.values())),
        kappas=segment_kappas(transmurality) if np.isfinite(transmurality).any() else {},
    )
    write_agreement(result, dict(zip(names, sources, strict=True)), edited)
    return result


def _compare_study(
    study: str,
    predictions: Sequence[Prediction],
    out: Path,
    point: NDArray[np.float64] | None,
    base_first: bool | None,
) -> _Compared:
    """Compare the label maps of a study, and write where they agree."""
    first = predictions[0]
    names = [[*prediction.classes] for prediction in predictions]
    shared = [compared_classes(names[0], other, *names) for other in names[1:]]
    classes = [*shared[0]]
    if not classes:
        raise InputError(
            "the folders have other classes",
            study=study,
            file=predictions[1].folder,
            expected=f"one of {', '.join(names[0])}, as in {first.folder}",
            got=", ".join(names[1]),
            remedy="predict with the same manifest, or name the classes alike with --labels",
        )
    members = (
        [shared[0][name].predicted for name in classes],
        *([compared[name].reference for name in classes] for compared in shared),
    )
    grid = first.labels.grid
    masks = [turned(prediction, grid, "predicted label") for prediction in predictions]
    overlap = study_agreement(
        [
            class_indices(mask.labels.data, [[mask.classes[name] for name in parts] for parts in own])
            for mask, own in zip(masks, members, strict=True)
        ],
        classes,
        voxel_volume_ml=grid.voxel_volume_ml,
    )
    volumes, transmurality = _measured(masks, point, base_first)
    header = first.labels.header.copy()
    header.set_intent("none")  # a label map's, so far
    write_map(
        out / f"{study}{AGREEMENT_SUFFIX}",
        overlap.share,
        OutputGrid(grid, header, first.labels.stored_shape, first.labels.path),
    )
    return _Compared(overlap, volumes, transmurality)


def _measured(
    masks: Sequence[Mask], point: NDArray[np.float64] | None, base_first: bool | None
) -> tuple[dict[str, list[float]], NDArray[np.float64]]:
    """Quantities by name (J,), and transmurality (J, 16) of the segments, NaN where they are not numbered.

    All readers have the base and the insertion of the first who shows them.
    """
    maps = [maps_of(mask) for mask in masks]
    shared: Orientation | None = None
    if point is None:
        found = (
            automatic_orientation(one.rv, one.cavity, one.wall, one.grid.affine, base_first=base_first)
            for one in maps
            if one.rv is not None
        )
        shared = next((orientation for orientation in found if not isinstance(orientation, str)), None)
    volumes: dict[str, list[float]] = {}
    transmurality = np.full((len(maps), N_SEGMENTS), np.nan)
    for reader, one in enumerate(maps):
        orientation = shared
        if orientation is None:
            first, degrees = landmarks(one, None, point, base_first)
            orientation = None if first is None or degrees is None else Orientation(first, degrees)
        numbers = quantify_maps(one, orientation)
        for name, value in numbers.volumes.items():
            volumes.setdefault(name, [math.nan] * len(maps))[reader] = value
        for row in numbers.segments:
            transmurality[reader, int(row["segment"]) - 1] = row["transmurality_percent"]
    return volumes, transmurality


def _quantities(found: Sequence[_Compared]) -> dict[str, QuantityAgreement]:
    """Agreement about each quantity that two readers have in some study."""
    names = dict.fromkeys(name for one in found for name in one.volumes)
    n_readers = len(found[0].transmurality)
    quantities = {}
    for name in names:
        values = np.array([one.volumes.get(name, [math.nan] * n_readers) for one in found])
        if (np.isfinite(values).sum(axis=1) > 1).any():
            quantities[name] = quantity_agreement(values)
    return quantities
