"""NIfTI files of stacked series. Voxels and affine only: nothing else of the DICOM headers goes along."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
from numpy.typing import NDArray

from mrigmm.data.files import atomic

_SCANNER = 1  # NIfTI code of the scanner's own coordinates


def write_nifti(path: Path, data: NDArray[Any], affine: NDArray[np.float64]) -> None:
    """Write a volume (X, Y, Z) in mm; the qform is left out where it cannot hold the affine (shear)."""
    image = nib.Nifti1Image(data, affine)
    image.set_sform(affine, code=_SCANNER)
    image.set_qform(affine, code=_SCANNER)
    if not np.allclose(image.get_qform(), affine, atol=1e-3):
        image.set_qform(None, code=0)
    image.header.set_xyzt_units("mm")
    with atomic(path) as temporary:
        nib.save(image, temporary)
