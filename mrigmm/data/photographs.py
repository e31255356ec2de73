"""Natural images (PNG, JPEG, TIFF, BMP) as one-slice studies, so that every method can segment them.

Arrays are (H, W): rows from the top first, on the pixels as the file stores them.
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from pathlib import Path

import nibabel as nib
import numpy as np
import torch
from numpy.typing import NDArray
from PIL import ExifTags, Image, UnidentifiedImageError

from mrigmm.data.geometry import Grid, slices_last
from mrigmm.data.standardise import ZScore, fit_zscore
from mrigmm.data.study_tensors import OutputGrid, StudyTensors
from mrigmm.errors import InputError, told
from mrigmm.labels import Region

FORMATS = ("PNG", "JPEG", "TIFF", "BMP")
# More would need tens of GB in EM; a small file can claim any size.
MAX_PIXELS = 25_000_000

_GREY_MODES = ("1", "L", "LA", "La")
_DEEP_GREY_MODES = ("I", "F", "I;16", "I;16L", "I;16B", "I;16N")
_COLOUR_MODES = ("P", "PA", "RGB", "RGBA", "RGBa", "RGBX", "CMYK", "YCbCr")
# What undoes the turn that each EXIF orientation asks for.
_UNDO_TURN = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_90,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_270,
}


@dataclass(frozen=True)
class Photograph:
    """An image file in memory.

    Attributes:
        file: where it was read from.
        values: (H, W, C) float32 in the units of the file (0 to 255 where it has 8 bits).
        channels: C names: R, G, B, or grey.
        opaque: (H, W) bool, False where the file says fully transparent.
        orientation: EXIF orientation, 1 to 8: how viewers turn the stored pixels.
        eight_bit: whether 0 is black and 255 white.
        warnings: what the user should know.
    """

    file: Path
    values: NDArray[np.float32]
    channels: tuple[str, ...]
    opaque: NDArray[np.bool_]
    orientation: int = 1
    eight_bit: bool = True
    warnings: tuple[str, ...] = ()

    @property
    def display(self) -> NDArray[np.uint8]:
        """(H, W, 3) to look at; deeper images from their darkest to their brightest value."""
        shown = self.values
        if not self.eight_bit:
            low, high = float(shown.min()), float(shown.max())
            shown = (shown - low) * (255 / max(high - low, 1e-30))
        return np.broadcast_to(shown.round().astype(np.uint8), (*shown.shape[:2], 3)).copy()


def read_photograph(path: Path) -> Photograph:
    """Read the first picture of an image file.

    Raises:
        InputError: missing, no image, damaged, too large, or of a kind that has no plain intensities.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of damaged metadata and of sizes: judged here
            with Image.open(path, formats=FORMATS) as image:
                return _read(image, path)
    except InputError:
        raise
    except UnidentifiedImageError:
        raise InputError(
            "the file is no image that can be read", file=path, expected=", ".join(FORMATS)
        ) from None
    except Image.DecompressionBombError as error:
        raise _too_large(path, str(error)) from None
    except FileNotFoundError:
        raise InputError("the image is not there", file=path) from None
    except Exception as error:  # decoders of damaged files raise anything
        raise InputError(
            "the image cannot be read",
            file=path,
            got=f"{type(error).__name__}: {error}",
            remedy="the file may be damaged: open it in a viewer and save it again",
        ) from None


def read_mask(path: Path, photograph: Photograph) -> NDArray[np.bool_]:
    """Return where a mask image of the photograph's size is not black (H, W).

    Raises:
        InputError: unreadable, or of another size.
    """
    mask = read_photograph(path)
    size, expected = mask.opaque.shape, photograph.opaque.shape
    if size != expected:
        turned = size == expected[::-1] and mask.orientation != photograph.orientation
        raise InputError(
            "the mask has another size than the image",
            file=path,
            expected=_size_text(expected),
            got=_size_text(size),
            remedy="draw it on the pixels as stored: one of the files has an EXIF orientation"
            if turned
            else None,
        )
    return (mask.values != 0).any(axis=-1) & mask.opaque


def photograph_study(photograph: Photograph, inside: NDArray[np.bool_]) -> StudyTensors:
    """A photograph as a study of one slice, 1 mm per pixel, array axes (row, column, 1).

    Args:
        photograph: the image; its channels become sequences, z-scored inside as studies are.
        inside: (H, W) where to segment; one pixel at least.

    Raises:
        InputError: no channel varies inside.
    """
    height, width = inside.shape
    image = np.zeros((len(photograph.channels), height, width, 1), dtype=np.float32)
    zscores: dict[str, ZScore] = {}
    notes = list(photograph.warnings)
    for index, name in enumerate(photograph.channels):
        channel = photograph.values[..., index]
        zscore = fit_zscore(channel[inside])
        if not zscore.varies:
            notes.append(f"{name} is constant and is left out")
            continue
        if zscore.n_clipped:
            notes.append(f"{name}: {zscore.n_clipped} extreme pixels were clipped")
        zscores[name] = zscore
        image[index, ..., 0] = zscore.apply(channel)
    if not zscores:
        raise InputError(
            "the image shows nothing to segment",
            file=photograph.file,
            expected="an image with contrast" + ("" if inside.all() else " inside the mask"),
            got=f"one colour in all {int(inside.sum())} pixels",
        )
    grid = Grid((height, width, 1), np.eye(4))
    observed = torch.zeros(image.shape, dtype=torch.bool)
    for name in zscores:
        observed[photograph.channels.index(name)] = True
    return StudyTensors(
        id=photograph.file.name,
        sequences=photograph.channels,
        image=torch.from_numpy(image),
        observed=observed,
        region=torch.from_numpy(np.where(inside, int(Region.LV), 0).astype(np.uint8)[..., None]),
        label=None,
        spacing_mm=(1.0, 1.0, 1.0),
        turn=slices_last(grid),
        output=OutputGrid(grid, nib.Nifti1Header(), grid.shape, photograph.file),
        inputs=dict.fromkeys(zscores, photograph.file),
        findings=tuple(told(notes, "warning", photograph.file.name)),
        zscores=zscores,
    )


def _read(image: Image.Image, path: Path) -> Photograph:
    """Pixels of an opened image, as stored."""
    if image.width * image.height > MAX_PIXELS:
        raise _too_large(path, f"{image.width} x {image.height} pixels")
    notes = []
    n_frames = getattr(image, "n_frames", 1)
    if n_frames > 1:
        notes.append(f"the first of {n_frames} pictures in the file is segmented")
    mode = image.mode
    if mode not in (*_GREY_MODES, *_DEEP_GREY_MODES, *_COLOUR_MODES):
        raise InputError(
            f"images of the mode {mode} cannot be segmented",
            file=path,
            expected="greyscale or RGB",
            remedy="save it as RGB",
        )
    if mode not in _DEEP_GREY_MODES and any(";16" in str(tile) for tile in getattr(image, "tile", ())):
        notes.append("colours of 16 bits are read as 8 bits")
    orientation = image.getexif().get(ExifTags.Base.Orientation, 1)
    if orientation not in range(1, 9):
        orientation = 1
    if orientation != 1:
        notes.append(
            f"the image is turned for display (EXIF orientation {orientation}): labels lie on its pixels "
            "as stored, and carry the same orientation"
        )
    transparent = image.has_transparency_data and mode not in _DEEP_GREY_MODES
    plain = "L" if mode in _GREY_MODES else "RGB"
    pixels = image if mode in _DEEP_GREY_MODES else image.convert(plain + "A" if transparent else plain)
    pixels.load()
    if image.format == "TIFF" and orientation != 1:  # only there Pillow turns on loading
        pixels = pixels.transpose(_UNDO_TURN[orientation])
    array = np.asarray(pixels)
    array = array[..., None] if array.ndim == 2 else array
    opaque = np.ones(array.shape[:2], dtype=bool)
    if transparent:
        array, opaque = array[..., :-1], array[..., -1] > 0
        if not opaque.all():
            notes.append(f"{int((~opaque).sum())} transparent pixels are left out")
    values = array.astype(np.float32)
    if not np.isfinite(values).all():
        raise InputError("the image has values that are no numbers", file=path, expected="finite intensities")
    if values.shape[-1] == 3 and (values[..., :1] == values).all():  # grey, stored three times
        values = values[..., :1]
    channels = ("grey",) if values.shape[-1] == 1 else ("R", "G", "B")
    return Photograph(
        path, values, channels, opaque, int(orientation), mode not in _DEEP_GREY_MODES, tuple(notes)
    )


def _too_large(path: Path, got: str) -> InputError:
    return InputError(
        "the image is too large",
        file=path,
        expected=f"at most {MAX_PIXELS // 1_000_000} million pixels",
        got=got,
        remedy="make it smaller first",
    )


def _size_text(shape: tuple[int, ...]) -> str:
    return f"{shape[1]} x {shape[0]} pixels"
