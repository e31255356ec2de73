"""Images, maps and probabilities of a study: what their voxels may be, said in the user's words."""

from __future__ import annotations

import math
from collections.abc import Callable, Collection
from dataclasses import dataclass
from pathlib import Path

import nibabel as nib
import numpy as np
from numpy.typing import NDArray

from mrigmm.data.geometry import Grid
from mrigmm.data.nifti_file import read_nifti
from mrigmm.data.nifti_place import Place
from mrigmm.errors import StudyFile

_MAX_COUNTED_ID = 1 << 16  # ids below are found by counting, which is quicker than sorting
_MAX_STEP = 1e-2  # of a packed map: 255 ids and more; coarser ones hold fractions
_SUM_TOLERANCE = 1e-3  # of probabilities, which are float32
MAX_ABS_INTENSITY = float(np.float32(1e30))  # beyond it squares overflow even in float64 sums of float32 data


@dataclass(frozen=True)
class Volume:
    """One NIfTI volume in memory: `data` (X, Y, Z), its grid, and the header to write by.

    `warnings` say how the grid was told from a header that contradicts itself.
    """

    data: NDArray[np.float32] | NDArray[np.int64]
    grid: Grid
    header: nib.nifti1.Nifti1Header
    stored_shape: tuple[int, ...]  # as in the file: 2-D and 4-D with one frame are read as 3-D
    path: Path | None  # None: it was in memory
    frame: int | None = None  # which one, from 0, where the file holds several
    warnings: tuple[str, ...] = ()

    @property
    def file(self) -> str | None:
        """Its file, for messages."""
        return None if self.path is None else str(self.path)


# Picks one of the frames (X, Y, Z, T) of a series on a grid.
ChooseFrame = Callable[[NDArray[np.generic], Grid], int]


def read_image(
    path: Path, *, study: str, role: str, frame: int | None = None, choose_frame: ChooseFrame | None = None
) -> Volume:
    """Read intensities as float32.

    Args:
        path: NIfTI file, 2-D, 3-D, or 4-D.
        study: study id, for messages.
        role: what the file is in the study ("LGE", ...), for messages.
        frame: which frame of a 4-D file, from 0.
        choose_frame: picks the frame of a 4-D file for which `frame` is None; without it, only a
            single frame will do.

    Raises:
        InputError: when the file is missing, damaged, no NIfTI, complex or RGB, not one volume, has a
            singular affine, or holds NaN or infinite voxels.
    """
    several = frame is not None or choose_frame is not None
    header, array, place = read_nifti(path, study=study, role=role, several_frames=several)
    file = StudyFile(study, role, path)
    return image_volume(header, array, place, file, frame=frame, choose_frame=choose_frame)


def image_volume(
    header: nib.nifti1.Nifti1Header,
    array: NDArray[np.generic],
    place: Place,
    file: StudyFile,
    *,
    frame: int | None = None,
    choose_frame: ChooseFrame | None = None,
) -> Volume:
    """Intensities of a header and its array, as float32; the other arguments are those of `read_image`.

    Raises:
        InputError: no such frame, or NaN or infinite voxels.
    """
    grid = place.grid
    stored_shape, frames = array.shape, array.reshape((*grid.shape, -1), order="F")
    chosen = None
    if frame is not None and not 0 <= frame < frames.shape[3]:
        raise file.error(
            f"{file.role} has no frame {frame}",
            expected=f"a frame from 0 to {frames.shape[3] - 1}",
            got=str(frame),
            remedy="correct 'frame'; the first frame is 0",
        )
    if frames.shape[3] > 1:
        assert choose_frame is not None or frame is not None
        chosen = choose_frame(frames, grid) if frame is None and choose_frame else frame
        stored_shape = grid.shape
    data = frames[..., chosen or 0]
    _check_intensities(data, file)
    # Files are in Fortran order; all that follows is quicker in C order.
    return Volume(
        data.astype(np.float32, order="C"), grid, header, stored_shape, file.path, chosen, place.warnings
    )


def _check_intensities(data: NDArray[np.generic], file: StudyFile) -> None:
    largest = max(-float(data.min()), float(data.max()))  # NaN when there is one
    if not math.isfinite(largest):
        bad = int(data.size - np.count_nonzero(np.isfinite(data)))
        raise file.error(
            f"{file.role} has NaN or infinite voxels",
            expected="finite numbers in every voxel",
            got=f"{bad} of {data.size} voxels are not finite",
            remedy="replace them (with 0 outside the field of view)"
            + ("" if file.path is None else " and save the file again"),
        )
    if largest > MAX_ABS_INTENSITY:
        raise file.error(
            f"{file.role} has intensities that no scanner writes",
            expected=f"at most {MAX_ABS_INTENSITY:g}",
            got=f"{largest:g}",
            remedy="check scl_slope and the conversion that made the file",
        )


def read_map(path: Path, *, study: str, role: str, known: Collection[int] | None = None) -> Volume:
    """Read an integer map (region or reference label).

    Args:
        path: NIfTI file.
        study: study id, for messages.
        role: "region" or "label", for messages.
        known: the ids that may occur; None allows any.

    Raises:
        InputError: as `read_image`, and when a value is no whole number or not a known id.
    """
    header, array, place = read_nifti(path, study=study, role=role)
    return map_volume(header, array, place, StudyFile(study, role, path), known=known)


def map_volume(
    header: nib.nifti1.Nifti1Header,
    array: NDArray[np.generic],
    place: Place,
    file: StudyFile,
    *,
    known: Collection[int] | None = None,
) -> Volume:
    """Ids of a header and its array; the other arguments are those of `read_map`.

    Raises:
        InputError: a value is no whole number or not a known id.
    """
    values = _values(array).astype(np.float64)
    finite = np.where(np.isfinite(values), values, 0.5)
    fractional = values[np.abs(finite - np.round(finite)) > _step(header)]
    if fractional.size:
        raise file.error(
            f"the {file.role} map has values that are no whole numbers",
            expected="integer ids",
            got=", ".join(f"{v:g}" for v in fractional[:5]),
            remedy="resample maps with nearest neighbour and save them as integers",
        )
    if known is not None:
        unknown = [int(v) for v in np.round(values) if int(v) not in known]
        if unknown:
            raise file.error(
                f"the {file.role} map has an unknown class id",
                expected=f"ids {', '.join(str(i) for i in sorted(known))}",
                got=", ".join(str(i) for i in unknown[:8]),
                remedy=_UNKNOWN_ID_REMEDY.get(file.role, "correct the file"),
            )
    ids = np.rint(array) if array.dtype.kind == "f" else array
    data = ids.reshape(place.grid.shape, order="F").astype(np.int64, order="C")
    return Volume(data, place.grid, header, array.shape, file.path, warnings=place.warnings)


def read_probabilities(path: Path, *, study: str, n_classes: int) -> Volume:
    """Read class probabilities (X, Y, Z, K) that `predict` wrote; `data` is (X, Y, Z, K).

    Args:
        path: NIfTI file.
        study: study id, for messages.
        n_classes: K.

    Raises:
        InputError: as `read_image`, another number of classes, or values that are no probabilities: in a
            voxel they sum to 1, or to 0 outside the region.
    """
    header, array, place = read_nifti(path, study=study, role="probability", several_frames=True)
    file = StudyFile(study, "probability", path)
    data = array.reshape((*place.grid.shape, -1), order="F").astype(np.float32)
    if data.shape[3] != n_classes:
        raise file.error(
            "the probability map has another number of classes",
            expected=f"{n_classes} volumes, those of 'classes' in the side file",
            got=str(data.shape[3]),
            remedy="run mrigmm predict again",
        )
    total = data.sum(axis=3)
    if not (data.min() >= 0 and np.all((np.abs(total - 1) < _SUM_TOLERANCE) | (total == 0))):
        raise file.error(
            "the probability map holds values that are no probabilities",
            expected="values of 0 and more that sum to 1 in a voxel, or to 0 outside the region",
            got=f"values from {data.min():g}, sums from {total.min():g} to {total.max():g}",
            remedy="run mrigmm predict again",
        )
    return Volume(data, place.grid, header, array.shape, path, warnings=place.warnings)


def _step(header: nib.nifti1.Nifti1Header) -> float:
    """By how much whole numbers may be missed: where floats were packed, 1 comes back as 1.00002."""
    slope = abs(header.get_slope_inter()[0] or 0.0)
    return slope if slope < _MAX_STEP else 0.0


def _values(array: NDArray[np.generic]) -> NDArray[np.generic]:
    """The values that occur, in order."""
    if array.dtype.kind in "iub" and array.min() >= 0 and array.max() < _MAX_COUNTED_ID:
        return np.flatnonzero(np.bincount(array.ravel(order="K")))
    return np.unique(array)


_UNKNOWN_ID_REMEDY = {
    "label": "name the id under 'labels' in the manifest (structures that are no class under "
    "'background', for example the right ventricle: \"background\": [0, 600])",
    "mask": "name the id with --labels (structures that are no class under background: "
    "'{background: [0, 600], blood: 500, ...}')",
    "scribbles": "use the ids of mrigmm's own label maps (docs/data.md), and 0 where nothing is said",
    "region": "use 0 outside, and either 1 = left ventricle, or 1 = cavity and 2 = wall",
}
