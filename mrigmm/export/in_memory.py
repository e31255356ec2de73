"""Maps given back in memory, as the caller holds the images."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray

from mrigmm.data.study_tensors import OutputGrid
from mrigmm.export.nifti import map_image
from mrigmm.lazy import LazyModule

if TYPE_CHECKING:
    import SimpleITK as sitk  # noqa: N813 - its own name
else:
    sitk = LazyModule("SimpleITK")


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
