"""Commands that learn from a cohort: train, train-anatomy, pretrain, prior."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

from mrigmm.cli.completion import complete_units
from mrigmm.cli.console import Voice, resumable, studies_text
from mrigmm.cli.options import (
    HARDWARE,
    INPUT,
    METHOD,
    OUTPUT,
    DataRoot,
    Device,
    ManifestArg,
    Overrides,
    Overwrite,
    Quiet,
    ResumeTraining,
    Split,
    Verbose,
    option,
    takes,
)
from mrigmm.jobs.options import TrainOptions

_GOES_ON = "with --resume goes on from the last completed epoch"
RunToWrite = Annotated[Path, option(OUTPUT, "Run folder to write.", "-o", "--out", metavar="RUN")]


@takes(TrainOptions)
def train(
    manifest: ManifestArg, out: RunToWrite, *, quiet: Quiet = False, verbose: Verbose = False, **options: Any
) -> None:
    """Adapt the pretrained networks to the training split; or on labels; or a deep GMM.

    Examples:
        mrigmm train cohort/manifest.json -o run
        mrigmm train cohort/manifest.json -o run --labels
        mrigmm train cohort/manifest.json -o run --labels --folds 5
        mrigmm train cohort/manifest.json -o run --preset tiny
        mrigmm train cohort/manifest.json -o run --set epochs=50 --set filters=32
        mrigmm train cohort/manifest.json -o run --resume
    """
    from mrigmm.jobs.train import train as job

    voice = Voice(quiet, verbose)
    of_networks = options["labels"] or options["from_run"] is not None
    with resumable("starts anew" if of_networks else _GOES_ON):
        result = job(manifest, out, track=voice.track, tell=voice.tell, **options)
    voice.finish(result, f"trained on {studies_text(len(result.done))}; run: {result.output}")


def train_anatomy(
    manifest: ManifestArg,
    out: RunToWrite,
    labelled: Annotated[
        int | None, option(METHOD, "Patients whose anatomy is used. Default: all that have one.")
    ] = None,
    overrides: Overrides = None,
    data_root: DataRoot = None,
    device: Device = "auto",
    resume: ResumeTraining = False,
    quiet: Quiet = False,
    verbose: Verbose = False,
) -> None:
    """Train the anatomy stage: cavity and wall from few labelled and many unlabelled studies.

    Examples:
        mrigmm train-anatomy cohort/manifest.json -o anatomy --labelled 5
        mrigmm predict cohort/manifest.json -o predictions --run run --anatomy anatomy
    """
    from mrigmm.jobs.train_anatomy import train_anatomy as job

    voice = Voice(quiet, verbose)
    with resumable(_GOES_ON):
        result = job(
            manifest,
            out,
            labelled=labelled,
            overrides=overrides or (),
            data_root=data_root,
            device=device,
            resume=resume,
            track=voice.track,
            tell=voice.tell,
        )
    of_which = f", {len(result.labelled)} of them with their anatomy"
    text = f"trained on {studies_text(len(result.done))}{of_which}; anatomy run: {result.output}"
    voice.finish(result, text)


def pretrain(
    out: Annotated[Path, option(OUTPUT, "Folder of the networks.", "-o", "--out")],
    config: Annotated[Path | None, option(METHOD, "Configuration (YAML).")] = None,
    backgrounds: Annotated[
        Path | None,
        option(INPUT, "Real slices: images/ and endocardium/. Default: those shipped.", metavar="DIR"),
    ] = None,
    overrides: Overrides = None,
    device: Device = "auto",
    workers: Annotated[int, option(HARDWARE, "Processes that draw slices.", min=0)] = 1,
    quiet: Quiet = False,
    verbose: Verbose = False,
) -> None:
    """Train networks on simulated slices; an interrupted training is gone on with.

    Examples:
        mrigmm pretrain -o networks
        mrigmm pretrain -o networks --set steps=2000 --set seeds=[3]
    """
    from mrigmm.jobs.pretrain import pretrain as job

    voice = Voice(quiet, verbose)
    with resumable("goes on from the last checkpoint"):
        result = job(
            out,
            config=config,
            backgrounds=backgrounds,
            overrides=overrides or [],
            device=device,
            workers=workers,
            track=voice.track,
        )
    voice.finish(result, f"trained {', '.join(result.networks)}: {result.output}")


def prior(
    manifest: ManifestArg,
    out: Annotated[Path, option(OUTPUT, "JSON file to write.", "-o", "--out")],
    split: Split = "training",
    standardise: Annotated[
        str,
        option(
            METHOD,
            "Units: region (z-scores) or percentile (train --set standardise=percentile).",
            complete=complete_units,
        ),
    ] = "region",
    data_root: DataRoot = None,
    overwrite: Overwrite = False,
    quiet: Quiet = False,
    verbose: Verbose = False,
) -> None:
    """Estimate a population prior from labelled studies.

    Examples:
        mrigmm prior cohort/manifest.json -o prior.json
        mrigmm predict cohort/manifest.json -o own --method map-em --prior prior.json
    """
    from mrigmm.jobs.prior import prior as job

    voice = Voice(quiet, verbose)
    result = job(
        manifest,
        out,
        split=split,
        standardise=standardise,
        data_root=data_root,
        overwrite=overwrite,
        track=voice.track,
    )
    voice.finish(result, f"prior of {studies_text(len(result.done))}: {result.output}")
