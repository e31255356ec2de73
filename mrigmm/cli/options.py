"""Options and arguments that several commands share, their groups in the help, and texts NAME=VALUE."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from enum import StrEnum
from functools import partial
from pathlib import Path
from typing import Annotated, Any, TypeVar

import typer
from pydantic.fields import FieldInfo

from mrigmm.cli.completion import COMPLETE, complete_splits
from mrigmm.errors import InputError
from mrigmm.jobs import options
from mrigmm.jobs.options import PredictOptions, TrainOptions, fields_of, shown, spell_out

INPUT, METHOD, PREPROCESSING = options.INPUT, options.METHOD, options.PREPROCESSING
HARDWARE, OUTPUT, MESSAGES = options.HARDWARE, options.OUTPUT, options.MESSAGES
SINGLE = "Single study"
PANELS = (INPUT, SINGLE, METHOD, PREPROCESSING, HARDWARE, OUTPUT, MESSAGES)


def option(
    panel: str, text: str, *flags: str, complete: Callable[..., Any] | None = None, **more: Any
) -> Any:
    """Return an option for Typer: its group in the help, its text, and flags other than its name."""
    return typer.Option(*flags, help=text, rich_help_panel=panel, autocompletion=complete, **more)


def same_as(model: type, name: str) -> Any:
    """Return the option that a model of options has under a name."""
    how, field = shown(fields_of(model)[name]), fields_of(model)[name]
    # The name alone: Typer would offer `--no-...` beside a flag.
    flag = how.flag or f"--{name.replace('_', '-')}"
    text = (field.description or "").replace("`", "")
    return option(how.group, text, flag, metavar=how.metavar, complete=COMPLETE.get(name))


ManifestArg = Annotated[Path, typer.Argument(help="Manifest of the cohort (JSON, see docs/data.md).")]
PredictionsArg = Annotated[Path, typer.Argument(metavar="OUT", help="Folder that predict wrote.")]
DataRoot = Annotated[Path | None, same_as(TrainOptions, "data_root")]
PriorFile = Annotated[Path | None, same_as(PredictOptions, "prior")]
Device = Annotated[str, same_as(PredictOptions, "device")]
Split = Annotated[str, option(INPUT, "training, validation, test or all.", complete=complete_splits)]
AnatomyFolder = Annotated[Path | None, same_as(PredictOptions, "anatomy")]
Overrides = Annotated[list[str] | None, same_as(PredictOptions, "overrides")]
Overwrite = Annotated[bool, same_as(PredictOptions, "overwrite")]
ResumeTraining = Annotated[bool, same_as(TrainOptions, "resume")]
Json = Annotated[bool, option(MESSAGES, "The result as JSON on stdout, and nothing else there.", "--json")]
Quiet = Annotated[bool, option(MESSAGES, "No progress bars, no notes.", "--quiet")]
Verbose = Annotated[
    bool, option(MESSAGES, "Notes with all that is known, and how long each study took.", "--verbose")
]


class RegionKind(StrEnum):
    """Kinds of region maps."""

    lv = "lv"
    cavity_wall = "cavity-wall"


Command = TypeVar("Command", bound=Callable[..., None])


def takes(model: type) -> Callable[[Command], Command]:
    """Give a command an option for each field of a model; it gets them as `**options`."""

    def decorate(command: Command) -> Command:
        spell_out(command, model, partial(_parameter, model))
        return command

    return decorate


def _parameter(model: type, name: str, field: FieldInfo) -> inspect.Parameter:
    """Return the parameter that Typer makes an option of."""
    default = field.get_default(call_default_factory=True)
    if isinstance(default, dict | tuple):  # Typer's empty list
        default = None
    typed = shown(field).typed or field.annotation
    annotation = Annotated[typed, same_as(model, name)]  # type: ignore[valid-type]
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
