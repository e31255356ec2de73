"""Slices of a segmented study: images, and the borders of classes and of errors over them.

Images are kept once, as pictures; borders are paths, so that a page can draw them as outlines or filled, and
sharp at any size. Everything here lies as it is shown: rows from the top, columns from the left, slices from
the base.
"""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont
from scipy.ndimage import label
from skimage.measure import find_contours

from mrigmm.labels import AGREEMENT_COLOURS, KEY_SEQUENCES, class_colours
from mrigmm.reporting.pictures import MAX_SLICES, Picture, photograph

TILE = 240  # pixels of a slice's longer side
# Islands below this volume have thin borders.
ISLAND_ML = 0.1
SCALE_MM = 20
_MARGIN_MM = 12.0
_GAP = 4
_OPACITY = 0.5
_DIMMED = 0.6  # of error maps: scar is bright itself
_INFARCT = ("scar", "mvo")

Mask = NDArray[np.bool_]
Point = tuple[int, int]


@dataclass(frozen=True)
class Border:
    """The border of a class in one slice.

    Attributes:
        name: the class, or one of `AGREEMENT_COLOURS`.
        rings: closed lines of corners (across, down), in half pixels of the slice from its upper left corner.
        thin: whether it is that of islands.
    """

    name: str
    rings: tuple[tuple[Point, ...], ...]
    thin: bool = False

    @property
    def path(self) -> str:
        """The rings as data of an SVG path."""
        return "".join(_path(ring) for ring in self.rings)


@dataclass(frozen=True)
class Place:
    """A slice that is shown.

    Attributes:
        number: in the file, from 1.
        mm: from the first slice that has labels.
        most_infarct: whether no slice has more of it.
    """

    number: int
    mm: float
    most_infarct: bool


@dataclass(frozen=True)
class SliceRow:
    """One row of slices.

    Attributes:
        title: short heading.
        alt: what it shows, for those who cannot see it.
        image: whose pictures (`Slices.images`) lie below.
        borders: which (`Slices.borders`) lie above.
        legend: names of its colours, where they are others than those of the classes.
    """

    title: str
    alt: str
    image: str
    borders: str
    legend: tuple[str, ...] = ()


@dataclass(frozen=True)
class Slices:
    """Slices of a study.

    Attributes:
        places: the slices, from the base.
        images: sequence -> a picture of each.
        borders: what they are of -> those in each.
        rows: what is shown, one row under the other.
        pixels: (down, across) of a slice.
        bar: length of `SCALE_MM` in pixels of the picture.
        edges: letters at the top, right, bottom and left; empty where directions are not known.
        seen: from where and in which order, in words.
    """

    places: tuple[Place, ...]
    images: Mapping[str, tuple[Picture, ...]]
    borders: Mapping[str, tuple[tuple[Border, ...], ...]]
    rows: tuple[SliceRow, ...]
    pixels: tuple[int, int]
    bar: float
    edges: tuple[str, ...]
    seen: str

    @property
    def size(self) -> tuple[int, int]:
        """Width and height of a slice's picture."""
        picture = next(iter(self.images.values()))[0]
        return picture.width, picture.height

    @property
    def scale(self) -> tuple[float, float]:
        """Pixels of the picture per half pixel of the slice: across, down."""
        return self.size[0] / (2 * self.pixels[1]), self.size[1] / (2 * self.pixels[0])

    @property
    def classes(self) -> set[str]:
        """Names of all classes that have borders, those of errors left out."""
        found = {b.name for places in self.borders.values() for borders in places for b in borders}
        return found - AGREEMENT_COLOURS.keys()

    @property
    def most_infarct(self) -> int | None:
        """Index of the place that has most of the infarct; None without any."""
        return next((i for i, place in enumerate(self.places) if place.most_infarct), None)

    @property
    def thumbnail(self) -> int:
        """Index of the place that stands for the study: with most of the infarct, else the middle one."""
        found = self.most_infarct
        return len(self.places) // 2 if found is None else found

    def infarct(self, place: int) -> list[Border]:
        """Return the borders of the infarct in a slice."""
        return [border for border in self.borders["predicted"][place] if border.name in _INFARCT]


def study_slices(
    images: Mapping[str, NDArray[np.float32]],
    labels: NDArray[np.uint8],
    class_ids: Mapping[str, int],
    *,
    spacing_mm: tuple[float, float, float],
    numbers: Sequence[int] | None = None,
    edges: tuple[str, ...] = (),
    seen: str = "",
    mvo: Mask | None = None,
    reference: NDArray[np.integer[Any]] | None = None,
    reference_classes: Mapping[str, Sequence[str]] | None = None,
) -> Slices:
    """Return the slices of a study: each sequence, the reference, the errors.

    Args:
        images: sequence -> intensities (rows, columns, slices), as they are to be shown.
        labels: class ids, of the same shape.
        class_ids: class name -> id.
        spacing_mm: between rows, columns and slices.
        numbers: of the slices in the file, from 1; default in this order.
        edges: letters at the top, right, bottom and left.
        seen: from where and in which order, in words.
        mvo: where microvascular obstruction is, which the label map calls scar.
        reference: reference class ids.
        reference_classes: class that the reference knows, too -> the predicted classes that count as it.
    """
    infarct = (labels == class_ids["scar"]) if "scar" in class_ids else np.zeros(labels.shape, dtype=bool)
    chosen, most = chosen_slices(labels, infarct)
    used = np.flatnonzero((labels > 0).any(axis=(0, 1)))
    first_used = int(used[0]) if used.size else 0
    everything = labels > 0 if reference is None else (labels > 0) | (reference > 0)
    window = region_window(everything, spacing_mm)
    size = _tile_size(window, spacing_mm)
    voxel_ml = float(np.prod(spacing_mm)) / 1000
    named = [1 + z for z in range(labels.shape[2])] if numbers is None else [*numbers]

    def borders(masks: Mapping[str, Mask]) -> tuple[tuple[Border, ...], ...]:
        found = [_borders(name, mask[window], chosen, voxel_ml) for name, mask in masks.items()]
        return tuple(tuple(b for of_class in found for b in of_class[i]) for i in range(len(chosen)))

    predicted = {name: labels == i for name, i in class_ids.items()}
    if mvo is not None:
        predicted["mvo"] = mvo & infarct
    drawn = {"predicted": borders(predicted)}
    rows = [
        SliceRow(name, f"{name} with the borders of the predicted classes", name, "predicted")
        for name in images
    ]
    first = next(iter(images))
    if reference is not None:
        drawn["reference"] = borders({name: reference == i for name, i in class_ids.items()})
        title = f"reference on {first}"
        rows.append(SliceRow(title, f"{first} with the borders of the reference", first, "reference"))
        compared = reference_classes or {}
        for name in _classes_to_check([*compared]):
            said = np.isin(labels, [class_ids[member] for member in compared[name]])
            true = reference == class_ids[name]
            masks = (said & true, said & ~true, ~said & true)
            key = KEY_SEQUENCES.get(name, first)
            ground = key if key in images else first
            title = f"errors of {name} on {ground}"
            drawn[title] = borders(dict(zip(AGREEMENT_COLOURS, masks, strict=True)))
            alt = f"Where prediction and reference agree and differ on {name}"
            rows.append(SliceRow(title, alt, ground, title, tuple(AGREEMENT_COLOURS)))
    return Slices(
        places=tuple(Place(named[z], (z - first_used) * spacing_mm[2], z == most) for z in chosen),
        images={
            name: tuple(
                photograph(plane, title=name, alt=f"{name}, slice {named[z]}")
                for z, plane in zip(chosen, _grey_tiles(image[window], chosen, size), strict=True)
            )
            for name, image in images.items()
        },
        borders=drawn,
        rows=tuple(rows),
        pixels=(window[0].stop - window[0].start, window[1].stop - window[1].start),
        bar=SCALE_MM * size[0] / ((window[1].stop - window[1].start) * spacing_mm[1]),
        edges=edges,
        seen=seen,
    )


def flat_pictures(slices: Slices, classes: Sequence[str]) -> list[Picture]:
    """Return the rows as pictures with outlines, and the label map over the first sequence.

    Args:
        slices: of the study.
        classes: that colours are wanted of.
    """
    colours = {**class_colours([*classes, "mvo"]), **AGREEMENT_COLOURS}
    pictures = [_flat(slices, row, colours, filled=bool(row.legend)) for row in slices.rows]
    first = slices.rows[0]
    label_map = SliceRow(f"label map on {first.image}", "Predicted label map", first.image, "predicted")
    return [*pictures, _flat(slices, label_map, colours, filled=True)]


def _flat(
    slices: Slices, row: SliceRow, colours: Mapping[str, tuple[int, int, int]], *, filled: bool
) -> Picture:
    """Draw a row: its slices side by side, numbered."""
    width, height = slices.size
    mosaic = Image.new("RGB", (len(slices.places) * (width + _GAP) - _GAP, height), (16, 18, 22))
    across, down = slices.scale
    for i, (place, picture) in enumerate(zip(slices.places, slices.images[row.image], strict=True)):
        ground = Image.open(io.BytesIO(picture.data)).convert("RGB")
        if row.legend:
            ground = ground.point(lambda value: value * _DIMMED)
        over = ground.copy()
        pen, outline = ImageDraw.Draw(over), ImageDraw.Draw(ground)
        for border in slices.borders[row.borders][i]:
            for ring in border.rings:
                points = [(x * across, y * down) for x, y in ring]
                outline.line([*points, points[0]], fill=colours[border.name], width=1 if border.thin else 2)
                pen.polygon(points, fill=colours[border.name])
        tile = Image.blend(ground, over, _OPACITY) if filled else ground
        ImageDraw.Draw(tile).text(
            (5, 3),
            str(place.number),
            fill="white",
            font=ImageFont.load_default(13),
            stroke_width=1,
            stroke_fill="black",
        )
        mosaic.paste(tile, (i * (width + _GAP), 0))
    numbers = ", ".join(str(place.number) for place in slices.places)
    return photograph(np.asarray(mosaic), title=row.title, alt=f"{row.alt}; slices {numbers}")


def chosen_slices(labels: NDArray[np.uint8], infarct: Mask) -> tuple[list[int], int | None]:
    """Return up to `MAX_SLICES` slices with labels, evenly spread, and the one with most of the infarct.

    The latter is always among them; None without any infarct.
    """
    used = np.flatnonzero((labels > 0).any(axis=(0, 1)))
    if used.size == 0:
        used = np.arange(labels.shape[2])
    spread = np.unique(np.linspace(0, used.size - 1, MAX_SLICES).round().astype(int))
    chosen = [int(used[i]) for i in spread]
    areas = infarct.sum(axis=(0, 1))
    if not areas.any():
        return chosen, None
    most = int(areas.argmax())
    if most not in chosen:
        chosen[min(range(len(chosen)), key=lambda i: abs(chosen[i] - most))] = most
    return sorted(chosen), most


def region_window(inside: Mask, spacing_mm: Sequence[float]) -> tuple[slice, slice]:
    """Return the in-plane box around what is inside, with a margin in mm; everything where nothing is."""
    box = []
    for axis in (0, 1):
        used = np.flatnonzero(inside.any(axis=tuple({0, 1, 2} - {axis})))
        margin = round(_MARGIN_MM / spacing_mm[axis])
        first, last = (used[0], used[-1]) if used.size else (0, inside.shape[axis] - 1)
        box.append(slice(max(int(first) - margin, 0), min(int(last) + margin + 1, inside.shape[axis])))
    return box[0], box[1]


def _classes_to_check(classes: Sequence[str]) -> list[str]:
    """Edema and scar where they are among the classes, else every class."""
    return [name for name in classes if name in KEY_SEQUENCES] or list(classes)


def _tile_size(window: tuple[slice, slice], spacing_mm: Sequence[float]) -> tuple[int, int]:
    """Width and height of a tile in pixels, true to the millimetres."""
    mm = [(part.stop - part.start) * spacing_mm[axis] for axis, part in enumerate(window)]
    return max(round(TILE * mm[1] / max(mm)), 8), max(round(TILE * mm[0] / max(mm)), 8)


def _grey_tiles(
    volume: NDArray[np.float32], slices: Sequence[int], size: tuple[int, int]
) -> list[NDArray[np.uint8]]:
    """Return slices in grey (height, width, 3), 1st to 99th percentile of what is shown."""
    stack = volume[..., list(slices)].astype(np.float64)
    low, high = np.percentile(stack, [1, 99])
    scaled = (np.clip((stack - low) / max(high - low, 1e-6), 0, 1) * 255).astype(np.uint8)
    planes = [
        np.asarray(
            Image.fromarray(np.ascontiguousarray(scaled[..., i])).resize(size, Image.Resampling.BICUBIC)
        )
        for i in range(len(slices))
    ]
    return [np.repeat(plane[..., None], 3, axis=-1) for plane in planes]


def _borders(name: str, mask: Mask, slices: Sequence[int], voxel_ml: float) -> list[list[Border]]:
    """Return the borders of one class in each slice, those of its islands apart."""
    pieces, n = label(mask, np.ones((3, 3, 3)))
    large = np.bincount(pieces.ravel(), minlength=n + 1) * voxel_ml >= ISLAND_ML
    large[0] = False
    found = []
    for z in slices:
        parts = ((large[pieces[..., z]], False), (mask[..., z] & ~large[pieces[..., z]], True))
        found.append([Border(name, _rings(part), thin) for part, thin in parts if part.any()])
    return found


def _rings(mask: Mask) -> tuple[tuple[Point, ...], ...]:
    """Return the border of a mask (rows, columns) halfway between the pixels, corners only."""
    rings = []
    for line in find_contours(np.pad(mask, 1).astype(np.float64), 0.5, fully_connected="high"):
        corners = np.rint(2 * line[:-1, ::-1] - 1).astype(int)  # a pad of one pixel, and centres at 0.5
        steps = np.diff(corners, axis=0, append=corners[:1])
        turns = (steps != np.roll(steps, 1, axis=0)).any(axis=1)
        rings.append(tuple((int(x), int(y)) for x, y in corners[turns]))
    return tuple(rings)


def _path(ring: Sequence[Point]) -> str:
    moves = [(x - a, y - b) for (a, b), (x, y) in pairwise(ring)]
    return f"M{ring[0][0]} {ring[0][1]}l" + " ".join(f"{x} {y}".replace(" -", "-") for x, y in moves) + "z"
