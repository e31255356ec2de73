"""Settings as YAML: a run's configuration file, `key=value` overrides, and what validation finds in them.

Imports no torch, so that `mrigmm info` stays instant.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

import yaml
from pydantic import BaseModel, ConfigDict, ValidationError

from mrigmm.errors import InputError, Problem, near_misses

_MAX_SHOWN = 500  # characters of a value in a message


class Knobs(BaseModel):
    """Base of all settings: unknown keys and numbers that are not finite are errors, and nothing changes."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


Config = TypeVar("Config", bound=BaseModel)
# Changes of settings: `key=value` texts, as on the command line, or values by key.
Overrides = Sequence[str] | Mapping[str, Any]


def parse_overrides(overrides: Overrides) -> dict[str, Any]:
    """Turn `key=value` texts into a dictionary; values are read as YAML (so `null`, `[a, b]`, `1e-3`).

    Raises:
        InputError: a text that is none, or a single one in place of several.
    """
    if isinstance(overrides, Mapping):
        return dict(overrides)
    if isinstance(overrides, str):
        raise InputError(
            "overrides must be several texts",
            expected=f'["{overrides}"], or {{"epochs": 50}}',
            got=f'"{overrides}"',
        )
    values: dict[str, Any] = {}
    for text in overrides:
        if not isinstance(text, str):
            raise InputError("an override must be a text", expected='"epochs=50"', got=repr(text))
        key, separator, value = text.partition("=")
        if not separator or not key.strip():
            raise InputError("an override must be key=value", got=text, remedy="for example --set epochs=50")
        try:
            values[key.strip()] = _yaml_value(value)
        except YAML_ERRORS as error:
            raise InputError(
                f"the value of '{key.strip()}' cannot be read",
                expected="a plain YAML value such as 50, true, 1e-3 or [LGE, T2]",
                got=_beginning(f"{value} ({' '.join(str(error).split())})"),
            ) from None
    return values


def read_config_file(path: Path) -> dict[str, Any]:
    """The mapping in a configuration file.

    Raises:
        InputError: missing, damaged, or no mapping.
    """
    try:
        values = read_yaml(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise InputError(
            "the run has no configuration", file=path, remedy="give the folder that mrigmm train wrote"
        ) from None
    except (OSError, *YAML_ERRORS) as error:
        raise InputError(
            "the configuration cannot be read",
            file=path,
            expected="YAML as training writes it",
            got=_beginning(" ".join(str(error).split())),
            remedy="correct it, or copy the run folder again",
        ) from None
    if not isinstance(values, dict):
        raise InputError(
            "the configuration is not a mapping",
            file=path,
            expected="key: value",
            got=type(values).__name__,
            remedy="correct it, or copy the run folder again",
        )
    return values


def wrong_version(path: Path, expected: int, got: object) -> InputError:
    """The error of a configuration that another version of the package wrote."""
    return InputError(
        "the configuration has another version",
        file=path,
        expected=str(expected),
        got=str(got),
        remedy="use the version of mrigmm that trained the run",
    )


def dump_config(config: BaseModel) -> str:
    """The configuration as YAML, in the order of the fields."""
    return yaml.safe_dump(config.model_dump(mode="json"), sort_keys=False, allow_unicode=True)


class _PlainLoader(yaml.SafeLoader):
    """YAML without aliases, by which a few lines stand for billions of values, and without double keys."""

    def compose_node(self, parent: yaml.Node | None, index: int) -> yaml.Node | None:
        if self.check_event(yaml.AliasEvent):
            raise yaml.YAMLError("aliases (*) are not allowed")
        return super().compose_node(parent, index)

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        names = Counter(key.value for key, _ in node.value if isinstance(key, yaml.ScalarNode))
        for name, times in names.items():
            if times > 1:
                raise yaml.YAMLError(f"the key '{name}' stands twice")
        return dict(super().construct_mapping(node, deep))


# What reading YAML raises: its own errors; those of dates and numbers that are none; too deep.
YAML_ERRORS = (yaml.YAMLError, ValueError, RecursionError)


def read_yaml(text: str) -> Any:
    """Plain values of a YAML text; raises `YAML_ERRORS`."""
    return yaml.load(text, _PlainLoader)


def _beginning(text: str) -> str:
    return text if len(text) <= _MAX_SHOWN else text[:_MAX_SHOWN] + " ..."


def _yaml_value(text: str) -> Any:
    value = read_yaml(text)
    # YAML 1.1 reads 1e-3 as text; people mean the number.
    if isinstance(value, str):
        try:
            return float(value)
        except ValueError:
            return value
    return value


def validated(
    model: type[Config], values: Mapping[str, Any], *, source: str, said: Mapping[str, str] | None = None
) -> Config:
    """A configuration of these values.

    Args:
        model: the kind of configuration.
        values: by field.
        source: file or option they come from, for messages.
        said: field -> where it comes from instead.

    Raises:
        InputError: unknown keys with near misses, and values that are not allowed, all of them.
    """
    try:
        return model.model_validate(values)
    except ValidationError as error:
        raise not_allowed(error, list(model.model_fields), source, said) from None


def not_allowed(
    error: ValidationError,
    known: Sequence[str],
    source: str,
    said: Mapping[str, str] | None = None,
    *,
    unknown: str = "unknown configuration key",
) -> InputError:
    """Return pydantic's errors as one of the input.

    Args:
        error: what pydantic raised.
        known: names of all settings, for near misses.
        source: file or option that the values come from.
        said: setting -> where it comes from instead.
        unknown: what is said of a name that is not among them, before the name.
    """
    return InputError.from_problems(
        _problem(dict(e), (said or {}).get(str(e["loc"][0]) if e["loc"] else "", source), known, unknown)
        for e in error.errors()
    )


def _problem(error: dict[str, Any], source: str, known: Sequence[str], unknown: str) -> Problem:
    key = ".".join(str(part) for part in error["loc"])
    if not key:
        return Problem("the settings do not fit together", file=source, got=str(error["ctx"]["error"]))
    if error["type"] == "extra_forbidden":
        return Problem(f"{unknown} '{key}'", file=source, remedy=near_misses(key, known))
    return Problem(
        f"the value of '{key}' is not allowed",
        file=source,
        expected=error["msg"],
        got=_beginning(repr(error["input"])),
    )
