"""Commands that measure predictions: evaluate, compare, agreement, quantify, measure, report."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
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
    option,
)
from mrigmm.cli.tables import print_comparison, print_metrics, print_quantities, print_tables

if TYPE_CHECKING:
    from mrigmm.jobs.common import Outcome


RvInsertion = Annotated[
    Path | None,
    option(
        INPUT,
        "Anterior insertion of the right ventricle: CSV of study, x_mm, y_mm, z_mm (RAS), or "
        "points of 3D Slicer.",
    ),
]
Base = Annotated[
    str | None,
    option(
        INPUT, "Which slice of the files is the basal one.", metavar="first|last", complete=complete_bases
    ),
]

Redcap = Annotated[bool, option(OUTPUT, "Write a data dictionary and records for REDCap, too.", "--redcap")]
ReaderLabels = Annotated[
    list[str] | None,
    option(
        INPUT,
        "Label ids of masks (measure --help): once for all, or once per folder of masks.",
        metavar="SCHEME",
        complete=complete_schemes,
    ),
]


def evaluate(
    predictions: PredictionsArg,
    manifest: ManifestArg,
    split: Split = "test",
    data_root: DataRoot = None,
    out: Annotated[Path | None, option(OUTPUT, "Default: OUT/metrics.json.", "-o", "--out")] = None,
    minimum_ml: Annotated[
        float, option(METHOD, "Volume from which on a lesion counts as found. Default: any voxel.")
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
    first: Annotated[Path, typer.Argument(metavar="A", help="Folder of predictions or masks.")],
    second: Annotated[Path, typer.Argument(metavar="B", help="Another one.")],
    others: Annotated[
        list[Path] | None,
        typer.Argument(
            metavar="[MANIFEST | C ...]", help="Cohort with reference labels; without it, further folders."
        ),
    ] = None,
    split: Split = "test",
    data_root: DataRoot = None,
    labels: ReaderLabels = None,
    out: Annotated[
        Path | None, option(OUTPUT, "Folder to write to. Default with a manifest: A.", "-o", "--out")
    ] = None,
    as_json: Json = False,
    quiet: Quiet = False,
    verbose: Verbose = False,
) -> None:
    """Compare folders by what they score (with a manifest) or as readers with each other.

    Examples:
        mrigmm compare predictions/run predictions/em-gmm cohort/manifest.json
        mrigmm compare reader_a reader_b --labels emidec -o comparison
    """
    from mrigmm.jobs.agreement_files import Agreement
    from mrigmm.jobs.compare import compare as job

    voice = Voice(quiet, verbose)
    last = others[-1] if others else None
    manifest = last if last is not None and last.suffix.lower() == ".json" else None
    result = job(
        first,
        second,
        manifest,
        others=[path for path in others or () if path is not manifest],
        split=split,
        data_root=data_root,
        labels=labels or (),
        out=out,
        track=voice.track,
    )
    text = f"compared {studies_text(len(result.done))}; comparison: {result.output}"
    if isinstance(result, Agreement):
        _conclude(voice, result, text, as_json, partial(print_tables, result.tables()))
    else:
        _conclude(voice, result, text, as_json, partial(print_comparison, result))


def agreement(
    folders: Annotated[
        list[Path], typer.Argument(metavar="A B ...", help="Folders of predictions or masks.")
    ],
    out: Annotated[Path, option(OUTPUT, "Folder for maps and numbers.", "-o", "--out")],
    labels: ReaderLabels = None,
    rv_insertion: RvInsertion = None,
    base: Base = None,
    overwrite: Overwrite = False,
    as_json: Json = False,
    quiet: Quiet = False,
    verbose: Verbose = False,
) -> None:
    """How far methods, seeds or people agree with each other; no reference is needed.

    Examples:
        mrigmm agreement predictions/run predictions/em-gmm -o agreement
        mrigmm agreement predictions/run reader_a --labels emidec -o agreement
    """
    from mrigmm.jobs.agreement import agreement as job

    voice = Voice(quiet, verbose)
    result = job(
        folders,
        out,
        labels=labels or (),
        rv_insertion=rv_insertion,
        base=base,
        overwrite=overwrite,
        track=voice.track,
    )
    text = f"compared {studies_text(len(result.done))}; agreement: {result.output}"
    _conclude(voice, result, text, as_json, partial(print_tables, result.tables()))


def quantify(
    predictions: PredictionsArg,
    manifest: Annotated[Path | None, option(INPUT, "Cohort with reference labels to compare with.")] = None,
    data_root: DataRoot = None,
    member: Annotated[
        list[Path] | None,
        option(INPUT, "Another prediction of the same studies, for the predictive distribution."),
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
    out: Annotated[Path, option(OUTPUT, "Folder for numbers and report.", "-o", "--out")],
    labels: Annotated[
        str | None,
        option(
            INPUT,
            "Label ids: myops, emidec, ..., or '{blood: 1, scar: [3, 4]}'.",
            metavar="SCHEME",
            complete=complete_schemes,
        ),
    ] = None,
    image: Annotated[
        list[str] | None,
        option(
            INPUT, "Images for the report, for example LGE='images/{id}_0000.nii.gz'.", metavar="NAME=PATH"
        ),
    ] = None,
    pattern: Annotated[
        str | None, option(INPUT, "How the masks are named, for example '{patient}/{visit}/seg.nii.gz'.")
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
    out: Annotated[Path | None, option(OUTPUT, "Default: OUT/report.html.", "-o", "--out")] = None,
    beside: Annotated[list[Path] | None, option(INPUT, "Another evaluated folder to compare with.")] = None,
    interactive: Annotated[
        bool, option(OUTPUT, "Put the volumes and a viewer into the page.", "--interactive")
    ] = False,
    pdf: Annotated[bool, option(OUTPUT, "Print it into a PDF file beside it, too.", "--pdf")] = False,
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
    result = job(
        predictions, out=out, beside=beside or (), interactive=interactive, pdf=pdf, track=voice.track
    )
    printed = f", {result.output.with_suffix('.pdf')}" if pdf else ""
    voice.finish(result, f"report: {result.output}{printed}")


def _conclude(
    voice: Voice, result: Outcome, text: str, as_json: bool, table: Callable[[], None] = lambda: None
) -> None:
    """The table and the closing line, or the file of figures that the job wrote."""
    from mrigmm.jobs.common import written

    if not as_json:
        table()
    voice.finish(result, text, as_json=written(result) if as_json else None)
