"""What a NIfTI header may claim about voxels and dimensions; their place in mm: `nifti_place`."""

from __future__ import annotations

import math
from pathlib import Path

import nibabel as nib

from mrigmm.errors import InputError

# A whole-heart series has some 1e8; a header can claim anything.
MAX_VOXELS = 1 << 29


def check_header(
    header: nib.nifti1.Nifti1Header, path: Path, study: str, role: str, *, several_frames: bool
) -> None:
    """Refuse what is no volume of a scanner.

    Args:
        header: of the file.
        path: the file, for messages.
        study: study id, for messages.
        role: what the file is in the study, for messages.
        several_frames: whether a fourth dimension may be longer than 1.

    Raises:
        InputError: voxels that are no real numbers, another number of dimensions, or more voxels than any
            study.
    """
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


def three_d_shape(shape: tuple[int, ...]) -> tuple[int, int, int]:
    """The first three of a shape's dimensions; those that are missing are 1."""
    x, y, z = (*shape, 1)[:3]
    return int(x), int(y), int(z)
