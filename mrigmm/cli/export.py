"""The command export."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from mrigmm.cli.completion import complete_schemes
from mrigmm.cli.console import Voice, studies_text
from mrigmm.cli.options import INPUT, METHOD, OUTPUT, Quiet, Verbose


class ExportFormat(StrEnum):
    """Files that `export` can write."""

    onnx = "onnx"
    bundle = "bundle"
    nifti = "nifti"
    bids = "bids"
    myops_submission = "myops-submission"
    dicom_seg = "dicom-seg"


def export(
    source: Annotated[
        Path, typer.Argument(metavar="RUN|OUT", help="Folder of a trained run, or one that predict wrote.")
    ],
    out: Annotated[
        Path,
        typer.Option("-o", "--out", help="File (onnx) or new folder to write.", rich_help_panel=OUTPUT),
    ],
    format: Annotated[
        ExportFormat,
        typer.Option(
            "--format",
            help="Of a run: onnx, bundle. Of predictions: the others (docs/exports.md).",
            rich_help_panel=METHOD,
        ),
    ],
    scheme: Annotated[
        str | None,
        typer.Option(
            help="nifti: whose label ids, for example myops or emidec.",
            rich_help_panel=METHOD,
            autocompletion=complete_schemes,
        ),
    ] = None,
    dicom: Annotated[
        Path | None,
        typer.Option(
            metavar="FOLDER", help="dicom-seg: the series that were segmented.", rich_help_panel=INPUT
        ),
    ] = None,
    record: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="dicom-seg: images.json of manifest dicom. Default: found beside the images.",
            rich_help_panel=INPUT,
        ),
    ] = None,
    study: Annotated[
        list[str] | None,
        typer.Option(
            metavar="ID", help="A study to export. Default: all predictions.", rich_help_panel=INPUT
        ),
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
