"""`mrigmm predict --image`: the label map of one study that its files name."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from mrigmm.data.files import sole_writer
from mrigmm.data.manifest import Manifest, Study, check_study_id
from mrigmm.data.priors.files import load_prior
from mrigmm.data.priors.shipped import default_prior
from mrigmm.data.study import reference_sequence
from mrigmm.errors import InputError, near_misses
from mrigmm.export.side_files import write_itksnap_labels, write_slicer_colours
from mrigmm.jobs.common import LABELS_SUFFIX, Outcome
from mrigmm.jobs.predicting.failures import record_failure
from mrigmm.jobs.predicting.finished import MapChoice, make_request
from mrigmm.jobs.predicting.result_files import require_free
from mrigmm.jobs.predicting.segmented_study import segment_to_files
from mrigmm.jobs.predicting.segmenter import Choice, Segmenter, choose_segmenter
from mrigmm.jobs.quantify import write_recorded
from mrigmm.settings_yaml import Overrides


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

    Returns:
        What was done, with warnings among its problems.

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
        try:
            problems = segment_to_files(study, out, request, notes=_not_given(segmenter, prior))
        except InputError as error:
            if any(out.glob(f"*{LABELS_SUFFIX}")):  # alone, it leaves nothing
                record_failure(out, study.id, error.problems)
            raise
        write_itksnap_labels(out / "labels_itksnap.txt", segmenter.classes)
        write_slicer_colours(out / "labels_slicer.ctbl", segmenter.classes)
        problems += write_recorded(out)
    return Outcome(out, (study.id,), tuple(problems))


def _not_given(segmenter: Segmenter, prior: Path | str | None) -> list[str]:
    """Sequences of the population prior that a single study was not given; a run knows its own."""
    if segmenter.run is not None or segmenter.prior is None:
        return []
    whole = default_prior() if prior is None else load_prior(Path(prior))
    return [f"no {name}" for name in whole.sequences if name not in segmenter.sequences]
