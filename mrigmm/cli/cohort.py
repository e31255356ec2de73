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
    MESSAGES,
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
    option,
)
from mrigmm.cli.tables import print_metrics, print_problem_table
from mrigmm.errors import InputError, grouped


def demo(
    out: Annotated[Path, option(OUTPUT, "New folder for everything.", "-o", "--out")] = Path("mrigmm_demo"),
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
    out: Annotated[Path, option(OUTPUT, "New folder for the cohort.", "-o", "--out")],
    studies: Annotated[int, option(METHOD, "Number of studies.", min=1)],
    seed: Annotated[int, option(METHOD, "Seed of everything random.", min=0)],
    preset: Annotated[
        str, option(METHOD, "Kind of cohort (docs/phantom.md).", complete=complete_cohorts)
    ] = "cohort",
    region: Annotated[RegionKind, option(OUTPUT, "Region maps to write.")] = RegionKind.lv,
    anatomy: Annotated[
        tuple[str, Path] | None,
        option(INPUT, "Real contours and bSSFP, simulated LGE and T2.", metavar="sunnybrook DIR"),
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
            help="Layout: myops, emidec, mscmr, myosaiq, acdc, sunnybrook, nnunet, bids, files, any, dicom.",
            autocompletion=complete_kinds,
        ),
    ],
    src: Annotated[Path, typer.Argument(help="Folder of the unzipped data.")],
    out: Annotated[Path, option(OUTPUT, "JSON file to write.", "-o", "--out", metavar="MANIFEST")],
    region: Annotated[
        str | None,
        option(INPUT, "Region maps, for example 'regions/{id}.nii.gz' (not dicom).", metavar="PATTERN"),
    ] = None,
    region_from_labels: Annotated[
        RegionKind | None, option(INPUT, "Derive the region maps from the reference labels (not dicom).")
    ] = None,
    split: Annotated[
        str | None,
        option(
            OUTPUT, "NAME, ratio=0.7/0.1/0.2, folds=N or lists.json (not dicom). Default: the layout's own."
        ),
    ] = None,
    seed: Annotated[int, option(OUTPUT, "Seed of ratio and folds.", min=0)] = 0,
    image: Annotated[
        list[str] | None,
        option(
            INPUT,
            "files, any: images, LGE='*/{id}_lge.nii.gz'. Twice for a name: the first that fits.",
            metavar="NAME=PATTERN",
        ),
    ] = None,
    label: Annotated[str | None, option(INPUT, "files: reference labels.", metavar="PATTERN")] = None,
    labels: Annotated[
        str | None,
        option(
            INPUT,
            "Label ids: myops, emidec, ..., or blood=1,scar=3+4.",
            metavar="SCHEME",
            complete=complete_schemes,
        ),
    ] = None,
    rename: Annotated[
        list[str] | None,
        option(INPUT, "nnunet, bids: name of a sequence or class there and here.", metavar="OLD=NEW"),
    ] = None,
    map_file: Annotated[
        Path | None, option(INPUT, "dicom: which series is which, the corrected map of a first run.", "--map")
    ] = None,
    pseudonyms: Annotated[
        bool, option(INPUT, "dicom: number the studies instead of using the PatientID.", "--pseudonyms")
    ] = False,
    overwrite: Annotated[bool, option(OUTPUT, "Replace what is there (not dicom).", "--overwrite")] = False,
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
        from mrigmm.jobs.manifest import manifest_dicom

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
    num_workers: Annotated[int, option(HARDWARE, "Processes that read studies at the same time.", min=0)] = 0,
    anonymous: Annotated[
        bool, option(MESSAGES, "JSON for a bug report: headers and problems, without names.")
    ] = False,
    as_json: Json = False,
    quiet: Quiet = False,
    verbose: Verbose = False,
) -> None:
    """List every problem of every study. Exit code 1 when there is an error.

    Examples:
        mrigmm check cohort/manifest.json
        mrigmm check cohort/manifest.json --json --num-workers 4
        mrigmm check cohort/manifest.json --anonymous
    """
    from mrigmm.jobs.anonymous import anonymous_report
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
    if anonymous:
        print_json(anonymous_report(Path(manifest), result.problems, data_root))
    elif as_json:
        print_json(content(result))
    else:
        if result.problems:
            print_problem_table(result.problems if verbose else grouped(result.problems))
        out_console.print(f"{studies_text(len(result.done))} without errors", highlight=False)
    if result.failed:
        raise typer.Exit(EXIT_PROBLEMS)
