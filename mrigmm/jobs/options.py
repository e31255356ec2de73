"""Options of `predict` and `train`, each named once: for the command line, the Python calls and the jobs.

Imports no torch, so that the command line's help stays instant.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import field
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any, NamedTuple, TypedDict, TypeVar, get_type_hints

from pydantic import BeforeValidator, ConfigDict, ValidationError
from pydantic.dataclasses import dataclass
from pydantic.fields import FieldInfo

from mrigmm.errors import Problem, near_misses
from mrigmm.settings_yaml import Overrides, not_allowed, parse_overrides

# Groups of options in the help.
INPUT, METHOD, PREPROCESSING = "Input", "Method", "Preprocessing"
HARDWARE, OUTPUT, MESSAGES = "Hardware", "Output", "Messages"


class Shown(NamedTuple):
    """Form of an option on the command line.

    Attributes:
        group: heading in the help.
        metavar: name of its value; None: that of its type.
        flag: its flag; None: the option's name with two hyphens.
        typed: type of what is typed, where it is not that of the option.
    """

    group: str
    metavar: str | None = None
    flag: str | None = None
    typed: Any = None


class Runtime(StrEnum):
    """Libraries that can compute the network of a run."""

    torch = "torch"
    onnx = "onnx"


def _settings(overrides: Overrides | None) -> dict[str, Any]:
    return parse_overrides(overrides or ())


# Changes of settings, read from `key=value` texts or from values by key.
Settings = Annotated[
    dict[str, Any],
    BeforeValidator(_settings),
    Shown(METHOD, metavar="KEY=VALUE", flag="--set", typed=list[str] | None),
]


# An option that can be given several times: none is an empty one.
Several = BeforeValidator(lambda values: () if values is None else values)


def _names(value: object) -> object:
    return tuple(name.strip() for name in value.split(",")) if isinstance(value, str) else value


# Names separated by commas, or several of them.
Names = Annotated[tuple[str, ...] | None, BeforeValidator(_names)]


# Not a `BaseModel`, of which `register` is a method.
_CONFIG = ConfigDict(extra="forbid", use_attribute_docstrings=True)


@dataclass(frozen=True, kw_only=True, config=_CONFIG)
class ReadingOptions:
    """Options of reading studies; the text below each option is its help."""

    anatomy: Annotated[Path | None, Shown(PREPROCESSING, metavar="RUN")] = None
    """Run of train-anatomy, for studies without a region map."""
    register: Annotated[bool, Shown(PREPROCESSING)] = False
    """Register the sequences to the reference sequence first."""
    bias_correct: Annotated[bool, Shown(PREPROCESSING)] = False
    """Remove the bias field of every sequence first."""


@dataclass(frozen=True, kw_only=True, config=_CONFIG)
class SegmentOptions(ReadingOptions):
    """Options of what segments a study, and how."""

    run: Annotated[Path | None, Shown(METHOD, metavar="RUN")] = None
    """Folder of a trained run."""
    method: Annotated[str | None, Shown(METHOD, metavar="NAME")] = None
    """Method (mrigmm info). Default without --run: pretrained."""
    prior: Annotated[Path | None, Shown(METHOD)] = None
    """Population prior (JSON). Default: the shipped one."""
    classes: Annotated[Names, Shown(METHOD, metavar="NAME,NAME", typed=str | None)] = None
    """Segment only these classes. Default: all that the prior knows."""
    overrides: Settings = field(default_factory=dict)
    """Change a setting (mrigmm info)."""
    device: Annotated[str, Shown(HARDWARE)] = "auto"
    """auto, cpu, cuda or cuda:N."""
    runtime: Annotated[str, Shown(HARDWARE, typed=Runtime)] = "torch"
    """Program that computes the run's network; onnx: after mrigmm export."""
    mvo: Annotated[bool, Shown(METHOD, flag="--mvo/--no-mvo")] = True
    """Count dark cores within scar as infarct (`<id>_mvo.nii.gz`)."""

    def contradictions(self) -> list[Problem]:
        """Problems of the options with each other."""
        if self.run is not None and self.method is not None:
            return [Problem("give either a trained run or a method", expected="--run RUN or --method NAME")]
        return []


@dataclass(frozen=True, kw_only=True, config=_CONFIG)
class PredictOptions(SegmentOptions):
    """Options of `predict` and `predict_study`: how they segment, and what they write."""

    save_probabilities: Annotated[bool, Shown(OUTPUT)] = False
    """Write `<id>_probabilities.nii.gz` and further maps too."""
    save_uncertainty: Annotated[bool, Shown(OUTPUT)] = False
    """Write `<id>_entropy.nii.gz` and `<id>_log_likelihood.nii.gz`."""
    overwrite: Annotated[bool, Shown(OUTPUT)] = False
    """Replace what is already there."""


@dataclass(frozen=True, kw_only=True, config=_CONFIG)
class TrainOptions(ReadingOptions):
    """Options of `train`: how it learns, where it computes, and what it keeps."""

    labels: Annotated[bool, Shown(METHOD)] = False
    """Learn from the reference labels, from the pretrained networks on."""
    folds: Annotated[int | None, Shown(METHOD, metavar="N")] = None
    """With --labels: cross-validation, whose predictions are kept too."""
    seeds: Annotated[int | None, Shown(METHOD, metavar="N")] = None
    """Networks to train and average. Default: as many as it starts from."""
    from_run: Annotated[Path | None, Shown(METHOD, metavar="RUN", flag="--from")] = None
    """Go on from this run. Default: from the networks that ship."""
    preset: Annotated[str | None, Shown(METHOD)] = None
    """Train a deep GMM of this preset (mrigmm info) instead of adapting networks."""
    overrides: Settings = field(default_factory=dict)
    """Change a setting (mrigmm info)."""
    config: Annotated[Path | None, Shown(METHOD, metavar="FILE")] = None
    """Settings as YAML, such as the config.yaml of a run. --set wins over it."""
    also: Annotated[tuple[Path, ...], Several, Shown(INPUT, metavar="MANIFEST", typed=list[Path] | None)] = ()
    """Another manifest whose training split is used too."""
    data_root: Annotated[Path | None, Shown(INPUT)] = None
    """Folder that the manifest's paths resolve against. Default: its own."""
    prior: Annotated[Path | None, Shown(METHOD)] = None
    """Population prior (JSON). Default: the shipped one."""
    device: Annotated[str | None, Shown(HARDWARE)] = None
    """One device: auto, cpu, cuda or cuda:N. Default: auto."""
    accelerator: Annotated[str | None, Shown(HARDWARE)] = None
    """For several devices instead: auto, cpu or gpu."""
    devices: Annotated[str | int | None, Shown(HARDWARE, typed=str | None)] = None
    """Devices per node: a number, auto, or indices of GPUs such as 0,2."""
    num_nodes: Annotated[int | None, Shown(HARDWARE)] = None
    """Number of nodes (computers)."""
    precision: Annotated[str, Shown(HARDWARE)] = "32-true"
    """32-true, bf16-mixed or 16-mixed."""
    cache: Annotated[str, Shown(HARDWARE)] = "memory"
    """Where prepared studies are kept: memory or disk."""
    num_workers: Annotated[int, Shown(HARDWARE)] = 0
    """With --cache disk: processes that load slices."""
    tensorboard: Annotated[bool, Shown(OUTPUT)] = False
    """Write TensorBoard's event files too."""
    resume: Annotated[bool, Shown(OUTPUT)] = False
    """Continue from the last completed epoch."""


class ReadingKeywords(TypedDict, total=False):
    """Types of `ReadingOptions` as a caller may give them, for editors and type checkers."""

    anatomy: Path | str | None
    register: bool
    bias_correct: bool


class SegmentKeywords(ReadingKeywords, total=False):
    """Types of `SegmentOptions` as a caller may give them."""

    run: Path | str | None
    method: str | None
    prior: Path | str | None
    classes: Sequence[str] | str | None
    overrides: Overrides
    device: str
    runtime: str
    mvo: bool


class PredictKeywords(SegmentKeywords, total=False):
    """Types of `PredictOptions` as a caller may give them."""

    save_probabilities: bool
    save_uncertainty: bool
    overwrite: bool


class TrainKeywords(ReadingKeywords, total=False):
    """Types of `TrainOptions` as a caller may give them."""

    labels: bool
    folds: int | None
    seeds: int | None
    from_run: Path | str | None
    preset: str | None
    overrides: Overrides
    config: Path | str | None
    also: Sequence[Path | str]
    data_root: Path | str | None
    prior: Path | str | None
    device: str | None
    accelerator: str | None
    devices: str | int | None
    num_nodes: int | None
    precision: str
    cache: str
    num_workers: int
    tensorboard: bool
    resume: bool


Model = TypeVar("Model")
Function = TypeVar("Function", bound=Callable[..., Any])


def fields_of(model: type) -> dict[str, FieldInfo]:
    """Return the options of a model by name."""
    fields: dict[str, FieldInfo] = {}
    for owner in reversed(model.__mro__):  # a derived class lacks the texts of the fields it inherits
        fields = getattr(owner, "__pydantic_fields__", {}) | fields
    return fields


def shown(field: FieldInfo) -> Shown:
    """Return how an option stands on the command line."""
    return next(extra for extra in field.metadata if isinstance(extra, Shown))


def read_options(model: type[Model], keywords: Mapping[str, object]) -> Model:
    """Read the keyword arguments of a call.

    Raises:
        TypeError: no such option; with near misses.
        InputError: values that are not allowed.
    """
    known = [*fields_of(model)]
    for name in keywords:
        if name not in known:
            raise TypeError(f"unexpected keyword argument '{name}': {near_misses(name, known)}")
    try:
        return model(**keywords)
    except ValidationError as error:
        raise not_allowed(error, known, "options") from None


def spell_out(
    function: Callable[..., Any], model: type, parameter: Callable[[str, FieldInfo], inspect.Parameter]
) -> None:
    """Let a function that takes `**options` show each option of a model in its signature.

    Args:
        function: its signature is changed in place.
        model: the options.
        parameter: makes the keyword parameter of an option's name and field.
    """
    signature = inspect.signature(function, eval_str=True)
    own = [p for p in signature.parameters.values() if p.kind is not p.VAR_KEYWORD]
    options = [parameter(name, field) for name, field in fields_of(model).items()]
    before = [p for p in own if p.kind is not p.KEYWORD_ONLY]
    after = [p for p in own if p.kind is p.KEYWORD_ONLY]
    function.__signature__ = signature.replace(  # type: ignore[attr-defined]
        parameters=[*before, *options, *after]
    )


def takes(model: type, keywords: type) -> Callable[[Function], Function]:
    """Show the options of a model in the signature and the docstring of a Python call.

    Args:
        model: the options.
        keywords: their types as a caller may give them.
    """
    types = get_type_hints(keywords)

    def parameter(name: str, field: FieldInfo) -> inspect.Parameter:
        default = field.get_default(call_default_factory=True)
        kind = inspect.Parameter.KEYWORD_ONLY
        return inspect.Parameter(name, kind, default=default, annotation=types[name])

    def listed(place: re.Match[str]) -> str:
        return "".join(f"{place[1]}{name}: {field.description}\n" for name, field in fields_of(model).items())

    def decorate(function: Function) -> Function:
        spell_out(function, model, parameter)
        # Indented as it stands in the file; from Python 3.13 on without the indentation of the function.
        function.__doc__ = re.sub(r"(?m)^( *)\*\*options:.*\n", listed, function.__doc__ or "")
        return function

    return decorate
