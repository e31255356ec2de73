"""Reading the JSON files that other commands wrote, and users may have changed."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar

from mrigmm.errors import InputError

Content = TypeVar("Content")


def read_json(
    path: Path,
    parse: Callable[[Mapping[str, Any]], Content],
    *,
    missing: str,
    write_it: str,
    damaged: str,
    write_again: str,
    study: str | None = None,
) -> Content:
    """Read what a caller needs of a JSON file.

    Args:
        path: the file.
        parse: takes its content; whatever it raises says that the content is not as it should be.
        missing: the message where there is no file.
        write_it: the remedy then.
        damaged: the message where it cannot be read or parsed.
        write_again: the remedy then.
        study: study id, for messages.

    Raises:
        InputError: missing or damaged.
    """
    try:
        return parse(json.loads(path.read_text(encoding="utf-8")))
    except FileNotFoundError:
        raise InputError(missing, study=study, file=path, remedy=write_it) from None
    except (
        OSError,
        ValueError,
        LookupError,
        TypeError,
        AttributeError,
        ArithmeticError,
        RecursionError,
    ) as error:
        raise InputError(
            damaged, study=study, file=path, got=f"{type(error).__name__}: {error}", remedy=write_again
        ) from None
