"""Content of NIfTI files of unknown meaning: their grid, and whether their values are ids."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from mrigmm.data.geometry import Grid, turned_onto, with_slices_last
from mrigmm.data.limits import DIAMETER_MM, MIN_SOLIDITY, OPEN_SHARE
from mrigmm.data.nifti_file import read_nifti, read_shape
from mrigmm.data.quality.topology import SliceShape, slice_shapes
from mrigmm.labels import REGION_FILE_IDS, SCHEMES, Region

_MOST_IDS = 24  # of a map; images have more values
_RING = 0.15  # of a ventricle, that a wall encloses and leaves out: a cavity is more


class Contents:
    """The files of a folder, each read once."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self._shapes: dict[str, tuple[tuple[int, ...], Grid]] = {}
        self._maps: dict[str, NDArray[np.int64] | None] = {}

    def grid(self, file: str) -> Grid:
        """Grid of a file's first three axes.

        Raises:
            InputError: its header cannot be used.
        """
        return self._shape(file)[1]

    def frames(self, file: str) -> int:
        """Number of volumes in a file.

        Raises:
            InputError: its header cannot be used.
        """
        return int(np.prod(self._shape(file)[0][3:], dtype=int))

    def _shape(self, file: str) -> tuple[tuple[int, ...], Grid]:
        if file not in self._shapes:
            shape, place = read_shape(self._root / file, study=file, role="image")
            self._shapes[file] = shape, place.grid
        return self._shapes[file]

    def ids(self, file: str) -> tuple[int, ...] | None:
        """The ids of a map beside 0; None of an image.

        Raises:
            InputError: the file cannot be read.
        """
        found = self._map(file)
        return None if found is None else tuple(int(i) for i in np.unique(found) if i != 0)

    def _map(self, file: str) -> NDArray[np.int64] | None:
        if file not in self._maps:
            found = None
            if self.frames(file) == 1:
                values = read_nifti(self._root / file, study=file, role="map")[1]
                few = np.unique(values)
                ids = few.size <= _MOST_IDS and np.all(np.isfinite(few)) and np.all(few == np.round(few))
                found = values.reshape(self.grid(file).shape, order="F").astype(np.int64) if ids else None
            self._maps[file] = found
        return self._maps[file]

    def same_grid(self, file: str, other: str) -> bool:
        """Whether two files have the same voxels, in whichever order."""
        one, two = self.grid(file), self.grid(other)
        return one.same_as(two) or turned_onto(np.empty(one.shape, bool), one, two) is not None

    def no_region(self, file: str, part: str | None) -> str | None:
        """Why a map is none of the left ventricle; None where it can be.

        Args:
            file: a map.
            part: what its name says that it is of, a key of `parts` in the table of names.
        """
        data = self._map(file)
        ids = self.ids(file)
        assert data is not None
        assert ids is not None
        if not ids:
            return "empty masks"
        if not set(ids) <= set(REGION_FILE_IDS):
            return f"masks with other ids than {', '.join(map(str, REGION_FILE_IDS))}"
        if part in ("lesion", "other"):
            return "masks of something else than the left ventricle, by their name"
        if set(ids) == {1}:
            if part == "cavity":
                return (
                    "masks of the cavity alone, by their name (1 = left ventricle, or 1 = cavity, 2 = wall)"
                )
            return self._no_ventricle(file, data)
        if set(ids) == {1, 2}:
            codes = np.array([Region.OUTSIDE, Region.CAVITY, Region.WALL], dtype=np.uint8)[data]
            if np.median([s.open_share for s in self._shapes_of(file, codes) if s.cavity > 0]) > OPEN_SHARE:
                return "masks of 1 and 2 whose 1 is no cavity within 2"
        return None

    def _no_ventricle(self, file: str, data: NDArray[np.int64]) -> str | None:
        """Why the shape of a map of 0 and 1 is not that of a ventricle."""
        codes = np.where(data > 0, Region.LV, Region.OUTSIDE).astype(np.uint8)
        shapes = self._shapes_of(file, codes)
        if np.median([s.hole / (s.area + s.hole) for s in shapes]) > _RING:
            return "masks of a wall alone (1 = left ventricle with its cavity, or 1 = cavity, 2 = wall)"
        diameter = 2 * np.sqrt(max(s.area for s in shapes) / np.pi)
        if diameter < DIAMETER_MM[0] or np.median([s.solidity for s in shapes]) < MIN_SOLIDITY - 0.1:
            return "masks without the size and shape of a left ventricle"
        return None

    def _shapes_of(self, file: str, codes: NDArray[np.uint8]) -> list[SliceShape]:
        """The shapes of the slices of a map with anything in them."""
        grid = self.grid(file)
        in_plane = np.delete(grid.spacing_mm, grid.slice_axis)
        shapes = slice_shapes(with_slices_last(codes, grid), (*in_plane, 1.0))
        return [shape for shape in shapes if shape.area > 0]


def schemes_of(ids: Sequence[int]) -> Mapping[str, Mapping[str, tuple[int, ...]]]:
    """The schemes of label ids that have all of some ids, by name; one of several with the same meaning."""
    found: dict[str, Mapping[str, tuple[int, ...]]] = {}
    meanings = []
    for name, scheme in SCHEMES.items():
        meaning = {i: [key for key, own in scheme.items() if i in own] for i in ids}
        if all(meaning.values()) and meaning not in meanings:
            found[name] = scheme
            meanings.append(meaning)
    return found
