"""NIfTI maps exactly on the grid of the study's reference file."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import nibabel as nib
import numpy as np
import torch
from numpy.typing import NDArray

from mrigmm.data.files import atomic
from mrigmm.data.nifti_place import add_qform, itk_opens
from mrigmm.data.study_tensors import OutputGrid
from mrigmm.lazy import LazyModule

if TYPE_CHECKING:
    import SimpleITK as sitk  # noqa: N813 - its own name
else:
    sitk = LazyModule("SimpleITK")


_INTENT_LABEL = 1002  # NIFTI_INTENT_LABEL
_DESCRIPTION = "mrigmm; not for clinical use"


def write_labels(
    path: Path, labels: NDArray[np.generic], output: OutputGrid, dtype: type[np.unsignedinteger] = np.uint8
) -> None:
    """Write class ids (X, Y, Z) on the reference grid: shape, sform, qform, pixdim and unit unchanged.

    So the map lies on the image in every program, whichever of these it reads, and the map is measured by
    the same of them as the image (`mrigmm.data.nifti_place`). Only where programs built on ITK would refuse
    the header, a qform is added.

    Args:
        path: file to write.
        labels: ids that `dtype` holds.
        output: the grid.
        dtype: of the file; uint16 for the ids of data sets that go beyond 255.
    """
    _save(_map_image(labels, output, dtype), path)


def write_probabilities(path: Path, resp: NDArray[np.generic], output: OutputGrid) -> None:
    """Write responsibilities (K, X, Y, Z) as a float32 volume (X, Y, Z, K)."""
    _save(_image(np.moveaxis(resp, 0, -1), output, np.float32), path)


def write_map(path: Path, values: NDArray[np.generic], output: OutputGrid) -> None:
    """Write a map (X, Y, Z) as float32."""
    _save(_map_image(values, output, np.float32), path)


def map_image(values: NDArray[np.generic], output: OutputGrid) -> nib.Nifti1Image:
    """Return the image that `write_labels` would write of integers (X, Y, Z), `write_map` of others."""
    image = _map_image(values, output, np.uint8 if values.dtype.kind in "iu" else np.float32)
    return type(image)(image.dataobj, image.header.get_best_affine(), image.header)


def _map_image(values: NDArray[np.generic], output: OutputGrid, dtype: type) -> nib.Nifti1Image:
    image = _image(values.reshape(output.stored_shape), output, dtype)
    if issubclass(dtype, np.unsignedinteger):
        image.header.set_intent(_INTENT_LABEL, allow_unknown=True)
    return image


def _image(data: NDArray[np.generic], output: OutputGrid, dtype: type) -> nib.Nifti1Image:
    header = output.header.copy()
    header.set_data_dtype(dtype)
    header.set_slope_inter(1, 0)
    header["cal_min"] = header["cal_max"] = 0  # display window of the intensities
    header["descrip"] = _DESCRIPTION
    header.extensions.clear()  # may hold patient data, as may the next two
    for field in ("db_name", "aux_file"):
        if field in header:
            header[field] = b""
    if not itk_opens(header):
        add_qform(header, output.grid)
    image_type = nib.Nifti2Image if isinstance(header, nib.Nifti2Header) else nib.Nifti1Image
    return image_type(data.astype(dtype), None, header)  # None: the header's own


def _save(image: nib.Nifti1Image, path: Path) -> None:
    with atomic(path) as temporary:
        nib.save(image, temporary)


def given_back(values: NDArray[np.generic], output: OutputGrid, like: object) -> Any:
    """A map as what the caller gave the image as.

    Args:
        values: (X, Y, Z) in the order of the image; integers are ids.
        output: grid and shape of the image.
        like: the image; a path counts as its nibabel image.

    Returns:
        Image of nibabel or SimpleITK on the grid of `like`, or array or tensor of its shape.
    """
    if isinstance(like, sitk.Image):
        image = sitk.GetImageFromArray(np.ascontiguousarray(values.T))
        n = like.GetDimension()
        image.SetOrigin(like.GetOrigin()[:3])
        image.SetSpacing(like.GetSpacing()[:3])
        image.SetDirection(np.reshape(like.GetDirection(), (n, n))[:3, :3].ravel().tolist())
        return image
    if isinstance(like, np.ndarray | torch.Tensor):
        array = np.array(values.reshape(output.stored_shape), order="C")  # the caller's own to change
        return torch.from_numpy(array) if isinstance(like, torch.Tensor) else array
    return map_image(values, output)
