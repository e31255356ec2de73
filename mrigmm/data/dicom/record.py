"""The record of an import: which image was made from which series. `export` finds the series by it."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

from mrigmm.data.files import remove, write_text
from mrigmm.errors import InputError

RECORD_FILE = "images.json"
IMAGES = "images"  # folder beside the record


@dataclass(frozen=True)
class Origin:
    """Origin of an image.

    Attributes:
        study: its StudyInstanceUID.
        sequence: what it was taken for.
        component: what its pixels are (`Part.component`).
        series: keys of the parts that it was joined from (`Part.key`).
    """

    study: str
    sequence: str
    component: str
    series: tuple[str, ...]


def write_record(folder: Path, origins: Mapping[str, Origin]) -> None:
    """Write the record of a folder: file name in `images/` -> origin."""
    content = {"images": {name: asdict(origin) for name, origin in origins.items()}}
    write_text(folder / RECORD_FILE, json.dumps(content, indent=1) + "\n")


def image_name(study: str, sequence: str) -> str:
    """File name of an image."""
    return f"{study}_{sequence}.nii.gz"


def read_record(path: Path) -> dict[str, Origin]:
    """File name in `images/` -> origin; empty where there is no record.

    Raises:
        InputError: it is damaged.
    """
    try:
        images = json.loads(path.read_text(encoding="utf-8"))["images"]
        return {
            str(name): Origin(
                str(o["study"]), str(o["sequence"]), str(o["component"]), tuple(map(str, o["series"]))
            )
            for name, o in images.items()
        }
    except FileNotFoundError:
        return {}
    except (OSError, ValueError, RecursionError, AttributeError, KeyError, TypeError) as error:
        raise InputError(
            "the record of the import is damaged",
            file=path,
            got=f"{type(error).__name__}: {error}",
            remedy="delete it, and run mrigmm manifest dicom again with --map",
        ) from None


def remove_stale(folder: Path, before: Mapping[str, Origin], now: Iterable[str]) -> list[str]:
    """Delete images that an earlier import wrote and this one did not.

    Args:
        folder: with `images/`.
        before: what the earlier import wrote, of the studies that this one converted.
        now: file names that this one wrote.

    Returns:
        The names of the files that were deleted.
    """
    kept = {name.casefold() for name in now}  # which are one file where case does not count
    # A name, never a path: the record is a file that anyone can edit.
    names = [name for name in before if Path(name).name == name and name.endswith(".nii.gz")]
    gone = [name for name in names if name.casefold() not in kept and (folder / IMAGES / name).is_file()]
    for name in gone:
        remove(folder / IMAGES / name)
    return gone
