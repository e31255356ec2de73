"""Volumes for the interactive viewer: cropped around the region, eight bits, inside the page."""

from __future__ import annotations

import base64
import gzip
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import nibabel as nib
import numpy as np
from numpy.typing import NDArray

from mrigmm.labels import class_colours
from mrigmm.reporting.slices import region_window

_DARKEST, _BRIGHTEST = 0.5, 99.5  # percentiles of what is shown


@dataclass(frozen=True)
class ViewerStudy:
    """The volumes of one study; files are NIfTI (gzip, uint8).

    Attributes:
        first_slice: number of the first slice shown, from 1.
        slices: how many there are.
        sequences: name -> file.
        labels: file of the label map.
    """

    first_slice: int
    slices: int
    sequences: Mapping[str, bytes]
    labels: bytes

    def as_json(self) -> dict[str, Any]:
        """Return JSON as the page's script wants it."""
        return {
            "firstSlice": self.first_slice,
            "slices": self.slices,
            "sequences": [{"name": name, "data": _text(file)} for name, file in self.sequences.items()],
            "labels": _text(self.labels),
        }


def viewer_study(
    images: Mapping[str, NDArray[np.float32]],
    labels: NDArray[np.uint8],
    *,
    spacing_mm: tuple[float, float, float],
) -> ViewerStudy:
    """Crop a study around its labels.

    The volumes lie straight in space, their slices across the last axis, so that the viewer shows the
    slices as they were acquired.

    Args:
        images: sequence -> intensities (X, Y, Z), slices along the last axis.
        labels: class ids (X, Y, Z).
        spacing_mm: of the axes.
    """
    used = np.flatnonzero((labels > 0).any(axis=(0, 1)))
    first, last = (int(used[0]), int(used[-1])) if used.size else (0, labels.shape[2] - 1)
    box = (*region_window(labels > 0, spacing_mm), slice(first, last + 1))
    return ViewerStudy(
        first_slice=first + 1,
        slices=last - first + 1,
        sequences={name: _nifti(_eight_bits(image[box]), spacing_mm) for name, image in images.items()},
        labels=_nifti(labels[box], spacing_mm),
    )


def viewer_classes(class_ids: Mapping[str, int]) -> list[dict[str, Any]]:
    """Name, id and colour of each class, as the page's script wants them."""
    colours = class_colours(list(class_ids))
    return [{"name": name, "id": i, "colour": colours[name]} for name, i in class_ids.items()]


def _eight_bits(image: NDArray[np.float32]) -> NDArray[np.uint8]:
    low, high = np.percentile(image, [_DARKEST, _BRIGHTEST])
    scaled = (image.astype(np.float64) - low) / max(high - low, 1e-6)
    return (np.clip(scaled, 0, 1) * 255).round().astype(np.uint8)


def _nifti(data: NDArray[np.uint8], spacing_mm: Sequence[float]) -> bytes:
    volume = nib.Nifti1Image(np.asfortranarray(data), np.diag([*spacing_mm, 1.0]))
    return gzip.compress(volume.to_bytes(), mtime=0)


def _text(file: bytes) -> str:
    return base64.b64encode(file).decode()
