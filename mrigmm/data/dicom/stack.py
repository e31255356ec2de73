"""From the parts of one sequence to a volume: slices in order, affine, voxels."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from statistics import median
from typing import Any

import nibabel as nib
import numpy as np
import pydicom
from numpy.typing import NDArray
from pydicom.pixels import get_decoder, iter_pixels
from pydicom.uid import UID, DeflatedExplicitVRLittleEndian, ExplicitVRLittleEndian, ImplicitVRLittleEndian

from mrigmm.data.dicom.distances import check_regular
from mrigmm.data.dicom.frames import SMALLEST_LENGTH_MM, Frame
from mrigmm.data.dicom.recognise import title
from mrigmm.data.dicom.series import MIN_CINE_FRAMES, Part, same_plane
from mrigmm.data.files import atomic
from mrigmm.data.nifti_place import SCALE_TOLERANCE
from mrigmm.errors import InputError, counted, some_of

LPS_TO_RAS = np.diag([-1.0, -1.0, 1.0, 1.0])
CINE = "bSSFP"  # the role whose slices are expected to have the phases of a heart beat
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
            several images, a cine whose slices have no heart phase in common, or irregular distances
            (missing or repeated slices).
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
    if any(part.cine for part in parts):
        check_one_phase(parts, study, role)
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
    notes += _of_origin(chosen, role)
    affine = _affine(chosen, study, role)
    notes += _every_other(chosen, role)
    return Stack(tuple(chosen), affine, tuple(notes))


def _is_untimed_cine(parts: Sequence[Part]) -> bool:
    """Return whether all slices have as many images as a cine has, told apart by number alone."""
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
    if part.cine:  # of a slice that was taken twice, the later beginning
        images = [frame for frame in images if frame.trigger_time_ms == images[0].trigger_time_ms]
        return max(images, key=lambda f: (-(f.phase or 0.0), f.acquired, -f.instance))
    images = [frame for frame in images if frame.original] or images
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


def _of_origin(frames: Sequence[Frame], role: str) -> list[str]:
    """Images that the scanner did not take as they are, and headers that differ a little."""
    notes = []
    derived = [frame for frame in frames if not frame.original]
    if derived:
        notes.append(
            f"{role}: {len(derived)} of {counted(len(frames), 'slice')} "
            f"{'is' if len(derived) == 1 else 'are'} derived from other images (Image Type DERIVED, "
            f"{derived[0].file.name}): look whether they are what the scanner took"
        )
    sizes = sorted({frame.pixel_mm for frame in frames})
    if len(sizes) > 1:
        notes.append(
            f"{role}: the pixel sizes of the slices differ a little ({_size(sizes[0])} to "
            f"{_size(sizes[-1])}); that of the lowest slice is used"
        )
    return notes


def _every_other(frames: Sequence[Frame], role: str) -> list[str]:
    """Regular slices that lie a whole multiple of the distance apart that their headers say."""
    said = frames[0].centres_mm
    if len(frames) < 2 or not said:
        return []
    distance = (frames[-1].height_mm - frames[0].height_mm) / (len(frames) - 1)
    times = round(distance / said)
    if times < 2 or abs(distance / said - times) > SCALE_TOLERANCE * times:
        return []
    return [
        f"{role}: the slices lie {distance:.4g} mm apart, and SpacingBetweenSlices says {said:.4g} mm: "
        f"{times - 1} of every {times} slices seem to be missing; volumes count each as {distance:.4g} mm"
    ]


def _size(pixel_mm: tuple[float, float]) -> str:
    return f"{pixel_mm[1]:.6g} x {pixel_mm[0]:.6g} mm"


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
        check_regular(frames, positions, step, study, role)
    matrix = np.eye(4)
    matrix[:3, 0] = np.array(first.row) * first.pixel_mm[1]  # growing column index
    matrix[:3, 1] = np.array(first.column) * first.pixel_mm[0]
    matrix[:3, 2] = step
    matrix[:3, 3] = positions[0]
    return np.asarray(LPS_TO_RAS @ matrix)


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
            arrays = list(iter_pixels(_source(file, data), indices=indices, raw=True))
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


def _source(file: Path, header: pydicom.FileDataset) -> Path | pydicom.FileDataset:
    """Return what pixels are decoded from: the file, or all of it in memory where pydicom needs that."""
    syntax = header.file_meta.get("TransferSyntaxUID")
    if syntax is not None and syntax != DeflatedExplicitVRLittleEndian:
        return file
    data = pydicom.dcmread(file)
    data.file_meta.TransferSyntaxUID = _syntax(data)
    return data


def _syntax(data: pydicom.FileDataset) -> UID:
    """The transfer syntax; of files without one, which are old, it is that of their elements."""
    plain = ImplicitVRLittleEndian if data.is_implicit_VR else ExplicitVRLittleEndian
    return UID(data.file_meta.get("TransferSyntaxUID", plain))


def _check_pixels(data: pydicom.FileDataset, where: dict[str, Any], role: str) -> None:
    photometric = data.get("PhotometricInterpretation")
    if photometric not in ("MONOCHROME1", "MONOCHROME2"):
        raise InputError(
            f"{role} is no grey-scale image",
            expected="MONOCHROME1 or MONOCHROME2",
            got=str(photometric),
            **where,
        )
    syntax = _syntax(data)
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


_SAME_PHASE = 1.5  # frame distances of a cine: the delay after the R wave varies from slice to slice


def check_one_phase(parts: Sequence[Part], study: str, role: str) -> None:
    """Refuse a cine whose slices do not begin at the same moment of the heart beat: one was cut short."""
    slices = [images for part in parts for images in part.slices]
    timed = any(frame.trigger_time_ms is not None for images in slices for frame in images)
    unit = " ms" if timed else ""
    times = [
        sorted(t for f in images if (t := f.trigger_time_ms if timed else f.phase) is not None)
        for images in slices
    ]
    steps = [after - before for own in times for before, after in pairwise(sorted(set(own)))]
    first = min(own[0] for own in times if own)
    latest = first + _SAME_PHASE * (median(steps) if steps else 0.0)
    late = [(images[0], own) for images, own in zip(slices, times, strict=True) if not own or own[0] > latest]
    if not late:
        return
    late.sort(key=lambda found: found[0].height_mm)
    places = [f"{frame.height_mm:.1f} mm ({frame.file.name})" for frame, _ in late]
    begins = [f"{own[0]:g}{unit} at {frame.height_mm:.1f} mm" if own else "no time" for frame, own in late]
    raise InputError(
        f"{role}: {counted(len(late), 'slice')} of the cine {'has' if len(late) == 1 else 'have'} no image "
        f"of the heart phase at which the others begin: {some_of(places)}",
        study=study,
        file=late[0][0].file,
        expected=f"a first frame between {first:g} and {latest:g}{unit} in each of {len(slices)} slices",
        got=f"the first frame is that of {some_of(begins)}",
        remedy="export the series again with all phases of these slices; where they are the first or "
        "the last ones of the stack, move their files out of the folder instead; or set the series to "
        "'ignore' in the map",
    )
