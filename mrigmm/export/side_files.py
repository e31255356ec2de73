"""Files beside the label maps: names and colours for ITK-SNAP and 3D Slicer; JSON, written and read."""

from __future__ import annotations

import csv
import io
import json
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

from mrigmm.data.files import write_text
from mrigmm.errors import InputError
from mrigmm.labels import BACKGROUND_ID, class_colours, class_ids


def write_itksnap_labels(path: Path, classes: Sequence[str], ids: Mapping[str, int] | None = None) -> None:
    """ITK-SNAP label description: id, R, G, B, alpha, visibility, mesh visibility, name.

    Args:
        path: file to write.
        classes: names, in order.
        ids: of these classes in the label maps; default those of our own.
    """
    ids, colours = ids or class_ids(classes), class_colours(classes)
    lines = [f'{BACKGROUND_ID:5d} {0:5d} {0:4d} {0:4d} {0:8d} {0:2d} {0:2d}    "Clear Label"']
    for name in classes:
        r, g, b = colours[name]
        lines.append(f'{ids[name]:5d} {r:5d} {g:4d} {b:4d} {1:8d} {1:2d} {1:2d}    "{_plain(name)}"')
    write_text(path, "# ITK-SNAP label description file\n" + "\n".join(lines) + "\n")


def write_slicer_colours(path: Path, classes: Sequence[str], ids: Mapping[str, int] | None = None) -> None:
    """3D Slicer colour table: id name R G B A. Arguments as `write_itksnap_labels`."""
    ids, colours = ids or class_ids(classes), class_colours(classes)
    lines = [f"{BACKGROUND_ID} background 0 0 0 0"]
    for name in classes:
        r, g, b = colours[name]
        lines.append(f"{ids[name]} {_plain(name).replace(' ', '_')} {r} {g} {b} 255")
    write_text(path, "# 3D Slicer color table\n" + "\n".join(lines) + "\n")


def write_json(path: Path, content: Mapping[str, Any]) -> None:
    """JSON with numbers that are not finite as null, as the standard wants."""
    write_text(path, json.dumps(finite(content), indent=1, ensure_ascii=False, allow_nan=False) + "\n")


def write_csv(path: Path, columns: Sequence[str], rows: Iterable[Iterable[Any]]) -> None:
    """Write a table: numbers to six digits, what is not known (None, NaN) empty."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(columns)
    for row in rows:
        cells = ("" if isinstance(v, float) and math.isnan(v) else v for v in row)
        writer.writerow([f"{v:.6g}" if isinstance(v, float) else v for v in cells])
    write_text(path, text.getvalue())


def finite(value: Any) -> Any:
    """Return the same structure with NaN and infinities replaced by None."""
    if isinstance(value, Mapping):
        return {str(key): finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [finite(item) for item in value]
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    return value


def _plain(name: str) -> str:
    """Return a class name without characters that end a field or a line."""
    return "".join(" " if c in '"\t' or not c.isprintable() else c for c in name)


Content = TypeVar("Content")


def read_json(
    path: Path,
    parse: Callable[[Mapping[str, Any]], Content],
    *,
    command: str,
    missing: str,
    damaged: str,
    write_it: str | None = None,
    study: str | None = None,
) -> Content:
    """Read what a caller needs of a JSON file.

    Args:
        path: the file.
        parse: takes its content; whatever it raises says that the content is not as it should be.
        command: that writes the file.
        missing: the message where there is no file.
        damaged: the message where it cannot be read or parsed.
        write_it: the remedy where there is no file; default the command.
        study: study id, for messages.

    Raises:
        InputError: missing or damaged.
    """
    try:
        return parse(json.loads(path.read_text(encoding="utf-8")))
    except FileNotFoundError:
        remedy = write_it or f"run mrigmm {command} on it"
        raise InputError(missing, study=study, file=path, remedy=remedy) from None
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
            damaged,
            study=study,
            file=path,
            got=f"{type(error).__name__}: {error}",
            remedy=f"run mrigmm {command} again",
        ) from None
