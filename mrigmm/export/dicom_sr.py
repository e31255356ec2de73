"""Measurements of a label map as a DICOM structured report (TID 1500), by highdicom."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import highdicom
import pydicom
from highdicom import sr
from pydicom.sr.codedict import Code, codes

from mrigmm.data.files import atomic
from mrigmm.export.dicom_seg import CONCEPTS, DicomSeg

_SERIES_NUMBER = 901  # the one after the segmentation's
_OWN = "99MRIGMM"  # codes that no public scheme has
_UNITS: Mapping[str, Code] = {
    "ml": Code("ml", "UCUM", "milliliter"),
    "g": Code("g", "UCUM", "gram"),
    "percent": codes.UCUM.Percent,
}
_LV_MASS_SHARE = Code("lv_mass_percent", _OWN, "Percentage of left ventricular mass")
_KINDS: Mapping[str, tuple[Code, str]] = {
    "volume_ml": (codes.SCT.Volume, "ml"),
    "mass_g": (codes.SCT.MassQuantity, "g"),
    "percent_of_lv_mass": (_LV_MASS_SHARE, "percent"),
}
# What has no segment of its own: finding and site.
_WITHOUT_SEGMENT: Mapping[str, tuple[Code, Code]] = {
    "LV mass": (codes.SCT.LeftVentricleMyocardium, codes.SCT.LeftVentricle),
    "MVO": (Code("mvo", _OWN, "Microvascular obstruction"), codes.SCT.LeftVentricleMyocardium),
}


@dataclass(frozen=True)
class Measured:
    """Return the measurements of a class, or of the wall or the obstruction: kind (`_KINDS`) -> value."""

    name: str
    values: Mapping[str, float]


def measured_values(volume_ml: Mapping[str, float], quantities: Mapping[str, float | None]) -> list[Measured]:
    """Return what a report holds, of the numbers that are known.

    Args:
        volume_ml: class -> volume.
        quantities: number of `quantify` -> value.
    """
    of_classes = {"scar": "infarct", "edema": "edema"}
    found = []
    for name, volume in volume_ml.items():
        rest = _known(quantities, of_classes[name]) if name in of_classes else {}
        found.append(Measured(name, {"volume_ml": volume, **rest}))
    found += [Measured("LV mass", _known(quantities, "lv")), Measured("MVO", _known(quantities, "mvo"))]
    return [measured for measured in found if measured.values]


def _known(quantities: Mapping[str, float | None], prefix: str) -> dict[str, float]:
    values = {kind: quantities.get(f"{prefix}_{kind}") for kind in ("mass_g", "percent_of_lv_mass")}
    return {kind: value for kind, value in values.items() if value is not None}


def write_dicom_sr(
    path: Path, seg: DicomSeg, measured: Sequence[Measured], *, method: str, editor: str | None
) -> None:
    """Write a measurement report that refers to the segments of a DICOM SEG.

    Args:
        path: file to write.
        seg: the segmentation, and the images that it is of.
        measured: what to report, of all classes that have a segment.
        method: name of the algorithm.
        editor: who corrected its result; None where nobody did.
    """
    algorithm = sr.AlgorithmIdentification(method, version("mrigmm"), manufacturer="mrigmm")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # oddities of the series' headers, which are not ours to mend
        report = sr.MeasurementReport(
            _observers(editor),
            codes.SCT.MagneticResonanceImagingOfHeart,
            [_group(one, seg.segmentation, algorithm) for one in measured],
            title=codes.DCM.ImagingMeasurementReport,
        )
        document = sr.Comprehensive3DSR(
            [seg.segmentation, *seg.images],
            report,
            series_instance_uid=highdicom.UID(),
            series_number=_SERIES_NUMBER,
            sop_instance_uid=highdicom.UID(),
            instance_number=1,
            manufacturer="mrigmm",
            is_complete=True,
            series_description=f"mrigmm {method}; not for clinical use"[:64],
        )
        with atomic(path) as temporary:
            document.save_as(temporary)


def _observers(editor: str | None) -> sr.ObservationContext:
    device = sr.ObserverContext(
        codes.DCM.Device,
        sr.DeviceObserverIdentifyingAttributes(
            highdicom.UID(), name="mrigmm", manufacturer_name="mrigmm", model_name=version("mrigmm")
        ),
    )
    person = None
    if editor is not None:
        plain = "".join(" " if c in "\\^=" or not c.isprintable() else c for c in editor).strip()[:63] + "^"
        person = sr.ObserverContext(codes.DCM.Person, sr.PersonObserverIdentifyingAttributes(plain))
    return sr.ObservationContext(observer_person_context=person, observer_device_context=device)


def _group(measured: Measured, segmentation: pydicom.Dataset, algorithm: Any) -> Any:
    """Return a measurement group: of a segment (TID 1411) where there is one with voxels, else TID 1501."""
    items = [
        sr.Measurement(_KINDS[kind][0], round(value, 6), _UNITS[_KINDS[kind][1]], algorithm_id=algorithm)
        for kind, value in measured.values.items()
    ]
    identifier = sr.TrackingIdentifier(highdicom.UID(), measured.name)
    if measured.name in _WITHOUT_SEGMENT:
        finding, site = _WITHOUT_SEGMENT[measured.name]
    else:
        _, finding, site = CONCEPTS[measured.name]
    common: dict[str, Any] = {
        "finding_type": finding,
        "finding_sites": [sr.FindingSite(site)],
        "measurements": items,
    }
    number = next(
        (s.SegmentNumber for s in segmentation.SegmentSequence if s.SegmentLabel == measured.name), None
    )
    with_voxels = {
        frame.SegmentIdentificationSequence[0].ReferencedSegmentNumber
        for frame in segmentation.PerFrameFunctionalGroupsSequence
    }
    if number is None or number not in with_voxels:
        return sr.MeasurementsAndQualitativeEvaluations(identifier, **common)
    segment = sr.ReferencedSegment.from_segmentation(segmentation, number)
    return sr.VolumetricROIMeasurementsAndQualitativeEvaluations(
        identifier, referenced_segment=segment, **common
    )
