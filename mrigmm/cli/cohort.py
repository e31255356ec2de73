"""Commands that make or look at a cohort: demo, simulate, manifest, check."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from mrigmm.cli.completion import complete_cohorts, complete_kinds, complete_schemes
from mrigmm.cli.console import EXIT_PROBLEMS, Voice, out_console, print_json, studies_text
from mrigmm.cli.options import (
    HARDWARE,
    INPUT,
    METHOD,
    OUTPUT,
    AnatomyFolder,
    DataRoot,
    Json,
    ManifestArg,
    PriorFile,
    Quiet,
    RegionKind,
    Verbose,
    named,
    named_several,
)
from mrigmm.cli.tables import print_metrics, print_problem_table
from mrigmm.errors import InputError, grouped


def demo(
    out: Annotated[
        Path, typer.Option("-o", "--out", help="New folder for everything.", rich_help_panel=OUTPUT)
    ] = Path("mrigmm_demo"),
    quiet: Quiet = False,
    verbose: Verbose = False,
) -> None:
    """Simulate a cohort, segment its images alone, evaluate and write a report.

    Examples:
        mrigmm demo
        mrigmm demo -o first_look
    """
    from mrigmm.jobs.demo import demo as job

    result = job(out, track=Voice(quiet, verbose).track)
    print_metrics(result.evaluations)
    for what, path in (
        ("cohort", result.manifest),
        ("label maps and metrics", result.folder / "predictions"),
        ("report", result.report),
    ):
        out_console.print(f"{what}: {path}", markup=False, highlight=False)


def simulate(
    out: Annotated[
        Path, typer.Option("-o", "--out", help="New folder for the cohort.", rich_help_panel=OUTPUT)
    ],
    studies: Annotated[int, typer.Option(min=1, help="Number of studies.", rich_help_panel=METHOD)],
    seed: Annotated[int, typer.Option(min=0, help="Seed of everything random.", rich_help_panel=METHOD)],
    preset: Annotated[
        str,
        typer.Option(
            help="Kind of cohort (docs/phantom.md).", rich_help_panel=METHOD, autocompletion=complete_cohorts
        ),
    ] = "cohort",
    region: Annotated[
        RegionKind, typer.Option(help="Region maps to write.", rich_help_panel=OUTPUT)
    ] = RegionKind.lv,
    anatomy: Annotated[
        tuple[str, Path] | None,
        typer.Option(
            metavar="sunnybrook DIR",
            help="Real contours and bSSFP, simulated LGE and T2.",
            rich_help_panel=INPUT,
        ),
    ] = None,
    quiet: Quiet = False,
    verbose: Verbose = False,
) -> None:
    """Simulate a cohort: NIfTI studies, region maps, reference labels and manifest.json.

    Examples:
        mrigmm simulate -o cohort --studies 8 --seed 1 --preset small
        mrigmm simulate -o cohort --studies 25 --seed 1 --region cavity-wall
    """
    from mrigmm.jobs.simulate import simulate as job

    voice = Voice(quiet, verbose)
    if anatomy is not None and anatomy[0] != "sunnybrook":
        raise InputError(f"unknown anatomy '{anatomy[0]}'", remedy="--anatomy sunnybrook DIR")
    result = job(
        out,
        studies=studies,
        seed=seed,
        preset=preset,
        region=region.value,
        anatomy=None if anatomy is None else anatomy[1],
        track=voice.track,
    )
    out_console.print(f"manifest: {result.output}", markup=False, highlight=False)


def manifest(
    kind: Annotated[
        str,
        typer.Argument(
            help="Layout: myops, emidec, mscmr, myosaiq, acdc, sunnybrook, nnunet, bids, files, dicom.",
            autocompletion=complete_kinds,
        ),
    ],
    src: Annotated[Path, typer.Argument(help="Folder of the unzipped data.")],
    out: Annotated[
        Path,
        typer.Option("-o", "--out", metavar="MANIFEST", help="JSON file to write.", rich_help_panel=OUTPUT),
    ],
    region: Annotated[
        str | None,
        typer.Option(
            metavar="PATTERN",
            help="Region maps, for example 'regions/{id}.nii.gz' (not dicom).",
            rich_help_panel=INPUT,
        ),
    ] = None,
    region_from_labels: Annotated[
        RegionKind | None,
        typer.Option(
            help="Derive the region maps from the reference labels (not dicom).", rich_help_panel=INPUT
        ),
    ] = None,
    split: Annotated[
        str | None,
        typer.Option(
            help="NAME, ratio=0.7/0.1/0.2, folds=N or lists.json (not dicom). Default: the layout's own.",
            rich_help_panel=OUTPUT,
        ),
    ] = None,
    seed: Annotated[int, typer.Option(min=0, help="Seed of ratio and folds.", rich_help_panel=OUTPUT)] = 0,
    image: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME=PATTERN",
            help="files: images, for example LGE='*/{id}_lge.nii.gz'. Twice for a name: the first that fits.",
            rich_help_panel=INPUT,
        ),
    ] = None,
    label: Annotated[
        str | None,
        typer.Option(metavar="PATTERN", help="files: reference labels.", rich_help_panel=INPUT),
    ] = None,
    labels: Annotated[
        str | None,
        typer.Option(
            metavar="SCHEME",
            help="Label ids: myops, emidec, ..., or blood=1,scar=3+4.",
            rich_help_panel=INPUT,
            autocompletion=complete_schemes,
        ),
    ] = None,
    rename: Annotated[
        list[str] | None,
        typer.Option(
            metavar="OLD=NEW",
            help="nnunet, bids: name of a sequence or class there and here.",
            rich_help_panel=INPUT,
        ),
    ] = None,
    map_file: Annotated[
        Path | None,
        typer.Option(
            "--map",
            help="dicom: which series is which, the corrected map of a first run.",
            rich_help_panel=INPUT,
        ),
    ] = None,
    pseudonyms: Annotated[
        bool,
        typer.Option(
            "--pseudonyms",
            help="dicom: number the studies instead of using the PatientID.",
            rich_help_panel=INPUT,
        ),
    ] = False,
    overwrite: Annotated[
        bool,
        typer.Option("--overwrite", help="Replace what is there (not dicom).", rich_help_panel=OUTPUT),
    ] = False,
    quiet: Quiet = False,
    verbose: Verbose = False,
) -> None:
    """Write the manifest of a downloaded data set, or of files with names of your own.

    Examples:
        mrigmm manifest myops MyoPS2020 -o myops.json
        mrigmm manifest files data -o m.json --image LGE={id}_lge.nii.gz
        mrigmm manifest dicom export -o out/manifest.json
    """
    from mrigmm.jobs.manifest import manifest as job

    voice = Voice(quiet, verbose)
    if kind == "dicom":
        others = (region, region_from_labels, split, image, label, rename, overwrite or None)
        if any(option is not None for option in others):
            raise InputError(
                "manifest dicom takes --map, --pseudonyms and --labels only", remedy="see docs/dicom.md"
            )
        from mrigmm.jobs.manifest_dicom import manifest_dicom

        made = manifest_dicom(
            src, out, map_file=map_file, pseudonyms=pseudonyms, labels=labels, track=voice.track
        )
        voice.finish(made, f"wrote {studies_text(len(made.done))}; manifest: {made.output}")
        return
    if map_file is not None or pseudonyms:
        raise InputError(f"--map and --pseudonyms belong to DICOM, not to '{kind}'")
    result = job(
        kind,
        src,
        out,
        region=region,
        region_from_labels=None if region_from_labels is None else region_from_labels.value,
        split=split,
        seed=seed,
        images=named_several(image or [], "--image", "NAME=PATTERN", "LGE={id}_lge.nii.gz"),
        label=label,
        labels=labels,
        rename=named(rename or [], "--rename", "OLD=NEW", "PSIR=LGE"),
        overwrite=overwrite,
        track=voice.track,
    )
    text = "\n".join(
        [f"manifest: {path}" for path in result.manifests] + [f"prior: {path}" for path in result.priors]
    )
    if result.data_root is not None:
        text += f"\nuse it with --data-root {result.data_root}"
    voice.finish(result, f"{studies_text(len(result.done))}\n{text}")


def check(
    manifest: ManifestArg,
    data_root: DataRoot = None,
    prior: PriorFile = None,
    anatomy: AnatomyFolder = None,
    num_workers: Annotated[
        int,
        typer.Option(min=0, help="Processes that read studies at the same time.", rich_help_panel=HARDWARE),
    ] = 0,
    as_json: Json = False,
    quiet: Quiet = False,
    verbose: Verbose = False,
) -> None:
    """List every problem of every study. Exit code 1 when there is an error.

    Examples:
        mrigmm check cohort/manifest.json
        mrigmm check cohort/manifest.json --json --num-workers 4
    """
    from mrigmm.jobs.check import as_json as content
    from mrigmm.jobs.check import check as job

    result = job(
        manifest,
        data_root=data_root,
        prior=prior,
        anatomy=anatomy,
        num_workers=num_workers,
        track=Voice(quiet, verbose).track,
    )
    if as_json:
        print_json(content(result))
    else:
        if result.problems:
            print_problem_table(result.problems if verbose else grouped(result.problems))
        out_console.print(f"{studies_text(len(result.done))} without errors", highlight=False)
    if result.failed:
        raise typer.Exit(EXIT_PROBLEMS)
