"""Options and arguments that several commands share, and how texts of the form NAME=VALUE are read."""

from __future__ import annotations

from collections.abc import Sequence
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from mrigmm.errors import InputError

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
    """Kinds of region maps."""

    lv = "lv"
    cavity_wall = "cavity-wall"


def named_files(texts: Sequence[str]) -> dict[str, Path]:
    """`NAME=FILE` texts as a dictionary."""
    return {name: Path(file) for name, file in named(texts, "--image", "NAME=FILE", "LGE=lge.nii.gz").items()}


def named(texts: Sequence[str], option: str, form: str, example: str) -> dict[str, str]:
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


def named_frames(texts: Sequence[str]) -> dict[str, int]:
    """`NAME=N` texts as a dictionary."""
    frames = named(texts, "--frame", "NAME=N", "bSSFP=0")
    for name, number in frames.items():
        if not number.isdecimal() or len(number) > 9:
            raise InputError("--frame must be NAME=N", got=f"{name}={number}", remedy="count from 0")
    return {name: int(number) for name, number in frames.items()}
