"""The command export."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from mrigmm.cli.console import finish, progress_bar, studies_text
from mrigmm.cli.options import Quiet


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
    out: Annotated[Path, typer.Option("-o", "--out", help="File (onnx) or new folder to write.")],
    format: Annotated[
        ExportFormat,
        typer.Option(
            "--format", help="Of a run: onnx, bundle. Of predictions: the others (docs/exports.md)."
        ),
    ],
    scheme: Annotated[
        str | None, typer.Option(help="nifti: whose label ids, for example myops or emidec.")
    ] = None,
    dicom: Annotated[
        Path | None, typer.Option(metavar="FOLDER", help="dicom-seg: the series that was segmented.")
    ] = None,
    study: Annotated[
        list[str] | None, typer.Option(metavar="ID", help="A study to export. Default: all predictions.")
    ] = None,
    quiet: Quiet = False,
) -> None:
    """Write a trained run, or predictions, for use by other programs."""
    from mrigmm.jobs.export import export as job

    result = job(
        source,
        out,
        format=format.value,
        scheme=scheme,
        dicom=dicom,
        studies=study or (),
        track=progress_bar(quiet),
    )
    count = f" {studies_text(len(result.done))}" if result.done else ""
    finish(result, f"exported{count}: {result.output}", quiet)
