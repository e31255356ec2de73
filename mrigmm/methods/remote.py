"""Remote myocardium, found without a user: the darkest sixth of the wall around the cavity.

Where a reader draws a region of interest in normal wall, far from the infarct, this takes the one of six
equiangular sectors that has the lowest median LGE.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import ndimage
from torch import Tensor

from mrigmm.labels import Region
from mrigmm.lazy import LazyModule

filters = LazyModule("skimage.filters")

SECTORS = 6
# A sector with fewer voxels says nothing about mean and SD.
MIN_VOXELS = 10
_BINS = 256  # of the histogram behind Otsu's threshold

Mask = NDArray[np.bool_]


def otsu_threshold(values: Tensor) -> float:
    """Otsu's threshold (1979): at or below it is the darker group.

    scikit-image gives the centre of the darker group's last bin, above which some of that bin's own
    voxels lie. The bin's upper edge divides the groups as its histogram did.

    Args:
        values: (N,) N >= 1.
    """
    x = values.double().numpy()
    half_bin = float(x.max() - x.min()) / (2 * _BINS)
    return float(filters.threshold_otsu(x, nbins=_BINS)) + half_bin


@dataclass(frozen=True)
class Remote:
    """Remote myocardium of a study.

    Attributes:
        mask: (X, Y, Z) bool, not empty where there is a wall.
        sector: number of the sector, from 0; None where there is no sector to take, and `mask` is the
            darker part of the whole wall.
    """

    mask: Tensor
    sector: int | None

    @property
    def warnings(self) -> tuple[str, ...]:
        """Return what the user should know."""
        if self.sector is not None:
            return ()
        return (
            f"no sector of the wall has {MIN_VOXELS} voxels to be remote myocardium: "
            "the darker part of the whole wall is used",
        )


def find_remote(
    lge: Tensor,
    region: Tensor,
    *,
    spacing_mm: Sequence[float],
    t2: Tensor | None = None,
    t2_observed: Tensor | None = None,
) -> Remote:
    """The sector of lowest median LGE, the same angles in all slices.

    Left out are dark cores (`dark_cores`), sectors with fewer than `MIN_VOXELS` voxels, and sectors whose
    median T2 lies above the median over the sectors, so that at least half of them remain.

    Args:
        lge: (X, Y, Z).
        region: (X, Y, Z) `labels.Region` codes with the wall told apart.
        spacing_mm: voxel spacing (3,) in mm.
        t2: (X, Y, Z), or None.
        t2_observed: (X, Y, Z) bool, where T2 was acquired; None: everywhere.
    """
    codes, intensities = region.numpy(), lge.numpy()
    wall = codes == Region.WALL
    threshold = otsu_threshold(lge[torch.from_numpy(wall)])
    usable = wall & ~dark_cores(wall & (intensities > threshold), codes)
    sectors = np.where(usable, angular_sectors(codes, spacing_mm=spacing_mm), -1)
    large = [s for s in range(SECTORS) if int((sectors == s).sum()) >= MIN_VOXELS]
    if not large:
        return Remote(torch.from_numpy(wall & (intensities <= threshold)), None)
    candidates = large
    if t2 is not None:
        acquired = np.ones(wall.shape, dtype=bool) if t2_observed is None else t2_observed.numpy()
        candidates = _low(t2.numpy(), np.where(acquired, sectors, -1), large)
    chosen = min(candidates, key=lambda s: float(np.median(intensities[sectors == s])))
    return Remote(torch.from_numpy(sectors == chosen), chosen)


def angular_sectors(region: NDArray[np.uint8], *, spacing_mm: Sequence[float]) -> NDArray[np.int64]:
    """Sector 0 to 5 of each voxel (X, Y, Z), by its angle in plane around the slice's centre.

    Sector s spans 60 s to 60 (s + 1) degrees, from the first array axis towards the second. The centre is
    the cavity's; in slices without cavity the wall's. -1 in slices without wall.

    Args:
        region: (X, Y, Z) `labels.Region` codes.
        spacing_mm: voxel spacing (3,) in mm.
    """
    sectors = np.full(region.shape, -1, dtype=np.int64)
    x, y = np.meshgrid(
        *(np.arange(n) * mm for n, mm in zip(region.shape, spacing_mm[:2], strict=False)), indexing="ij"
    )
    for z in range(region.shape[2]):
        codes = region[..., z]
        if not (codes == Region.WALL).any():
            continue
        cavity = codes == Region.CAVITY
        body = cavity if cavity.any() else codes == Region.WALL
        angle = np.arctan2(y - y[body].mean(), x - x[body].mean())  # -pi .. pi
        sectors[..., z] = np.floor(angle / (2 * np.pi) * SECTORS).astype(np.int64) % SECTORS
    return sectors


def dark_cores(bright: Mask, region: NDArray[np.uint8]) -> Mask:
    """Wall that is not bright but closed in by bright wall, or by it and the cavity, within its slice.

    That is where microvascular obstruction lies: dark, and yet infarct.

    Args:
        bright: (X, Y, Z) bright voxels of the wall.
        region: (X, Y, Z) `labels.Region` codes.
    """
    barrier = bright | (region == Region.CAVITY)
    in_plane = ndimage.generate_binary_structure(3, 1)
    in_plane[..., [0, 2]] = False
    filled = ndimage.binary_fill_holes(barrier, structure=in_plane)
    return np.asarray(filled & (region == Region.WALL) & ~bright, dtype=np.bool_)


def _low(t2: NDArray[np.generic], sectors: NDArray[np.int64], large: list[int]) -> list[int]:
    """The sectors whose median T2 is not above the median over all, and those of unknown T2."""
    medians = {s: float(np.median(t2[sectors == s])) for s in large if (sectors == s).any()}
    limit = float(np.median(list(medians.values()))) if medians else 0.0
    return [s for s in large if s not in medians or medians[s] <= limit]
