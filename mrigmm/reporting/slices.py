"""Slices of a segmented study: images with contours, label maps, and where they err."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont
from scipy.ndimage import binary_erosion

from mrigmm.labels import AGREEMENT_COLOURS, KEY_SEQUENCES, class_colours
from mrigmm.reporting.figures import chosen_slices, shown
from mrigmm.reporting.pictures import Picture, photograph

TILE = 168  # pixels of a slice's longer side
_MARGIN_MM = 12.0
_GAP = 4
_CONTOUR = 2  # pixels
_OPACITY = 0.5
_DIMMED, _ERROR_OPACITY = 0.6, 0.8  # of error maps: scar is bright itself
_BACKGROUND = (16, 18, 22)

Colours = Mapping[int, tuple[int, int, int]]


def slice_pictures(
    images: Mapping[str, NDArray[np.float32]],
    labels: NDArray[np.uint8],
    class_ids: Mapping[str, int],
    *,
    spacing_mm: tuple[float, float, float],
    mvo: NDArray[np.bool_] | None = None,
    reference: NDArray[np.integer[Any]] | None = None,
    reference_classes: Mapping[str, Sequence[str]] | None = None,
) -> list[Picture]:
    """Return rows of slices: each sequence with contours, the label map, the reference, the errors.

    Args:
        images: sequence -> intensities (X, Y, Z), slices along the last axis.
        labels: class ids (X, Y, Z).
        class_ids: class name -> id.
        spacing_mm: of the axes.
        mvo: where microvascular obstruction is (X, Y, Z), which the label map calls scar.
        reference: reference class ids (X, Y, Z).
        reference_classes: class that the reference knows, too -> the predicted classes that count as it.

    Returns:
        One picture per row; every row shows the same slices from left to right.
    """
    slices = chosen_slices(labels)
    everything = labels > 0 if reference is None else (labels > 0) | (reference > 0)
    window = region_window(everything, spacing_mm)
    size = _tile_size(window, spacing_mm)
    colours = {class_ids[name]: rgb for name, rgb in class_colours(list(class_ids)).items()}
    numbers = ", ".join(str(z + 1) for z in slices)

    def row(title: str, alt: str, tiles: list[NDArray[np.uint8]], legend: tuple[str, ...] = ()) -> Picture:
        numbered = [_numbered(tile, z + 1) for tile, z in zip(tiles, slices, strict=True)]
        return photograph(_side_by_side(numbered), title=title, alt=f"{alt}; slices {numbers}", legend=legend)

    def grey(sequence: str) -> list[NDArray[np.uint8]]:
        return _grey_tiles(images[sequence][window], slices, size)

    def ids(volume: NDArray[Any]) -> list[NDArray[np.uint8]]:
        return [
            _resized(volume[window][..., z].astype(np.uint8), size, Image.Resampling.NEAREST) for z in slices
        ]

    predicted = ids(labels)
    rows = [
        row(
            name,
            f"{name} with the contours of the predicted classes",
            [_contoured(g, m, colours) for g, m in zip(grey(name), predicted, strict=True)],
        )
        for name in images
    ]
    first = next(iter(images))
    title = f"label map on {first}"
    parts, coloured = labels, colours
    if mvo is not None:
        core = 1 + max(class_ids.values())
        parts, coloured = np.where(mvo, core, labels), {**colours, core: class_colours(["mvo"])["mvo"]}
    overlaid = [_overlaid(g, m, coloured) for g, m in zip(grey(first), ids(parts), strict=True)]
    rows.append(row(title, f"Predicted {title}", overlaid))
    if reference is None:
        return rows
    true = ids(reference)
    overlaid = [_overlaid(g, m, colours) for g, m in zip(grey(first), true, strict=True)]
    rows.append(row(f"reference on {first}", f"Reference label map on {first}", overlaid))
    agreement = dict(enumerate(AGREEMENT_COLOURS.values(), start=1))
    compared = reference_classes or {}
    for name in _classes_to_check([*compared]):
        predicted_as = [class_ids[member] for member in compared[name]]
        key = KEY_SEQUENCES.get(name, first)
        ground = key if key in images else first
        errors = [
            _overlaid(
                (g * _DIMMED).astype(np.uint8),
                _errors(np.isin(p, predicted_as), t == class_ids[name]),
                agreement,
                _ERROR_OPACITY,
            )
            for g, p, t in zip(grey(ground), predicted, true, strict=True)
        ]
        rows.append(
            row(
                f"errors of {name} on {ground}",
                f"Where prediction and reference agree and differ on {name}",
                errors,
                tuple(AGREEMENT_COLOURS),
            )
        )
    return rows


def _classes_to_check(classes: Sequence[str]) -> list[str]:
    """Edema and scar where they are among the classes, else every class."""
    return [name for name in classes if name in KEY_SEQUENCES] or list(classes)


def _errors(predicted: NDArray[np.bool_], true: NDArray[np.bool_]) -> NDArray[np.uint8]:
    """1 agree, 2 false positive, 3 false negative, 0 neither, as in `AGREEMENT_COLOURS`."""
    return np.select([predicted & true, predicted & ~true, ~predicted & true], [1, 2, 3], 0).astype(np.uint8)


def region_window(inside: NDArray[np.bool_], spacing_mm: Sequence[float]) -> tuple[slice, slice]:
    """Return the in-plane box around what is inside, with a margin in mm; everything where nothing is."""
    box = []
    for axis in (0, 1):
        used = np.flatnonzero(inside.any(axis=tuple({0, 1, 2} - {axis})))
        margin = round(_MARGIN_MM / spacing_mm[axis])
        first, last = (used[0], used[-1]) if used.size else (0, inside.shape[axis] - 1)
        box.append(slice(max(int(first) - margin, 0), min(int(last) + margin + 1, inside.shape[axis])))
    return box[0], box[1]


def _tile_size(window: tuple[slice, slice], spacing_mm: Sequence[float]) -> tuple[int, int]:
    """Width and height of a tile in pixels, true to the millimetres."""
    mm = [(part.stop - part.start) * spacing_mm[axis] for axis, part in enumerate(window)]
    return max(round(TILE * mm[0] / max(mm)), 8), max(round(TILE * mm[1] / max(mm)), 8)


def _resized(plane: NDArray[Any], size: tuple[int, int], how: Image.Resampling) -> NDArray[Any]:
    return np.asarray(Image.fromarray(np.ascontiguousarray(shown(plane))).resize(size, how))


def _grey_tiles(
    volume: NDArray[np.float32], slices: Sequence[int], size: tuple[int, int]
) -> list[NDArray[np.uint8]]:
    """Return slices in grey (height, width, 3), 1st to 99th percentile of what is shown."""
    stack = volume[..., list(slices)].astype(np.float64)
    low, high = np.percentile(stack, [1, 99])
    scaled = np.clip((stack - low) / max(high - low, 1e-6), 0, 1) * 255
    planes = [
        _resized(scaled[..., i].astype(np.uint8), size, Image.Resampling.BICUBIC) for i in range(len(slices))
    ]
    return [np.repeat(plane[..., None], 3, axis=-1) for plane in planes]


def _contoured(grey: NDArray[np.uint8], ids: NDArray[np.uint8], colours: Colours) -> NDArray[np.uint8]:
    """Return the inner border of each class in its colour."""
    out = grey.copy()
    for index, colour in colours.items():
        mask = ids == index
        out[mask & ~binary_erosion(mask, iterations=_CONTOUR)] = colour
    return out


def _overlaid(
    grey: NDArray[np.uint8], ids: NDArray[np.uint8], colours: Colours, opacity: float = _OPACITY
) -> NDArray[np.uint8]:
    """Return every class in its colour, partly transparent."""
    out = grey.astype(np.float64)
    for index, colour in colours.items():
        out[ids == index] = (1 - opacity) * out[ids == index] + opacity * np.array(colour)
    return out.round().astype(np.uint8)


def _numbered(tile: NDArray[np.uint8], number: int) -> NDArray[np.uint8]:
    image = Image.fromarray(tile)
    ImageDraw.Draw(image).text(
        (5, 3),
        str(number),
        fill="white",
        font=ImageFont.load_default(13),
        stroke_width=1,
        stroke_fill="black",
    )
    return np.asarray(image)


def _side_by_side(tiles: Sequence[NDArray[np.uint8]]) -> NDArray[np.uint8]:
    height, width = tiles[0].shape[:2]
    row = np.full((height, len(tiles) * (width + _GAP) - _GAP, 3), _BACKGROUND, dtype=np.uint8)
    for index, tile in enumerate(tiles):
        row[:, index * (width + _GAP) : index * (width + _GAP) + width] = tile
    return row
