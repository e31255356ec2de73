"""A NIfTI file from its bytes to header and array, with every reason why it cannot be read."""

from __future__ import annotations

import logging
import math
import os
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import nibabel as nib
import numpy as np
from nibabel.filebasedimages import ImageFileError
from nibabel.spatialimages import HeaderDataError
from nibabel.volumeutils import apply_read_scaling
from numpy.typing import NDArray

from mrigmm.data.inflate import MAX_RATIO, InflateError, SurplusError, inflate
from mrigmm.data.nifti_place import Place, placed
from mrigmm.errors import InputError, StudyFile

_SILENT = logging.Logger("nibabel's remarks on headers")
_SILENT.addHandler(logging.NullHandler())
_NIFTI_SUFFIXES = (".nii", ".nii.gz")
_HEADER_BYTES = 540  # of NIfTI-2, the longer one
_START_BYTES = 1 << 16  # of a file, compressed or not: enough for a header
# What may follow the voxels in a file: padding of some writers. More means that the header is wrong.
_MAX_PADDING = 1 << 20


def read_nifti(
    path: Path, *, study: str, role: str, several_frames: bool = False
) -> tuple[nib.nifti1.Nifti1Header, NDArray[np.generic], Place]:
    """Header, array as stored and scaled, and where its first three axes lie in mm.

    Args:
        path: NIfTI file.
        study: study id, for messages.
        role: what the file is in the study, for messages.
        several_frames: whether a fourth dimension may be longer than 1.

    Raises:
        InputError: the file is missing, damaged or no NIfTI, or `check_header` or `placed` refuses it.
    """
    named = StudyFile(study, role, path)
    with _readable(path, named):
        packed = path.suffix.lower() == ".gz"
        with path.open("rb") as file:
            header = _header(file.read(_START_BYTES), packed=packed)
            check_header(header, named, several_frames=several_frames)
            place = placed(header, named)
            file.seek(0, os.SEEK_END)
            try:
                if file.tell() > 1.01 * _span(header)[1] + _MAX_PADDING:  # noise grows when it is packed
                    raise SurplusError
                file.seek(0)
                array = _voxels(header, file.read(), packed=packed)
            except SurplusError:
                raise named.error(
                    f"the {role} file holds more than its header says",
                    expected=f"voxels for the shape {_shape(header)} and no more",
                    got=f"more than {_MAX_PADDING} further bytes",
                    remedy="convert the file again: its header does not belong to its voxels",
                ) from None
    return header, array, place


def read_shape(path: Path, *, study: str, role: str) -> tuple[tuple[int, ...], Place]:
    """Read the shape of a file and where its first three axes lie, from its header alone.

    Raises:
        InputError: as `read_nifti`, as far as the header tells.
    """
    named = StudyFile(study, role, path)
    with _readable(path, named), path.open("rb") as file:
        header = _header(file.read(_START_BYTES), packed=path.suffix.lower() == ".gz")
        check_header(header, named, several_frames=True)
        return _shape(header), placed(header, named)


def _shape(header: nib.nifti1.Nifti1Header) -> tuple[int, ...]:
    return tuple(int(n) for n in header.get_data_shape())


@contextmanager
def _readable(path: Path, file: StudyFile) -> Iterator[None]:
    """Turn every reason why a file cannot be read into an error of the input."""
    try:
        is_there, is_file = path.exists(), path.is_file()
    except OSError as error:  # a name that is too long, a folder that may not be entered
        raise _damaged(file, error) from None
    if not is_file:
        raise file.error(
            f"{file.role} is not a file" if is_there else f"the {file.role} file does not exist",
            remedy="correct the path, or copy the file there"
            if _has_images(path.parent)
            else "correct the path, or name the folder that holds the data with --data-root",
        )
    if not path.name.lower().endswith(_NIFTI_SUFFIXES):
        raise _not_nifti(file, f"the name ends in '{''.join(path.suffixes[-2:])}'")
    try:
        yield
    except InputError:
        raise
    except (ImageFileError, HeaderDataError) as error:
        raise _not_nifti(file, str(error).splitlines()[0] if str(error) else "damaged") from None
    except (OSError, EOFError, InflateError, ValueError, OverflowError, MemoryError) as error:
        raise _damaged(file, error) from None


def _has_images(folder: Path) -> bool:
    """Return whether a folder is where the data are, as far as its files tell."""
    return any(file.name.lower().endswith(_NIFTI_SUFFIXES) for file in folder.glob("*"))


def stored_header(path: Path) -> nib.nifti1.Nifti1Header:
    """Read the header of a file as it is stored, nothing of it checked or mended.

    Raises:
        InputError: there is none.
    """
    with _readable(path, StudyFile("", "image", path)), path.open("rb") as file:
        return _stored_header(file.read(_START_BYTES), packed=path.suffix.lower() == ".gz")


def _stored_header(content: bytes, *, packed: bool) -> nib.nifti1.Nifti1Header:
    """Return the header at the start of a file.

    Raises:
        ImageFileError: there is none.
    """
    try:
        start = inflate(content, _HEADER_BYTES, None) if packed else content[:_HEADER_BYTES]
    except InflateError:
        raise ImageFileError("no gzip stream, although the name says so") from None
    for kind in (nib.Nifti1Image, nib.Nifti2Image):
        if kind.header_class.may_contain_header(start):
            break
    else:
        raise ImageFileError("no NIfTI header at the start of the file")
    return kind.header_class(start[: kind.header_class.sizeof_hdr], check=False)


def _header(content: bytes, *, packed: bool) -> nib.nifti1.Nifti1Header:
    """Return the header at the start of a file, as it can be used.

    Raises:
        ImageFileError: there is none.
    """
    stored = _stored_header(content, packed=packed)
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


def _span(header: nib.nifti1.Nifti1Header) -> tuple[int, int]:
    """Return where in the uncompressed file its header says that the voxels begin and end, in bytes."""
    start = int(header.get_data_offset() or header.single_vox_offset)
    return start, start + math.prod(header.get_data_shape()) * int(header.get_data_dtype().itemsize)


def _voxels(header: nib.nifti1.Nifti1Header, content: bytes, *, packed: bool) -> NDArray[np.generic]:
    """The array of a file, scaled; a compressed one is read to its end, where the checksum stands."""
    shape, dtype = header.get_data_shape(), header.get_data_dtype()
    start, size = _span(header)
    if packed:
        if size > MAX_RATIO * len(content):  # before memory is taken for a promise
            raise EOFError(f"Expected {size} bytes, got {len(content)} compressed bytes, which hold fewer")
        content = inflate(content, size, _MAX_PADDING)
    elif len(content) > size + _MAX_PADDING:
        raise SurplusError
    if len(content) < size:
        raise EOFError(f"Expected {size} bytes, got {len(content)} bytes")
    array = np.frombuffer(content, dtype, math.prod(shape), start).reshape(shape, order="F")
    slope, intercept = header.get_slope_inter()
    return np.asarray(apply_read_scaling(array, slope, intercept))


def _damaged(file: StudyFile, error: Exception) -> InputError:
    if isinstance(error, MemoryError):
        return file.error(
            f"there is not enough memory to read the {file.role} file",
            remedy="free memory, or convert the file again where its header claims more voxels than it has",
        )
    first_line = str(error).splitlines()[0] if str(error) else ""
    return file.error(
        f"the {file.role} file is damaged or cannot be read",
        expected="a complete NIfTI file",
        got=f"{type(error).__name__}: {first_line}".rstrip(": "),
        remedy="copy or convert the file again",
    )


def _not_nifti(file: StudyFile, got: str) -> InputError:
    return file.error(
        f"the {file.role} file is not a NIfTI file",
        expected="a NIfTI-1 or NIfTI-2 file (.nii or .nii.gz)",
        got=got,
        remedy="convert it, for example with dcm2niix or SimpleITK",
    )


_MAPS = ("region", "label", "mask", "scribbles")
# A whole-heart series has some 1e8; a header can claim anything.
MAX_VOXELS = 1 << 29


def check_header(header: nib.nifti1.Nifti1Header, file: StudyFile, *, several_frames: bool) -> None:
    """Refuse what is no volume of a scanner.

    Args:
        header: of the file.
        file: whose it is, for messages.
        several_frames: whether a fourth dimension may be longer than 1.

    Raises:
        InputError: voxels that are no real numbers, another number of dimensions, or more voxels than any
            study.
    """
    dtype = header.get_data_dtype()
    if dtype.fields is not None or dtype.kind not in "iufb":
        raise file.error(
            f"{file.role} has voxels that are no single real numbers",
            expected="integer or floating-point voxels",
            got=f"data type {header['datatype']} ({'RGB' if dtype.fields else dtype})",
            remedy="save the magnitude as a scalar image",
        )
    shape = header.get_data_shape()
    last = shape[4:] if several_frames else shape[3:]
    if len(shape) < 2 or any(n <= 0 for n in shape) or any(n != 1 for n in last):
        raise file.error(
            f"{file.role} is not one volume",
            expected="2 or 3 dimensions, or a fourth of length 1",
            got=f"shape {tuple(int(n) for n in shape)}",
            remedy="save a map of one volume: where there is one per class, the class of each voxel (argmax)"
            if file.role in _MAPS
            else 'extract one frame of a series, or name it: {"file": ..., "frame": 0} in the manifest, '
            "--frame NAME=0 for a single study, frames={NAME: 0} in Python",
        )
    if math.prod(shape) > MAX_VOXELS:
        raise file.error(
            f"{file.role} is larger than any study of the heart",
            expected=f"at most {MAX_VOXELS} voxels",
            got=f"shape {tuple(int(n) for n in shape)}",
            remedy="convert the file again, or crop it to the heart",
        )
