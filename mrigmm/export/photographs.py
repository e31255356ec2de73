"""Label maps of natural images as indexed PNG, and the image with the borders of its segments."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import ExifTags, Image
from skimage.segmentation import find_boundaries

from mrigmm.data.files import atomic
from mrigmm.labels import segment_colours


def write_label_image(path: Path, labels: NDArray[np.uint8], k: int, *, orientation: int = 1) -> None:
    """Write segments (H, W), 1 to k and 0 outside, as an 8-bit PNG whose palette shows them in colour."""
    image = Image.fromarray(labels)
    image.putpalette([0, 0, 0, *(value for colour in segment_colours(k) for value in colour)])
    _save(image, path, orientation)


def write_overlay(
    path: Path, picture: NDArray[np.uint8], labels: NDArray[np.uint8], k: int, *, orientation: int = 1
) -> None:
    """Write a picture (H, W, 3) with the inner border of each segment in the segment's colour."""
    drawn = picture.copy()
    border = find_boundaries(labels, mode="inner")
    drawn[border] = np.array([(0, 0, 0), *segment_colours(k)], dtype=np.uint8)[labels[border]]
    _save(Image.fromarray(drawn), path, orientation)


def _save(image: Image.Image, path: Path, orientation: int) -> None:
    exif = Image.Exif()
    if orientation != 1:
        exif[ExifTags.Base.Orientation] = orientation
    with atomic(path) as temporary:
        image.save(temporary, format="PNG", exif=exif)
