"""Reading NIfTI volumes, with every reason why a file cannot be used said in the user's words."""

from __future__ import annotations

import logging
import math
import os
import warnings
from collections.abc import Callable, Collection
from dataclasses import dataclass
from pathlib import Path

import nibabel as nib
import numpy as np
from nibabel.filebasedimages import ImageFileError
from nibabel.spatialimages import HeaderDataError
from nibabel.volumeutils import apply_read_scaling
from numpy.typing import NDArray

from mrigmm.data.geometry import Grid
from mrigmm.data.inflate import MAX_RATIO, InflateError, SurplusError, inflate, inflate_start
from mrigmm.errors import InputError

_SILENT = logging.Logger("nibabel's remarks on headers")
_SILENT.addHandler(logging.NullHandler())
_NIFTI_SUFFIXES = (".nii", ".nii.gz")
_HEADER_BYTES = 540  # of NIfTI-2, the longer one
_START_BYTES = 1 << 16  # of a file, compressed or not: enough for a header
_MAX_COUNTED_ID = 1 << 16  # ids below are found by counting, which is quicker than sorting
_SUM_TOLERANCE = 1e-3  # of probabilities, which are float32
# A whole-heart series has some 1e8; a header can claim anything.
MAX_VOXELS = 1 << 29
# What may follow the voxels in a file: padding of some writers. More means that the header is wrong.
_MAX_PADDING = 1 << 20
VOXEL_MM = (0.02, 100.0)  # beyond it lengths are in another unit, or lost
_MAX_LENGTH = 1e9  # mm; no place in a scanner
MAX_ABS_INTENSITY = float(np.float32(1e30))  # beyond it squares overflow even in float64 sums of float32 data


@dataclass(frozen=True)
class Volume:
    """One NIfTI volume in memory: `data` (X, Y, Z), its grid, and the header to write by."""

    data: NDArray[np.float32] | NDArray[np.int64]
    grid: Grid
    header: nib.nifti1.Nifti1Header
    stored_shape: tuple[int, ...]  # as in the file: 2-D and 4-D with one frame are read as 3-D
    path: Path
    frame: int | None = None  # which one, from 0, where the file holds several


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
    header, array, grid = _read(path, study=study, role=role, several_frames=several)
    stored_shape, frames = array.shape, array.reshape((*grid.shape, -1), order="F")
    chosen = None
    if frame is not None and not 0 <= frame < frames.shape[3]:
        raise InputError(
            f"{role} has no frame {frame}",
            study=study,
            file=path,
            expected=f"a frame from 0 to {frames.shape[3] - 1}",
            got=str(frame),
            remedy="correct 'frame'; the first frame is 0",
        )
    if frames.shape[3] > 1:
        assert choose_frame is not None or frame is not None
        chosen = choose_frame(frames, grid) if frame is None and choose_frame else frame
        stored_shape = grid.shape
    data = frames[..., chosen or 0]
    _check_intensities(data, path, study, role)
    # Files are in Fortran order; all that follows is quicker in C order.
    return Volume(data.astype(np.float32, order="C"), grid, header, stored_shape, path, chosen)


def _check_intensities(data: NDArray[np.generic], path: Path, study: str, role: str) -> None:
    largest = max(-float(data.min()), float(data.max()))  # NaN when there is one
    if not math.isfinite(largest):
        bad = int(data.size - np.count_nonzero(np.isfinite(data)))
        raise InputError(
            f"{role} has NaN or infinite voxels",
            study=study,
            file=path,
            expected="finite numbers in every voxel",
            got=f"{bad} of {data.size} voxels are not finite",
            remedy="replace them (with 0 outside the field of view) and save the file again",
        )
    if largest > MAX_ABS_INTENSITY:
        raise InputError(
            f"{role} has intensities that no scanner writes",
            study=study,
            file=path,
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
    header, array, grid = _read(path, study=study, role=role)
    values = _values(array).astype(np.float64)
    fractional = values[~np.isfinite(values) | (values != np.round(values))]
    if fractional.size:
        raise InputError(
            f"the {role} map has values that are no whole numbers",
            study=study,
            file=path,
            expected="integer ids",
            got=", ".join(f"{v:g}" for v in fractional[:5]),
            remedy="resample maps with nearest neighbour and save them as integers",
        )
    if known is not None:
        unknown = [int(v) for v in values if int(v) not in known]
        if unknown:
            raise InputError(
                f"the {role} map has an unknown class id",
                study=study,
                file=path,
                expected=f"ids {', '.join(str(i) for i in sorted(known))}",
                got=", ".join(str(i) for i in unknown[:8]),
                remedy=_UNKNOWN_ID_REMEDY.get(role, "correct the file"),
            )
    data = array.reshape(grid.shape, order="F").astype(np.int64, order="C")
    return Volume(data, grid, header, array.shape, path)


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
    header, array, grid = _read(path, study=study, role="probability", several_frames=True)
    data = array.reshape((*grid.shape, -1), order="F").astype(np.float32)
    if data.shape[3] != n_classes:
        raise InputError(
            "the probability map has another number of classes",
            study=study,
            file=path,
            expected=f"{n_classes} volumes, those of 'classes' in the side file",
            got=str(data.shape[3]),
            remedy="run mrigmm predict again",
        )
    total = data.sum(axis=3)
    if not (data.min() >= 0 and np.all((np.abs(total - 1) < _SUM_TOLERANCE) | (total == 0))):
        raise InputError(
            "the probability map holds values that are no probabilities",
            study=study,
            file=path,
            expected="values of 0 and more that sum to 1 in a voxel, or to 0 outside the region",
            got=f"values from {data.min():g}, sums from {total.min():g} to {total.max():g}",
            remedy="run mrigmm predict again",
        )
    return Volume(data, grid, header, array.shape, path)


def _values(array: NDArray[np.generic]) -> NDArray[np.generic]:
    """The values that occur, in order."""
    if array.dtype.kind in "iub" and array.min() >= 0 and array.max() < _MAX_COUNTED_ID:
        return np.flatnonzero(np.bincount(array.ravel(order="K")))
    return np.unique(array)


_UNKNOWN_ID_REMEDY = {
    "label": "name the id under 'labels' in the manifest (structures that are no class under "
    "'background', for example the right ventricle: \"background\": [0, 600])",
    "scribbles": "use the ids of mrigmm's own label maps (docs/data.md), and 0 where nothing is said",
    "region": "use 0 outside, and either 1 = left ventricle, or 1 = cavity and 2 = wall",
}


def _has_images(folder: Path) -> bool:
    """Whether a folder is where the data are, as far as its files tell."""
    return any(file.name.lower().endswith(_NIFTI_SUFFIXES) for file in folder.glob("*"))


def _read(
    path: Path, *, study: str, role: str, several_frames: bool = False
) -> tuple[nib.nifti1.Nifti1Header, NDArray[np.generic], Grid]:
    """Header, array as stored, and the grid of its first three axes."""
    try:
        is_there, is_file = path.exists(), path.is_file()
    except OSError as error:  # a name that is too long, a folder that may not be entered
        raise _damaged(path, study, role, error) from None
    if not is_file:
        raise InputError(
            f"{role} is not a file" if is_there else f"the {role} file does not exist",
            study=study,
            file=path,
            remedy="correct the path, or copy the file there"
            if _has_images(path.parent)
            else "correct the path, or name the folder that holds the data with --data-root",
        )
    if not path.name.lower().endswith(_NIFTI_SUFFIXES):
        raise _not_nifti(path, study, role, f"the name ends in '{''.join(path.suffixes[-2:])}'")
    try:
        packed = path.suffix.lower() == ".gz"
        with path.open("rb") as file:
            header = _header(file.read(_START_BYTES), packed=packed)
            _check_header(header, path, study, role, several_frames=several_frames)
            file.seek(0, os.SEEK_END)
            if file.tell() > 1.01 * _end_of_voxels(header) + _MAX_PADDING:  # noise grows when it is packed
                raise SurplusError
            file.seek(0)
            array = _voxels(header, file.read(), packed=packed)
    except InputError:
        raise
    except SurplusError:
        raise InputError(
            f"the {role} file holds more than its header says",
            study=study,
            file=path,
            expected=f"voxels for the shape {tuple(int(n) for n in header.get_data_shape())} and no more",
            got=f"more than {_MAX_PADDING} further bytes",
            remedy="convert the file again: its header does not belong to its voxels",
        ) from None
    except (ImageFileError, HeaderDataError) as error:
        raise _not_nifti(path, study, role, str(error).splitlines()[0] if str(error) else "damaged") from None
    except (OSError, EOFError, InflateError, ValueError, OverflowError, MemoryError) as error:
        raise _damaged(path, study, role, error) from None
    return header, array, Grid(_three_d_shape(array.shape), np.asarray(header.get_best_affine(), np.float64))


def _header(content: bytes, *, packed: bool) -> nib.nifti1.Nifti1Header:
    """The header at the start of a file.

    Raises:
        ImageFileError: there is none.
    """
    try:
        start = inflate_start(content, _HEADER_BYTES) if packed else content[:_HEADER_BYTES]
    except InflateError:
        raise ImageFileError("no gzip stream, although the name says so") from None
    for kind in (nib.Nifti1Image, nib.Nifti2Image):
        if kind.header_class.may_contain_header(start):
            break
    else:
        raise ImageFileError("no NIfTI header at the start of the file")
    block = start[: kind.header_class.sizeof_hdr]
    stored = kind.header_class(block, check=False)
    header = stored.copy()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        header.check_fix(logger=_SILENT)  # oddities that nibabel mends; ours are checked below
    # It mends voxel sizes of 0 by 1, which would be a guess where they count.
    header["pixdim"][1:4] = np.where(
        stored["dim"][1:4] > 1, np.abs(stored["pixdim"][1:4]), header["pixdim"][1:4]
    )
    if header["magic"] != header.single_magic:
        raise ImageFileError("the header of a pair of files")
    return header


def _first_voxel(header: nib.nifti1.Nifti1Header) -> int:
    """Offset in bytes of the voxels."""
    return int(header.get_data_offset() or header.single_vox_offset)


def _end_of_voxels(header: nib.nifti1.Nifti1Header) -> int:
    """Bytes of the uncompressed file that its header speaks of."""
    return _first_voxel(header) + math.prod(header.get_data_shape()) * int(header.get_data_dtype().itemsize)


def _voxels(header: nib.nifti1.Nifti1Header, content: bytes, *, packed: bool) -> NDArray[np.generic]:
    """The array of a file, scaled; a compressed one is read to its end, where the checksum stands."""
    shape, dtype = header.get_data_shape(), header.get_data_dtype()
    count = math.prod(shape)
    start = _first_voxel(header)
    size = _end_of_voxels(header)
    if packed:
        if size > MAX_RATIO * len(content):  # before memory is taken for a promise
            raise EOFError(f"Expected {size} bytes, got {len(content)} compressed bytes, which hold fewer")
        content = inflate(content, size, _MAX_PADDING)
    elif len(content) > size + _MAX_PADDING:
        raise SurplusError
    if len(content) < size:
        raise EOFError(f"Expected {size} bytes, got {len(content)} bytes")
    array = np.frombuffer(content, dtype, count, start).reshape(shape, order="F")
    slope, intercept = header.get_slope_inter()
    return np.asarray(apply_read_scaling(array, slope, intercept))


def _check_header(
    header: nib.nifti1.Nifti1Header, path: Path, study: str, role: str, *, several_frames: bool
) -> None:
    dtype = header.get_data_dtype()
    if dtype.fields is not None or dtype.kind not in "iufb":
        raise InputError(
            f"{role} has voxels that are no single real numbers",
            study=study,
            file=path,
            expected="integer or floating-point voxels",
            got=f"data type {header['datatype']} ({'RGB' if dtype.fields else dtype})",
            remedy="save the magnitude as a scalar image",
        )
    shape = header.get_data_shape()
    last = shape[4:] if several_frames else shape[3:]
    if len(shape) < 2 or any(n <= 0 for n in shape) or any(n != 1 for n in last):
        raise InputError(
            f"{role} is not one volume",
            study=study,
            file=path,
            expected="2 or 3 dimensions, or a fourth of length 1",
            got=f"shape {tuple(int(n) for n in shape)}",
            remedy='extract one frame of a series, or name it: {"file": ..., "frame": 0} in the manifest, '
            "--frame NAME=0 for a single study",
        )
    if math.prod(shape) > MAX_VOXELS:
        raise InputError(
            f"{role} is larger than any study of the heart",
            study=study,
            file=path,
            expected=f"at most {MAX_VOXELS} voxels",
            got=f"shape {tuple(int(n) for n in shape)}",
            remedy="convert the file again, or crop it to the heart",
        )
    # Values of 1 to 3 in the lowest three bits; 0 is "unknown", which everyone reads as mm.
    units = {1: "metres", 3: "micrometres"}.get(int(header["xyzt_units"]) & 7)
    if units is not None:
        raise InputError(
            f"{role} has lengths in another unit",
            study=study,
            file=path,
            expected="lengths in mm (xyzt_units of the header)",
            got=units,
            remedy="convert the file with its affine in mm",
        )
    affine = header.get_best_affine()
    matrix = affine[:3, :3]
    finite = bool(np.isfinite(affine).all()) and bool((np.abs(affine) < _MAX_LENGTH).all())
    # Volume of the voxel relative to a box with the same edges: 0 for axes that coincide.
    edges = float(np.prod(np.linalg.norm(matrix, axis=0))) if finite else 0.0
    if not finite or edges <= 0 or abs(np.linalg.det(matrix)) < 1e-3 * edges:
        raise InputError(
            f"{role} has an affine that maps no volume",
            study=study,
            file=path,
            expected="three independent voxel axes in the sform or qform",
            got=np.array2string(matrix, precision=3).replace("\n", ""),
            remedy="convert the file again from DICOM, or repair the header",
        )
    sizes = np.linalg.norm(matrix, axis=0)[[n > 1 for n in _three_d_shape(shape)]]
    if sizes.size and not VOXEL_MM[0] <= sizes.min() <= sizes.max() <= VOXEL_MM[1]:
        raise InputError(
            f"{role} has voxels of a size that no scanner gives",
            study=study,
            file=path,
            expected=f"{VOXEL_MM[0]:g} to {VOXEL_MM[1]:g} mm",
            got=" x ".join(f"{size:.3g}" for size in sizes) + " mm",
            remedy="write lengths in mm: convert the file again from DICOM, or correct its header",
        )


def _three_d_shape(shape: tuple[int, ...]) -> tuple[int, int, int]:
    x, y, z = (*shape, 1)[:3]
    return int(x), int(y), int(z)


def _damaged(path: Path, study: str, role: str, error: Exception) -> InputError:
    if isinstance(error, MemoryError):
        return InputError(
            f"there is not enough memory to read the {role} file",
            study=study,
            file=path,
            remedy="free memory, or convert the file again where its header claims more voxels than it has",
        )
    first_line = str(error).splitlines()[0] if str(error) else ""
    return InputError(
        f"the {role} file is damaged or cannot be read",
        study=study,
        file=path,
        expected="a complete NIfTI file",
        got=f"{type(error).__name__}: {first_line}".rstrip(": "),
        remedy="copy or convert the file again",
    )


def _not_nifti(path: Path, study: str, role: str, got: str) -> InputError:
    return InputError(
        f"the {role} file is not a NIfTI file",
        study=study,
        file=path,
        expected="a NIfTI-1 or NIfTI-2 file (.nii or .nii.gz)",
        got=got,
        remedy="convert it, for example with dcm2niix or SimpleITK",
    )
