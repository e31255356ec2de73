"""Images that a caller has in memory, arrays or images of nibabel and SimpleITK, as volumes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias, Union

import nibabel as nib
import numpy as np
import torch
from nibabel.spatialimages import SpatialImage
from numpy.typing import NDArray

from mrigmm.data.geometry import Grid
from mrigmm.data.manifest import Study
from mrigmm.data.nifti_file import check_header
from mrigmm.data.nifti_place import moved_to, placed, three_d_shape
from mrigmm.data.volumes import ChooseFrame, Volume, image_volume, map_volume, read_image, read_map
from mrigmm.errors import InputError, StudyFile
from mrigmm.labels import REGION_FILE_IDS
from mrigmm.lazy import LazyModule

if TYPE_CHECKING:
    import SimpleITK as sitk  # noqa: N813 - its own name
else:
    sitk = LazyModule("SimpleITK")

# What an image may be given as.
# `|` would need SimpleITK here, and a text could not be part of another type.
AnyImage: TypeAlias = Union[Path, str, SpatialImage, "sitk.Image", NDArray[Any], torch.Tensor]

_LPS = np.diag([-1.0, -1.0, 1.0, 1.0])  # SimpleITK's world axes in nibabel's
_REAL = "iufb"  # kinds of numpy types


@dataclass(frozen=True)
class LoadedStudy(Study):
    """A study of which nothing is left to read.

    Attributes:
        volumes: sequence -> its volume; those that come from files are in `images`, too.
        drawn: the region map with the ids of a file (`labels.REGION_FILE_IDS`); None: to be found.
    """

    volumes: Mapping[str, Volume] = field(default_factory=dict)
    drawn: Volume | None = None


def array_affine(
    spacing_mm: Sequence[float] | None, affine: object, *, study: str
) -> NDArray[np.float64] | None:
    """The affine (4, 4) of a caller's arrays, from index to mm; None where nothing is said of it.

    Args:
        spacing_mm: distance of neighbouring voxels along the three axes of the array, the slice distance of
            a two-dimensional one included.
        affine: (4, 4) instead.
        study: id, for messages.

    Raises:
        InputError: both are given, or they are no such numbers.
    """
    if spacing_mm is not None and affine is not None:
        raise InputError(
            "spacing_mm and affine both say where the voxels of the arrays lie",
            study=study,
            remedy="give one of them",
        )
    if spacing_mm is not None:
        spacing = _numbers(spacing_mm, (3,))
        if spacing is None or spacing.min() <= 0:
            raise InputError(
                "the spacing of the arrays is not known",
                study=study,
                expected="spacing_mm: three numbers above 0, a distance in mm for each axis of the array",
                got=str(spacing_mm),
                remedy="of a two-dimensional array, the third is the distance of the slices",
            )
        return np.diag([*spacing, 1.0])
    matrix = None if affine is None else _numbers(affine, (4, 4))
    if affine is not None and matrix is None:
        raise InputError(
            "the affine is no matrix from voxel to mm", study=study, expected="4 x 4 numbers", got=str(affine)
        )
    return matrix


def _numbers(values: object, shape: tuple[int, ...]) -> NDArray[np.float64] | None:
    """Finite numbers of a shape; None: they are something else."""
    try:
        numbers = _as_array(values).astype(np.float64)
    except (TypeError, ValueError):
        return None
    return numbers if numbers.shape == shape and np.isfinite(numbers).all() else None


def image_in_memory(
    image: AnyImage,
    affine: NDArray[np.float64] | None,
    *,
    study: str,
    role: str,
    frame: int | None = None,
    choose_frame: ChooseFrame | None = None,
) -> Volume:
    """Intensities of an image, whatever holds it; a path is read.

    Args:
        image: path, image of nibabel or SimpleITK, array or tensor (X, Y), (X, Y, Z) or (X, Y, Z, T).
        affine: (4, 4) of an array.
        study: study id, for messages.
        role: name of the sequence, for messages.
        frame: as `data.volumes.read_image`.
        choose_frame: as `data.volumes.read_image`.

    Raises:
        InputError: as `read_image`, an array without an affine, or something that is no image.
    """
    options: dict[str, Any] = {"frame": frame, "choose_frame": choose_frame}
    if isinstance(image, Path | str):
        return read_image(Path(image), study=study, role=role, **options)
    file = StudyFile(study, role)
    header, array = _header_and_array(image, affine, file)
    several = frame is not None or choose_frame is not None
    check_header(header, file, several_frames=several)
    return image_volume(header, array, placed(header, file), file, **options)


def region_in_memory(image: AnyImage, affine: NDArray[np.float64] | None, *, study: str) -> Volume:
    """Ids of a region map, whatever holds it; arguments and errors as `image_in_memory` and `read_map`."""
    if isinstance(image, Path | str):
        return read_map(Path(image), study=study, role="region", known=REGION_FILE_IDS)
    file = StudyFile(study, "region")
    header, array = _header_and_array(image, affine, file)
    check_header(header, file, several_frames=False)
    return map_volume(header, array, placed(header, file), file, known=REGION_FILE_IDS)


def _header_and_array(
    image: object, affine: NDArray[np.float64] | None, file: StudyFile
) -> tuple[nib.nifti1.Nifti1Header, NDArray[np.generic]]:
    """Return header and scaled array, as a NIfTI file of the image would hold them."""
    if isinstance(image, SpatialImage):
        return _of_nibabel(image, file)
    if isinstance(image, sitk.Image):
        array, affine = _of_sitk(image, file)
    elif isinstance(image, np.ndarray | torch.Tensor):
        array = _as_array(image)
    else:
        raise file.error(
            f"{file.role} is no image",
            expected="a path, an image of nibabel or SimpleITK, or an array with spacing_mm= or affine=",
            got=type(image).__name__,
        )
    if isinstance(image, np.ma.MaskedArray) and np.ma.is_masked(image):
        raise file.error(
            f"{file.role} has masked voxels",
            expected="a value in every voxel",
            got=f"{int(np.ma.count_masked(image))} masked",
            remedy="fill them, with 0 outside the field of view (image.filled(0))",
        )
    if affine is None:
        raise file.error(
            f"{file.role} is an array, which does not say how large its voxels are",
            expected="spacing_mm=(x, y, z) in mm, or affine= (4 x 4)",
            got=f"an array of shape {tuple(array.shape)}",
            remedy="give one of them, or the image of nibabel or SimpleITK that the array came from",
        )
    if array.dtype.kind not in _REAL or not 2 <= array.ndim <= 4:
        raise file.error(
            f"{file.role} is not one volume of real numbers",
            expected="an array (X, Y) or (X, Y, Z) of numbers; of a cine (X, Y, Z, T)",
            got=f"shape {tuple(array.shape)}, type {array.dtype}",
            remedy="take the magnitude, one channel, and one study at a time (a list of studies for several)",
        )
    header = moved_to(nib.Nifti1Header(), Grid(three_d_shape(array.shape), affine))
    header.set_data_dtype(np.float32)  # stands for any real numbers
    header.set_data_shape(array.shape)
    return header, array


def _of_nibabel(image: SpatialImage, file: StudyFile) -> tuple[nib.nifti1.Nifti1Header, NDArray[np.generic]]:
    if image.affine is None:
        raise file.error(
            f"{file.role} does not say how large its voxels are",
            expected="a nibabel image with an affine",
            got="affine None",
            remedy="make it with one, or give the array with spacing_mm= or affine=",
        )
    kind = type(image) if isinstance(image, nib.Nifti1Image) else nib.Nifti1Image
    try:
        array = np.asanyarray(image.dataobj)
        # The affine counts, also where it was changed after the header.
        header = kind(image.dataobj, image.affine, image.header).header
    except Exception as error:  # a file that is gone or damaged: whatever its reader raises
        raise InputError(
            f"{file.role} cannot be read from its nibabel image",
            study=file.study,
            file=image.get_filename(),
            got=f"{type(error).__name__}: {error}".splitlines()[0],
        ) from None
    return header, array


def _of_sitk(image: sitk.Image, file: StudyFile) -> tuple[NDArray[np.generic], NDArray[np.float64]]:
    """Array (X, Y, Z) or (X, Y, Z, T) and affine in nibabel's world axes."""
    n = image.GetDimension()
    if n not in (3, 4) or image.GetNumberOfComponentsPerPixel() > 1:
        raise file.error(
            f"{file.role} is not one volume",
            expected="a SimpleITK image of 3 dimensions and one component",
            got=f"{n} dimensions, {image.GetNumberOfComponentsPerPixel()} components",
            remedy="join slices with SimpleITK.JoinSeries, take one component",
        )
    affine = np.eye(4)
    direction = np.reshape(image.GetDirection(), (n, n))[:3, :3]  # row major
    affine[:3, :3] = direction * np.array(image.GetSpacing()[:3])
    affine[:3, 3] = image.GetOrigin()[:3]
    return sitk.GetArrayFromImage(image).T, _LPS @ affine


def _as_array(values: object) -> NDArray[np.generic]:
    if isinstance(values, torch.Tensor):
        values = values.detach().cpu()
        values = (values.float() if values.is_floating_point() else values).numpy()
    return np.asarray(values)
