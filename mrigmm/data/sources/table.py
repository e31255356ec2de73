"""The kinds of folders by name."""

from __future__ import annotations

import re
from collections.abc import Mapping

from mrigmm.data.sources import (
    acdc,
    any_naming,
    bids,
    emidec,
    files,
    mscmr,
    myops,
    myosaiq,
    nnunet,
    sunnybrook,
)
from mrigmm.data.sources.base import Folder, Kind
from mrigmm.plugins import LAYOUTS_GROUP, Extensible

_BUILT_IN: Mapping[str, Kind] = {
    "myops": myops.KIND,
    "emidec": emidec.KIND,
    "mscmr": mscmr.KIND,
    "myosaiq": myosaiq.KIND,
    "acdc": acdc.KIND,
    "sunnybrook": sunnybrook.KIND,
    "nnunet": nnunet.KIND,
    "bids": bids.KIND,
    "files": files.KIND,
    "any": any_naming.KIND,
}
# Ours, and those of other packages (docs/extending.md); DICOM is a job of its own.
KINDS = Extensible(LAYOUTS_GROUP, Kind, _BUILT_IN, reserved=("dicom",))


def marked(folder: Folder) -> list[str]:
    """The layouts whose marks a folder has."""
    return [
        name
        for name, kind in KINDS.items()
        if kind.mark and any(re.fullmatch(kind.mark, file, re.IGNORECASE) for file in folder.files)
    ]
