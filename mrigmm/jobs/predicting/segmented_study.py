"""One study from its images to its result, in memory and as files."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from mrigmm.data.files import atomic
from mrigmm.data.manifest import RegionRule, Study
from mrigmm.data.provenance import provenance_record
from mrigmm.data.side_file import SavedMixture, SideFile, record_of
from mrigmm.data.study_tensors import StudyTensors
from mrigmm.errors import InputError, Problem, lines, memory_checked, told
from mrigmm.export.nifti import write_labels, write_map, write_probabilities
from mrigmm.export.side_files import write_itksnap_labels, write_json, write_slicer_colours
from mrigmm.jobs.common import DISCLAIMER, command_line, versions
from mrigmm.jobs.predicting.finished import Request
from mrigmm.jobs.predicting.result_files import remove_derived, remove_results, result_files
from mrigmm.jobs.predicting.segmenter import Segmenter
from mrigmm.jobs.quantify import predicted_quantities, write_recorded
from mrigmm.jobs.quantifying.plausible import is_divided, result_problems
from mrigmm.jobs.reading.failures import clear_failure
from mrigmm.labels import class_ids
from mrigmm.methods.anatomy import region_ids
from mrigmm.methods.base import ENTROPY, Segmentation, uncertainty_maps


def side_file(
    study: StudyTensors,
    result: Segmentation,
    labels: NDArray[np.integer[Any]],
    segmenter: Segmenter,
    problems: Sequence[Problem],
) -> SideFile:
    """Everything about a result but how long it took, what it was made with, and scribbles.

    Args:
        study: that was segmented.
        result: its segmentation.
        labels: (X, Y, Z) class ids as they are written to the label map.
        segmenter: what segmented it.
        problems: warnings and notes for the user.
    """
    ids = class_ids(segmenter.classes)
    voxel_ml = study.output.grid.voxel_volume_ml
    volume_ml = {name: float((labels == i).sum()) * voxel_ml for name, i in ids.items()}
    if result.mvo is not None:
        volume_ml["mvo"] = float(result.mvo.sum()) * voxel_ml
    mixture, prior = result.mixture, segmenter.prior
    return SideFile(
        study=study.id,
        method=segmenter.method.name,
        settings=segmenter.method.describe(),
        run=None if segmenter.run is None else segmenter.run.resolve(),
        prior=None if prior is None else provenance_record(prior.provenance),
        classes=ids,
        volume_ml=volume_ml,
        label_map=record_of(labels, study.output.grid),
        quantities=predicted_quantities(study, result, segmenter.classes, segmenter.method.name),
        mixture=SavedMixture(
            result.sequences,
            result.units,
            *(
                part.double().numpy(force=True)
                for part in (mixture.weights, mixture.means, mixture.covariances)
            ),
        ),
        details={
            "iterations": result.n_iter,
            "converged": result.converged,
            "mean_log_likelihood": float(result.log_likelihood[study.region > 0].mean()),
            **result.details,
        },
        inputs={name: path.resolve() for name, path in study.inputs.items() if path is not None},
        frames=study.frames,
        region=_region_source(study),
        region_divided=is_divided(study),
        reference_grid=None if study.output.file is None else study.output.file.resolve(),
        motion={name: [asdict(m) for m in slices] for name, slices in study.motion.items()},
        bias_field={name: asdict(shading) for name, shading in study.shading.items()},
        warnings=lines(problems, "warning"),
        notes=lines(problems, "note"),
        versions=versions(),
        command=command_line(),
        disclaimer=DISCLAIMER,
    )


def _region_source(study: StudyTensors) -> str | Mapping[str, Any] | None:
    """The region's file, the rule that it follows, or how sure the anatomy stage is of it."""
    if study.found_region is not None:
        return study.found_region
    source = study.region_source
    if isinstance(source, RegionRule):
        return source.kind
    return None if source is None else str(source.resolve())


@dataclass(frozen=True)
class SolvedStudy:
    """A study and what was made of it.

    Attributes:
        study: as it was given.
        tensors: as it was read.
        result: on the array of `tensors`.
        labels: (X, Y, Z) class ids on the grid of the reference sequence.
        problems: its warnings and notes.
        side: what stands in its side file.
    """

    study: Study
    tensors: StudyTensors
    result: Segmentation
    labels: NDArray[np.generic]
    problems: tuple[Problem, ...]
    side: SideFile


def solve(study: Study, request: Request, notes: Sequence[str] = ()) -> SolvedStudy:
    """Read and segment a study.

    Args:
        study: to be read, or loaded.
        request: what is asked for.
        notes: what is known beforehand.

    Raises:
        InputError: it cannot be read or segmented.
    """
    started = time.perf_counter()
    segmenter = request.segmenter
    made_with = request.made_with(study)
    tensors = segmenter.read(study)
    result = segmenter.segment(tensors)
    problems = (
        *told(notes, "note", study.id),
        *tensors.findings,
        *result_problems(tensors, result.labels, segmenter.classes),
        *told(result.warnings, "warning", study.id),
    )
    labels = tensors.to_input_grid(result.labels[None])[0]
    used = study.scribbles if tensors.scribbles is not None else None
    side = replace(
        side_file(tensors, result, labels, segmenter, problems),
        scribbles=None if used is None else used.resolve(),
        patient=study.patient,
        visit=study.visit,
        made_with=made_with,
        seconds=time.perf_counter() - started,
    )
    return SolvedStudy(study, tensors, result, labels, problems, side)


def write_solved(
    solved: SolvedStudy, out: Path, segmenter: Segmenter, *, probabilities: bool, uncertainty: bool
) -> list[Problem]:
    """Write the files of a study, all or none of them; returns its warnings and notes.

    Args:
        solved: the study.
        out: folder for the results.
        segmenter: what segmented it.
        probabilities: write the responsibilities and further maps, too.
        uncertainty: write how sure the segmentation is, voxel by voxel, too.

    Raises:
        InputError: they cannot be written.
    """
    started = time.perf_counter()
    tensors, result, side, problems = solved.tensors, solved.result, solved.side, [*solved.problems]
    files = result_files(tensors.id, out)
    maps = dict(result.maps) if probabilities else {}
    if uncertainty:
        maps |= uncertainty_maps(result)
        if not maps[ENTROPY].any():
            text = "this method gives no probabilities: the entropy is 0 in every voxel"
            problems += told([text], "warning", tensors.id)
    remove_derived(out)
    remove_results(files)  # maps that are not asked for this time
    try:
        write_labels(files["labels"], solved.labels, tensors.output)
        if probabilities:
            write_probabilities(files["probabilities"], tensors.to_input_grid(result.resp), tensors.output)
        for name, values in maps.items():
            write_map(files[name], tensors.to_input_grid(values[None])[0], tensors.output)
        if tensors.region_source is None:  # no file and no rule holds it
            write_labels(files["region"], tensors.to_input_grid(region_ids(tensors)[None])[0], tensors.output)
        for name, mask in (("mvo", result.mvo), ("rv", result.rv)):
            if mask is not None:
                ids = tensors.to_input_grid(mask.to(torch.uint8)[None])[0]
                write_labels(files[name], ids, tensors.output)
        if tensors.motion:
            unmoved = segmenter.read(solved.study, registration=False)
            with atomic(files["motion"]) as temporary:
                temporary.write_bytes(_motion_picture(unmoved, tensors))
        seconds = (side.seconds or 0) + time.perf_counter() - started
        side = replace(
            side,
            warnings=lines(problems, "warning"),
            seconds=round(seconds, 3),
            made_with={**(side.made_with or {}), "probabilities": probabilities, "uncertainty": uncertainty},
        )
        write_json(files["json"], side.as_json())
    except BaseException:  # a label map without its side file is half a result
        remove_results(files)
        raise
    return problems


def segment_to_files(study: Study, out: Path, request: Request, notes: Sequence[str] = ()) -> list[Problem]:
    """Files to label map for one study; returns its warnings and notes, with the notes known beforehand."""
    options = request.options
    try:
        with memory_checked():
            files = result_files(study.id, out)
            if any(file.exists() for file in files.values()):
                remove_derived(out)
                remove_results(files)  # an older result must not stand in for one that fails now
            problems = write_solved(
                solve(study, request, notes),
                out,
                request.segmenter,
                probabilities=options.save_probabilities,
                uncertainty=options.save_uncertainty,
            )
    except InputError as error:  # a full disk knows no study
        raise InputError.from_problems(replace(p, study=study.id) for p in error.problems) from None
    clear_failure(out, study.id)
    return problems


def write_tables(out: Path, classes: Sequence[str]) -> list[Problem]:
    """Write what a folder of results has beside its studies: quantities, and names of the labels.

    Returns:
        What of the studies is damaged.

    Raises:
        InputError: a file cannot be written.
    """
    write_itksnap_labels(out / "labels_itksnap.txt", classes)
    write_slicer_colours(out / "labels_slicer.ctbl", classes)
    return write_recorded(out)


def _motion_picture(before: StudyTensors, after: StudyTensors) -> bytes:
    """The registered sequences of a study without and with registration, in the order of the file."""
    from mrigmm.reporting.figures import motion_figure  # matplotlib, of no use to most studies

    grid = after.output.grid

    def slices_last(study: StudyTensors) -> dict[str, NDArray[np.float32]]:
        maps = np.moveaxis(study.to_input_grid(study.image), grid.slice_axis + 1, -1)
        return {name: maps[study.sequences.index(name)] for name in study.inputs}

    region = np.moveaxis(after.to_input_grid(after.region[None])[0] > 0, grid.slice_axis, -1)
    across, up = np.delete(grid.spacing_mm, grid.slice_axis)
    captions = {
        name: [f"{m.shift_mm[0]:.1f}, {m.shift_mm[1]:.1f} mm, {m.degrees:.1f}°" for m in slices]
        for name, slices in after.motion.items()
    }
    return motion_figure(
        slices_last(before), slices_last(after), captions, region, pixel_aspect=float(up / across)
    )
