"""Commands that segment: predict, segment-image."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer

from mrigmm.cli.console import EXIT_INTERRUPTED, err_console, finish, progress_bar, studies_text
from mrigmm.cli.options import (
    AnatomyFolder,
    BiasCorrect,
    DataRoot,
    Device,
    Overrides,
    PriorFile,
    Quiet,
    Register,
    Split,
    named_files,
    named_frames,
)
from mrigmm.errors import InputError


class Runtime(StrEnum):
    """What can compute the network of a run."""

    torch = "torch"
    onnx = "onnx"


def predict(
    manifest: Annotated[Path | None, typer.Argument(help="Manifest of the cohort, or use --image.")] = None,
    out: Annotated[Path, typer.Option("-o", "--out", help="Folder for the label maps.")] = ...,  # type: ignore[assignment]
    run: Annotated[Path | None, typer.Option(metavar="RUN", help="Folder of a trained run.")] = None,
    method: Annotated[str | None, typer.Option(metavar="NAME", help="Method (mrigmm info).")] = None,
    image: Annotated[
        list[str] | None, typer.Option(metavar="NAME=FILE", help="One sequence of a single study.")
    ] = None,
    region: Annotated[Path | None, typer.Option(help="Region map of the single study.")] = None,
    study_id: Annotated[str | None, typer.Option("--id", help="Name of the single study's results.")] = None,
    frame: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME=N", help="Frame, from 0, of a single study's series. Default: end-diastole."
        ),
    ] = None,
    scribbles: Annotated[
        Path | None, typer.Option(help="Single study: classes named in a few voxels (docs/data.md).")
    ] = None,
    split: Split = "test",
    data_root: DataRoot = None,
    prior: PriorFile = None,
    overrides: Overrides = None,
    device: Device = "auto",
    runtime: Annotated[
        Runtime, typer.Option(help="What computes the run's network; onnx: after mrigmm export.")
    ] = Runtime.torch,
    anatomy: AnatomyFolder = None,
    save_probabilities: Annotated[
        bool,
        typer.Option("--save-probabilities", help="Write <id>_probabilities.nii.gz and further maps too."),
    ] = False,
    save_uncertainty: Annotated[
        bool,
        typer.Option("--save-uncertainty", help="Write <id>_entropy.nii.gz and <id>_log_likelihood.nii.gz."),
    ] = False,
    register: Register = False,
    bias_correct: BiasCorrect = False,
    mvo: Annotated[
        bool, typer.Option("--mvo", help="Microvascular obstruction: to scar, and <id>_mvo.nii.gz.")
    ] = False,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace results in the folder.")] = False,
    resume: Annotated[
        bool, typer.Option("--resume", help="With a manifest: keep the finished studies in the folder.")
    ] = False,
    quiet: Quiet = False,
) -> None:
    """Write label maps on the input grid, by a trained run or by a method."""
    from mrigmm.jobs.predict import predict as job
    from mrigmm.jobs.predict import predict_study as study_job

    options: dict[str, Any] = {
        "run": run,
        "method": method,
        "prior": prior,
        "overrides": overrides or (),
        "device": device,
        "runtime": runtime.value,
        "anatomy": anatomy,
        "save_probabilities": save_probabilities,
        "save_uncertainty": save_uncertainty,
        "register": register,
        "bias_correct": bias_correct,
        "mvo": mvo,
        "overwrite": overwrite,
    }
    if (manifest is None) == (not image):
        raise InputError("give either a manifest or --image NAME=FILE (one per sequence)")
    if manifest is not None:
        if region is not None or study_id is not None:
            raise InputError("--region and --id belong to --image, not to a manifest")
        if frame:
            raise InputError("--frame belongs to --image", remedy='name "frame" in the manifest')
        if scribbles is not None:
            raise InputError("--scribbles belongs to --image", remedy='name "scribbles" in the manifest')
        try:
            result = job(
                manifest,
                out,
                split=split,
                data_root=data_root,
                resume=resume,
                track=progress_bar(quiet),
                **options,
            )
        except KeyboardInterrupt:
            err_console.print("interrupted: the same command with --resume keeps the finished studies")
            raise typer.Exit(EXIT_INTERRUPTED) from None
    else:
        if region is None and anatomy is None:
            raise InputError(
                "a single study needs a region map",
                remedy="give it with --region FILE, or let an --anatomy run find it",
            )
        if data_root is not None:
            raise InputError("--data-root belongs to a manifest, not to --image")
        if resume:
            raise InputError("--resume belongs to a manifest, not to --image")
        result = study_job(
            named_files(image or []),
            region,
            out,
            study_id=study_id,
            frames=named_frames(frame or []),
            scribbles=scribbles,
            **options,
        )
    finish(result, f"segmented {studies_text(len(result.done))}; label maps: {result.output}", quiet)


def segment_image(
    image: Annotated[Path, typer.Argument(help="PNG, JPEG, TIFF or BMP.")],
    out: Annotated[Path, typer.Option("-o", "--out", help="Label image to write (PNG).")],
    method: Annotated[str, typer.Option(metavar="NAME", help="Method (mrigmm info).")] = "kmeans",
    k: Annotated[int, typer.Option("-k", min=2, max=255, help="Number of segments.")] = 5,
    mask: Annotated[
        Path | None, typer.Option(help="Image of the same size, not black where to segment.")
    ] = None,
    overlay: Annotated[
        Path | None, typer.Option(help="Write the image with the segments' borders too (PNG).")
    ] = None,
    overrides: Overrides = None,
    device: Device = "auto",
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace results.")] = False,
    quiet: Quiet = False,
) -> None:
    """Segment a natural image (docs/photographs.md)."""
    from mrigmm.jobs.segment_image import segment_image as job

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
    finish(result, f"segments: {result.output}", quiet)
