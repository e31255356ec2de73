"""Walking a folder and reading headers; pixels are read later, and only of what is converted."""

from __future__ import annotations

import os
import warnings
import zipfile
from collections import Counter, defaultdict
from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pydicom
from pydicom.dataset import FileDataset
from pydicom.errors import InvalidDicomError
from pydicom.uid import (
    UID,
    DeflatedExplicitVRLittleEndian,
    EnhancedMRImageStorage,
    LegacyConvertedEnhancedMRImageStorage,
    MRImageStorage,
)

from mrigmm.data.dicom.frames import HEADER_TAGS, Frame, frames_of, number_of_frames, required_text
from mrigmm.errors import InputError, Problem, counted

_MR = (MRImageStorage, EnhancedMRImageStorage, LegacyConvertedEnhancedMRImageStorage)
_ELEMENT_HEADER = {True: 8, False: 12}  # bytes before the pixel values, by "implicit VR"


@dataclass(frozen=True)
class Scan:
    """Content of a folder.

    Attributes:
        frames: planes with a position, in the order of the files' names.
        problems: files that cannot be used, by name.
        passed_over: what else was there, and how many of it.
    """

    frames: tuple[Frame, ...]
    problems: tuple[Problem, ...]
    passed_over: Mapping[str, int]


# What is passed over -> one of it.
_SINGULAR = {
    "files that are not DICOM": "file that is not DICOM",
    "DICOM files that are no MR images": "DICOM file that is no MR image",
    "second copies of an image": "second copy of an image",
    "images without a position": "image without a position",
    "links": "link",
}


def passed_over_text(what: str, count: int) -> str:
    """A number of files that were passed over, and the verb."""
    return f"{counted(count, _SINGULAR[what], what)} {'was' if count == 1 else 'were'}"


def scan(source: Path, track: Callable[[Iterable[Any], str], Iterable[Any]]) -> Scan:
    """Read the header of every DICOM file below a folder.

    Args:
        source: the folder; links inside it are not followed.
        track: progress bar.

    Raises:
        InputError: `source` is not a folder.
    """
    if source.is_file():
        raise InputError(
            "DICOM files are read from a folder, and this is a file",
            file=source,
            expected="a folder",
            remedy="unzip it, and give the folder"
            if zipfile.is_zipfile(source)
            else f"give its folder: {source.parent}",
        )
    if not source.is_dir():
        raise InputError(
            "the DICOM folder is not there", file=source, expected="a folder", remedy="check the path"
        )
    passed_over: Counter[str] = Counter()
    shared: defaultdict[str, set[Hashable]] = defaultdict(set)
    problems: list[Problem] = []
    images: dict[Hashable, list[Frame]] = {}  # by SOPInstanceUID, and where and when they were taken
    for file in track(list(_files(source, passed_over, problems)), "Reading headers"):
        try:
            image = _read_image(file)
        except InvalidDicomError:
            passed_over["files that are not DICOM"] += 1
            continue
        except Exception as error:  # pydicom raises nearly anything on damaged files
            problems.append(_damaged(file, error))
            continue
        if image is None:
            passed_over["DICOM files that are no MR images"] += 1
            continue
        uid, found = image
        places = tuple((frame.position_mm, frame.instance, frame.trigger_time_ms) for frame in found)
        shared[uid].add(places)
        passed_over["second copies of an image"] += (uid, places) in images
        passed_over["images without a position"] += not found
        # A whole copy goes before one that is cut short.
        if not (before := images.get((uid, places), [])) or before[0].header.damage:
            images[uid, places] = found
    frames = [frame for found in images.values() for frame in found]
    if several := [uid for uid, places in shared.items() if len(places) > 1]:
        times = counted(len(several), "time")
        text = f"several different images have one SOPInstanceUID ({times}); all of them are read"
        problems.append(Problem(text, severity="warning"))
    short = {frame.file: frame.header.damage for frame in frames if frame.header.damage}
    problems += [
        Problem(f"{file} is cut short: {damage}", file=str(file), severity="warning")
        for file, damage in short.items()
    ]
    return Scan(tuple(frames), tuple(problems), passed_over)


def _files(source: Path, passed_over: Counter[str], problems: list[Problem]) -> Iterator[Path]:
    """Regular files below a folder, sorted; no link is followed."""

    def unreadable(error: OSError) -> None:
        problems.append(Problem("a folder cannot be read", file=str(error.filename), got=error.strerror))

    for folder, folders, names in os.walk(source, onerror=unreadable):
        folders.sort()
        passed_over["links"] += sum((Path(folder) / name).is_symlink() for name in folders)
        for name in sorted(names):
            path = Path(folder) / name
            if path.is_symlink():
                passed_over["links"] += 1
            elif path.is_file():  # no pipes and devices
                yield path


def _read_image(file: Path) -> tuple[str, list[Frame]] | None:
    """SOPInstanceUID and frames of an MR image, None for another object."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # oddities that pydicom mends; what matters is checked by us
        data, damage = _read_header(file)
        if not _is_mr(data):
            return None
        return required_text(data, "SOPInstanceUID"), frames_of(data, file, damage)


def _read_header(file: Path) -> tuple[FileDataset, str | None]:
    """Header of a file without its pixels, and why the file is cut short, if it is."""
    with file.open("rb") as stream:
        data = pydicom.dcmread(stream, stop_before_pixels=True, force=False, specific_tags=HEADER_TAGS)
        left = file.stat().st_size - stream.tell()
    syntax = UID(data.file_meta.get("TransferSyntaxUID", ""))
    if syntax.is_private or not syntax.is_transfer_syntax or syntax.is_compressed:
        return data, None
    if syntax == DeflatedExplicitVRLittleEndian:
        return data, None
    values = int(data.get("Rows") or 0) * int(data.get("Columns") or 0) * number_of_frames(data)
    expected = values * int(data.get("SamplesPerPixel") or 1) * int(data.get("BitsAllocated") or 0) // 8
    there = max(left - _ELEMENT_HEADER[syntax.is_implicit_VR], 0)
    return data, None if there >= expected > 0 else f"{there} of {expected} bytes of pixels"


def _is_mr(data: FileDataset) -> bool:
    # The file's own header comes first and survives where the rest was cut off.
    return UID(data.file_meta.get("MediaStorageSOPClassUID") or required_text(data, "SOPClassUID")) in _MR


def _damaged(file: Path, error: Exception) -> Problem:
    reason = str(error).splitlines()[0] if str(error) else type(error).__name__
    return Problem(
        "a DICOM file is damaged or incomplete",
        file=str(file),
        expected="a complete MR image with patient position",
        got=getattr(error, "strerror", None) or reason,
        remedy="export or copy it again; its slice is missing now",
    )
