"""The kinds of folders by name."""

from __future__ import annotations

from collections.abc import Mapping

from mrigmm.data.sources import acdc, bids, emidec, files, mscmr, myops, myosaiq, nnunet, sunnybrook
from mrigmm.data.sources.base import Kind
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
}
# Ours, and those of other packages (docs/extending.md); DICOM is a job of its own.
KINDS = Extensible(LAYOUTS_GROUP, Kind, _BUILT_IN, reserved=("dicom",))
