"""What a NIfTI header may claim."""

from __future__ import annotations

import math
from pathlib import Path

import nibabel as nib
import numpy as np

from mrigmm.errors import InputError

# A whole-heart series has some 1e8; a header can claim anything.
MAX_VOXELS = 1 << 29
VOXEL_MM = (0.02, 100.0)  # beyond it lengths are in another unit, or lost
_MAX_LENGTH = 1e9  # mm; no place in a scanner


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
        InputError: voxels that are no real numbers, another number of dimensions, more voxels than any
            study, lengths in another unit, a singular affine, or voxels of an impossible size.
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
    sizes = np.linalg.norm(matrix, axis=0)[[n > 1 for n in three_d_shape(shape)]]
    if sizes.size and not VOXEL_MM[0] <= sizes.min() <= sizes.max() <= VOXEL_MM[1]:
        raise InputError(
            f"{role} has voxels of a size that no scanner gives",
            study=study,
            file=path,
            expected=f"{VOXEL_MM[0]:g} to {VOXEL_MM[1]:g} mm",
            got=" x ".join(f"{size:.3g}" for size in sizes) + " mm",
            remedy="write lengths in mm: convert the file again from DICOM, or correct its header",
        )


def three_d_shape(shape: tuple[int, ...]) -> tuple[int, int, int]:
    """The first three of a shape's dimensions; those that are missing are 1."""
    x, y, z = (*shape, 1)[:3]
    return int(x), int(y), int(z)
