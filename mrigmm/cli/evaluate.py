"""Commands that measure predictions: evaluate, compare, agreement, quantify, report."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from mrigmm.cli.console import finish, progress_bar, studies_text
from mrigmm.cli.options import DataRoot, ManifestArg, Quiet, Split
from mrigmm.cli.tables import print_agreement, print_comparison, print_metrics


def evaluate(
    predictions: Annotated[Path, typer.Argument(metavar="OUT", help="Folder that predict wrote.")],
    manifest: ManifestArg,
    split: Split = "test",
    data_root: DataRoot = None,
    out: Annotated[Path | None, typer.Option("-o", "--out", help="Default: OUT/metrics.json.")] = None,
    minimum_ml: Annotated[
        float, typer.Option(help="Volume from which on a lesion counts as found. Default: any voxel.")
    ] = 0.0,
    quiet: Quiet = False,
) -> None:
    """Overlap, boundary distances, volumes and calibration against the reference labels."""
    from mrigmm.jobs.evaluate import evaluate as job

    result = job(
        predictions,
        manifest,
        split=split,
        data_root=data_root,
        out=out,
        minimum_ml=minimum_ml,
        track=progress_bar(quiet),
    )
    print_metrics({predictions.resolve().name: result})
    finish(result, f"metrics: {result.output}", quiet)


def compare(
    first: Annotated[Path, typer.Argument(metavar="OUT_A", help="Folder that predict wrote.")],
    second: Annotated[Path, typer.Argument(metavar="OUT_B", help="Another one.")],
    manifest: ManifestArg,
    split: Split = "test",
    data_root: DataRoot = None,
    out: Annotated[
        Path | None, typer.Option("-o", "--out", help="Folder to write to. Default: OUT_A.")
    ] = None,
    quiet: Quiet = False,
) -> None:
    """Compare two folders of predictions by their scores, with paired tests."""
    from mrigmm.jobs.compare import compare as job

    result = job(
        first, second, manifest, split=split, data_root=data_root, out=out, track=progress_bar(quiet)
    )
    print_comparison(result)
    finish(result, f"compared {studies_text(len(result.done))}; comparison: {result.output}", quiet)


def agreement(
    folders: Annotated[list[Path], typer.Argument(metavar="OUT_A OUT_B ...", help="Folders of predict.")],
    out: Annotated[Path, typer.Option("-o", "--out", help="Folder for maps and numbers.")],
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace results in the folder.")] = False,
    quiet: Quiet = False,
) -> None:
    """How far methods, or seeds, agree with each other; no reference is needed."""
    from mrigmm.jobs.agreement import agreement as job

    result = job(folders, out, overwrite=overwrite, track=progress_bar(quiet))
    print_agreement(result)
    finish(result, f"compared {studies_text(len(result.done))}; agreement: {result.output}", quiet)


def quantify(
    predictions: Annotated[Path, typer.Argument(metavar="OUT", help="Folder that predict wrote.")],
    manifest: Annotated[
        Path | None, typer.Option(help="Cohort with reference labels to compare with.")
    ] = None,
    data_root: DataRoot = None,
    member: Annotated[
        list[Path] | None,
        typer.Option(help="Another prediction of the same studies, for the predictive distribution."),
    ] = None,
    rv_insertion: Annotated[
        Path | None,
        typer.Option(help="CSV of study, x_mm, y_mm, z_mm: anterior insertion of the right ventricle."),
    ] = None,
    base: Annotated[
        str | None, typer.Option(metavar="first|last", help="Which slice of the files is the basal one.")
    ] = None,
    quiet: Quiet = False,
) -> None:
    """Volumes, masses, transmurality and AHA segments of label maps (docs/quantities.md)."""
    from mrigmm.jobs.quantify import quantify as job

    result = job(
        predictions,
        manifest=manifest,
        data_root=data_root,
        members=member or (),
        rv_insertion=rv_insertion,
        base=base,
        track=progress_bar(quiet),
    )
    finish(result, f"measured {studies_text(len(result.done))}: {result.output}", quiet)


def report(
    predictions: Annotated[Path, typer.Argument(metavar="OUT", help="Folder that predict wrote.")],
    out: Annotated[Path | None, typer.Option("-o", "--out", help="Default: OUT/report.html.")] = None,
    beside: Annotated[
        list[Path] | None, typer.Option(help="Another evaluated folder to compare with.")
    ] = None,
    interactive: Annotated[
        bool, typer.Option("--interactive", help="Put the volumes and a viewer into the page.")
    ] = False,
    quiet: Quiet = False,
) -> None:
    """Write one HTML page: cohort table, agreement, slices, mixtures (docs/report.md)."""
    from mrigmm.jobs.report import report as job

    result = job(
        predictions, out=out, beside=beside or (), interactive=interactive, track=progress_bar(quiet)
    )
    finish(result, f"report: {result.output}", quiet)
