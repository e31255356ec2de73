"""Commands that measure predictions: evaluate, compare, agreement, quantify, measure, report."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from mrigmm.cli.completion import complete_bases, complete_schemes
from mrigmm.cli.console import Voice, studies_text
from mrigmm.cli.options import (
    INPUT,
    METHOD,
    OUTPUT,
    DataRoot,
    Json,
    ManifestArg,
    Overwrite,
    PredictionsArg,
    Quiet,
    Split,
    Verbose,
    named,
)
from mrigmm.cli.tables import print_agreement, print_comparison, print_metrics, print_quantities

if TYPE_CHECKING:
    from mrigmm.jobs.common import Outcome


RvInsertion = Annotated[
    Path | None,
    typer.Option(
        help="Anterior insertion of the right ventricle: CSV of study, x_mm, y_mm, z_mm (RAS), or "
        "points of 3D Slicer.",
        rich_help_panel=INPUT,
    ),
]
Base = Annotated[
    str | None,
    typer.Option(
        metavar="first|last",
        help="Which slice of the files is the basal one.",
        rich_help_panel=INPUT,
        autocompletion=complete_bases,
    ),
]

Redcap = Annotated[
    bool,
    typer.Option(
        "--redcap", help="Write a data dictionary and records for REDCap, too.", rich_help_panel=OUTPUT
    ),
]


def evaluate(
    predictions: PredictionsArg,
    manifest: ManifestArg,
    split: Split = "test",
    data_root: DataRoot = None,
    out: Annotated[
        Path | None,
        typer.Option("-o", "--out", help="Default: OUT/metrics.json.", rich_help_panel=OUTPUT),
    ] = None,
    minimum_ml: Annotated[
        float,
        typer.Option(
            help="Volume from which on a lesion counts as found. Default: any voxel.",
            rich_help_panel=METHOD,
        ),
    ] = 0.0,
    as_json: Json = False,
    quiet: Quiet = False,
    verbose: Verbose = False,
) -> None:
    """Overlap, boundary distances, volumes and calibration against the reference labels.

    Examples:
        mrigmm evaluate predictions/run cohort/manifest.json
        mrigmm evaluate predictions/run cohort/manifest.json --split all --json
    """
    from mrigmm.jobs.evaluate import evaluate as job

    voice = Voice(quiet, verbose)
    result = job(
        predictions,
        manifest,
        split=split,
        data_root=data_root,
        out=out,
        minimum_ml=minimum_ml,
        track=voice.track,
    )
    tables = {predictions.resolve().name: result}
    _conclude(voice, result, f"metrics: {result.output}", as_json, lambda: print_metrics(tables))


def compare(
    first: Annotated[Path, typer.Argument(metavar="OUT_A", help="Folder that predict wrote.")],
    second: Annotated[Path, typer.Argument(metavar="OUT_B", help="Another one.")],
    manifest: ManifestArg,
    split: Split = "test",
    data_root: DataRoot = None,
    out: Annotated[
        Path | None,
        typer.Option("-o", "--out", help="Folder to write to. Default: OUT_A.", rich_help_panel=OUTPUT),
    ] = None,
    as_json: Json = False,
    quiet: Quiet = False,
    verbose: Verbose = False,
) -> None:
    """Compare two folders of predictions by their scores, with paired tests.

    Examples:
        mrigmm compare predictions/run predictions/em-gmm cohort/manifest.json
    """
    from mrigmm.jobs.compare import compare as job

    voice = Voice(quiet, verbose)
    result = job(first, second, manifest, split=split, data_root=data_root, out=out, track=voice.track)
    text = f"compared {studies_text(len(result.done))}; comparison: {result.output}"
    _conclude(voice, result, text, as_json, lambda: print_comparison(result))


def agreement(
    folders: Annotated[list[Path], typer.Argument(metavar="OUT_A OUT_B ...", help="Folders of predict.")],
    out: Annotated[
        Path, typer.Option("-o", "--out", help="Folder for maps and numbers.", rich_help_panel=OUTPUT)
    ],
    overwrite: Overwrite = False,
    as_json: Json = False,
    quiet: Quiet = False,
    verbose: Verbose = False,
) -> None:
    """How far methods, or seeds, agree with each other; no reference is needed.

    Examples:
        mrigmm agreement predictions/run predictions/em-gmm -o agreement
    """
    from mrigmm.jobs.agreement import agreement as job

    voice = Voice(quiet, verbose)
    result = job(folders, out, overwrite=overwrite, track=voice.track)
    text = f"compared {studies_text(len(result.done))}; agreement: {result.output}"
    _conclude(voice, result, text, as_json, lambda: print_agreement(result))


def quantify(
    predictions: PredictionsArg,
    manifest: Annotated[
        Path | None,
        typer.Option(help="Cohort with reference labels to compare with.", rich_help_panel=INPUT),
    ] = None,
    data_root: DataRoot = None,
    member: Annotated[
        list[Path] | None,
        typer.Option(
            help="Another prediction of the same studies, for the predictive distribution.",
            rich_help_panel=INPUT,
        ),
    ] = None,
    rv_insertion: RvInsertion = None,
    base: Base = None,
    redcap: Redcap = False,
    as_json: Json = False,
    quiet: Quiet = False,
    verbose: Verbose = False,
) -> None:
    """Volumes, masses, transmurality and AHA segments of label maps (docs/quantities.md).

    Examples:
        mrigmm quantify predictions/run --manifest cohort/manifest.json
        mrigmm quantify predictions/run --base first --rv-insertion points.csv
    """
    from mrigmm.jobs.quantify import quantify as job

    voice = Voice(quiet, verbose)
    result = job(
        predictions,
        manifest=manifest,
        data_root=data_root,
        members=member or (),
        rv_insertion=rv_insertion,
        base=base,
        redcap=redcap,
        track=voice.track,
    )
    text = f"measured {studies_text(len(result.done))}: {result.output}"
    _conclude(voice, result, text, as_json, lambda: print_quantities(result))


def measure(
    masks: Annotated[Path, typer.Argument(help="Folder of NIfTI label maps, or one file.")],
    out: Annotated[
        Path, typer.Option("-o", "--out", help="Folder for numbers and report.", rich_help_panel=OUTPUT)
    ],
    labels: Annotated[
        str | None,
        typer.Option(
            metavar="SCHEME",
            help="Label ids: myops, emidec, ..., or '{blood: 1, scar: [3, 4]}'.",
            rich_help_panel=INPUT,
            autocompletion=complete_schemes,
        ),
    ] = None,
    image: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME=PATH",
            help="Images for the report, for example LGE='images/{id}_0000.nii.gz'.",
            rich_help_panel=INPUT,
        ),
    ] = None,
    pattern: Annotated[
        str | None,
        typer.Option(
            help="How the masks are named, for example '{patient}/{visit}/seg.nii.gz'.",
            rich_help_panel=INPUT,
        ),
    ] = None,
    rv_insertion: RvInsertion = None,
    base: Base = None,
    redcap: Redcap = False,
    overwrite: Overwrite = False,
    as_json: Json = False,
    quiet: Quiet = False,
    verbose: Verbose = False,
) -> None:
    """Measure label maps from anywhere, and write their report (docs/measure.md).

    Examples:
        mrigmm measure nnunet_out --labels emidec -o measured
        mrigmm measure masks --labels '{blood: 1, myocardium: 2, scar: 3}' -o out
    """
    from mrigmm.jobs.measure import measure as job

    voice = Voice(quiet, verbose)
    result = job(
        masks,
        out,
        labels=labels,
        images=named(image or (), "--image", "NAME=PATH", "LGE='images/{id}_0000.nii.gz'"),
        pattern=pattern,
        rv_insertion=rv_insertion,
        base=base,
        redcap=redcap,
        overwrite=overwrite,
        track=voice.track,
    )
    text = f"measured {studies_text(len(result.done))}: {result.output}; report: {out / 'report.html'}"
    _conclude(voice, result, text, as_json, lambda: print_quantities(result))


def report(
    predictions: PredictionsArg,
    out: Annotated[
        Path | None,
        typer.Option("-o", "--out", help="Default: OUT/report.html.", rich_help_panel=OUTPUT),
    ] = None,
    beside: Annotated[
        list[Path] | None,
        typer.Option(help="Another evaluated folder to compare with.", rich_help_panel=INPUT),
    ] = None,
    interactive: Annotated[
        bool,
        typer.Option(
            "--interactive", help="Put the volumes and a viewer into the page.", rich_help_panel=OUTPUT
        ),
    ] = False,
    quiet: Quiet = False,
    verbose: Verbose = False,
) -> None:
    """Write one HTML page: cohort table, agreement, slices, mixtures (docs/report.md).

    Examples:
        mrigmm report predictions/run --beside predictions/em-gmm
        mrigmm report predictions/run --interactive -o viewer.html
    """
    from mrigmm.jobs.report import report as job

    voice = Voice(quiet, verbose)
    result = job(predictions, out=out, beside=beside or (), interactive=interactive, track=voice.track)
    voice.finish(result, f"report: {result.output}")


def _conclude(
    voice: Voice, result: Outcome, text: str, as_json: bool, table: Callable[[], None] = lambda: None
) -> None:
    """The table and the closing line, or the file of figures that the job wrote."""
    from mrigmm.jobs.common import written

    if not as_json:
        table()
    voice.finish(result, text, as_json=written(result) if as_json else None)
