"""Headers of image planes, the same for classic files and frames of enhanced ones.

Positions and directions are DICOM's: mm, LPS+ (x to the patient's left, y to the back, z to the head).
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydicom.dataset import Dataset
from pydicom.tag import Tag

# Private, of GE: 1, 2 and 3 where the pixels are not the magnitude; their Image Type does not say it.
_GE_RAW_DATA_TYPE = 0x0043102F
_GE_COMPONENTS = {1: "PHASE", 2: "REAL", 3: "IMAGINARY"}

# What `frames_of` reads; nothing else of a header is kept in memory.
_READ: list[str | int] = [
    _GE_RAW_DATA_TYPE,
    *("SOPClassUID", "SOPInstanceUID", "PatientID", "StudyInstanceUID", "SeriesInstanceUID", "SeriesNumber"),
    *("PatientName", "PatientBirthDate", "FrameOfReferenceUID"),
    *("StudyDate", "SeriesDescription", "ProtocolName", "SequenceName", "PulseSequenceName", "ImageType"),
    *("ScanningSequence", "SequenceVariant", "ScanOptions", "EchoPulseSequence", "InversionRecovery"),
    *("SteadyStatePulseSequence", "Rows", "Columns", "NumberOfFrames", "SamplesPerPixel", "BitsAllocated"),
    *("ImagePositionPatient", "ImageOrientationPatient", "PixelSpacing", "SliceThickness"),
    *("SpacingBetweenSlices", "EchoTime", "InversionTime", "TriggerTime", "TemporalPositionIdentifier"),
    *("ComplexImageComponent", "ImagerPixelSpacing"),
    *("AcquisitionDateTime", "AcquisitionDate", "AcquisitionTime", "ContentDate", "ContentTime"),
    *("SeriesDate", "SeriesTime", "InstanceNumber", "RescaleSlope", "RescaleIntercept"),
    *("SharedFunctionalGroupsSequence", "PerFrameFunctionalGroupsSequence"),
]
HEADER_TAGS = [Tag(tag) for tag in _READ]

SMALLEST_LENGTH_MM = 0.01  # of a pixel or slice
_LARGEST = 1e12  # of any number, so that no sum or square overflows

Vector = tuple[float, float, float]


@dataclass(frozen=True)
class SeriesHeader:
    """Header that the files of a series share. `damage` says why this file cannot be used.

    `person` is name and date of birth, to tell people of one PatientID apart; it is written nowhere.
    """

    patient_id: str
    study_uid: str
    series_uid: str
    number: str
    description: str
    protocol: str
    sequence_name: str
    physics: frozenset[str]  # GR, SE, IR, EP, SS, SP, ... (Scanning Sequence, Sequence Variant, Scan Options)
    damage: str | None = None
    frame_of_reference: str = ""
    person: tuple[str, str] = ("", "")


@dataclass(frozen=True)
class Frame:
    """One image plane: a classic file, or one frame of an enhanced file.

    Attributes:
        header: shared with the other frames of the file.
        file: where its pixels are.
        index: of the frame in the file, from 0.
        position_mm: centre of the first pixel.
        row: direction of growing column index.
        column: direction of growing row index.
        pixel_mm: distance between rows, and between columns.
        shape: rows, columns.
        slice_mm: nominal slice distance, else thickness; for a single slice only.
        centres_mm: nominal distance of the centres of neighbouring slices, where the header says it.
        image_type: from the third value on, and which component of the complex image it is, where that is
            not the magnitude.
        phase: time index within a cine series, where the header has one.
        acquired: date and time as sortable text; empty when unknown.
        instance: its number in the series, which may be in any order.
        slope: of the stored value.
        intercept: of the stored value.
        original: as the scanner reconstructed it, not derived from other images.
    """

    header: SeriesHeader
    file: Path
    index: int
    position_mm: Vector
    row: Vector
    column: Vector
    pixel_mm: tuple[float, float]
    shape: tuple[int, int]
    slice_mm: float | None
    image_type: tuple[str, ...]
    echo_time_ms: float | None
    inversion_time_ms: float | None
    trigger_time_ms: float | None
    phase: float | None
    acquired: str
    instance: int
    slope: float
    intercept: float
    original: bool = True
    centres_mm: float | None = None

    @property
    def normal(self) -> Vector:
        """Unit vector across the slice, row x column."""
        (a, b, c), (d, e, f) = self.row, self.column
        return (b * f - c * e, c * d - a * f, a * e - b * d)

    @property
    def day(self) -> str:
        """When it was acquired, YYYYMMDD; empty when unknown."""
        return self.acquired[:8] if self.acquired[:8].isdecimal() and len(self.acquired) > 8 + 5 else ""

    @property
    def height_mm(self) -> float:
        """Position along the normal."""
        return sum(p * n for p, n in zip(self.position_mm, self.normal, strict=True))


def frames_of(data: Dataset, file: Path, damage: str | None) -> list[Frame]:
    """Frames of one file; none for an image without a position (screenshots, reports).

    Raises:
        ValueError: a value that the geometry or the grouping needs is missing or no number, or several
            frames whose places nothing tells.
    """
    header = _series_header(data, damage)
    shape = (_required_int(data, "Rows"), _required_int(data, "Columns"))
    if "PerFrameFunctionalGroupsSequence" in data:
        frames = list(_enhanced(data, header, file, shape))
        if 0 < len(frames) < number_of_frames(data):
            raise ValueError(f"only {len(frames)} of {number_of_frames(data)} frames have a position")
        return frames
    if number_of_frames(data) > 1:
        raise ValueError(
            f"{number_of_frames(data)} frames in a classic file, and nothing says where each was taken"
        )
    if not _values(data, "ImagePositionPatient"):
        return []
    return [_classic(data, header, file, shape)]


def number_of_frames(data: Dataset) -> int:
    """Return how many frames the file has; 1 for a classic one."""
    return int(data.get("NumberOfFrames") or 1)


def required_text(data: Dataset, keyword: str) -> str:
    """First value as text.

    Raises:
        ValueError: it is absent or empty.
    """
    text = _text(data, keyword)
    if not text:
        raise ValueError(f"the header has no {keyword}")
    return text


def _series_header(data: Dataset, damage: str | None) -> SeriesHeader:
    physics = {
        value.upper()
        for keyword in ("ScanningSequence", "SequenceVariant", "ScanOptions")
        for value in _texts(data, keyword)
    }
    # The words of enhanced files, in those of classic ones.
    echo = _text(data, "EchoPulseSequence").upper()
    physics |= {"GRADIENT": {"GR"}, "SPIN": {"SE"}, "BOTH": {"GR", "SE"}}.get(echo, set())
    if _text(data, "InversionRecovery").upper() == "YES":
        physics.add("IR")
    if _text(data, "SteadyStatePulseSequence").upper() in ("FREE_PRECESSION", "TRANSVERSE", "TIME_REVERSED"):
        physics.add("SS")
    return SeriesHeader(
        patient_id=_text(data, "PatientID"),
        study_uid=required_text(data, "StudyInstanceUID"),
        series_uid=required_text(data, "SeriesInstanceUID"),
        number=_text(data, "SeriesNumber"),
        description=_text(data, "SeriesDescription"),
        protocol=_text(data, "ProtocolName"),
        sequence_name=_text(data, "SequenceName") or _text(data, "PulseSequenceName"),
        physics=frozenset(physics),
        damage=damage,
        frame_of_reference=_text(data, "FrameOfReferenceUID"),
        person=(_text(data, "PatientName").casefold().strip("^ "), _text(data, "PatientBirthDate")),
    )


def _classic(data: Dataset, header: SeriesHeader, file: Path, shape: tuple[int, int]) -> Frame:
    row, column = _directions(_numbers(data, "ImageOrientationPatient", 6))
    if "PixelSpacing" not in data and _values(data, "ImagerPixelSpacing"):
        raise ValueError("no PixelSpacing; ImagerPixelSpacing is that of the detector, not of the patient")
    spacing = _numbers(data, "PixelSpacing", 2)
    return Frame(
        header=header,
        file=file,
        index=0,
        position_mm=_vector(_numbers(data, "ImagePositionPatient", 3)),
        row=row,
        column=column,
        pixel_mm=_lengths(spacing),
        shape=shape,
        slice_mm=_slice_length(data),
        centres_mm=_between_centres(data),
        image_type=(*_texts(data, "ImageType")[2:], *_component(data)),
        echo_time_ms=_number(data, "EchoTime"),
        inversion_time_ms=_number(data, "InversionTime"),
        trigger_time_ms=_number(data, "TriggerTime"),
        phase=_number(data, "TemporalPositionIdentifier"),
        acquired=_acquired(data),
        instance=int(_number(data, "InstanceNumber") or 0),
        slope=_slope(data),
        intercept=_number(data, "RescaleIntercept") or 0.0,
        original=_is_original(_texts(data, "ImageType")),
    )


def _enhanced(data: Dataset, header: SeriesHeader, file: Path, shape: tuple[int, int]) -> Iterator[Frame]:
    shared = data.get("SharedFunctionalGroupsSequence") or [Dataset()]
    per_frame = data.PerFrameFunctionalGroupsSequence
    if len(per_frame) != number_of_frames(data):
        raise ValueError(f"{number_of_frames(data)} frames, but the headers of {len(per_frame)}")
    for index, own in enumerate(per_frame):

        def macro(sequence: str, own: Dataset = own) -> Dataset:
            """The frame's own group, else the one shared by all frames, else an empty one."""
            return next((group[sequence][0] for group in (own, shared[0]) if group.get(sequence)), Dataset())

        position = macro("PlanePositionSequence")
        if not _values(position, "ImagePositionPatient"):
            continue
        measures = macro("PixelMeasuresSequence")
        content = macro("FrameContentSequence")
        value = macro("PixelValueTransformationSequence")
        row, column = _directions(_numbers(macro("PlaneOrientationSequence"), "ImageOrientationPatient", 6))
        frame_type = macro("MRImageFrameTypeSequence")
        image_type = _texts(frame_type, "FrameType") or _texts(data, "ImageType")
        yield Frame(
            header=header,
            file=file,
            index=index,
            position_mm=_vector(_numbers(position, "ImagePositionPatient", 3)),
            row=row,
            column=column,
            pixel_mm=_lengths(_numbers(measures, "PixelSpacing", 2)),
            shape=shape,
            slice_mm=_slice_length(measures),
            centres_mm=_between_centres(measures),
            image_type=(*image_type[2:], *(_component(frame_type) or _component(data))),
            echo_time_ms=_number(macro("MREchoSequence"), "EffectiveEchoTime"),
            inversion_time_ms=_number(macro("MRModifierSequence"), "InversionTimes"),
            trigger_time_ms=_number(
                macro("CardiacSynchronizationSequence"), "NominalCardiacTriggerDelayTime"
            ),
            phase=_number(content, "TemporalPositionIndex"),
            acquired=_text(content, "FrameAcquisitionDateTime") or _acquired(data),
            instance=index + 1,
            slope=_slope(value),
            intercept=_number(value, "RescaleIntercept") or 0.0,
            original=_is_original(image_type),
        )


def _acquired(data: Dataset) -> str:
    """The first moment that the header has, from the surest to the roughest."""
    moments = [_text(data, "AcquisitionDateTime")]
    for kind in ("Acquisition", "Content", "Series"):
        time = _text(data, f"{kind}Time")
        moments.append(time and _text(data, f"{kind}Date") + time)
    return next(filter(None, moments), "")


def _component(data: Dataset) -> tuple[str, ...]:
    """PHASE, REAL, IMAGINARY or MIXED of a complex image; nothing of a magnitude, or where no tag says it."""
    said = _text(data, "ComplexImageComponent").upper()
    if not said and _GE_RAW_DATA_TYPE in data:
        said = _GE_COMPONENTS.get(_whole(data[_GE_RAW_DATA_TYPE].value), "")
    return (said,) if said and said != "MAGNITUDE" else ()


def _whole(value: Any) -> int:
    """A private value as a number; -1 where it is none, or still bytes."""
    first = value[0] if isinstance(value, Sequence) and len(value) else value
    return first if isinstance(first, int) else -1


def _slice_length(data: Dataset) -> float | None:
    """Nominal slice distance, else thickness; some scanners write the distance with a sign."""
    lengths = (_number(data, keyword) for keyword in ("SpacingBetweenSlices", "SliceThickness"))
    return next((abs(length) for length in lengths if length and abs(length) >= SMALLEST_LENGTH_MM), None)


def _between_centres(data: Dataset) -> float | None:
    """Spacing between slices; None where it is less than their thickness, as some scanners call the gap."""
    between, thickness = (
        abs(_number(data, key) or 0.0) for key in ("SpacingBetweenSlices", "SliceThickness")
    )
    return between if between >= thickness > 0 else None


def _is_original(image_type: Sequence[str]) -> bool:
    return image_type[:1] != ("DERIVED",)


def _slope(data: Dataset) -> float:
    slope = _number(data, "RescaleSlope")
    if slope == 0:
        raise ValueError("the rescale slope is 0")
    return 1.0 if slope is None else slope


def _values(data: Dataset, keyword: str) -> list[Any]:
    value = data.get(keyword)
    if value is None or value == "":
        return []
    return (
        [value]
        if isinstance(value, str | bytes | int | float) or not hasattr(value, "__iter__")
        else list(value)
    )


def _text(data: Dataset, keyword: str) -> str:
    """First value without what could steer a terminal; empty when absent."""
    values = _values(data, keyword)
    text = str(values[0]) if values else ""
    return "".join(c if c.isprintable() else " " for c in text).strip()


def _texts(data: Dataset, keyword: str) -> tuple[str, ...]:
    return tuple(str(value).strip() for value in _values(data, keyword))


def _required_int(data: Dataset, keyword: str) -> int:
    number = _number(data, keyword)
    if not number or number < 1:
        raise ValueError(f"the header has no {keyword}")
    return int(number)


def _number(data: Dataset, keyword: str) -> float | None:
    """First value as a number; None when absent."""
    values = _values(data, keyword)
    return _finite(values[0], keyword) if values else None


def _numbers(data: Dataset, keyword: str, count: int) -> tuple[float, ...]:
    values = _values(data, keyword)
    if len(values) != count:
        raise ValueError(f"{keyword} has {len(values)} values, not {count}")
    return tuple(_finite(value, keyword) for value in values)


def _finite(value: Any, keyword: str) -> float:
    number = float(value)
    if not abs(number) <= _LARGEST:
        raise ValueError(f"{keyword} is {number}")
    return number


def _vector(values: tuple[float, ...]) -> Vector:
    x, y, z = values
    return x, y, z


def _lengths(values: tuple[float, ...]) -> tuple[float, float]:
    between_rows, between_columns = values
    if min(between_rows, between_columns) < SMALLEST_LENGTH_MM:
        raise ValueError(f"PixelSpacing is {between_rows:g} x {between_columns:g} mm")
    return between_rows, between_columns


def _directions(values: tuple[float, ...]) -> tuple[Vector, Vector]:
    """The two unit vectors of the plane, made exact: headers hold few digits."""
    row, column = _vector(values[:3]), _vector(values[3:])
    lengths = math.hypot(*row), math.hypot(*column)
    cosine = sum(a * b for a, b in zip(row, column, strict=True))
    if any(abs(length - 1) > 1e-2 for length in lengths) or abs(cosine) > 1e-2:
        raise ValueError("ImageOrientationPatient is no pair of perpendicular unit vectors")
    row = _vector(tuple(v / lengths[0] for v in row))
    return row, _vector(tuple(v / lengths[1] for v in column))
