"""From the parts of one sequence to a volume: slices in order, affine, voxels."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
from numpy.typing import NDArray
from pydicom.pixels import get_decoder, iter_pixels

from mrigmm.data.dicom.frames import SMALLEST_LENGTH_MM, Frame
from mrigmm.data.dicom.recognise import title
from mrigmm.data.dicom.series import MIN_CINE_FRAMES, SAME_POSITION_MM, Part, missing_slices, same_plane
from mrigmm.data.geometry import TOLERANCE_MM, TOLERANCE_VOXELS
from mrigmm.errors import InputError, counted

LPS_TO_RAS = np.diag([-1.0, -1.0, 1.0, 1.0])
CINE = "bSSFP"  # the role whose slices are expected to have the phases of a heart beat
_MOST_INTRUDERS = 2
_PIXEL_TAGS = ["PhotometricInterpretation", "BitsStored", "PixelRepresentation", "SamplesPerPixel"]


@dataclass(frozen=True)
class Stack:
    """One image per slice, from the lowest along the normal, and where they lie.

    Attributes:
        frames: Z images.
        affine: (4, 4), voxel index (column, row, slice) to mm, RAS+.
        notes: what the user should know.
    """

    frames: tuple[Frame, ...]
    affine: NDArray[np.float64]
    notes: tuple[str, ...]


def stack_slices(parts: Sequence[Part], *, study: str, role: str) -> Stack:
    """Put the slices of one sequence in order and check that they make one volume.

    Args:
        parts: one part, or several that hold slices of the same plane.
        study: study id, for messages.
        role: the sequence, for messages.

    Raises:
        InputError: parts that do not fit together, cut-off files, a slice that no tag picks among
            several images, or irregular distances (missing slices).
    """
    _check_files(parts, study, role)
    _check_fit(parts, study, role)
    notes: list[str] = []
    untimed = role == CINE and _is_untimed_cine(parts)
    if untimed:
        chosen = [min(images, key=lambda frame: frame.instance) for part in parts for images in part.slices]
        notes.append(
            f"{role}: {parts[0].phases} images of each slice and no trigger time; the one of the lowest "
            "instance number is written, which is end-diastole only if the scanner numbered them so"
        )
    else:
        chosen = [_choose(images, part, study, role) for part in parts for images in part.slices]
    chosen.sort(key=lambda frame: frame.height_mm)
    repeated = sum(len(images) > 1 for part in parts if not part.cine for images in part.slices)
    if repeated and not untimed:
        count = f"{counted(repeated, 'slice')} {'was' if repeated == 1 else 'were'}"
        notes.append(f"{role}: {count} acquired several times; the last one is used")
    phases = {len(images) for part in parts if part.cine for images in part.slices}
    if phases:
        count = f"{min(phases)}" if len(phases) == 1 else f"{min(phases)} to {max(phases)}"
        notes.append(
            f"{role}: cine of {count} frames; the one of the lowest trigger time is written, which is "
            "end-diastole when the trigger was the R wave"
        )
    return Stack(tuple(chosen), _affine(chosen, study, role), tuple(notes))


def _is_untimed_cine(parts: Sequence[Part]) -> bool:
    """Whether all slices have equally many images, as many as a cine has, told apart by number alone."""
    slices = [images for part in parts for images in part.slices]
    counts = {len(images) for images in slices}
    numbered = all(len({frame.instance for frame in images}) == len(images) for images in slices)
    timed = any(part.cine for part in parts)
    return not timed and len(counts) == 1 and max(counts) >= MIN_CINE_FRAMES and numbered


def _check_files(parts: Sequence[Part], study: str, role: str) -> None:
    damaged = {f.file: f.header.damage for part in parts for f in part.frames if f.header.damage}
    for file, damage in damaged.items():
        raise InputError(
            f"{role}: {counted(len(damaged), 'file')} of series {title(parts[0])} "
            f"{'is' if len(damaged) == 1 else 'are'} cut short",
            study=study,
            file=file,
            expected="complete files",
            got=damage,
            remedy="export or copy them again, or set the series to 'ignore' in the map",
        )


def _check_fit(parts: Sequence[Part], study: str, role: str) -> None:
    for part in parts[1:]:
        if not same_plane(parts[0].first, part.first) or parts[0].component != part.component:
            raise InputError(
                f"{role}: two series of the map are no slices of one volume",
                study=study,
                expected=f"direction, matrix, pixel size and kind of series {title(parts[0])}: "
                f"{parts[0].describe()}",
                got=f"series {title(part)}: {part.describe()}",
                remedy="set one of them to 'ignore' in the map",
            )


def _choose(images: Sequence[Frame], part: Part, study: str, role: str) -> Frame:
    """The image of one slice: first of the heart beat in a cine, else the one acquired last."""
    if part.cine or len(images) == 1:
        return images[0]
    last = max(images, key=lambda frame: frame.acquired)
    if sum(frame.acquired == last.acquired for frame in images) > 1:
        raise InputError(
            f"{role}: a slice of series {title(part)} has several images, and no time tells them apart",
            study=study,
            file=images[0].file,
            expected="one image, a cine of 4 frames or more, or different acquisition times",
            got=f"{len(images)} images at {images[0].height_mm:.1f} mm along the normal",
            remedy="export the series again, or set it to 'ignore' in the map",
        )
    return last


def _affine(frames: Sequence[Frame], study: str, role: str) -> NDArray[np.float64]:
    first = frames[0]
    positions = np.array([frame.position_mm for frame in frames])  # (Z, 3)
    if len(frames) == 1:
        if not first.slice_mm or first.slice_mm < SMALLEST_LENGTH_MM:
            raise InputError(
                f"{role}: the thickness of a single slice is not known",
                study=study,
                file=first.file,
                expected="SliceThickness or SpacingBetweenSlices",
                remedy="set the series to 'ignore' in the map",
            )
        step = np.array(first.normal) * first.slice_mm
    else:
        # Along the line from the first to the last slice, which may be oblique to the normal.
        step = (positions[-1] - positions[0]) / (len(frames) - 1)
        _check_regular(frames, positions, step, study, role)
    matrix = np.eye(4)
    matrix[:3, 0] = np.array(first.row) * first.pixel_mm[1]  # growing column index
    matrix[:3, 1] = np.array(first.column) * first.pixel_mm[0]
    matrix[:3, 2] = step
    matrix[:3, 3] = positions[0]
    return np.asarray(LPS_TO_RAS @ matrix)


def _check_regular(
    frames: Sequence[Frame],
    positions: NDArray[np.float64],
    step: NDArray[np.float64],
    study: str,
    role: str,
) -> None:
    tolerance = max(TOLERANCE_MM, TOLERANCE_VOXELS * min(frames[0].pixel_mm))
    if _is_regular(positions, step, tolerance) and _distances(frames).min() >= SAME_POSITION_MM:
        return
    distances = _distances(frames)
    smallest = distances.min()
    worst = int(np.argmin(distances) if smallest < SAME_POSITION_MM else np.argmax(distances)) + 1
    what, remedy = (
        f"{role}: the slices do not lie at regular distances",
        "set the series to 'ignore' in the map",
    )
    if smallest < SAME_POSITION_MM:
        what = f"{role}: two images lie at the same height"
        remedy = "set all but one of the series that hold this slice to 'ignore' in the map"
    elif missing := missing_slices([frame.height_mm for frame in frames]):
        what = (
            f"{role}: {counted(missing, 'slice')} {'is' if missing == 1 else 'are'} missing inside the stack"
        )
        remedy = "export the series again with all slices, or set it to 'ignore' in the map"
    elif intruders := _intruders(positions, tolerance):
        worst = intruders[0]
        places = " and ".join(f"{frames[i].height_mm:.1f} mm ({frames[i].file.name})" for i in intruders)
        what = f"{role}: {counted(len(intruders), 'slice')} off the regular distances of the others: {places}"
        remedy = "if it was repeated there, move its file out of the folder and run again"
    raise InputError(
        what,
        study=study,
        file=frames[worst].file,
        expected=f"one distance between neighbouring slices, within {tolerance:.2g} mm",
        got="distances " + ", ".join(f"{d:.2f}" for d in distances) + " mm",
        remedy=remedy,
    )


def _distances(frames: Sequence[Frame]) -> NDArray[np.float64]:
    """Between neighbours along the normal."""
    return np.diff([frame.height_mm for frame in frames])


def _is_regular(positions: NDArray[np.float64], step: NDArray[np.float64], tolerance_mm: float) -> bool:
    """Whether positions (Z, 3) are the first one and whole steps from it."""
    expected = positions[0] + np.arange(len(positions))[:, None] * step
    return bool(np.linalg.norm(positions - expected, axis=1).max() <= tolerance_mm)


def _intruders(positions: NDArray[np.float64], tolerance_mm: float) -> tuple[int, ...]:
    """The fewest slices without which the others are regular; none when they must be more than two."""
    for count in range(1, min(_MOST_INTRUDERS, len(positions) - 3) + 1):
        for left_out in combinations(range(len(positions)), count):
            rest = np.delete(positions, left_out, axis=0)
            if _is_regular(rest, (rest[-1] - rest[0]) / (len(rest) - 1), tolerance_mm):
                return left_out
    return ()


def read_voxels(stack: Stack, *, study: str, role: str) -> tuple[NDArray[Any], tuple[str, ...]]:
    """Voxels (X, Y, Z) of a stack, rescaled, and notes about them.

    Returns:
        int16 where every value is a whole number that fits, else float32.

    Raises:
        InputError: colour, no decoder for a compressed file, or damaged pixels; names the file.
    """
    planes: dict[tuple[Path, int], NDArray[np.float64]] = {}
    inverted = False
    for file in dict.fromkeys(frame.file for frame in stack.frames):
        frames = [frame for frame in stack.frames if frame.file == file]
        for frame, (plane, was_inverted) in zip(frames, _planes(file, frames, study, role), strict=True):
            planes[frame.file, frame.index] = plane * frame.slope + frame.intercept
            inverted |= was_inverted
    ordered = np.stack([planes[frame.file, frame.index] for frame in stack.frames])  # (Z, Y, X)
    notes = (f"{role}: stored with white as low (MONOCHROME1) and inverted",) if inverted else ()
    return _smallest_type(ordered.transpose(2, 1, 0)), notes


def _planes(
    file: Path, frames: Sequence[Frame], study: str, role: str
) -> list[tuple[NDArray[np.float64], bool]]:
    """Stored values (Y, X) of some frames of a file, and whether they were inverted."""
    where: dict[str, Any] = {"study": study, "file": file}
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            data = pydicom.dcmread(file, stop_before_pixels=True, specific_tags=list(_PIXEL_TAGS))
            _check_pixels(data, where, role)
            indices = [frame.index for frame in frames]
            arrays = list(iter_pixels(file, indices=indices, raw=True))
            bits, signed = int(data.BitsStored), bool(data.get("PixelRepresentation", 0))
    except InputError:
        raise
    except Exception as error:  # decoders raise nearly anything on damaged pixels
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise InputError(
            f"{role}: the pixels cannot be read", got=reason, remedy="export or copy the file again", **where
        ) from None
    inverted = data.get("PhotometricInterpretation") == "MONOCHROME1"
    result = []
    for array in arrays:
        if array.shape != frames[0].shape:
            raise InputError(f"{role}: the pixels cannot be read", got=f"shape {array.shape}", **where)
        plane = array.astype(np.float64)
        result.append(((-1 if signed else 2**bits - 1) - plane if inverted else plane, inverted))
    return result


def _check_pixels(data: pydicom.FileDataset, where: dict[str, Any], role: str) -> None:
    photometric = data.get("PhotometricInterpretation")
    if photometric not in ("MONOCHROME1", "MONOCHROME2"):
        raise InputError(
            f"{role} is no grey-scale image",
            expected="MONOCHROME1 or MONOCHROME2",
            got=str(photometric),
            **where,
        )
    syntax = data.file_meta.TransferSyntaxUID
    try:
        decodable = not syntax.is_compressed or get_decoder(syntax).is_available
    except NotImplementedError:
        decodable = False
    if not decodable:
        raise InputError(
            f"{role} is compressed, and no decoder for it is installed",
            expected="uncompressed DICOM, or a decoder",
            got=syntax.name,
            remedy='pip install "pylibjpeg[all]" (or python-gdcm), '
            "or decompress the files (gdcmconv --raw IN OUT)",
            **where,
        )


def _smallest_type(data: NDArray[np.float64]) -> NDArray[Any]:
    limits = np.iinfo(np.int16)
    whole = bool(np.all(data == np.round(data)))
    fits = data.min() >= limits.min and data.max() <= limits.max
    return data.astype(np.int16 if whole and fits else np.float32)
