"""Reading NIfTI volumes, with every reason why a file cannot be used said in the user's words."""

from __future__ import annotations

import gzip
import warnings
import zlib
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path

import nibabel as nib
import numpy as np
from nibabel.filebasedimages import ImageFileError
from nibabel.spatialimages import HeaderDataError
from numpy.typing import NDArray

from mrigmm.data.geometry import Grid
from mrigmm.errors import InputError

_NIFTI_SUFFIXES = (".nii", ".nii.gz")
MAX_ABS_INTENSITY = 1e30  # beyond it squares overflow even in float64 sums of float32 data


@dataclass(frozen=True)
class Volume:
    """One NIfTI volume in memory: `data` (X, Y, Z), its grid, and the header to write by."""

    data: NDArray[np.float32] | NDArray[np.int64]
    grid: Grid
    header: nib.nifti1.Nifti1Header
    stored_shape: tuple[int, ...]  # as in the file: 2-D and 4-D with one frame are read as 3-D
    path: Path


def read_image(path: Path, *, study: str, role: str) -> Volume:
    """Read intensities as float32.

    Args:
        path: NIfTI file, 2-D, 3-D, or 4-D with a single frame.
        study: study id, for messages.
        role: what the file is in the study ("LGE", ...), for messages.

    Raises:
        InputError: when the file is missing, damaged, no NIfTI, complex or RGB, not 3-D, has a
            singular affine, or holds NaN or infinite voxels.
    """
    image, array, grid = _read(path, study=study, role=role)
    data = np.asarray(array, dtype=np.float64)
    bad = int(data.size - np.count_nonzero(np.isfinite(data)))
    if bad:
        raise InputError(
            f"{role} has NaN or infinite voxels",
            study=study,
            file=path,
            expected="finite numbers in every voxel",
            got=f"{bad} of {data.size} voxels are not finite",
            remedy="replace them (with 0 outside the field of view) and save the file again",
        )
    largest = float(np.abs(data).max())
    if largest > MAX_ABS_INTENSITY:
        raise InputError(
            f"{role} has intensities that no scanner writes",
            study=study,
            file=path,
            expected=f"at most {MAX_ABS_INTENSITY:g}",
            got=f"{largest:g}",
            remedy="check scl_slope and the conversion that made the file",
        )
    return Volume(data.astype(np.float32), grid, image.header, tuple(image.shape), path)


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
    image, array, grid = _read(path, study=study, role=role)
    values = np.unique(np.asarray(array))
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
    return Volume(np.asarray(array).astype(np.int64), grid, image.header, tuple(image.shape), path)


_UNKNOWN_ID_REMEDY = {
    "label": "name the id under 'labels' in the manifest (structures that are no class under "
    "'background', for example the right ventricle: \"background\": [0, 600])",
    "region": "use 0 outside, and either 1 = left ventricle, or 1 = cavity and 2 = wall",
}


def _read(path: Path, *, study: str, role: str) -> tuple[nib.Nifti1Image, NDArray[np.generic], Grid]:
    try:
        is_there, is_file = path.exists(), path.is_file()
    except OSError as error:  # a name that is too long, a folder that may not be entered
        raise _damaged(path, study, role, error) from None
    if not is_file:
        raise InputError(
            f"{role} is not a file" if is_there else f"the {role} file does not exist",
            study=study,
            file=path,
            remedy="correct the path, or name the folder that holds the data with --data-root",
        )
    if not path.name.lower().endswith(_NIFTI_SUFFIXES):
        raise _not_nifti(path, study, role, f"the name ends in '{''.join(path.suffixes[-2:])}'")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # header oddities that nibabel mends; ours are checked below
            image = nib.load(path)
            if not isinstance(image, nib.Nifti1Image):
                raise _not_nifti(path, study, role, type(image).__name__)
            _check_header(image, path, study, role)
            array = _voxels(image, path)
    except InputError:
        raise
    except (ImageFileError, HeaderDataError) as error:
        raise _not_nifti(path, study, role, str(error).splitlines()[0] if str(error) else "damaged") from None
    except (OSError, EOFError, zlib.error, ValueError, OverflowError, MemoryError) as error:
        raise _damaged(path, study, role, error) from None
    shape = _three_d_shape(image.shape)
    return image, array.reshape(shape), Grid(shape, np.asarray(image.affine, dtype=np.float64))


def _voxels(image: nib.Nifti1Image, path: Path) -> NDArray[np.generic]:
    """The array of a file; a compressed one is read to its end, where the checksum stands."""
    if path.suffix.lower() != ".gz":
        return np.asanyarray(image.dataobj)
    with gzip.open(path) as stream:
        array = np.asanyarray(type(image).from_stream(stream).dataobj)
        while stream.read(1 << 20):
            pass
    return array


def _check_header(image: nib.Nifti1Image, path: Path, study: str, role: str) -> None:
    dtype = image.get_data_dtype()
    if dtype.fields is not None or dtype.kind not in "iufb":
        raise InputError(
            f"{role} has voxels that are no single real numbers",
            study=study,
            file=path,
            expected="integer or floating-point voxels",
            got=f"data type {image.header['datatype']} ({'RGB' if dtype.fields else dtype})",
            remedy="save the magnitude as a scalar image",
        )
    shape = image.shape
    if len(shape) < 2 or any(n == 0 for n in shape) or any(n != 1 for n in shape[3:]):
        raise InputError(
            f"{role} is not one volume",
            study=study,
            file=path,
            expected="2 or 3 dimensions, or a fourth of length 1",
            got=f"shape {tuple(int(n) for n in shape)}",
            remedy="extract one frame of a cine series (for example end-diastole) and give that",
        )
    # Values of 1 to 3 in the lowest three bits; 0 is "unknown", which everyone reads as mm.
    units = {1: "metres", 3: "micrometres"}.get(int(image.header["xyzt_units"]) & 7)
    if units is not None:
        raise InputError(
            f"{role} has lengths in another unit",
            study=study,
            file=path,
            expected="lengths in mm (xyzt_units of the header)",
            got=units,
            remedy="convert the file with its affine in mm",
        )
    matrix = image.affine[:3, :3]
    finite = bool(np.isfinite(image.affine).all())
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


def _three_d_shape(shape: tuple[int, ...]) -> tuple[int, int, int]:
    x, y, z = (*shape, 1)[:3]
    return int(x), int(y), int(z)


def _damaged(path: Path, study: str, role: str, error: Exception) -> InputError:
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
