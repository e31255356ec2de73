"""The command line: one command per job. Parses, calls, prints; holds no logic.

Exit codes: 0 done; 1 `check` found errors; 2 bad input (some or all studies could not be processed), a full
disk, too little memory; 70 an error that nobody foresaw; 130 interrupted (Ctrl-C); 143 ended by SIGTERM.
"""

from __future__ import annotations

import io
import json
import signal
import sys
import traceback
from collections.abc import Iterable, Sequence
from dataclasses import replace
from enum import StrEnum
from importlib.metadata import version
from math import isnan
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from rich.markup import escape
from rich.progress import track as rich_track
from rich.table import Table

from mrigmm.errors import InputError, Problem, memory_checked, printable

if TYPE_CHECKING:
    from mrigmm.jobs.agreement import Agreement
    from mrigmm.jobs.common import Outcome
    from mrigmm.jobs.compare import Compared
    from mrigmm.jobs.evaluate import Evaluation

EXIT_PROBLEMS, EXIT_BAD_INPUT, EXIT_UNEXPECTED, EXIT_INTERRUPTED, EXIT_TERMINATED = 1, 2, 70, 130, 143

app = typer.Typer(
    help="Infarct and edema maps from cardiac MR without pixel labels. "
    "Research software, not for clinical use.",
    no_args_is_help=True,
    add_completion=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)
# No emoji codes: they are parts of file names here.
out_console = Console(soft_wrap=True, emoji=False)
err_console = Console(stderr=True, soft_wrap=True, emoji=False)

ManifestArg = Annotated[Path, typer.Argument(help="Manifest of the cohort (JSON, see docs/data.md).")]
DataRoot = Annotated[
    Path | None, typer.Option(help="Folder that the manifest's paths resolve against. Default: its own.")
]
PriorFile = Annotated[
    Path | None, typer.Option("--prior", help="Population prior (JSON). Default: the shipped one.")
]
Device = Annotated[str, typer.Option(help="auto, cpu, cuda or cuda:N.")]
Quiet = Annotated[bool, typer.Option("--quiet", help="No progress bars, no notes.")]
Split = Annotated[str, typer.Option(help="training, validation, test or all.")]
AnatomyFolder = Annotated[
    Path | None,
    typer.Option(
        "--anatomy",
        metavar="RUN",
        help="Run of train-anatomy, for studies without a region map.",
    ),
]
Register = Annotated[
    bool, typer.Option("--register", help="Register the sequences to the reference sequence first.")
]
BiasCorrect = Annotated[
    bool, typer.Option("--bias-correct", help="Remove the bias field of every sequence first.")
]
Overrides = Annotated[list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="Change a setting.")]


class RegionKind(StrEnum):
    """Region maps that `simulate` can write."""

    lv = "lv"
    cavity_wall = "cavity-wall"


class Runtime(StrEnum):
    """What can compute the network of a run."""

    torch = "torch"
    onnx = "onnx"


class ExportFormat(StrEnum):
    """Files that `export` can write."""

    onnx = "onnx"
    bundle = "bundle"
    nifti = "nifti"
    bids = "bids"
    myops_submission = "myops-submission"
    dicom_seg = "dicom-seg"


def _print_version(asked: bool) -> None:
    if asked:
        out_console.print(f"mrigmm {version('mrigmm')}", highlight=False)
        raise typer.Exit


@app.callback()
def options(
    _version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    """Options before any command; the help text is that of `app`."""


@app.command()
def demo(
    out: Annotated[Path, typer.Option("-o", "--out", help="New folder for everything.")] = Path(
        "mrigmm_demo"
    ),
    quiet: Quiet = False,
) -> None:
    """Simulate a cohort, train, predict, evaluate beside EM-GMM and write a report."""
    from mrigmm.jobs.demo import demo as job

    result = job(out, progress=not quiet, track=_track(quiet))
    _print_metrics(result.evaluations)
    for what, path in (
        ("cohort", result.manifest),
        ("trained run", result.run),
        ("label maps and metrics", result.folder / "predictions"),
        ("report", result.report),
        ("report of a study without a region map", result.without_region),
    ):
        out_console.print(f"{what}: {path}", markup=False, highlight=False)


@app.command()
def simulate(
    out: Annotated[Path, typer.Option("-o", "--out", help="New folder for the cohort.")],
    studies: Annotated[int, typer.Option(min=1, help="Number of studies.")],
    seed: Annotated[int, typer.Option(min=0, help="Seed of everything random.")],
    preset: Annotated[str, typer.Option(help="Kind of cohort (docs/phantom.md).")] = "cohort",
    region: Annotated[RegionKind, typer.Option(help="Region maps to write.")] = RegionKind.lv,
    anatomy: Annotated[
        tuple[str, Path] | None,
        typer.Option(metavar="sunnybrook DIR", help="Real contours and bSSFP, simulated LGE and T2."),
    ] = None,
    quiet: Quiet = False,
) -> None:
    """Simulate a cohort: NIfTI studies, region maps, reference labels and manifest.json."""
    from mrigmm.jobs.simulate import simulate as job

    if anatomy is not None and anatomy[0] != "sunnybrook":
        raise InputError(f"unknown anatomy '{anatomy[0]}'", remedy="--anatomy sunnybrook DIR")
    result = job(
        out,
        studies=studies,
        seed=seed,
        preset=preset,
        region=region.value,
        anatomy=None if anatomy is None else anatomy[1],
        track=_track(quiet),
    )
    out_console.print(f"manifest: {result.output}", markup=False, highlight=False)


@app.command()
def manifest(
    kind: Annotated[
        str,
        typer.Argument(
            help="Layout: myops, emidec, mscmr, myosaiq, acdc, sunnybrook, nnunet, bids, files, dicom."
        ),
    ],
    src: Annotated[Path, typer.Argument(help="Folder of the unzipped data.")],
    out: Annotated[Path, typer.Option("-o", "--out", metavar="MANIFEST", help="JSON file to write.")],
    region: Annotated[
        str | None, typer.Option(metavar="PATTERN", help="Region maps, for example 'regions/{id}.nii.gz'.")
    ] = None,
    region_from_labels: Annotated[
        RegionKind | None, typer.Option(help="Derive the region maps from the reference labels.")
    ] = None,
    split: Annotated[
        str | None,
        typer.Option(help="NAME, ratio=0.7/0.1/0.2, folds=N or lists.json. Default: the layout's own."),
    ] = None,
    seed: Annotated[int, typer.Option(min=0, help="Seed of ratio and folds.")] = 0,
    image: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME=PATTERN", help="files: images, for example LGE='*/{id}_lge.nii.gz'."),
    ] = None,
    label: Annotated[str | None, typer.Option(metavar="PATTERN", help="files: reference labels.")] = None,
    labels: Annotated[
        str | None,
        typer.Option(metavar="SCHEME", help="Label ids: myops, emidec, ..., or blood=1,scar=3+4."),
    ] = None,
    rename: Annotated[
        list[str] | None,
        typer.Option(metavar="OLD=NEW", help="nnunet, bids: name of a sequence or class there and here."),
    ] = None,
    map_file: Annotated[
        Path | None,
        typer.Option("--map", help="dicom: which series is which, the corrected map of a first run."),
    ] = None,
    pseudonyms: Annotated[
        bool, typer.Option("--pseudonyms", help="dicom: number the studies instead of using the PatientID.")
    ] = False,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace the manifest.")] = False,
    quiet: Quiet = False,
) -> None:
    """Write the manifest of a downloaded data set, or of files with names of your own."""
    from mrigmm.jobs.manifest import manifest as job

    if kind == "dicom":
        others = (region, region_from_labels, split, image, label, labels, rename, overwrite or None)
        if any(option is not None for option in others):
            raise InputError("manifest dicom takes --map and --pseudonyms only", remedy="see docs/dicom.md")
        from mrigmm.jobs.dicom import manifest_dicom  # needs an extra that the others do not

        made = manifest_dicom(src, out, map_file=map_file, pseudonyms=pseudonyms, track=_track(quiet))
        _finish(made, f"wrote {_studies(len(made.done))}; manifest: {made.output}", quiet)
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
        images=_named(image or [], "--image", "NAME=PATTERN", "LGE={id}_lge.nii.gz"),
        label=label,
        labels=labels,
        rename=_named(rename or [], "--rename", "OLD=NEW", "PSIR=LGE"),
        overwrite=overwrite,
        track=_track(quiet),
    )
    text = "\n".join(
        [f"manifest: {path}" for path in result.manifests] + [f"prior: {path}" for path in result.priors]
    )
    if result.data_root is not None:
        text += f"\nuse it with --data-root {result.data_root}"
    _finish(result, f"{_studies(len(result.done))}\n{text}", quiet)


@app.command()
def check(
    manifest: ManifestArg,
    data_root: DataRoot = None,
    prior: PriorFile = None,
    anatomy: AnatomyFolder = None,
    num_workers: Annotated[
        int, typer.Option(min=0, help="Processes that read studies at the same time.")
    ] = 0,
    as_json: Annotated[bool, typer.Option("--json", help="As JSON.")] = False,
    quiet: Quiet = False,
) -> None:
    """List every problem of every study. Exit code 1 when there is an error."""
    from mrigmm.jobs.check import as_json as content
    from mrigmm.jobs.check import check as job

    result = job(
        manifest,
        data_root=data_root,
        prior=prior,
        anatomy=anatomy,
        num_workers=num_workers,
        track=_track(quiet),
    )
    if as_json:
        sys.stdout.write(json.dumps(content(result), indent=1) + "\n")
    else:
        if result.problems:
            _print_problem_table(result.problems)
        out_console.print(f"{_studies(len(result.done))} without errors", highlight=False)
    if result.failed:
        raise typer.Exit(EXIT_PROBLEMS)


@app.command()
def train(
    manifest: ManifestArg,
    out: Annotated[Path, typer.Option("-o", "--out", metavar="RUN", help="Run folder to write.")],
    preset: Annotated[str | None, typer.Option(help="Preset (mrigmm info). Default: default.")] = None,
    overrides: Overrides = None,
    also: Annotated[
        list[Path] | None,
        typer.Option(metavar="MANIFEST", help="Another manifest whose training split is used too."),
    ] = None,
    data_root: DataRoot = None,
    prior: PriorFile = None,
    anatomy: AnatomyFolder = None,
    device: Annotated[
        str | None, typer.Option(help="One device: auto, cpu, cuda or cuda:N. Default: auto.")
    ] = None,
    accelerator: Annotated[
        str | None, typer.Option(help="For several devices instead: auto, cpu or gpu.")
    ] = None,
    devices: Annotated[
        str | None, typer.Option(help="Devices per node: a number, auto, or indices of GPUs such as 0,2.")
    ] = None,
    num_nodes: Annotated[int | None, typer.Option(help="Number of nodes (computers).")] = None,
    precision: Annotated[str, typer.Option(help="32-true, bf16-mixed or 16-mixed.")] = "32-true",
    cache: Annotated[str, typer.Option(help="Where prepared studies are kept: memory or disk.")] = "memory",
    num_workers: Annotated[int, typer.Option(help="With --cache disk: processes that load slices.")] = 0,
    tensorboard: Annotated[
        bool, typer.Option("--tensorboard", help="Write TensorBoard's event files too.")
    ] = False,
    register: Register = False,
    bias_correct: BiasCorrect = False,
    resume: Annotated[bool, typer.Option("--resume", help="Continue from the last completed epoch.")] = False,
    quiet: Quiet = False,
) -> None:
    """Train a deep GMM on the training split. Reference labels are not read."""
    from mrigmm.jobs.train import train as job

    try:
        result = job(
            manifest,
            out,
            also=also or (),
            preset=preset,
            overrides=overrides or (),
            data_root=data_root,
            prior=prior,
            anatomy=anatomy,
            device=device,
            accelerator=accelerator,
            devices=devices,
            num_nodes=num_nodes,
            precision=precision,
            cache=cache,  # type: ignore[arg-type]
            num_workers=num_workers,
            tensorboard=tensorboard,
            register=register,
            bias_correct=bias_correct,
            resume=resume,
            progress=not quiet,
            track=_track(quiet),
        )
    except KeyboardInterrupt:
        err_console.print("interrupted: the same command with --resume goes on from the last completed epoch")
        raise typer.Exit(EXIT_INTERRUPTED) from None
    _finish(result, f"trained on {_studies(len(result.done))}; run: {result.output}", quiet)


@app.command("train-anatomy")
def train_anatomy(
    manifest: ManifestArg,
    out: Annotated[Path, typer.Option("-o", "--out", metavar="RUN", help="Run folder to write.")],
    labelled: Annotated[
        int | None, typer.Option(help="Patients whose anatomy is used. Default: all that have one.")
    ] = None,
    overrides: Overrides = None,
    data_root: DataRoot = None,
    device: Device = "auto",
    resume: Annotated[bool, typer.Option("--resume", help="Continue from the last completed epoch.")] = False,
    quiet: Quiet = False,
) -> None:
    """Train the anatomy stage: cavity and wall from few labelled and many unlabelled studies."""
    from mrigmm.jobs.train_anatomy import train_anatomy as job

    try:
        result = job(
            manifest,
            out,
            labelled=labelled,
            overrides=overrides or (),
            data_root=data_root,
            device=device,
            resume=resume,
            progress=not quiet,
            track=_track(quiet),
        )
    except KeyboardInterrupt:
        err_console.print("interrupted: the same command with --resume goes on from the last completed epoch")
        raise typer.Exit(EXIT_INTERRUPTED) from None
    _finish(result, f"trained on {_studies(len(result.done))}; anatomy run: {result.output}", quiet)


@app.command()
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
                manifest, out, split=split, data_root=data_root, resume=resume, track=_track(quiet), **options
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
            _named_files(image or []),
            region,
            out,
            study_id=study_id,
            frames=_frames(frame or []),
            scribbles=scribbles,
            **options,
        )
    _finish(result, f"segmented {_studies(len(result.done))}; label maps: {result.output}", quiet)


@app.command()
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
    _finish(result, f"segments: {result.output}", quiet)


@app.command()
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
        track=_track(quiet),
    )
    _print_metrics({predictions.resolve().name: result})
    _finish(result, f"metrics: {result.output}", quiet)


@app.command()
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

    result = job(first, second, manifest, split=split, data_root=data_root, out=out, track=_track(quiet))
    _print_comparison(result)
    _finish(result, f"compared {_studies(len(result.done))}; comparison: {result.output}", quiet)


@app.command()
def agreement(
    folders: Annotated[list[Path], typer.Argument(metavar="OUT_A OUT_B ...", help="Folders of predict.")],
    out: Annotated[Path, typer.Option("-o", "--out", help="Folder for maps and numbers.")],
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace results in the folder.")] = False,
    quiet: Quiet = False,
) -> None:
    """How far methods, or seeds, agree with each other; no reference is needed."""
    from mrigmm.jobs.agreement import agreement as job

    result = job(folders, out, overwrite=overwrite, track=_track(quiet))
    _print_agreement(result)
    _finish(result, f"compared {_studies(len(result.done))}; agreement: {result.output}", quiet)


@app.command()
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
        track=_track(quiet),
    )
    _finish(result, f"measured {_studies(len(result.done))}: {result.output}", quiet)


@app.command()
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

    result = job(predictions, out=out, beside=beside or (), interactive=interactive, track=_track(quiet))
    _finish(result, f"report: {result.output}", quiet)


@app.command()
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
        track=_track(quiet),
    )
    count = f" {_studies(len(result.done))}" if result.done else ""
    _finish(result, f"exported{count}: {result.output}", quiet)


@app.command()
def prior(
    manifest: ManifestArg,
    out: Annotated[Path, typer.Option("-o", "--out", help="JSON file to write.")],
    split: Split = "training",
    standardise: Annotated[
        str,
        typer.Option(help="Units: region (z-scores) or percentile (train --set standardise=percentile)."),
    ] = "region",
    data_root: DataRoot = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace the file.")] = False,
    quiet: Quiet = False,
) -> None:
    """Estimate a population prior from labelled studies."""
    from mrigmm.jobs.prior import prior as job

    result = job(
        manifest,
        out,
        split=split,
        standardise=standardise,
        data_root=data_root,
        overwrite=overwrite,
        track=_track(quiet),
    )
    _finish(result, f"prior of {_studies(len(result.done))}: {result.output}", quiet)


@app.command()
def info(as_json: Annotated[bool, typer.Option("--json", help="As JSON.")] = False) -> None:
    """Methods, presets, classes and versions."""
    from mrigmm.jobs.info import info as job

    content = job()
    if as_json:
        sys.stdout.write(json.dumps(content, indent=1) + "\n")
        return
    for title, values in content.items():
        if not isinstance(values, dict):
            continue
        table = Table(title=title.replace("_", " "), title_justify="left", show_header=False, box=None)
        for name, value in values.items():
            table.add_row(escape(name), escape(", ".join(value) if isinstance(value, list) else str(value)))
        out_console.print(table)


def main() -> None:
    """Run the command line; bad input ends in a message and an exit code, never in a traceback."""
    terminated: list[int] = []

    def end(number: int, _: object) -> None:
        """As Ctrl-C does: files that are half written go."""
        terminated.append(number)
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGTERM, end)
    try:
        _run()
    except SystemExit as stop:
        if terminated and stop.code == EXIT_INTERRUPTED:
            sys.exit(EXIT_TERMINATED)
        raise
    finally:
        signal.signal(signal.SIGTERM, before)


def _run() -> None:
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")  # file names need not be text of this terminal
    try:
        with memory_checked():
            app()
    except InputError as error:
        _print_problems(error.problems)
        sys.exit(EXIT_BAD_INPUT)
    except OSError as error:
        file = None if error.filename is None else str(error.filename)
        _print_problems([Problem("a file or folder cannot be used", file=file, got=error.strerror)])
        sys.exit(EXIT_BAD_INPUT)
    except KeyboardInterrupt:
        err_console.print("interrupted")
        sys.exit(EXIT_INTERRUPTED)
    except Exception as error:
        _print_problems([_unexpected(error)])
        sys.exit(EXIT_UNEXPECTED)


def _unexpected(error: Exception) -> Problem:
    """An error that nobody foresaw, with the place in this package that it comes from."""
    ours = [frame for frame in traceback.extract_tb(error.__traceback__) if "mrigmm" in frame.filename]
    where = f", at {Path(ours[-1].filename).name}:{ours[-1].lineno}" if ours else ""
    return Problem(
        "unexpected error",
        got=f"{type(error).__name__}: {error}{where}",
        remedy="where memory ran out, use smaller settings or another --device; else please report it",
    )


def _named_files(texts: Sequence[str]) -> dict[str, Path]:
    """`NAME=FILE` texts as a dictionary."""
    return {
        name: Path(file) for name, file in _named(texts, "--image", "NAME=FILE", "LGE=lge.nii.gz").items()
    }


def _named(texts: Sequence[str], option: str, form: str, example: str) -> dict[str, str]:
    """`NAME=VALUE` texts as a dictionary."""
    named: dict[str, str] = {}
    for text in texts:
        name, separator, value = text.partition("=")
        if not separator or not name or not value:
            raise InputError(f"{option} must be {form}", got=text, remedy=f"for example {option} {example}")
        if name in named:
            raise InputError(f"{option}: '{name}' is given twice")
        named[name] = value
    return named


def _frames(texts: Sequence[str]) -> dict[str, int]:
    """`NAME=N` texts as a dictionary."""
    frames = _named(texts, "--frame", "NAME=N", "bSSFP=0")
    for name, number in frames.items():
        if not number.isdecimal() or len(number) > 9:
            raise InputError("--frame must be NAME=N", got=f"{name}={number}", remedy="count from 0")
    return {name: int(number) for name, number in frames.items()}


def _track(quiet: bool) -> Any:
    def track(items: Iterable[Any], description: str) -> Iterable[Any]:
        if quiet:
            return items
        return rich_track(items, description, console=err_console, transient=True)

    return track


def _finish(result: Outcome, text: str, quiet: bool) -> None:
    """Print warnings, errors and the closing line; exit 2 when a study failed."""
    if not result.speaks:
        return
    if not quiet:
        for problem in result.problems:
            if problem.severity == "warning":
                about = "" if problem.study is None else f" ({problem.study})"
                err_console.print(printable(f"note{about}: {problem.what}"), style="yellow", markup=False)
    errors = [problem for problem in result.problems if problem.severity == "error"]
    _print_problems(errors)
    out_console.print(text, markup=False, highlight=False)
    if errors:
        failed = {problem.study for problem in errors} - {None, *result.done}
        if failed:
            err_console.print(f"{_studies(len(failed))} could not be processed", style="red", highlight=False)
        raise typer.Exit(EXIT_BAD_INPUT)


def _studies(count: int) -> str:
    return f"{count} {'study' if count == 1 else 'studies'}"


def _name(text: str) -> str:
    """A name from files, for a table."""
    return escape(printable(text))


def _print_problems(problems: Iterable[Problem]) -> None:
    for problem in problems:
        err_console.print(f"error: {problem}", style="red", markup=False, highlight=False)


def _print_problem_table(problems: Sequence[Problem]) -> None:
    table = Table(show_lines=True)
    for name in ("severity", "study", "problem"):
        table.add_column(name, overflow="fold")  # never cut a path
    for problem in problems:
        text = str(replace(problem, study=None))
        table.add_row(problem.severity, _name(problem.study or ""), escape(text))
    # Into a file or a pipe, lines may be as long as they like.
    out_console.print(table, width=None if out_console.is_terminal else 200)


def _print_metrics(evaluations: dict[str, Evaluation]) -> None:
    table = Table("class")
    for name in map(_name, evaluations):
        for column in ("Dice", "IoU", "studies", "HD95 mm"):
            table.add_column(f"{name}\n{column}", justify="right")
    for row in dict.fromkeys(name for evaluation in evaluations.values() for name in evaluation.summary):
        cells = []
        for evaluation in evaluations.values():
            if row not in evaluation.summary:
                cells += ["", "", "", ""]
                continue
            figures, estimates = evaluation.summary[row], evaluation.estimates[row]
            cells += [f"{figures.dice_mean:.3f}", f"{figures.iou_mean:.3f}", str(figures.n)]
            cells.append(f"{estimates['hd95_mm'].mean:.1f}")
        table.add_row(_name(row), *cells)
    out_console.print(table)


def _print_comparison(result: Compared) -> None:
    for metric, by_class in result.metrics.items():
        names = map(_name, result.names)
        table = Table(
            "class", *names, "difference", "p (Holm)", "studies", title=metric, title_justify="left"
        )
        for name, found in by_class.items():
            means = (f"{found.first_mean:.3f}", f"{found.second_mean:.3f}", f"{found.difference.mean:+.3f}")
            table.add_row(_name(name), *means, f"{found.p_holm:.3f}", str(found.difference.n))
        out_console.print(table)


def _print_agreement(result: Agreement) -> None:
    table = Table("class", "Dice of pairs", "95 % interval", "studies", "ICC of volumes")
    for name, found in result.summary.items():
        dice = found.dice
        interval = f"{dice.low:.3f} to {dice.high:.3f}"
        icc = "–" if isnan(found.volume_icc.value) else f"{found.volume_icc.value:.3f}"  # under 3 studies
        table.add_row(_name(name), f"{dice.mean:.3f}", interval, str(dice.n), icc)
    out_console.print(table)
