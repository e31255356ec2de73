"""The structured report beside a DICOM SEG: read back, its numbers are those of the label map."""

import json

import highdicom
import nibabel as nib
import numpy as np
import pydicom
import pytest

import mrigmm
from mrigmm.data.side_file import record_of
from mrigmm.data.volumes import read_map

from .test_export_seg import CLASSES, converted, export, predicted  # noqa: F401

EDITED = {"review": {"by": "Ann", "edited_by": "Ann\\B^", "edited_at": "2026-01-01T00:00:00+00:00"}}


def voxel_volume_ml(image):
    return abs(np.linalg.det(image.affine[:3, :3])) / 1000


def groups_of(report):
    """Tracking identifier -> group, and the segment that it refers to or None."""
    found = {}
    content = report.content
    for group in (*content.get_volumetric_roi_measurement_groups(), *content.get_image_measurement_groups()):
        segments = [
            item.ReferencedSOPSequence[0] for item in group[0].ContentSequence if item.name.value == "121191"
        ]
        found[group.tracking_identifier] = (group, segments[0] if segments else None)
    return found


def numbers(group):
    return {
        m.name.meaning: (m.value, m.unit.value, m.unit.scheme_designator) for m in group.get_measurements()
    }


@pytest.fixture
def reported(tmp_path, converted):  # noqa: F811
    predicted(tmp_path / "out", converted)
    result = export(tmp_path, format="dicom-sr")
    assert result.done == ("P1",)
    seg = highdicom.seg.segread(tmp_path / "seg" / "P1_seg.dcm")
    return seg, highdicom.sr.srread(tmp_path / "seg" / "P1_sr.dcm"), tmp_path


def test_numbers_are_read_back_with_units_codes_and_segments(reported):
    seg, report, folder = reported
    labels = nib.load(folder / "out" / "P1_labels.nii.gz")
    ids, ml = np.asarray(labels.dataobj), voxel_volume_ml(labels)
    groups = groups_of(report)
    assert set(groups) == {*CLASSES, "LV mass"}  # obstruction was not looked for
    wall = np.isin(ids, [2, 3, 4]).sum() * ml * 1.05
    for number, (name, index) in enumerate(CLASSES.items(), start=1):
        group, segment = groups[name]
        values = numbers(group)
        volume = (ids == index).sum() * ml
        assert values["Volume"] == (pytest.approx(volume, abs=1e-6), "ml", "UCUM")
        if name in ("edema", "scar"):
            assert values["Mass"] == (pytest.approx(volume * 1.05, abs=1e-6), "g", "UCUM")
            share = values["Percentage of left ventricular mass"]
            assert share == (pytest.approx(100 * volume * 1.05 / wall, abs=1e-6), "%", "UCUM")
        else:
            assert set(values) == {"Volume"}
        assert segment.ReferencedSOPInstanceUID == seg.SOPInstanceUID
        assert segment.ReferencedSegmentNumber == number
    scar = groups["scar"][0]
    assert (scar.finding_type.value, scar.finding_sites[0].value.value) == ("22298006", "49848007")
    mass = numbers(groups["LV mass"][0])
    assert mass == {"Mass": (pytest.approx(wall, abs=1e-6), "g", "UCUM")}


def test_what_the_header_says(reported):
    seg, report, folder = reported
    plain = pydicom.dcmread(folder / "seg" / "P1_sr.dcm")  # not by the library that wrote it
    assert plain.SOPClassUID == "1.2.840.10008.5.1.4.1.1.88.34"
    assert plain.ContentTemplateSequence[0].TemplateIdentifier == "1500"
    assert (plain.PatientID, plain.StudyInstanceUID) == (seg.PatientID, seg.StudyInstanceUID)
    assert "not for clinical use" in plain.SeriesDescription
    evidence = [
        image.ReferencedSOPInstanceUID
        for study in plain.CurrentRequestedProcedureEvidenceSequence
        for series in study.ReferencedSeriesSequence
        for image in series.ReferencedSOPSequence
    ]
    assert seg.SOPInstanceUID in evidence
    assert len(evidence) == 1 + 4  # and the images under it
    assert report.content.get_observer_contexts()[0].observer_type.meaning == "Device"


def test_of_a_corrected_map_the_numbers_are_new_and_the_reader_is_named(tmp_path, converted):  # noqa: F811
    predicted(tmp_path / "out", converted)
    file, side = tmp_path / "out" / "P1_labels.nii.gz", tmp_path / "out" / "P1.json"
    before = read_map(file, study="P1", role="label")
    content = json.loads(side.read_text())
    side.write_text(
        json.dumps({**content, **EDITED, "label_map": record_of(before.data, before.grid).as_json()})
    )
    image = nib.load(file)
    ids = np.asarray(image.dataobj).copy()
    ids[ids == 4] = 2
    ids[ids == 3] = 2
    nib.save(nib.Nifti1Image(ids, image.affine, image.header), file)
    export(tmp_path, format="dicom-sr")
    report = highdicom.sr.srread(tmp_path / "seg" / "P1_sr.dcm")
    scar, segment = groups_of(report)["scar"]
    assert segment is None  # no voxel, so no region; the zero is told all the same
    assert numbers(scar)["Mass"] == (0.0, "g", "UCUM")
    people = report.content.get_observer_contexts(highdicom.sr.CodedConcept("121006", "DCM", "Person"))
    assert [person.observer_identifying_attributes.name for person in people] == ["Ann B^"]


def test_edema_that_was_not_looked_for_and_obstruction_that_was(tmp_path, converted):  # noqa: F811
    predicted(tmp_path / "out", converted, classes={"blood": 1, "myocardium": 2, "scar": 4})
    image = nib.load(tmp_path / "out" / "P1_labels.nii.gz")
    ids = np.asarray(image.dataobj)
    mvo = np.zeros_like(ids)
    mvo[tuple(np.argwhere(ids == 4)[0])] = 1
    nib.save(nib.Nifti1Image(mvo, image.affine), tmp_path / "out" / "P1_mvo.nii.gz")
    mrigmm.export_predictions(
        tmp_path / "out", tmp_path / "seg", format="dicom-sr", dicom=tmp_path / "dicom", studies=["P1"]
    )
    groups = groups_of(highdicom.sr.srread(tmp_path / "seg" / "P1_sr.dcm"))
    assert set(groups) == {"blood", "myocardium", "scar", "LV mass", "MVO"}
    assert numbers(groups["MVO"][0])["Mass"][0] == pytest.approx(voxel_volume_ml(image) * 1.05, abs=1e-6)
