"""`mrigmm predict`: label maps for new studies, by a trained run or by a method."""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from mrigmm.data.files import atomic, remove, require_new_folder, require_not_input, sole_writer
from mrigmm.data.manifest import Manifest, RegionRule, Study, check_study_id, read_manifest
from mrigmm.data.priors import default_prior, load_prior
from mrigmm.data.provenance import provenance_record
from mrigmm.data.study import StudyTensors, reference_sequence
from mrigmm.errors import InputError, Problem, memory_checked, near_misses
from mrigmm.export.nifti import write_labels, write_map, write_probabilities
from mrigmm.export.side_files import write_itksnap_labels, write_json, write_slicer_colours
from mrigmm.jobs.common import (
    COMPARISON_FILE,
    DISCLAIMER,
    LABELS_SUFFIX,
    METRICS_FILE,
    MOTION_SUFFIX,
    MVO_SUFFIX,
    PROBABILITIES_SUFFIX,
    QUANTITIES_FILE,
    REGION_SUFFIX,
    REPORT_FILE,
    SEGMENTS_FILE,
    Outcome,
    Track,
    as_json,
    command_line,
    no_progress,
    versions,
    warnings_of,
)
from mrigmm.jobs.finished import MADE_WITH, Request, finished_studies, make_request
from mrigmm.jobs.processes import joined_processes, part_of
from mrigmm.jobs.quantify import predicted_quantities, write_recorded
from mrigmm.jobs.segmenter import Segmenter, choose_segmenter
from mrigmm.labels import class_ids
from mrigmm.methods.anatomy import region_ids
from mrigmm.methods.base import ENTROPY, EXTRA_MAPS, UNCERTAINTY_MAPS, Segmentation, uncertainty_maps
from mrigmm.reporting.figures import motion_figure

# Files that other commands conclude from results, in the same folder.
_CONCLUSIONS = (
    METRICS_FILE,
    QUANTITIES_FILE,
    SEGMENTS_FILE,
    REPORT_FILE,
    *(str(Path(name).with_suffix(".csv")) for name in (METRICS_FILE, QUANTITIES_FILE)),
    *(str(Path(COMPARISON_FILE).with_suffix(suffix)) for suffix in (".json", ".md", ".png")),
)


def predict(
    manifest: Path | str,
    out: Path | str,
    *,
    run: Path | str | None = None,
    method: str | None = None,
    split: str = "test",
    part: str | None = None,
    data_root: Path | str | None = None,
    prior: Path | str | None = None,
    overrides: Sequence[str] = (),
    device: str = "auto",
    runtime: str = "torch",
    anatomy: Path | str | None = None,
    save_probabilities: bool = False,
    save_uncertainty: bool = False,
    register: bool = False,
    bias_correct: bool = False,
    mvo: bool = False,
    overwrite: bool = False,
    resume: bool = False,
    track: Track = no_progress,
) -> Outcome:
    """Segment the studies of a manifest's split and write label maps on their own grids.

    Several processes that torchrun started share the studies; every one has to make the call.

    Examples:
        >>> mrigmm.predict("cohort/manifest.json", "predictions", run="runs/first")  # doctest: +SKIP

    Args:
        manifest: the cohort.
        out: folder for `<id>_labels.nii.gz` and the files beside it.
        run: folder of a trained run; give either this or `method`.
        method: name of a method (`mrigmm info`).
        split: "training", "validation", "test" or "all".
        part: "K/N": only part K of N of the studies, for jobs of their own, with a folder each.
        data_root: folder that the manifest's paths resolve against; default the manifest's.
        prior: population prior for `method`; default the shipped one where it fits.
        overrides: `key=value` settings of the method.
        device: "auto", "cpu", "cuda" or "cuda:N".
        runtime: what computes the network of a run: "torch" or "onnx" (docs/onnx.md).
        anatomy: folder of `mrigmm train-anatomy`, which finds the ventricle where no region map is given.
        save_probabilities: write `<id>_probabilities.nii.gz` and a method's further maps too.
        save_uncertainty: write `<id>_entropy.nii.gz` and `<id>_log_likelihood.nii.gz` too.
        register: register the sequences to the reference sequence; a run trained so does it anyway.
        bias_correct: remove the bias field first; a run trained so does it anyway.
        mvo: give microvascular obstruction to scar, and write `<id>_mvo.nii.gz` too.
        overwrite: allow to replace results in `out`.
        resume: keep the finished studies in `out`, which must have been made as is asked for now.
        track: progress bar.

    Returns:
        What was done; studies that failed are among its problems and do not stop the others.

    Raises:
        InputError: when nothing can be done at all.
    """
    if resume and overwrite:
        raise InputError(
            "finished results can be kept or replaced, not both", remedy="leave out --resume or --overwrite"
        )
    cohort = read_manifest(Path(manifest), None if data_root is None else Path(data_root))
    whole = cohort.split(split)
    studies = whole if part is None else part_of(whole, part)
    out = Path(out)
    with joined_processes(apart=part is not None) as processes, ExitStack() as held:
        _require_free(out, studies, cohort.path, overwrite=overwrite or resume)
        segmenter = choose_segmenter(
            cohort,
            run=run,
            method=method,
            prior=prior,
            overrides=overrides,
            device=processes.device(device),
            runtime=runtime,
            anatomy=anatomy,
            register=register,
            bias_correct=bias_correct,
            mvo=mvo,
        )
        request = make_request(
            segmenter,
            whole,
            run=run,
            anatomy=anatomy,
            prior=prior,
            probabilities=save_probabilities,
            uncertainty=save_uncertainty,
        )
        if processes.first:
            held.enter_context(sole_writer(out))
            # Another process may have written since.
            _require_free(out, studies, cohort.path, overwrite=overwrite or resume)
        side_files = [(study, _results(study.id, out)["json"]) for study in studies] if resume else []
        kept = finished_studies(side_files, request)
        todo = [study for study in studies if study.id not in kept]
        processes.wait()  # until all have seen the folder as it was
        if processes.first and todo:
            _remove_conclusions(out)

        show = track if processes.first else no_progress
        if todo:
            segmenter.fit_cohort(whole, show, processes)
        problems: list[Problem] = []
        done: list[str] = []
        for study in show(processes.share(todo), "Segmenting"):
            try:
                problems += _predict_study(study, out, request)
                done.append(study.id)
            except InputError as error:
                problems += error.problems
        done, problems = [*kept, *processes.gather(done)], processes.gather(problems)
        # The tables' last file: what is whole may by now be the user's own, of `quantify`.
        if done and processes.first and (todo or not (out / SEGMENTS_FILE).exists()):
            write_itksnap_labels(out / "labels_itksnap.txt", segmenter.classes)
            write_slicer_colours(out / "labels_slicer.ctbl", segmenter.classes)
            problems += write_recorded(out)
        if not processes.first:  # torchrun ends all when one ends with an error: the first does, at last
            problems = []
        return Outcome(out, tuple(done), tuple(problems), speaks=processes.first)


def predict_study(
    images: Mapping[str, Path | str],
    region: Path | str | None,
    out: Path | str,
    *,
    study_id: str | None = None,
    frames: Mapping[str, int] | None = None,
    scribbles: Path | str | None = None,
    run: Path | str | None = None,
    method: str | None = None,
    prior: Path | str | None = None,
    overrides: Sequence[str] = (),
    device: str = "auto",
    runtime: str = "torch",
    anatomy: Path | str | None = None,
    save_probabilities: bool = False,
    save_uncertainty: bool = False,
    register: bool = False,
    bias_correct: bool = False,
    mvo: bool = False,
    overwrite: bool = False,
) -> Outcome:
    """Segment one study given by its files.

    Examples:
        >>> mrigmm.predict_study(
        ...     {"LGE": "lge.nii.gz", "T2": "t2.nii.gz"}, "lv.nii.gz", "out", method="map-em"
        ... )  # doctest: +SKIP

    Args:
        images: sequence name -> NIfTI file.
        region: region map; None needs `anatomy`.
        out: folder for the results.
        study_id: name of the results; default the file name of the reference sequence.
        frames: sequence name -> frame, from 0, of a file with several; default of a cine end-diastole.
        scribbles: map of classes that a user named in a few voxels, for methods that learn from it.
        run: folder of a trained run; give either this or `method`.
        method: name of a method (`mrigmm info`).
        prior: population prior for `method`.
        overrides: `key=value` settings of the method.
        device: "auto", "cpu", "cuda" or "cuda:N".
        runtime: what computes the network of a run: "torch" or "onnx" (docs/onnx.md).
        anatomy: folder of `mrigmm train-anatomy`, which finds the ventricle where no region map is given.
        save_probabilities: write `<id>_probabilities.nii.gz` and a method's further maps too.
        save_uncertainty: write `<id>_entropy.nii.gz` and `<id>_log_likelihood.nii.gz` too.
        register: register the sequences to the reference sequence; a run trained so does it anyway.
        bias_correct: remove the bias field first; a run trained so does it anyway.
        mvo: give microvascular obstruction to scar, and write `<id>_mvo.nii.gz` too.
        overwrite: allow to replace results in `out`.

    Raises:
        InputError: when the study cannot be segmented.
    """
    if not images:
        raise InputError("no image was given", expected="at least one --image NAME=FILE")
    files = {name: Path(file) for name, file in images.items()}
    reference = files[reference_sequence(files)]
    name = study_id or reference.name.removesuffix(".gz").removesuffix(".nii")
    reason = check_study_id(name)
    if reason:
        raise InputError(reason, got=name, remedy="name the study with --id")
    for sequence in frames or {}:
        if sequence not in files:
            raise InputError(
                f"a frame of '{sequence}' is named, but no such image", remedy=near_misses(sequence, [*files])
            )
    study = Study(
        name,
        files,
        None if region is None else Path(region),
        frames=frames or {},
        scribbles=None if scribbles is None else Path(scribbles),
    )
    cohort = Manifest(Path("--image"), tuple(files), {}, {"test": (study,)})
    out = Path(out)
    _require_free(out, [study], None, overwrite=overwrite)
    segmenter = choose_segmenter(
        cohort,
        run=run,
        method=method,
        prior=prior,
        overrides=overrides,
        device=device,
        runtime=runtime,
        anatomy=anatomy,
        register=register,
        bias_correct=bias_correct,
        mvo=mvo,
    )
    request = make_request(
        segmenter,
        [study],
        run=run,
        anatomy=anatomy,
        prior=prior,
        probabilities=save_probabilities,
        uncertainty=save_uncertainty,
    )
    with sole_writer(out):
        _require_free(out, [study], None, overwrite=overwrite)  # another process may have written since
        _remove_conclusions(out)
        segmenter.fit_cohort([study])
        problems = _predict_study(study, out, request, notes=_not_given(segmenter, prior))
        write_itksnap_labels(out / "labels_itksnap.txt", segmenter.classes)
        write_slicer_colours(out / "labels_slicer.ctbl", segmenter.classes)
        problems += write_recorded(out)
    return Outcome(out, (study.id,), tuple(problems))


def label_maps(result: Outcome) -> dict[str, Any]:
    """What `predict` or `predict_study` did, as plain JSON, with the label map of each study."""
    maps = {study: str(_results(study, result.output)["labels"]) for study in result.done}
    return {**as_json(result), "label_maps": maps}


def _results(study_id: str, out: Path) -> dict[str, Path]:
    """The files of one study."""
    return {
        "labels": out / f"{study_id}{LABELS_SUFFIX}",
        "probabilities": out / f"{study_id}{PROBABILITIES_SUFFIX}",
        **{name: out / f"{study_id}_{name}.nii.gz" for name in (*EXTRA_MAPS, *UNCERTAINTY_MAPS)},
        "mvo": out / f"{study_id}{MVO_SUFFIX}",
        "motion": out / f"{study_id}{MOTION_SUFFIX}",
        "region": out / f"{study_id}{REGION_SUFFIX}",
        "json": out / f"{study_id}.json",  # last, in writing too
    }


def _require_free(out: Path, studies: Iterable[Study], manifest: Path | None, *, overwrite: bool) -> None:
    """Refuse to replace results without being asked to, and anything that is no result at all."""
    require_new_folder(
        out,
        holds=f"*{LABELS_SUFFIX}",
        overwrite=overwrite,
        instead="allow to replace them with --overwrite",
    )
    for study in studies:
        maps = (study.region, study.label, study.scribbles)
        inputs = [file for file in (*study.images.values(), *maps) if isinstance(file, Path)]
        # Converters leave acquisition parameters in a JSON file of the image's name beside it.
        sidecars = [
            file.with_name(file.name.removesuffix(".gz").removesuffix(".nii") + ".json") for file in inputs
        ]
        results = _results(study.id, out).values()
        for file in results:
            if file.name.casefold() in _CONCLUSIONS:
                raise InputError(
                    "what is concluded from results would replace the side file of a study of this name",
                    study=study.id,
                    file=file,
                    remedy="rename the study",
                )
        require_not_input(
            *results,
            inputs=[*inputs, *(s for s in sidecars if s.exists()), *([] if manifest is None else [manifest])],
            study=study.id,
        )
        for file in results:
            if file.exists() and not overwrite:
                raise InputError(
                    "a file of a result's name is already there",
                    study=study.id,
                    file=file,
                    expected="a new or empty folder",
                    remedy="choose another -o, or allow to replace it with --overwrite",
                )


def _remove_conclusions(out: Path) -> None:
    """Delete what was concluded from results that are about to be replaced."""
    for name in _CONCLUSIONS:
        remove(out / name)


def _not_given(segmenter: Segmenter, prior: Path | str | None) -> list[str]:
    """Sequences of the population prior that a single study was not given; a run knows its own."""
    if segmenter.run is not None or segmenter.prior is None:
        return []
    whole = default_prior() if prior is None else load_prior(Path(prior))
    return [f"no {name}" for name in whole.sequences if name not in segmenter.sequences]


def _predict_study(study: Study, out: Path, request: Request, notes: Sequence[str] = ()) -> list[Problem]:
    """Files to label map for one study; returns its warnings, with what is known of it beforehand."""
    try:
        with memory_checked():
            return _write_study(study, out, request, notes)
    except InputError as error:  # a full disk knows no study
        raise InputError.from_problems(replace(p, study=study.id) for p in error.problems) from None


def _write_study(study: Study, out: Path, request: Request, notes: Sequence[str]) -> list[Problem]:
    started = time.perf_counter()
    segmenter = request.segmenter
    save_probabilities, save_uncertainty = request.common["probabilities"], request.common["uncertainty"]
    files = _results(study.id, out)
    _remove_results(files)  # an older result must not stand in for one that fails now
    made_with = request.made_with(study)
    tensors = segmenter.read(study)
    result = segmenter.segment(tensors)
    warnings = (*notes, *tensors.warnings, *result.warnings)
    maps = dict(result.maps) if save_probabilities else {}
    if save_uncertainty:
        maps |= uncertainty_maps(result)
        if not maps[ENTROPY].any():
            warnings += ("this method gives no probabilities: the entropy is 0 in every voxel",)
    try:
        write_labels(files["labels"], tensors.to_input_grid(result.labels[None])[0], tensors.output)
        if save_probabilities:
            write_probabilities(files["probabilities"], tensors.to_input_grid(result.resp), tensors.output)
        for name, values in maps.items():
            write_map(files[name], tensors.to_input_grid(values[None])[0], tensors.output)
        if tensors.found_region is not None:
            write_labels(files["region"], tensors.to_input_grid(region_ids(tensors)[None])[0], tensors.output)
        if result.mvo is not None:
            mvo = tensors.to_input_grid(result.mvo.to(torch.uint8)[None])[0]
            write_labels(files["mvo"], mvo, tensors.output)
        if tensors.motion:
            unmoved = segmenter.read(study, registration=False)
            with atomic(files["motion"]) as temporary:
                temporary.write_bytes(_motion_picture(unmoved, tensors))
        content = _side_file(tensors, result, segmenter, warnings)
        if study.scribbles is not None and tensors.scribbles is not None:
            content["scribbles"] = str(study.scribbles.resolve())
        content[MADE_WITH] = made_with
        write_json(files["json"], {**content, "seconds": round(time.perf_counter() - started, 3)})
    except BaseException:  # a label map without its side file is half a result
        _remove_results(files)
        raise
    return warnings_of(study.id, warnings)


def _remove_results(files: Mapping[str, Path]) -> None:
    """Delete the files of a study, first the side file, whose presence says that it is finished."""
    for file in reversed([*files.values()]):
        remove(file)


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


def _side_file(
    study: StudyTensors,
    result: Segmentation,
    segmenter: Segmenter,
    warnings: tuple[str, ...],
) -> dict[str, Any]:
    """What stands in `<id>.json`; see docs/data.md."""
    ids = class_ids(segmenter.classes)
    voxel_ml = study.output.grid.voxel_volume_ml
    volume_ml = {name: float((result.labels == i).sum()) * voxel_ml for name, i in ids.items()}
    if result.mvo is not None:
        volume_ml["mvo"] = float(result.mvo.sum()) * voxel_ml
    return {
        "study": study.id,
        "method": segmenter.method.name,
        "settings": segmenter.method.describe(),
        "run": None if segmenter.run is None else str(segmenter.run.resolve()),
        "prior": segmenter.prior and provenance_record(segmenter.prior.provenance),
        "classes": ids,
        "volume_ml": volume_ml,
        "quantities": predicted_quantities(study, result, segmenter.classes),
        "mixture": {
            "sequences": result.sequences,
            "units": result.units,
            "weights": result.mixture.weights.tolist(),
            "means": result.mixture.means.tolist(),
            "covariances": result.mixture.covariances.tolist(),
        },
        "iterations": result.n_iter,
        "converged": result.converged,
        "mean_log_likelihood": float(result.log_likelihood[study.region > 0].mean()),
        **result.details,
        "inputs": {name: str(path.resolve()) for name, path in study.inputs.items()},
        "frames": study.frames,
        "region": _region_source(study),
        "reference_grid": str(study.output.file.resolve()),
        **_corrections_made(study),
        "warnings": warnings,
        "versions": versions(),
        "command": command_line(),
        "disclaimer": DISCLAIMER,
    }


def _region_source(study: StudyTensors) -> str | Mapping[str, Any]:
    """The region's file, the rule that it follows, or how sure the anatomy stage is of it."""
    if study.found_region is not None:
        return study.found_region
    source = study.region_source
    return source.kind if isinstance(source, RegionRule) else str(source and source.resolve())


def _corrections_made(study: StudyTensors) -> dict[str, Any]:
    """Motion per sequence and slice (in the order of the reference file), and bias fields."""
    made: dict[str, Any] = {}
    if study.motion:
        made["motion"] = {name: [asdict(m) for m in slices] for name, slices in study.motion.items()}
    if study.shading:
        made["bias_field"] = {name: asdict(shading) for name, shading in study.shading.items()}
    return made
