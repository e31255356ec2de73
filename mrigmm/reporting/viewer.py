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
        numbers: of the slices in the file, from 1, in the order in which they are shown.
        sequences: name -> file.
        labels: file of the label map.
    """

    numbers: tuple[int, ...]
    sequences: Mapping[str, bytes]
    labels: bytes

    def as_json(self) -> dict[str, Any]:
        """Return JSON as the page's script wants it."""
        return {
            "numbers": self.numbers,
            "sequences": [{"name": name, "data": _text(file)} for name, file in self.sequences.items()],
            "labels": _text(self.labels),
        }


def viewer_study(
    images: Mapping[str, NDArray[np.float32]],
    labels: NDArray[np.uint8],
    *,
    spacing_mm: tuple[float, float, float],
    numbers: Sequence[int],
    cropped: bool = True,
) -> ViewerStudy:
    """Return a study as the viewer wants it.

    The volumes lie straight in space, so that the viewer shows the slices as the pictures of the page do.

    Args:
        images: sequence -> intensities (rows, columns, slices), as they are to be shown.
        labels: class ids, of the same shape.
        spacing_mm: between rows, columns and slices.
        numbers: of the slices in the file, from 1.
        cropped: around the labels, to be small.
    """
    used = np.flatnonzero((labels > 0).any(axis=(0, 1)))
    first, last = (int(used[0]), int(used[-1])) if used.size and cropped else (0, labels.shape[2] - 1)
    window = region_window(labels > 0, spacing_mm) if cropped else (slice(None), slice(None))
    box = (*window, slice(first, last + 1))
    return ViewerStudy(
        numbers=tuple(numbers[first : last + 1]),
        sequences={name: _nifti(_eight_bits(image[box]), spacing_mm) for name, image in images.items()},
        labels=_nifti(labels[box], spacing_mm),
    )


def voxels_of_viewer(content: bytes, shape: tuple[int, int, int]) -> NDArray[np.uint8]:
    """Return the array (rows, columns, slices) of the voxels of a viewer's volume, in the order of its file.

    Raises:
        ValueError: another number of voxels.
    """
    rows, columns, slices = shape
    upright = np.frombuffer(content, np.uint8).reshape((columns, rows, slices), order="F")
    return upright.swapaxes(0, 1)[::-1]


def viewer_classes(class_ids: Mapping[str, int]) -> list[dict[str, Any]]:
    """Name, id and colour of each class, as the page's script wants them."""
    colours = class_colours(list(class_ids))
    return [{"name": name, "id": i, "colour": colours[name]} for name, i in class_ids.items()]


def _eight_bits(image: NDArray[np.float32]) -> NDArray[np.uint8]:
    low, high = np.percentile(image, [_DARKEST, _BRIGHTEST])
    scaled = (image.astype(np.float64) - low) / max(high - low, 1e-6)
    return (np.clip(scaled, 0, 1) * 255).round().astype(np.uint8)


def _nifti(data: NDArray[np.uint8], spacing_mm: Sequence[float]) -> bytes:
    down, across, between = spacing_mm
    upright = np.asfortranarray(data[::-1].swapaxes(0, 1))  # to the right, up
    volume = nib.Nifti1Image(upright, np.diag([across, down, between, 1.0]))
    return gzip.compress(volume.to_bytes(), mtime=0)


def _text(file: bytes) -> str:
    return base64.b64encode(file).decode()
