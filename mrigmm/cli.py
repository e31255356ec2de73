"""The command line: one command per job. Parses, calls, prints; holds no logic.

Exit codes: 0 done; 1 `check` found errors; 2 bad input (some or all studies could not be processed);
130 interrupted.
"""

from __future__ import annotations

import io
import json
import sys
from collections.abc import Iterable, Sequence
from dataclasses import replace
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from rich.markup import escape
from rich.progress import track as rich_track
from rich.table import Table

from mrigmm.errors import InputError, Problem

if TYPE_CHECKING:
    from mrigmm.jobs.common import Outcome
    from mrigmm.jobs.evaluate import Evaluation

EXIT_PROBLEMS, EXIT_BAD_INPUT, EXIT_INTERRUPTED = 1, 2, 130

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
def check(
    manifest: ManifestArg, data_root: DataRoot = None, prior: PriorFile = None, quiet: Quiet = False
) -> None:
    """List every problem of every study. Exit code 1 when there is an error."""
    from mrigmm.jobs.check import check as job

    result = job(manifest, data_root=data_root, prior=prior, track=_track(quiet))
    if result.problems:
        _print_problem_table(result.problems)
    out_console.print(f"{len(result.done)} studies without errors", highlight=False)
    if result.failed:
        raise typer.Exit(EXIT_PROBLEMS)


@app.command()
def train(
    manifest: ManifestArg,
    out: Annotated[Path, typer.Option("-o", "--out", metavar="RUN", help="Run folder to write.")],
    preset: Annotated[str | None, typer.Option(help="Preset (mrigmm info). Default: default.")] = None,
    overrides: Overrides = None,
    data_root: DataRoot = None,
    prior: PriorFile = None,
    device: Device = "auto",
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
            preset=preset,
            overrides=overrides or (),
            data_root=data_root,
            prior=prior,
            device=device,
            register=register,
            bias_correct=bias_correct,
            resume=resume,
            progress=not quiet,
            track=_track(quiet),
        )
    except KeyboardInterrupt:
        err_console.print("interrupted: the same command with --resume goes on from the last completed epoch")
        raise typer.Exit(EXIT_INTERRUPTED) from None
    _finish(result, f"trained on {len(result.done)} studies; run: {result.output}", quiet)


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
    split: Split = "test",
    data_root: DataRoot = None,
    prior: PriorFile = None,
    overrides: Overrides = None,
    device: Device = "auto",
    save_probabilities: Annotated[
        bool, typer.Option("--save-probabilities", help="Write <id>_probabilities.nii.gz too.")
    ] = False,
    register: Register = False,
    bias_correct: BiasCorrect = False,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace results in the folder.")] = False,
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
        "save_probabilities": save_probabilities,
        "register": register,
        "bias_correct": bias_correct,
        "overwrite": overwrite,
    }
    if (manifest is None) == (not image):
        raise InputError("give either a manifest or --image NAME=FILE (one per sequence)")
    if manifest is not None:
        if region is not None or study_id is not None:
            raise InputError("--region and --id belong to --image, not to a manifest")
        result = job(manifest, out, split=split, data_root=data_root, track=_track(quiet), **options)
    else:
        if region is None:
            raise InputError("a single study needs a region map", remedy="give it with --region FILE")
        if data_root is not None:
            raise InputError("--data-root belongs to a manifest, not to --image")
        result = study_job(_named_files(image or []), region, out, study_id=study_id, **options)
    _finish(result, f"segmented {len(result.done)} studies; label maps: {result.output}", quiet)


@app.command()
def evaluate(
    predictions: Annotated[Path, typer.Argument(metavar="OUT", help="Folder that predict wrote.")],
    manifest: ManifestArg,
    split: Split = "test",
    data_root: DataRoot = None,
    out: Annotated[Path | None, typer.Option("-o", "--out", help="Default: OUT/metrics.json.")] = None,
    quiet: Quiet = False,
) -> None:
    """Dice and IoU per class and nested region against the reference labels."""
    from mrigmm.jobs.evaluate import evaluate as job

    result = job(predictions, manifest, split=split, data_root=data_root, out=out, track=_track(quiet))
    _print_metrics({predictions.resolve().name: result})
    _finish(result, f"metrics: {result.output}", quiet)


@app.command()
def report(
    predictions: Annotated[Path, typer.Argument(metavar="OUT", help="Folder that predict wrote.")],
    out: Annotated[Path | None, typer.Option("-o", "--out", help="Default: OUT/report.html.")] = None,
    beside: Annotated[
        list[Path] | None, typer.Option(help="Another evaluated folder to compare with.")
    ] = None,
    quiet: Quiet = False,
) -> None:
    """Write one HTML page: agreement, volumes, overlays."""
    from mrigmm.jobs.report import report as job

    result = job(predictions, out=out, beside=beside or (), track=_track(quiet))
    _finish(result, f"report: {result.output}", quiet)


@app.command()
def prior(
    manifest: ManifestArg,
    out: Annotated[Path, typer.Option("-o", "--out", help="JSON file to write.")],
    split: Split = "training",
    data_root: DataRoot = None,
    quiet: Quiet = False,
) -> None:
    """Estimate a population prior from labelled studies."""
    from mrigmm.jobs.prior import prior as job

    result = job(manifest, out, split=split, data_root=data_root, track=_track(quiet))
    _finish(result, f"prior of {len(result.done)} studies: {result.output}", quiet)


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
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")  # file names need not be text of this terminal
    try:
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


def _named_files(texts: Sequence[str]) -> dict[str, Path]:
    """`NAME=FILE` texts as a dictionary."""
    files: dict[str, Path] = {}
    for text in texts:
        name, separator, file = text.partition("=")
        if not separator or not name or not file:
            raise InputError(
                "--image must be NAME=FILE", got=text, remedy="for example --image LGE=lge.nii.gz"
            )
        if name in files:
            raise InputError(f"the sequence '{name}' is given twice")
        files[name] = Path(file)
    return files


def _track(quiet: bool) -> Any:
    def track(items: Iterable[Any], description: str) -> Iterable[Any]:
        return rich_track(items, description, console=err_console, transient=True, disable=quiet)

    return track


def _finish(result: Outcome, text: str, quiet: bool) -> None:
    """Print warnings, errors and the closing line; exit 2 when a study failed."""
    if not quiet:
        for problem in result.problems:
            if problem.severity == "warning":
                err_console.print(f"note ({problem.study}): {problem.what}", style="yellow", markup=False)
    errors = [problem for problem in result.problems if problem.severity == "error"]
    _print_problems(errors)
    out_console.print(text, markup=False, highlight=False)
    if errors:
        failed = len({problem.study for problem in errors})
        err_console.print(f"{failed} studies could not be processed", style="red", highlight=False)
        raise typer.Exit(EXIT_BAD_INPUT)


def _print_problems(problems: Iterable[Problem]) -> None:
    for problem in problems:
        err_console.print(f"error: {problem}", style="red", markup=False, highlight=False)


def _print_problem_table(problems: Sequence[Problem]) -> None:
    table = Table(show_lines=True)
    for name in ("severity", "study", "problem"):
        table.add_column(name, overflow="fold")  # never cut a path
    for problem in problems:
        text = str(replace(problem, study=None))
        table.add_row(problem.severity, escape(problem.study or ""), escape(text))
    # Into a file or a pipe, lines may be as long as they like.
    out_console.print(table, width=None if out_console.is_terminal else 200)


def _print_metrics(evaluations: dict[str, Evaluation]) -> None:
    table = Table("class")
    for name in evaluations:
        for column in ("Dice", "IoU", "studies"):
            table.add_column(f"{name}\n{column}", justify="right")
    summaries = [evaluation.summary or {} for evaluation in evaluations.values()]
    for row in dict.fromkeys(name for summary in summaries for name in summary):
        cells = []
        for summary in summaries:
            figures = summary.get(row)
            cells += (
                ["", "", ""]
                if figures is None
                else [f"{figures.dice_mean:.3f}", f"{figures.iou_mean:.3f}", str(figures.n)]
            )
        table.add_row(escape(row), *cells)
    out_console.print(table)
