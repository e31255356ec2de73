"""`mrigmm measure`: quantities and report of label maps from anywhere, with no prediction behind them."""

from __future__ import annotations

import glob
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from mrigmm.data import quality
from mrigmm.data.files import require_new_folder, require_not_input
from mrigmm.data.side_file import record_of
from mrigmm.data.sources.files import Match
from mrigmm.data.study_tensors import OutputGrid
from mrigmm.data.volumes import read_image
from mrigmm.errors import InputError, Problem
from mrigmm.export.nifti import write_labels
from mrigmm.export.side_files import write_itksnap_labels, write_json, write_slicer_colours
from mrigmm.jobs.common import (
    DISCLAIMER,
    LABELS_SUFFIX,
    REPORT_FILE,
    Track,
    command_line,
    no_progress,
    versions,
)
from mrigmm.jobs.predicting.result_files import remove_derived, remove_results, result_files
from mrigmm.jobs.quantify import Quantified, quantify
from mrigmm.jobs.quantifying.inputs import maps_of
from mrigmm.jobs.quantifying.plausible import cavity_and_wall_exchanged
from mrigmm.jobs.reading.failures import clear_failure, record_failure
from mrigmm.jobs.reading.masks import Mask, is_predictions, open_reader, read_mask, turned
from mrigmm.jobs.report import report
from mrigmm.labels import TISSUES


def measure(
    masks: Path | str,
    out: Path | str,
    *,
    labels: str | None = None,
    images: Mapping[str, str] | None = None,
    pattern: str | None = None,
    rv_insertion: Path | str | None = None,
    base: str | None = None,
    redcap: bool = False,
    overwrite: bool = False,
    track: Track = no_progress,
) -> Quantified:
    """Measure label maps that any program or person made, and write a report of them (docs/measure.md).

    The folder that it writes is one like that of `predict`, with the ids of our own label maps: `report`,
    `compare`, `agreement` and `export` take it.

    Examples:
        >>> mrigmm.measure("nnunet_out", "measured", labels="emidec")  # doctest: +SKIP

    Args:
        masks: folder of NIfTI label maps, or one file.
        out: folder to write to.
        labels: what the ids mean: a scheme (`mrigmm info`), "blood=1,scar=3+4" or "{blood: 1, scar: [3, 4]}";
            default as nnU-Net's `dataset.json` beside the masks says, or as ids that one scheme alone has.
        images: sequence name -> path of the images for the report, with `{id}` where the study's id stands.
        pattern: how the masks are named, with `{id}`, or `{patient}` and `{visit}`; default by their names.
        rv_insertion: as in `quantify`.
        base: as in `quantify`.
        redcap: as in `quantify`.
        overwrite: allow to replace results in `out`.
        track: progress bar.

    Returns:
        `studies` holds the numbers; masks that could not be measured are among its problems.

    Raises:
        InputError: no mask at all can be measured, or an option cannot be used.
    """
    source, out = Path(masks), Path(out)
    if labels is None and is_predictions(source):
        raise InputError(
            "this is a folder of predictions",
            file=source,
            expected="label maps without side files",
            remedy=f"mrigmm quantify {source}; to read its label maps as plain masks, give --labels",
        )
    reader = open_reader(source, labels, pattern)
    given = reader.masks or {}
    _check_images(images or {}, len(given))
    require_new_folder(
        out, holds=f"*{LABELS_SUFFIX}", overwrite=overwrite, instead="allow to replace them with --overwrite"
    )
    problems = [*reader.problems, *quality.unknown_classes([*reader.labels])]
    failed = set()
    for match in track(given.values(), "Reading masks"):
        study = match.study
        try:
            require_not_input(
                *result_files(study, out).values(), inputs=[Path(m.file) for m in given.values()], study=study
            )
            problems += _take_over(match, reader.labels, out, images or {})
        except InputError as error:
            own = [replace(problem, study=study) for problem in error.problems]
            problems += [*own, *record_failure(out, study, own)]
            failed.add(study)
    if len(failed) == len(given):
        raise InputError.from_problems(problem for problem in problems if problem.severity == "error")
    classes = [name for name in TISSUES if reader.labels.get(name)]
    if classes:
        write_itksnap_labels(out / "labels_itksnap.txt", classes)
        write_slicer_colours(out / "labels_slicer.ctbl", classes)
    found = quantify(out, rv_insertion=rv_insertion, base=base, redcap=redcap, track=track)
    page = report(out, out=out / REPORT_FILE, track=track)
    told = [p for p in (*found.problems, *page.problems) if p.study not in failed]
    told += _without_scar(found, reader.labels)
    return replace(found, problems=tuple(dict.fromkeys((*problems, *told))))


def _without_scar(found: Quantified, labels: Mapping[str, Sequence[int]]) -> list[Problem]:
    """A warning where all of the masks together have edema and no scar, as with the ids of another scheme."""
    edema, infarct = (
        sum(bool(row.get(name)) for row in found.studies.values())
        for name in ("edema_mass_g", "infarct_mass_g")
    )
    if not edema or infarct or not labels.get("scar"):
        return []
    ids = "; ".join(f"{name} {', '.join(map(str, labels[name]))}" for name in ("edema", "scar"))
    return [
        Problem(
            "the masks have edema and no scar",
            expected="scar where there is edema",
            got=f"edema in {edema} of {len(found.studies)} masks; ids: {ids}",
            remedy="check --labels: in other schemes (emidec) the same ids mean scar and obstruction",
            severity="warning",
        )
    ]


def _take_over(
    match: Match, labels: Mapping[str, Sequence[int]], out: Path, images: Mapping[str, str]
) -> list[Problem]:
    """Write one mask as `predict` writes a label map; returns what is wrong with its images."""
    study, files = match.study, result_files(match.study, out)
    remove_derived(out)
    remove_results(files)
    mask = read_mask(Path(match.file), study, labels)
    exchanged = cavity_and_wall_exchanged(maps_of(mask))
    if exchanged is not None:
        raise InputError.from_problems([replace(exchanged, file=match.file, severity="error")])
    output = mask.output
    inputs, problems = _inputs(images, study)
    if inputs:
        try:
            mask, output = _on_image(mask, *next(iter(inputs.items())))
        except InputError as error:
            problems += [
                replace(p, what=f"no pictures: {p.what}", severity="warning") for p in error.problems
            ]
            inputs = {}
    side = replace(
        mask.side,
        label_map=record_of(mask.labels.data, mask.labels.grid),
        patient=match.patient,
        visit=match.visit,
        inputs=inputs,
        region_divided={"blood", "myocardium"} <= set(mask.classes),
        settings={"labels": {name: list(ids) for name, ids in labels.items()}},
        notes=(f"measured on a given mask: {match.file}",),
        versions=versions(),
        command=command_line(),
        disclaimer=DISCLAIMER,
    )
    try:
        write_labels(files["labels"], mask.labels.data, output)
        for name, part in (("mvo", mask.mvo), ("rv", mask.rv)):
            if part is not None:
                write_labels(files[name], part.astype(np.uint8), output)
        write_json(files["json"], side.as_json())
    except BaseException:  # a label map without its side file is half a result
        remove_results(files)
        raise
    clear_failure(out, study)
    return problems


def _check_images(images: Mapping[str, str], n_studies: int) -> None:
    """Refuse one image for several studies."""
    for name, path in images.items():
        if n_studies > 1 and "{id}" not in path:
            raise InputError(
                "the path of the images does not say where the study's id stands",
                expected=f"for example {name}='images/{{id}}_0000.nii.gz'",
                got=f"{name}={path}",
            )


def _inputs(images: Mapping[str, str], study: str) -> tuple[dict[str, Path], list[Problem]]:
    """The images of a study by sequence, and a warning for each that is not there."""
    inputs, problems = {}, []
    for name, path in images.items():
        wanted = Path(path.replace("{id}", glob.escape(study)))
        found = sorted(Path(wanted.anchor).glob(str(wanted.relative_to(wanted.anchor))))
        if len(found) == 1:
            inputs[name] = found[0].resolve()
        else:
            got = " and ".join(map(str, found)) or "no file"
            what = f"no pictures: there is not one {name} of the study"
            problems.append(Problem(what, study, expected=path, got=got, severity="warning"))
    return inputs, problems


def _on_image(mask: Mask, name: str, path: Path) -> tuple[Mask, OutputGrid]:
    """A mask in the order of an image's axes.

    Raises:
        InputError: the image cannot be read, or has other voxels.
    """
    image = read_image(path, study=mask.study, role=name, choose_frame=lambda _frames, _grid: 0)
    output = OutputGrid(image.grid, image.header, image.stored_shape, path)
    return turned(mask, image.grid), output
