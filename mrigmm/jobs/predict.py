"""`mrigmm predict`: label maps for new studies, by a trained run or by a method."""

from __future__ import annotations

from contextlib import ExitStack
from pathlib import Path
from typing import Any

from mrigmm.data.files import sole_writer
from mrigmm.data.manifest_file import read_manifest
from mrigmm.errors import InputError, Problem
from mrigmm.export.side_files import write_itksnap_labels, write_slicer_colours
from mrigmm.jobs.common import (
    SEGMENTS_FILE,
    Outcome,
    Track,
    as_json,
    no_progress,
)
from mrigmm.jobs.predicting.failures import record_failure
from mrigmm.jobs.predicting.finished import MapChoice, finished_studies, make_request
from mrigmm.jobs.predicting.result_files import require_free, result_files
from mrigmm.jobs.predicting.segmented_study import segment_to_files
from mrigmm.jobs.predicting.segmenter import Choice, choose_segmenter
from mrigmm.jobs.processes import joined_processes, part_of
from mrigmm.jobs.quantify import write_recorded
from mrigmm.settings_yaml import Overrides


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
    overrides: Overrides = (),
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
        overrides: settings of the method: `key=value` texts, or values by key.
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
                problems += [*error.problems, *record_failure(out, study.id, error.problems)]
        new, problems = processes.gather(done), processes.gather(problems)
        done = [*kept, *new]
        # The tables' last file: what is whole may by now be the user's own, of `quantify`.
        if done and processes.first and (new or not (out / SEGMENTS_FILE).exists()):
            try:
                write_itksnap_labels(out / "labels_itksnap.txt", segmenter.classes)
                write_slicer_colours(out / "labels_slicer.ctbl", segmenter.classes)
                problems += write_recorded(out)
            except InputError as error:  # a full disk: the studies that failed are told too
                problems += error.problems
        if not processes.first:  # torchrun ends all when one ends with an error: the first does, at last
            problems = []
        return Outcome(out, tuple(done), tuple(problems), speaks=processes.first)


def label_maps(result: Outcome) -> dict[str, Any]:
    """What `predict` or `predict_study` did, as plain JSON, with the label map of each study."""
    maps = {study: str(result_files(study, result.output)["labels"]) for study in result.done}
    return {**as_json(result), "label_maps": maps}
