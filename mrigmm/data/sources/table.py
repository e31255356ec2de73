"""The kinds of folders by name."""

from __future__ import annotations

from collections.abc import Mapping

from mrigmm.data.sources import acdc, bids, emidec, files, mscmr, myops, myosaiq, nnunet, sunnybrook
from mrigmm.data.sources.base import Kind

KINDS: Mapping[str, Kind] = {
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
