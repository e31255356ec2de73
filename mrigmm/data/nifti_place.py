"""Place of the voxels of a NIfTI file, in mm: its sform, qform, pixdim and unit compared.

A header says the size of a voxel up to three times: by the columns of the sform, by pixdim, and by the
qform, which turns axes of pixdim's lengths. Programs differ in which of them they read: nibabel and most
Python code the sform, programs built on ITK (3D Slicer, ITK-SNAP) always pixdim. Where they contradict each
other, volumes and masses would depend on the program.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, TypeAlias

import nibabel as nib
import numpy as np
from nibabel.spatialimages import HeaderDataError
from numpy.typing import NDArray

from mrigmm.data.geometry import Grid
from mrigmm.errors import InputError, StudyFile

Header: TypeAlias = nib.nifti1.Nifti1Header
Source = Literal["sform", "pixdim"]

VOXEL_MM = (0.02, 100.0)  # beyond it lengths are in another unit, or lost
SCALE_TOLERANCE = 0.01  # of sform and pixdim; headers are rounded
_MAX_LENGTH = 1e9  # mm; no place in a scanner
# By the lowest three bits of xyzt_units; all other values are "unknown", which everyone reads as mm.
_UNITS_MM = {1: ("metres", 1e3), 2: ("millimetres", 1.0), 3: ("micrometres", 1e-3)}
# What lengths may be that are no mm, and how many mm each is.
_OTHER_UNITS = {"metres": 1e3, "centimetres": 10.0, "micrometres": 1e-3}
# A heart in cm: pixels, slice distance and field of view that are too small for any patient's.
_CM_PIXEL, _CM_SLICE, _CM_VIEW = 0.35, 2.5, 60.0
_ORTHONORMAL = 1e-4  # elements of D D^T - 1 that ITK 5.4 accepts of a direction D
_LPS = np.diag([-1.0, -1.0, 1.0, 1.0])


def three_d_shape(shape: tuple[int, ...]) -> tuple[int, int, int]:
    """The first three of a shape's dimensions; those that are missing are 1."""
    x, y, z = (*shape, 1)[:3]
    return int(x), int(y), int(z)


@dataclass(frozen=True)
class Place:
    """Place of a file's voxels.

    Attributes:
        grid: of its first three axes.
        warnings: what a user should know about how it was told.
    """

    grid: Grid
    warnings: tuple[str, ...] = ()


def placed(header: Header, file: StudyFile) -> Place:
    """Return where the voxels lie, from all that the header says.

    Sform and qform count in this order, as everywhere. Where the columns of the sform are more than 1 %
    longer or shorter than pixdim says, the size counts that is also the qform's; without a qform, the one
    that somebody wrote, where the other is the 1 mm of an empty header. Where one of them is the other in
    another unit, the one counts that is a heart's.

    Args:
        header: of the file.
        file: whose it is, for messages.

    Raises:
        InputError: a singular affine, sizes that contradict each other, or voxels of an impossible size.
    """
    shape = three_d_shape(header.get_data_shape())
    unit, to_mm = _UNITS_MM.get(int(header["xyzt_units"]) & 7, ("", 1.0))
    best = _in_mm(header.get_best_affine(), to_mm)
    _require_volume(best, file)
    warnings: list[str] = []
    affine = best
    if header["sform_code"] > 0:
        chosen, pixdim = _trusted(header, best, to_mm), _pixdim(header, to_mm)
        if chosen is None:
            raise _contradiction(header, best, pixdim, file)
        if chosen == "pixdim":
            affine = _rescaled(header, best, to_mm)
        if _apart(header, best, pixdim).any():
            sizes = {"sform": _size(_norms(best)), "pixdim": _size(pixdim)}
            other = "pixdim" if chosen == "sform" else "sform"
            warnings.append(
                f"{file.role} has two voxel sizes in its header: {sizes[chosen]} ({chosen}) was taken, "
                f"and not {sizes[other]} ({other})"
            )
    grid = Grid(shape, affine, _others(header, affine, to_mm))
    _require_size(grid, unit, to_mm, file)
    if to_mm != 1:
        warnings.append(
            f"{file.role} has lengths in {unit}, as its header says: voxels of {_size(grid.spacing_mm)}"
        )
    if _looks_like_cm(grid):
        if not unit:
            raise _perhaps_cm(grid, file)
        warnings.append(
            f"{file.role} has voxels of {_size(grid.spacing_mm)}: too small for a patient's heart; if these "
            "are cm, volumes and masses are 1000 times too small: multiply the affine by 10"
        )
    return Place(grid, tuple(warnings))


def itk_opens(header: Header) -> bool:
    """Return whether programs built on ITK read a header: some form of it has perpendicular axes."""
    if header["sform_code"] <= 0 or _qform(header) is not None:
        return True
    matrix = header.get_sform()[:3, :3]
    direction = matrix / np.linalg.norm(matrix, axis=0)
    return bool(np.abs(direction @ direction.T - np.eye(3)).max() < _ORTHONORMAL)


def add_qform(header: Header, grid: Grid) -> None:
    """Give a header the qform with perpendicular axes that is nearest to a grid; the sform stays."""
    affine = _in_mm(grid.affine, 1 / _UNITS_MM.get(int(header["xyzt_units"]) & 7, ("", 1.0))[1])
    header.set_qform(affine, code=int(header["sform_code"]), strip_shears=True)


def moved_to(header: Header, grid: Grid) -> Header:
    """Return a copy of a header that says, in its sform alone, where another grid lies."""
    moved = header.copy()
    moved.set_data_shape(grid.shape)
    moved.set_xyzt_units("mm")
    moved.set_zooms(grid.spacing_mm)
    moved.set_sform(grid.affine, code="aligned")
    moved.set_qform(None, code="unknown")
    return moved


def _in_mm(affine: NDArray[np.floating], to_mm: float) -> NDArray[np.float64]:
    scaled = np.array(affine, dtype=np.float64)
    scaled[:3] *= to_mm
    return scaled


def _norms(affine: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.asarray(np.linalg.norm(affine[:3, :3], axis=0))


def _size(mm: NDArray[np.floating]) -> str:
    return " x ".join(f"{size:.4g}" for size in mm) + " mm"


def _pixdim(header: Header, to_mm: float) -> NDArray[np.float64]:
    """Voxel size (3,) in mm by pixdim; NaN where it says nothing."""
    said = np.abs(np.asarray(header["pixdim"][1:4], dtype=np.float64)) * to_mm
    return np.where(np.isfinite(said) & (said > 0), said, np.nan)


def _qform(header: Header) -> NDArray[np.float64] | None:
    """The qform in the header's unit, where it has one that maps a volume."""
    try:
        qform = header.get_qform(coded=True)[0]
    except HeaderDataError:
        return None
    usable = qform is not None and np.isfinite(qform).all() and (_norms(qform) > 0).all()
    return np.asarray(qform, dtype=np.float64) if usable else None


def _apart(header: Header, sform: NDArray[np.float64], pixdim: NDArray[np.float64]) -> NDArray[np.bool_]:
    """Along which axes (3,) sform and pixdim contradict each other.

    Along an axis of one voxel, 1 is what many programs write for "nothing". Of sheared axes, pixdim may hold
    the distance of the slices in place of the length of the step between them.
    """
    single = np.array(three_d_shape(header.get_data_shape())) == 1
    says = np.isfinite(pixdim) & ~(single & (header["pixdim"][1:4] == 1))
    says &= np.arange(3) < len(header.get_data_shape())
    steps = (_norms(sform), 1 / np.linalg.norm(np.linalg.inv(sform[:3, :3]), axis=1))
    agrees = [np.abs(step / pixdim - 1) <= SCALE_TOLERANCE for step in steps]
    return np.asarray(says & ~(agrees[0] | agrees[1]))


def _trusted(header: Header, sform: NDArray[np.float64], to_mm: float) -> Source | None:
    """Return which voxel size counts; None: that cannot be told."""
    pixdim, norms = _pixdim(header, to_mm), _norms(sform)
    apart = _apart(header, sform, pixdim)
    if not apart.any():
        return "sform"
    shape = three_d_shape(header.get_data_shape())
    one, two = norms[apart], pixdim[apart]
    power = np.log10(one / two)
    tenfold = bool(np.abs(power - np.round(power[0])).max() < np.log10(1 + SCALE_TOLERANCE))
    if tenfold and apart[[n > 1 for n in shape]].all():
        usual = [
            Grid(shape, np.diag([*size, 1.0])).has_usual_voxels for size in (norms, np.nan_to_num(pixdim))
        ]
        if usual[0] != usual[1]:
            return "sform" if usual[0] else "pixdim"
    if _empty(one, to_mm):
        return "pixdim"
    if _qform(header) is None:
        return "sform" if _empty(two, to_mm) else None
    # A qform of 1 mm was written by somebody: 1 mm may be right, or the qform as empty as pixdim.
    return None if _empty(two, to_mm) else "pixdim"


def _empty(mm: NDArray[np.float64], to_mm: float) -> bool:
    """Return whether sizes are the 1, of mm or of the header's unit, of a header without any."""
    return any(np.allclose(mm, one, rtol=1e-4) for one in (1.0, to_mm))


def _rescaled(header: Header, sform: NDArray[np.float64], to_mm: float) -> NDArray[np.float64]:
    """The affine in mm with pixdim's lengths: the qform, else the sform's directions and origin."""
    qform = _qform(header)
    if qform is not None:
        return _in_mm(qform, to_mm)
    return _stretched(sform, _pixdim(header, to_mm))


def _stretched(sform: NDArray[np.float64], pixdim: NDArray[np.float64]) -> NDArray[np.float64]:
    """The sform with the lengths of pixdim, where that says any."""
    affine = sform.copy()
    affine[:3, :3] *= np.where(np.isfinite(pixdim), pixdim / _norms(sform), 1.0)
    return affine


def _others(header: Header, affine: NDArray[np.float64], to_mm: float) -> tuple[NDArray[np.float64], ...]:
    """Other affines in mm by which programs read the header; ITK takes directions from either form."""
    readings = []
    qform = _qform(header)
    if qform is not None:
        readings.append(_in_mm(qform, to_mm))
    if header["sform_code"] > 0:
        sform = _in_mm(header.get_sform(), to_mm)
        readings += [sform, _stretched(sform, _pixdim(header, to_mm))]
    elif qform is None:
        size = np.nan_to_num(_pixdim(header, to_mm), nan=1.0)
        readings.append(np.asarray(_LPS @ np.diag([*size, 1.0])))
    found = [affine]
    for reading in readings:
        if not any(np.allclose(reading, other, rtol=1e-3, atol=1e-3) for other in found):
            found.append(reading)
    return tuple(found[1:])


def _require_volume(affine: NDArray[np.float64], file: StudyFile) -> None:
    matrix = affine[:3, :3]
    finite = bool(np.isfinite(affine).all()) and bool((np.abs(affine) < _MAX_LENGTH).all())
    # Volume of the voxel relative to a box with the same edges: 0 for axes that coincide.
    edges = float(np.prod(_norms(affine))) if finite else 0.0
    if not finite or edges <= 0 or abs(np.linalg.det(matrix)) < 1e-3 * edges:
        raise file.error(
            f"{file.role} has an affine that maps no volume",
            expected="three independent voxel axes in the sform or qform",
            got=np.array2string(matrix, precision=3).replace("\n", ""),
            remedy="convert the file again from DICOM, or repair the header",
        )


def _require_size(grid: Grid, unit: str, to_mm: float, file: StudyFile) -> None:
    sizes = grid.spacing_mm[[n > 1 for n in grid.shape]]
    if not sizes.size or VOXEL_MM[0] <= sizes.min() <= sizes.max() <= VOXEL_MM[1]:
        return
    # Lengths in another unit than the header says, if these are a heart's voxels.
    units = {name: factor for name, factor in (_OTHER_UNITS | {"millimetres": 1.0}).items() if name != unit}
    fits = [name for name, factor in units.items() if _scaled(grid, factor / to_mm).has_usual_voxels]
    hint = f", as the header says: {unit}" if to_mm != 1 else ""
    if fits:
        hint += f"; a heart's if these are {' or '.join(fits)}"
    raise file.error(
        f"{file.role} has voxels of a size that no scanner gives",
        expected=f"{VOXEL_MM[0]:g} to {VOXEL_MM[1]:g} mm",
        got=_size(sizes) + hint,
        remedy="correct the unit of the header (nibabel: image.header.set_xyzt_units('mm'))"
        if "millimetres" in fits
        else "write lengths in mm: convert the file again from DICOM, or correct its header",
    )


def _scaled(grid: Grid, factor: float) -> Grid:
    return Grid(grid.shape, _in_mm(grid.affine, factor))


def _looks_like_cm(grid: Grid) -> bool:
    """Return whether the field of view is too small for a patient's heart, but right in cm."""
    size, shape, across = grid.spacing_mm, np.array(grid.shape), grid.slice_axis
    in_plane, view = np.delete(size, across), np.delete(size * shape, across)
    small = bool(in_plane.max() <= _CM_PIXEL and view.max() < _CM_VIEW)
    small &= bool(shape[across] == 1 or size[across] <= _CM_SLICE)
    return small and _scaled(grid, _OTHER_UNITS["centimetres"]).has_usual_voxels


def _perhaps_cm(grid: Grid, file: StudyFile) -> InputError:
    view = np.delete(grid.spacing_mm * grid.shape, grid.slice_axis)
    return file.error(
        f"{file.role} has lengths that look like cm",
        expected="lengths in mm, or a header that names their unit",
        got=f"voxels of {_size(grid.spacing_mm)}, a field of view of {_size(view)}, and no unit (xyzt_units)",
        remedy="if they are cm, multiply the affine by 10 and save the file again; if they are mm (a small "
        "animal), say so in the header (nibabel: image.header.set_xyzt_units('mm'))",
    )


def _contradiction(
    header: Header, sform: NDArray[np.float64], pixdim: NDArray[np.float64], file: StudyFile
) -> InputError:
    by_pixdim = "pixdim; there is no qform" if _qform(header) is None else "pixdim and qform"
    return file.error(
        f"{file.role} has two voxel sizes in its header, and either may be right",
        expected="sform, qform and pixdim that agree within 1 %",
        got=f"{_size(_norms(sform))} (sform), {_size(pixdim)} ({by_pixdim})",
        remedy="look the voxel size up (DICOM: PixelSpacing, and the distance of the slices), write it to "
        "both forms (nibabel: image.set_sform(affine, 1), image.set_qform(affine, 1)), and save the file",
    )
