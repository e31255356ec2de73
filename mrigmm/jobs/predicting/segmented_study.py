"""One study from its files to the files of its result."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from mrigmm.data.files import atomic
from mrigmm.data.manifest import Study
from mrigmm.data.study_tensors import StudyTensors
from mrigmm.errors import InputError, Problem, memory_checked, told
from mrigmm.export.nifti import write_labels, write_map, write_probabilities
from mrigmm.export.side_files import write_json
from mrigmm.jobs.common import warnings_of
from mrigmm.jobs.predicting.finished import Request
from mrigmm.jobs.predicting.result_files import remove_derived, remove_results, result_files
from mrigmm.jobs.predicting.side_file import side_file
from mrigmm.jobs.quantifying.plausible import result_problems
from mrigmm.jobs.reading.failures import clear_failure
from mrigmm.methods.anatomy import region_ids
from mrigmm.methods.base import ENTROPY, uncertainty_maps
from mrigmm.reporting.figures import motion_figure


def segment_to_files(study: Study, out: Path, request: Request, notes: Sequence[str] = ()) -> list[Problem]:
    """Files to label map for one study; returns its warnings and notes, with the notes known beforehand."""
    try:
        with memory_checked():
            problems = _write_study(study, out, request, notes)
    except InputError as error:  # a full disk knows no study
        raise InputError.from_problems(replace(p, study=study.id) for p in error.problems) from None
    clear_failure(out, study.id)
    return problems


def _write_study(study: Study, out: Path, request: Request, notes: Sequence[str]) -> list[Problem]:
    started = time.perf_counter()
    segmenter = request.segmenter
    files = result_files(study.id, out)
    if any(file.exists() for file in files.values()):
        remove_derived(out)
        remove_results(files)  # an older result must not stand in for one that fails now
    made_with = request.made_with(study)
    tensors = segmenter.read(study)
    result = segmenter.segment(tensors)
    problems = [
        *told(notes, "note", study.id),
        *tensors.findings,
        *result_problems(tensors, result.labels, segmenter.classes),
        *warnings_of(study.id, result.warnings),
    ]
    maps = dict(result.maps) if request.options.save_probabilities else {}
    if request.options.save_uncertainty:
        maps |= uncertainty_maps(result)
        if not maps[ENTROPY].any():
            text = "this method gives no probabilities: the entropy is 0 in every voxel"
            problems += warnings_of(study.id, [text])
    remove_derived(out)
    labels = tensors.to_input_grid(result.labels[None])[0]
    try:
        write_labels(files["labels"], labels, tensors.output)
        if request.options.save_probabilities:
            write_probabilities(files["probabilities"], tensors.to_input_grid(result.resp), tensors.output)
        for name, values in maps.items():
            write_map(files[name], tensors.to_input_grid(values[None])[0], tensors.output)
        if tensors.found_region is not None:
            write_labels(files["region"], tensors.to_input_grid(region_ids(tensors)[None])[0], tensors.output)
        for name, mask in (("mvo", result.mvo), ("rv", result.rv)):
            if mask is not None:
                ids = tensors.to_input_grid(mask.to(torch.uint8)[None])[0]
                write_labels(files[name], ids, tensors.output)
        if tensors.motion:
            unmoved = segmenter.read(study, registration=False)
            with atomic(files["motion"]) as temporary:
                temporary.write_bytes(_motion_picture(unmoved, tensors))
        used = study.scribbles if tensors.scribbles is not None else None
        side = replace(
            side_file(tensors, result, labels, segmenter, problems),
            scribbles=None if used is None else used.resolve(),
            patient=study.patient,
            visit=study.visit,
            made_with=made_with,
            seconds=round(time.perf_counter() - started, 3),
        )
        write_json(files["json"], side.as_json())
    except BaseException:  # a label map without its side file is half a result
        remove_results(files)
        raise
    return problems


def _motion_picture(before: StudyTensors, after: StudyTensors) -> bytes:
    """The registered sequences of a study without and with registration, in the order of the file."""
    grid = after.output.grid

    def slices_last(study: StudyTensors) -> dict[str, NDArray[np.float32]]:
        maps = np.moveaxis(study.to_input_grid(study.image.as_tensor()), grid.slice_axis + 1, -1)
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
