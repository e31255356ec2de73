"""DICOM files for the tests, written with pydicom: no header or pixel comes from a scanner."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.sequence import Sequence as DicomSequence
from pydicom.uid import EnhancedMRImageStorage, ExplicitVRLittleEndian, MRImageStorage

ROOT = "1.2.826.0.1.3680043.10.9999"
SHAPE = (3, 6, 5)  # slices, rows, columns
PIXEL_MM = (1.5, 1.25)  # between rows, between columns
STEP_MM = 10.0
ORIGIN_MM = (-40.0, -12.5, 33.0)


def directions() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Row, column and normal of an oblique plane (rotated by 30 degrees about x, then 20 about z)."""
    a, b = np.deg2rad([30.0, 20.0])
    about_x = np.array([[1, 0, 0], [0, np.cos(a), -np.sin(a)], [0, np.sin(a), np.cos(a)]])
    about_z = np.array([[np.cos(b), -np.sin(b), 0], [np.sin(b), np.cos(b), 0], [0, 0, 1]])
    rotated = about_z @ about_x
    return rotated[:, 0], rotated[:, 1], rotated[:, 2]


def position(height_mm: float) -> list[float]:
    """Position of the slice at a height above the first one."""
    return (np.array(ORIGIN_MM) + height_mm * directions()[2]).tolist()


def voxels(seed: int = 0, shape: Sequence[int] = SHAPE, dtype: type = np.uint16) -> np.ndarray:
    """Different whole numbers (slices, rows, columns) below 4096."""
    return np.random.default_rng(seed).integers(0, 4096, shape).astype(dtype)


def image(
    pixels: np.ndarray,
    *,
    patient: str = "P1",
    study: int = 1,
    series: int = 1,
    number: int = 1,
    description: str = "LGE_sax",
    height_mm: float = 0.0,
    **tags: Any,
) -> Dataset:
    """One classic MR image (rows, columns); a tag of None is left out."""
    row, column, _ = directions()
    data = Dataset()
    data.file_meta = FileMetaDataset()
    data.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    data.file_meta.MediaStorageSOPClassUID = MRImageStorage
    defaults = {
        "SOPClassUID": MRImageStorage,
        "SOPInstanceUID": f"{ROOT}.{study}.{series}.{number}",
        "PatientID": patient,
        "StudyInstanceUID": f"{ROOT}.{study}",
        "SeriesInstanceUID": f"{ROOT}.{study}.{series}",
        "SeriesNumber": series,
        "SeriesDescription": description,
        "Modality": "MR",
        "ImageType": ["ORIGINAL", "PRIMARY", "M", "ND"],
        "InstanceNumber": number,
        "ImagePositionPatient": position(height_mm),
        "ImageOrientationPatient": [*row, *column],
        "PixelSpacing": list(PIXEL_MM),
        "SliceThickness": 8.0,
        "PhotometricInterpretation": "MONOCHROME2",
    }
    for keyword, value in (defaults | tags).items():
        if value is not None:
            setattr(data, keyword, [round(v, 10) for v in value] if is_numbers(value) else value)
    put_pixels(data, pixels)
    data.file_meta.MediaStorageSOPInstanceUID = data.SOPInstanceUID
    return data


def is_numbers(value: Any) -> bool:
    return isinstance(value, list) and all(isinstance(v, float) for v in value)


def put_pixels(data: Dataset, pixels: np.ndarray) -> None:
    """Set the pixel module from an array of 16 bits (rows, columns) or (frames, rows, columns)."""
    data.SamplesPerPixel = 1
    data.Rows, data.Columns = pixels.shape[-2:]
    data.BitsAllocated, data.BitsStored, data.HighBit = 16, 16, 15
    data.PixelRepresentation = int(pixels.dtype.kind == "i")
    data.PixelData = pixels.astype(pixels.dtype.newbyteorder("<")).tobytes()


def save(data: Dataset, path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    data.save_as(path, enforce_file_format=True)
    return path


def series(
    folder: Path,
    pixels: np.ndarray | None = None,
    *,
    heights_mm: Sequence[float] | None = None,
    numbers: Sequence[int] | None = None,
    **options: Any,
) -> list[Path]:
    """One file per slice of an array (slices, rows, columns), named by instance number."""
    pixels = voxels() if pixels is None else pixels
    heights = [STEP_MM * k for k in range(len(pixels))] if heights_mm is None else heights_mm
    numbers = list(range(1, len(pixels) + 1)) if numbers is None else numbers
    return [
        save(
            image(plane, height_mm=height, number=number, **options),
            folder / f"{options.get('study', 1)}_{options.get('series', 1)}_{number:03d}.dcm",
        )
        for plane, height, number in zip(pixels, heights, numbers, strict=True)
    ]


def enhanced(
    pixels: np.ndarray,
    heights_mm: Sequence[float],
    *,
    own: Sequence[Mapping[str, Mapping[str, Any]]] | None = None,
    **tags: Any,
) -> Dataset:
    """An enhanced multi-frame image (frames, rows, columns).

    `own`: per frame, further functional groups by sequence name, such as
    {"CardiacSynchronizationSequence": {"NominalCardiacTriggerDelayTime": 12.0}}.
    """
    row, column, _ = directions()
    data = image(
        pixels,
        SOPClassUID=EnhancedMRImageStorage,
        **{"ImagePositionPatient": None, "ImageOrientationPatient": None, "PixelSpacing": None, **tags},
    )
    data.file_meta.MediaStorageSOPClassUID = EnhancedMRImageStorage
    data.NumberOfFrames = len(pixels)
    directions_of = [round(float(v), 10) for v in (*row, *column)]
    data.SharedFunctionalGroupsSequence = DicomSequence(
        [
            group(
                {
                    "PixelMeasuresSequence": {"PixelSpacing": list(PIXEL_MM), "SliceThickness": 8.0},
                    "PlaneOrientationSequence": {"ImageOrientationPatient": directions_of},
                }
            )
        ]
    )
    data.PerFrameFunctionalGroupsSequence = DicomSequence(
        group(
            {
                "PlanePositionSequence": {"ImagePositionPatient": [round(v, 10) for v in position(height)]},
                **(own[index] if own else {}),
            }
        )
        for index, height in enumerate(heights_mm)
    )
    return data


def group(macros: Mapping[str, Mapping[str, Any]]) -> Dataset:
    result = Dataset()
    for sequence, values in macros.items():
        item = Dataset()
        for keyword, value in values.items():
            setattr(item, keyword, value)
        setattr(result, sequence, DicomSequence([item]))
    return result
