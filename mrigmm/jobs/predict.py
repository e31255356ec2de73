"""`mrigmm predict`: label maps for new studies, by a trained run or by a method."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from mrigmm.data.files import sole_writer
from mrigmm.data.manifest import Manifest, Study, check_study_id
from mrigmm.data.manifest_file import read_manifest
from mrigmm.data.priors import default_prior, load_prior
from mrigmm.data.study import reference_sequence
from mrigmm.errors import InputError, Problem, near_misses
from mrigmm.export.side_files import write_itksnap_labels, write_slicer_colours
from mrigmm.jobs.common import (
    SEGMENTS_FILE,
    Outcome,
    Track,
    as_json,
    no_progress,
)
from mrigmm.jobs.finished import MapChoice, finished_studies, make_request
from mrigmm.jobs.processes import joined_processes, part_of
from mrigmm.jobs.quantify import write_recorded
from mrigmm.jobs.result_files import require_free, result_files
from mrigmm.jobs.segmented_study import segment_to_files
from mrigmm.jobs.segmenter import Choice, Segmenter, choose_segmenter


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
        require_free(out, studies, cohort.path, overwrite=overwrite or resume)
        choice = Choice(
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
        segmenter = choose_segmenter(cohort, choice)
        maps = MapChoice(save_probabilities, save_uncertainty)
        request = make_request(segmenter, whole, choice, maps)
        if processes.first:
            held.enter_context(sole_writer(out))
            # Another process may have written since.
            require_free(out, studies, cohort.path, overwrite=overwrite or resume)
        side_files = [(study, result_files(study.id, out)["json"]) for study in studies] if resume else []
        kept = finished_studies(side_files, request)
        todo = [study for study in studies if study.id not in kept]
        processes.wait()  # until all have seen the folder as it was

        show = track if processes.first else no_progress
        if todo:
            segmenter.fit_cohort(whole, show, processes)
        problems: list[Problem] = []
        done: list[str] = []
        for study in show(processes.share(todo), "Segmenting"):
            try:
                problems += segment_to_files(study, out, request)
                done.append(study.id)
            except InputError as error:
                problems += error.problems
        new, problems = processes.gather(done), processes.gather(problems)
        done = [*kept, *new]
        # The tables' last file: what is whole may by now be the user's own, of `quantify`.
        if done and processes.first and (new or not (out / SEGMENTS_FILE).exists()):
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
    require_free(out, [study], None, overwrite=overwrite)
    choice = Choice(
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
    segmenter = choose_segmenter(cohort, choice)
    request = make_request(segmenter, [study], choice, MapChoice(save_probabilities, save_uncertainty))
    with sole_writer(out):
        require_free(out, [study], None, overwrite=overwrite)  # another process may have written since
        segmenter.fit_cohort([study])
        problems = segment_to_files(study, out, request, notes=_not_given(segmenter, prior))
        write_itksnap_labels(out / "labels_itksnap.txt", segmenter.classes)
        write_slicer_colours(out / "labels_slicer.ctbl", segmenter.classes)
        problems += write_recorded(out)
    return Outcome(out, (study.id,), tuple(problems))


def label_maps(result: Outcome) -> dict[str, Any]:
    """What `predict` or `predict_study` did, as plain JSON, with the label map of each study."""
    maps = {study: str(result_files(study, result.output)["labels"]) for study in result.done}
    return {**as_json(result), "label_maps": maps}


def _not_given(segmenter: Segmenter, prior: Path | str | None) -> list[str]:
    """Sequences of the population prior that a single study was not given; a run knows its own."""
    if segmenter.run is not None or segmenter.prior is None:
        return []
    whole = default_prior() if prior is None else load_prior(Path(prior))
    return [f"no {name}" for name in whole.sequences if name not in segmenter.sequences]
