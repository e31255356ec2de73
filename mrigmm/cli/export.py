"""The command export."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from mrigmm.cli.completion import complete_schemes
from mrigmm.cli.console import Voice, studies_text
from mrigmm.cli.options import INPUT, METHOD, OUTPUT, Quiet, Verbose, option


class ExportFormat(StrEnum):
    """Files that `export` can write."""

    onnx = "onnx"
    bundle = "bundle"
    nifti = "nifti"
    bids = "bids"
    myops_submission = "myops-submission"
    dicom_seg = "dicom-seg"
    dicom_sr = "dicom-sr"


def export(
    source: Annotated[
        Path, typer.Argument(metavar="RUN|OUT", help="Folder of a trained run, or one that predict wrote.")
    ],
    out: Annotated[Path, option(OUTPUT, "File (onnx) or new folder to write.", "-o", "--out")],
    format: Annotated[
        ExportFormat,
        option(METHOD, "Of a run: onnx, bundle. Of predictions: the others (docs/exports.md).", "--format"),
    ],
    scheme: Annotated[
        str | None,
        option(METHOD, "nifti: whose label ids, for example myops or emidec.", complete=complete_schemes),
    ] = None,
    dicom: Annotated[
        Path | None, option(INPUT, "dicom-seg, dicom-sr: the series that were segmented.", metavar="FOLDER")
    ] = None,
    record: Annotated[
        Path | None,
        option(
            INPUT,
            "dicom-seg, dicom-sr: images.json of manifest dicom. Default: found beside the images.",
            metavar="FILE",
        ),
    ] = None,
    study: Annotated[
        list[str] | None, option(INPUT, "A study to export. Default: all predictions.", metavar="ID")
    ] = None,
    quiet: Quiet = False,
    verbose: Verbose = False,
) -> None:
    """Write a trained run, or predictions, for use by other programs.

    Examples:
        mrigmm export run -o run/network.onnx --format onnx
        mrigmm export predictions/run -o myops_ids --format nifti --scheme myops
    """
    from mrigmm.jobs.export import export as job

    voice = Voice(quiet, verbose)
    result = job(
        source,
        out,
        format=format.value,
        scheme=scheme,
        dicom=dicom,
        record=record,
        studies=study or (),
        track=voice.track,
    )
    count = f" {studies_text(len(result.done))}" if result.done else ""
    voice.finish(result, f"exported{count}: {result.output}")
