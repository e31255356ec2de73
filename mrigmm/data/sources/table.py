"""The kinds of folders by name."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import replace

from mrigmm.data.sources import any_naming, bids, files, nnunet
from mrigmm.data.sources.base import Cohort, Folder, Kind, Options
from mrigmm.data.sources.published import PUBLISHED
from mrigmm.errors import InputError
from mrigmm.plugins import LAYOUTS_GROUP, Extensible, said_by

_BUILT_IN: Mapping[str, Kind] = {
    **PUBLISHED,
    "nnunet": nnunet.KIND,
    "bids": bids.KIND,
    "files": files.KIND,
    "any": any_naming.KIND,
}


def _foreign(kind: Kind, name: str, owner: str) -> Kind:
    """Return the layout of another package, which fails in its name.

    Raises:
        re.error: its mark is no pattern.
    """
    re.compile(kind.mark or "")

    def read(folder: Folder, options: Options) -> Cohort:
        try:
            cohort: object = kind.read(folder, options)
            if not isinstance(cohort, Cohort):
                raise TypeError(f"it gave {type(cohort).__name__}")
        except InputError:
            raise
        except Exception as error:  # whatever the code of another package raises
            raise InputError(
                f"the layout '{name}' of the package {owner} failed",
                file=folder.root,
                got=said_by(error),
                remedy="tell its authors, or describe the names yourself: mrigmm manifest files",
            ) from error
        return cohort

    return replace(kind, read=read)


# Ours, and those of other packages (docs/extending.md); DICOM is a job of its own.
KINDS = Extensible(LAYOUTS_GROUP, Kind, _BUILT_IN, reserved=("dicom",), adopt=_foreign)


def marked(folder: Folder) -> list[str]:
    """The layouts whose marks a folder has."""
    return [
        name
        for name, kind in KINDS.items()
        if kind.mark and any(re.fullmatch(kind.mark, file, re.IGNORECASE) for file in folder.files)
    ]
