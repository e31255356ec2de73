"""`mrigmm predict`: label maps for new studies, by a trained run or by a method."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import ExitStack, nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any, Unpack

from mrigmm.data.files import sole_writer
from mrigmm.data.manifest import Manifest, Study, check_study_id
from mrigmm.data.manifest_file import read_manifest
from mrigmm.data.study import reference_sequence
from mrigmm.errors import InputError, near_misses
from mrigmm.jobs.common import LABELS_SUFFIX, SEGMENTS_FILE, Outcome, Track, as_json, no_progress
from mrigmm.jobs.options import PredictKeywords, PredictOptions, read_options, takes
from mrigmm.jobs.predicting.finished import finished_studies, make_request, require_unedited
from mrigmm.jobs.predicting.result_files import require_free, result_files
from mrigmm.jobs.predicting.segmented_study import segment_to_files, write_tables
from mrigmm.jobs.predicting.segmenter import choose_segmenter, class_notes, not_given
from mrigmm.jobs.processes import ALONE, joined_processes, part_of
from mrigmm.jobs.reading.failures import record_failure


@takes(PredictOptions, PredictKeywords)
def predict(
    manifest: Path | str,
    out: Path | str,
    *,
    split: str = "test",
    part: str | None = None,
    data_root: Path | str | None = None,
    resume: bool = False,
    track: Track = no_progress,
    **options: Unpack[PredictKeywords],
) -> Outcome:
    """Segment the studies of a manifest's split and write label maps on their own grids.

    Several processes that torchrun started share the studies; every one has to make the call.

    Examples:
        >>> mrigmm.predict("cohort/manifest.json", "predictions", run="runs/first")  # doctest: +SKIP

    Args:
        manifest: the cohort.
        out: folder for `<id>_labels.nii.gz` and the files beside it.
        split: "training", "validation", "test" or "all".
        part: "K/N": only part K of N of the studies, for jobs of their own, with a folder each.
        data_root: folder that the manifest's paths resolve against; default the manifest's.
        resume: keep the finished studies in `out`, which must have been made as is asked for now.
        track: progress bar.
        **options: the fields of `PredictOptions`, by name: `run` or `method`, and others.

    Returns:
        What was done; studies that failed are among its problems and do not stop the others.

    Raises:
        InputError: when nothing can be done at all.
    """
    chosen = read_options(PredictOptions, options)
    if resume and chosen.overwrite:
        raise InputError(
            "finished results can be kept or replaced, not both", remedy="leave out --resume or --overwrite"
        )
    cohort = read_manifest(manifest, data_root)
    studies = cohort.split(split)
    return _segment(cohort, studies, Path(out), chosen, part=part, resume=resume, track=track)


@takes(PredictOptions, PredictKeywords)
def predict_study(
    images: Mapping[str, Path | str],
    region: Path | str | None,
    out: Path | str,
    *,
    study_id: str | None = None,
    frames: Mapping[str, int] | None = None,
    scribbles: Path | str | None = None,
    **options: Unpack[PredictKeywords],
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
        **options: the fields of `PredictOptions`, by name: `run` or `method`, and others.

    Returns:
        What was done, with warnings among its problems.

    Raises:
        InputError: when the study cannot be segmented.
    """
    chosen = read_options(PredictOptions, options)
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
    result = _segment(cohort, (study,), Path(out), chosen, single=True)
    if result.failed:
        raise InputError.from_problems(p for p in result.problems if p.severity == "error")
    return result


def _segment(
    cohort: Manifest,
    whole: Sequence[Study],
    out: Path,
    options: PredictOptions,
    *,
    part: str | None = None,
    resume: bool = False,
    single: bool = False,
    track: Track = no_progress,
) -> Outcome:
    """Segment studies of a cohort; the body of `predict` and `predict_study`.

    Args:
        cohort: where the studies stand.
        whole: the studies of the whole job.
        out: folder for the results.
        options: how to segment.
        part: "K/N": only part K of N of the studies.
        resume: keep the finished studies.
        single: the cohort is one study that its files name: its failure is the caller's, and leaves nothing
            in a folder of its own.
        track: progress bar.

    Raises:
        InputError: when nothing can be done at all.
    """
    studies = whole if part is None else part_of(whole, part)
    joined = nullcontext(ALONE) if single else joined_processes(apart=part is not None)
    with joined as processes, ExitStack() as held:
        require_free(out, studies, cohort.path, overwrite=options.overwrite or resume)
        if options.overwrite:
            require_unedited(studies, out)
        options = replace(options, device=processes.device(options.device))
        segmenter = choose_segmenter(cohort, options)
        request = make_request(segmenter, whole, options)
        notes = not_given(segmenter, options.prior) if single else ()
        if processes.first:
            held.enter_context(sole_writer(out))
            # Another process may have written since.
            require_free(out, studies, cohort.path, overwrite=options.overwrite or resume)
        kept, told = finished_studies(studies, out, request) if resume else ((), [])
        todo = [study for study in studies if study.id not in kept]
        processes.wait()  # until all have seen the folder as it was

        show = track if processes.first else no_progress
        if todo:
            segmenter.fit_cohort(whole, show, processes)
        problems = [*class_notes(cohort, segmenter.classes), *told] if processes.first else []
        done: list[str] = []
        for study in show(processes.share(todo), "Segmenting"):
            try:
                problems += segment_to_files(study, out, request, notes)
                done.append(study.id)
            except InputError as error:
                problems += error.problems
                if not single or any(out.glob(f"*{LABELS_SUFFIX}")):
                    problems += record_failure(out, study.id, error.problems)
        new, problems = processes.gather(done), processes.gather(problems)
        done = [*kept, *new]
        # The tables' last file: what is whole may by now be the user's own, of `quantify`.
        if done and processes.first and (new or not (out / SEGMENTS_FILE).exists()):
            try:
                problems += write_tables(out, segmenter.classes)
            except InputError as error:  # a full disk: the studies that failed are told too
                problems += error.problems
        if not processes.first:  # torchrun ends all when one ends with an error: the first does, at last
            problems = []
        return Outcome(out, tuple(done), tuple(problems), speaks=processes.first)


def label_maps(result: Outcome) -> dict[str, Any]:
    """Return what `predict` or `predict_study` did as plain JSON, with the label map of each study."""
    maps = {study: str(result_files(study, result.output)["labels"]) for study in result.done}
    return {**as_json(result), "label_maps": maps}
