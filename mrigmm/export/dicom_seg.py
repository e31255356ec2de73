"""Label maps as DICOM segmentation objects, by highdicom."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np

from mrigmm.data.files import atomic
from mrigmm.errors import InputError, missing_extra
from mrigmm.labels import class_colours

try:
    import highdicom
except ImportError as error:
    raise missing_extra("dicom", error) from None

import pydicom
from highdicom.seg import Segmentation, SegmentDescription
from pydicom.sr.codedict import codes

from mrigmm.data.dicom.source import Source
from mrigmm.data.dicom.stack import LPS_TO_RAS

_SERIES_NUMBER = 900  # far from the scanner's own
# Attributes of type 2: every image has them, if only empty; some anonymisers remove them all the same.
_MAY_BE_EMPTY = (
    *("PatientName", "PatientBirthDate", "PatientSex"),
    *("AccessionNumber", "StudyID", "StudyDate", "StudyTime"),
)
# Class -> category, type and region, as SNOMED CT codes that DICOM's own context groups use.
CONCEPTS: Mapping[str, tuple[Any, Any, Any]] = {
    "blood": (codes.SCT.Tissue, codes.SCT.Blood, codes.SCT.LeftVentricle),
    "myocardium": (codes.SCT.AnatomicalStructure, codes.SCT.LeftVentricleMyocardium, codes.SCT.LeftVentricle),
    "edema": (codes.SCT.MorphologicallyAbnormalStructure, codes.SCT.Edema, codes.SCT.LeftVentricleMyocardium),
    "scar": (
        codes.SCT.MorphologicallyAbnormalStructure,
        codes.SCT.MyocardialInfarction,
        codes.SCT.LeftVentricleMyocardium,
    ),
}


@dataclass(frozen=True)
class DicomSeg:
    """A segmentation that was written, and the headers of the images that it refers to."""

    segmentation: pydicom.Dataset
    images: Sequence[pydicom.Dataset]


def write_dicom_seg(
    path: Path,
    source: Source,
    classes: Mapping[str, int],
    *,
    study: str,
    method: str,
    edited: bool,
    description: str,
) -> DicomSeg:
    """Write a label map as a binary DICOM SEG that refers to the images of its series.

    One segment per class, numbered from 1 in the order of the classes; geometry, patient, study and frame of
    reference are those of the series.

    Args:
        path: file to write.
        source: the series and the label map on its pixels.
        classes: class name -> id in the label map.
        study: study id, for messages.
        method: name of the algorithm.
        edited: whether somebody corrected its result.
        description: at most 64 characters, for the viewer.

    Raises:
        InputError: classes without a code, or a series that lacks what every DICOM image has.
    """
    unknown = [name for name in classes if name not in CONCEPTS]
    if unknown:
        raise InputError(
            f"there is no DICOM code for the class '{unknown[0]}'",
            study=study,
            expected=", ".join(CONCEPTS),
            got=", ".join(classes),
            remedy="export the label map in another format",
        )
    labels = np.zeros(source.data.shape, dtype=np.uint8)
    for number, index in enumerate(classes.values(), start=1):
        labels[source.data == index] = number
    # highdicom's volumes run over slices, rows and columns, in DICOM's own LPS+.
    affine = (LPS_TO_RAS @ source.stack.affine)[:, [2, 1, 0, 3]]
    files = list(dict.fromkeys(frame.file for frame in source.stack.frames))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # oddities of the series' headers, which are not ours to mend
        images = [pydicom.dcmread(file, stop_before_pixels=True) for file in files]
        indices = {
            str(image.SOPInstanceUID): [frame.index for frame in source.stack.frames if frame.file == file]
            for image, file in zip(images, files, strict=True)
        }
        series = {str(image.SOPInstanceUID): image.SeriesInstanceUID for image in images}
        for image in images:
            _keep_frames(image, indices[str(image.SOPInstanceUID)])
            image.SeriesInstanceUID = images[0].SeriesInstanceUID  # highdicom knows stacks of one series only
            for keyword in _MAY_BE_EMPTY:
                if keyword not in image:
                    setattr(image, keyword, None)
        try:
            segmentation = Segmentation(
                images,
                highdicom.Volume(labels, affine, coordinate_system="PATIENT"),
                "BINARY",
                _segments(classes, method, edited=edited),
                series_instance_uid=highdicom.UID(),
                series_number=_SERIES_NUMBER,
                sop_instance_uid=highdicom.UID(),
                instance_number=1,
                manufacturer="mrigmm",
                manufacturer_model_name="mrigmm",
                software_versions=version("mrigmm"),
                device_serial_number="none",
                content_label="MRIGMM",
                content_description=description,
                series_description=f"mrigmm {method}"[:64],
            )
        except (AttributeError, KeyError, TypeError, ValueError) as error:
            raise InputError(
                "no DICOM SEG can refer to this series",
                study=study,
                file=files[0],
                expected="MR images with the attributes that the standard demands",
                got=str(error).splitlines()[0] if str(error) else type(error).__name__,
                remedy="export the series again; anonymise without removing attributes",
            ) from None
        _name_kept_frames(segmentation, indices)
        _name_all_series(segmentation, series)
        with atomic(path) as temporary:
            segmentation.save_as(temporary)
        for image in images:
            image.SeriesInstanceUID = series[str(image.SOPInstanceUID)]
    return DicomSeg(segmentation, images)


def _keep_frames(image: pydicom.Dataset, indices: Sequence[int]) -> None:
    """Leave only some frames in the header of an enhanced image.

    Those at the same places that show something else (PSIR beside magnitude, phases of a cine) would be
    referred to just as well.
    """
    if "PerFrameFunctionalGroupsSequence" in image:
        groups = image.PerFrameFunctionalGroupsSequence
        image.PerFrameFunctionalGroupsSequence = pydicom.Sequence([groups[index] for index in indices])
        image.NumberOfFrames = len(indices)


def _name_kept_frames(segmentation: pydicom.Dataset, indices: Mapping[str, Sequence[int]]) -> None:
    """Turn numbers among the kept frames into those of the file, which count from 1."""
    # By identity: the segments of a slice share what refers to its image.
    referred = {
        id(image): image
        for group in segmentation.PerFrameFunctionalGroupsSequence
        for derivation in group.DerivationImageSequence
        for image in derivation.SourceImageSequence
    }
    for image in referred.values():
        if "ReferencedFrameNumber" in image:
            kept = indices[str(image.ReferencedSOPInstanceUID)]
            image.ReferencedFrameNumber = kept[int(image.ReferencedFrameNumber) - 1] + 1


def _name_all_series(segmentation: pydicom.Dataset, series: Mapping[str, str]) -> None:
    """List the images under the series that they are of."""
    (together,) = segmentation.ReferencedSeriesSequence
    members: dict[str, list[pydicom.Dataset]] = {}
    for image in together.ReferencedInstanceSequence:
        members.setdefault(series[str(image.ReferencedSOPInstanceUID)], []).append(image)
    listed = []
    for uid, images in members.items():
        item = pydicom.Dataset()
        item.SeriesInstanceUID = uid
        item.ReferencedInstanceSequence = pydicom.Sequence(images)
        listed.append(item)
    segmentation.ReferencedSeriesSequence = pydicom.Sequence(listed)


def _segments(classes: Mapping[str, int], method: str, *, edited: bool) -> list[SegmentDescription]:
    colours = class_colours(list(classes))
    algorithm = highdicom.AlgorithmIdentificationSequence(
        method, codes.DCM.ArtificialIntelligence, version("mrigmm"), source="mrigmm"
    )
    segments = []
    for number, name in enumerate(classes, start=1):
        category, kind, region = CONCEPTS[name]
        segments.append(
            SegmentDescription(
                number,
                name,
                category,
                kind,
                "SEMIAUTOMATIC" if edited else "AUTOMATIC",
                algorithm,
                anatomic_regions=[region],
                display_color=highdicom.color.CIELabColor.from_rgb(*colours[name]),
            )
        )
    return segments
