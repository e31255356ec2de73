"""Options and arguments that several commands share, their groups in the help, and texts NAME=VALUE."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from enum import StrEnum
from pathlib import Path
from typing import Annotated, TypeVar

import typer
from pydantic.fields import FieldInfo

from mrigmm.cli.completion import COMPLETE, complete_devices, complete_settings, complete_splits
from mrigmm.errors import InputError
from mrigmm.jobs import options
from mrigmm.jobs.options import shown, spell_out

INPUT, METHOD, PREPROCESSING = options.INPUT, options.METHOD, options.PREPROCESSING
HARDWARE, OUTPUT, MESSAGES = options.HARDWARE, options.OUTPUT, options.MESSAGES
SINGLE = "Single study"
PANELS = (INPUT, SINGLE, METHOD, PREPROCESSING, HARDWARE, OUTPUT, MESSAGES)

ManifestArg = Annotated[Path, typer.Argument(help="Manifest of the cohort (JSON, see docs/data.md).")]
PredictionsArg = Annotated[Path, typer.Argument(metavar="OUT", help="Folder that predict wrote.")]
DataRoot = Annotated[
    Path | None,
    typer.Option(
        help="Folder that the manifest's paths resolve against. Default: its own.", rich_help_panel=INPUT
    ),
]
PriorFile = Annotated[
    Path | None,
    typer.Option(
        "--prior", help="Population prior (JSON). Default: the shipped one.", rich_help_panel=METHOD
    ),
]
Device = Annotated[
    str,
    typer.Option(
        help="auto, cpu, cuda or cuda:N.", rich_help_panel=HARDWARE, autocompletion=complete_devices
    ),
]
Split = Annotated[
    str,
    typer.Option(
        help="training, validation, test or all.", rich_help_panel=INPUT, autocompletion=complete_splits
    ),
]
AnatomyFolder = Annotated[
    Path | None,
    typer.Option(
        "--anatomy",
        metavar="RUN",
        help="Run of train-anatomy, for studies without a region map.",
        rich_help_panel=PREPROCESSING,
    ),
]
Overrides = Annotated[
    list[str] | None,
    typer.Option(
        "--set",
        metavar="KEY=VALUE",
        help="Change a setting (mrigmm info).",
        rich_help_panel=METHOD,
        autocompletion=complete_settings,
    ),
]
Overwrite = Annotated[
    bool, typer.Option("--overwrite", help="Replace what is already there.", rich_help_panel=OUTPUT)
]
ResumeTraining = Annotated[
    bool,
    typer.Option("--resume", help="Continue from the last completed epoch.", rich_help_panel=OUTPUT),
]
Json = Annotated[
    bool,
    typer.Option(
        "--json",
        help="The result as JSON on stdout, and nothing else there.",
        rich_help_panel=MESSAGES,
    ),
]
Quiet = Annotated[bool, typer.Option("--quiet", help="No progress bars, no notes.", rich_help_panel=MESSAGES)]
Verbose = Annotated[
    bool,
    typer.Option(
        "--verbose",
        help="Notes with all that is known, and how long each study took.",
        rich_help_panel=MESSAGES,
    ),
]


class RegionKind(StrEnum):
    """Kinds of region maps."""

    lv = "lv"
    cavity_wall = "cavity-wall"


Command = TypeVar("Command", bound=Callable[..., None])


def takes(model: type) -> Callable[[Command], Command]:
    """Give a command an option for each field of a model; it gets them as `**options`."""

    def decorate(command: Command) -> Command:
        spell_out(command, model, _parameter)
        return command

    return decorate


def _parameter(name: str, field: FieldInfo) -> inspect.Parameter:
    """Return the parameter that Typer makes an option of."""
    how = shown(field)
    # The name alone: Typer would offer `--no-...` beside a flag.
    flag = how.flag or f"--{name.replace('_', '-')}"
    option = typer.Option(
        flag,
        help=(field.description or "").replace("`", ""),
        metavar=how.metavar,
        rich_help_panel=how.group,
        autocompletion=COMPLETE.get(name),
    )
    default = field.get_default(call_default_factory=True)
    if isinstance(default, dict | tuple):  # Typer's empty list
        default = None
    typed = field.annotation if how.typed is None else how.typed
    annotation = Annotated[typed, option]  # type: ignore[valid-type]
    return inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=annotation)


def named_files(texts: Sequence[str]) -> dict[str, Path]:
    """`NAME=FILE` texts as a dictionary."""
    return {name: Path(file) for name, file in named(texts, "--image", "NAME=FILE", "LGE=lge.nii.gz").items()}


def named(texts: Sequence[str], option: str, form: str, example: str) -> dict[str, str]:
    """`NAME=VALUE` texts as a dictionary."""
    several = named_several(texts, option, form, example)
    for name, values in several.items():
        if len(values) > 1:
            raise InputError(f"{option}: '{name}' is given twice", got=" and ".join(values))
    return {name: values[0] for name, values in several.items()}


def named_several(texts: Sequence[str], option: str, form: str, example: str) -> dict[str, list[str]]:
    """`NAME=VALUE` texts as a dictionary of all values of each name."""
    named: dict[str, list[str]] = {}
    for text in texts:
        name, separator, value = text.partition("=")
        if not separator or not name or not value:
            raise InputError(f"{option} must be {form}", got=text, remedy=f"for example {option} {example}")
        named.setdefault(name, []).append(value)
    return named


def named_frames(texts: Sequence[str]) -> dict[str, int]:
    """`NAME=N` texts as a dictionary."""
    frames = named(texts, "--frame", "NAME=N", "bSSFP=0")
    for name, number in frames.items():
        if not number.isdecimal() or len(number) > 9:
            raise InputError("--frame must be NAME=N", got=f"{name}={number}", remedy="count from 0")
    return {name: int(number) for name, number in frames.items()}
