"""Commands that learn from a cohort: train, train-anatomy, prior."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from mrigmm.cli.console import EXIT_INTERRUPTED, err_console, finish, progress_bar, studies_text
from mrigmm.cli.options import (
    AnatomyFolder,
    BiasCorrect,
    DataRoot,
    Device,
    ManifestArg,
    Overrides,
    PriorFile,
    Quiet,
    Register,
    Split,
)


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
            track=progress_bar(quiet),
        )
    except KeyboardInterrupt:
        err_console.print("interrupted: the same command with --resume goes on from the last completed epoch")
        raise typer.Exit(EXIT_INTERRUPTED) from None
    finish(result, f"trained on {studies_text(len(result.done))}; run: {result.output}", quiet)


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
            track=progress_bar(quiet),
        )
    except KeyboardInterrupt:
        err_console.print("interrupted: the same command with --resume goes on from the last completed epoch")
        raise typer.Exit(EXIT_INTERRUPTED) from None
    finish(result, f"trained on {studies_text(len(result.done))}; anatomy run: {result.output}", quiet)


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
        track=progress_bar(quiet),
    )
    finish(result, f"prior of {studies_text(len(result.done))}: {result.output}", quiet)
