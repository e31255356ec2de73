"""Commands that segment: predict, segment-image."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from mrigmm.cli.completion import complete_methods
from mrigmm.cli.console import KEEPS_FINISHED, Voice, first_imports, resumable, studies_text
from mrigmm.cli.options import (
    INPUT,
    METHOD,
    OUTPUT,
    SINGLE,
    DataRoot,
    Device,
    Json,
    Overrides,
    Overwrite,
    Quiet,
    Split,
    Verbose,
    named_files,
    named_frames,
    option,
    takes,
)
from mrigmm.errors import InputError, Problem
from mrigmm.jobs.options import PredictOptions, read_options


@takes(PredictOptions)
def predict(
    manifest: Annotated[Path | None, typer.Argument(help="Manifest of the cohort, or use --image.")] = None,
    out: Annotated[Path, option(OUTPUT, "Folder for the label maps.", "-o", "--out")] = ...,  # type: ignore[assignment]
    *,
    image: Annotated[
        list[str] | None, option(SINGLE, "One sequence of a single study.", metavar="NAME=FILE")
    ] = None,
    region: Annotated[Path | None, option(SINGLE, "Region map of the single study.")] = None,
    study_id: Annotated[str | None, option(SINGLE, "Name of the single study's results.", "--id")] = None,
    frame: Annotated[
        list[str] | None,
        option(SINGLE, "Frame, from 0, of a single study's series. Default: end-diastole.", metavar="NAME=N"),
    ] = None,
    scribbles: Annotated[
        Path | None, option(SINGLE, "Single study: classes named in a few voxels (docs/data.md).")
    ] = None,
    split: Split = "test",
    part: Annotated[
        str | None, option(INPUT, "With a manifest: only part K of N (docs/scale.md).", metavar="K/N")
    ] = None,
    data_root: DataRoot = None,
    resume: Annotated[
        bool, option(OUTPUT, "With a manifest: keep the finished studies in the folder.", "--resume")
    ] = False,
    as_json: Json = False,
    quiet: Quiet = False,
    verbose: Verbose = False,
    **options: Any,
) -> None:
    """Write label maps on the input grid, by a trained run or by a method.

    Examples:
        mrigmm predict cohort/manifest.json -o predictions/run --run run
        mrigmm predict cohort/manifest.json -o all --method map-em --split all
        mrigmm predict --image LGE=l.nii.gz --region lv.nii.gz -o one --method em-gmm
    """
    with first_imports():
        from mrigmm.jobs.predict import label_maps, predict_study
        from mrigmm.jobs.predict import predict as job

    voice = Voice(quiet, verbose)
    chosen = read_options(PredictOptions, options)
    problems = []
    if (manifest is None) == (not image):
        problems.append(Problem("give either a manifest or --image NAME=FILE (one per sequence)"))
    problems += chosen.contradictions()
    if problems:
        raise InputError.from_problems(problems)
    if manifest is not None:
        if region is not None or study_id is not None:
            raise InputError("--region and --id belong to --image, not to a manifest")
        if frame:
            raise InputError("--frame belongs to --image", remedy='name "frame" in the manifest')
        if scribbles is not None:
            raise InputError("--scribbles belongs to --image", remedy='name "scribbles" in the manifest')
        with resumable(KEEPS_FINISHED):
            result = job(
                manifest,
                out,
                split=split,
                part=part,
                data_root=data_root,
                resume=resume,
                track=voice.track,
                **options,
            )
    else:
        for flag, value in (("--data-root", data_root), ("--resume", resume or None), ("--part", part)):
            if value is not None:
                raise InputError(f"{flag} belongs to a manifest, not to --image")
        result = predict_study(
            named_files(image or []),
            region,
            out,
            study_id=study_id,
            frames=named_frames(frame or []),
            scribbles=scribbles,
            **options,
        )
    text = f"segmented {studies_text(len(result.done))}; label maps: {result.output}"
    voice.finish(result, text, as_json=label_maps(result) if as_json else None)


def segment_image(
    image: Annotated[Path, typer.Argument(help="PNG, JPEG, TIFF or BMP.")],
    out: Annotated[Path, option(OUTPUT, "Label image to write (PNG).", "-o", "--out")],
    method: Annotated[
        str, option(METHOD, "Method (mrigmm info).", metavar="NAME", complete=complete_methods)
    ] = "kmeans",
    k: Annotated[int, option(METHOD, "Number of segments.", "-k", min=2, max=255)] = 5,
    mask: Annotated[Path | None, option(INPUT, "Image of the same size, not black where to segment.")] = None,
    overlay: Annotated[
        Path | None, option(OUTPUT, "Write the image with the segments' borders too (PNG).")
    ] = None,
    overrides: Overrides = None,
    device: Device = "auto",
    overwrite: Overwrite = False,
    quiet: Quiet = False,
    verbose: Verbose = False,
) -> None:
    """Segment a natural image (docs/photographs.md).

    Examples:
        mrigmm segment-image photo.jpg -o labels.png -k 5
        mrigmm segment-image photo.jpg -o labels.png -k 3 --method slic-kmeans
    """
    from mrigmm.jobs.segment_image import segment_image as job

    voice = Voice(quiet, verbose)
    result = job(
        image,
        out,
        method=method,
        k=k,
        mask=mask,
        overlay=overlay,
        overrides=overrides or (),
        device=device,
        overwrite=overwrite,
    )
    voice.finish(result, f"segments: {result.output}")
