"""DICOM SEG of a label map: read back, every voxel lies where it lay, on the images that it came from."""

import hashlib
import json
import sys

import highdicom
import nibabel as nib
import numpy as np
import pydicom
import pytest
from nibabel.affines import apply_affine

import mrigmm
from mrigmm.errors import InputError
from mrigmm.jobs.manifest import manifest_dicom
from tests.conftest import save_nifti
from tests.data.dicom.files import ROOT, SHAPE, enhanced, position, save, series, voxels

CLASSES = {"blood": 1, "myocardium": 2, "edema": 3, "scar": 4}
TAGS = {"FrameOfReferenceUID": f"{ROOT}.77", "PatientName": "Nobody", "StudyDate": "20240101"}
RAS_TO_LPS = np.diag([-1, -1, 1, 1])


def predicted(folder, file, *, study="P1", classes=CLASSES, turn=None, sequence=None):
    """Random labels on the grid of a NIfTI file, as `predict` leaves them; `turn` reorients that file.

    With `sequence`, the side file says which image it was, and of which sequence.
    """
    image = nib.load(file)
    labels = np.random.default_rng(5).integers(0, max(classes.values()) + 1, image.shape).astype(np.uint8)
    labels[~np.isin(labels, [0, *classes.values()])] = 0
    written = nib.Nifti1Image(labels, image.affine)
    written = written if turn is None else written.as_reoriented(np.array(turn))
    save_nifti(folder / f"{study}_labels.nii.gz", np.asarray(written.dataobj), written.affine)
    content = {"method": "map-em", "classes": classes}
    if sequence is not None:
        content |= {"reference_grid": str(file), "inputs": {sequence: str(file)}}
    (folder / f"{study}.json").write_text(json.dumps(content))
    return folder


def positions_of(labels, affine, index):
    """Sorted centres (N, 3) in mm of the voxels that have an id."""
    points = apply_affine(affine, np.argwhere(labels == index)).round(2) + 0.0
    return points[np.lexsort(points.T)]


@pytest.fixture
def converted(tmp_path):
    """An oblique series whose files are in reversed and mixed order, as our own NIfTI."""
    series(tmp_path / "dicom", voxels(shape=(4, 6, 5)), numbers=[4, 2, 3, 1], **TAGS)
    manifest_dicom(tmp_path / "dicom", tmp_path / "nifti" / "manifest.json")
    return tmp_path / "nifti" / "images" / "P1_LGE.nii.gz"


def export(tmp_path, **options):
    how = {"format": "dicom-seg", "dicom": tmp_path / "dicom", **options}
    return mrigmm.export_predictions(tmp_path / "out", tmp_path / "seg", **how)


def segment_mm(seg, number):
    """Centres (N, 3) in mm of a segment's pixels by the standard's own formula (PS3.3 C.7.6.2.1.1)."""
    shared = seg.SharedFunctionalGroupsSequence[0]
    between_rows, between_columns = map(float, shared.PixelMeasuresSequence[0].PixelSpacing)
    along = np.array(shared.PlaneOrientationSequence[0].ImageOrientationPatient, dtype=float)
    points = []
    frames = zip(seg.PerFrameFunctionalGroupsSequence, seg.pixel_array, strict=True)
    for frame, pixels in frames:
        if frame.SegmentIdentificationSequence[0].ReferencedSegmentNumber == number:
            rows, columns = np.nonzero(pixels)
            corner = np.array(frame.PlanePositionSequence[0].ImagePositionPatient, dtype=float)
            right, down = np.outer(columns, along[:3]), np.outer(rows, along[3:])
            points.append(corner + right * between_columns + down * between_rows)
    return np.concatenate(points)


def read_back(tmp_path, study="P1"):
    return highdicom.seg.segread(tmp_path / "seg" / f"{study}_seg.dcm")


# Our own axes; rows flipped, as dcm2niix leaves them; slices first and columns flipped.
@pytest.mark.parametrize("turn", [None, [[0, 1], [1, -1], [2, 1]], [[1, -1], [2, 1], [0, 1]]])
def test_every_voxel_is_read_back_at_its_place_in_mm(tmp_path, converted, turn):
    predicted(tmp_path / "out", converted, turn=turn)
    assert export(tmp_path).done == ("P1",)
    labels = nib.load(tmp_path / "out" / "P1_labels.nii.gz")
    seg = pydicom.dcmread(tmp_path / "seg" / "P1_seg.dcm")  # not by the library that wrote it
    for number in CLASSES.values():
        there = segment_mm(seg, number).round(2) + 0.0
        here = positions_of(np.asarray(labels.dataobj), RAS_TO_LPS @ labels.affine, number)
        assert len(here) > 10
        np.testing.assert_allclose(there[np.lexsort(there.T)], here, atol=0.011)


def test_segments_refer_to_the_images_under_them(tmp_path, converted):
    predicted(tmp_path / "out", converted)
    export(tmp_path)
    seg = read_back(tmp_path)
    slices = {
        image.SOPInstanceUID: tuple(map(float, image.ImagePositionPatient))
        for image in map(pydicom.dcmread, (tmp_path / "dicom").iterdir())
    }
    assert len(seg.PerFrameFunctionalGroupsSequence) == 4 * 4  # slices with every class
    for frame in seg.PerFrameFunctionalGroupsSequence:
        (referred,) = frame.DerivationImageSequence[0].SourceImageSequence
        place = frame.PlanePositionSequence[0].ImagePositionPatient
        assert slices[referred.ReferencedSOPInstanceUID] == pytest.approx(tuple(map(float, place)), abs=1e-4)


def test_what_the_header_says(tmp_path, converted):
    predicted(tmp_path / "out", converted, classes={"blood": 1, "myocardium": 2, "scar": 4})
    export(tmp_path)
    seg = read_back(tmp_path)
    assert seg.SegmentationType == "BINARY"
    assert (seg.PatientID, seg.PatientName, seg.StudyInstanceUID) == ("P1", "Nobody", f"{ROOT}.1")
    assert seg.FrameOfReferenceUID == f"{ROOT}.77"
    assert seg.SeriesInstanceUID != f"{ROOT}.1.1"
    assert "ot for clinical use" in seg.ContentDescription
    described = [
        (s.SegmentNumber, s.SegmentLabel, s.SegmentedPropertyTypeCodeSequence[0].CodeValue)
        for s in seg.SegmentSequence
    ]
    assert described == [(1, "blood", "87612001"), (2, "myocardium", "49848007"), (3, "scar", "22298006")]
    assert {s.SegmentAlgorithmType for s in seg.SegmentSequence} == {"AUTOMATIC"}
    labels = np.asarray(nib.load(tmp_path / "out" / "P1_labels.nii.gz").dataobj)
    found = seg.get_volume(segment_numbers=[3], combine_segments=False).array
    assert found.sum() == (labels == 4).sum()  # the ids of the label map have gaps, the segments none


def test_an_enhanced_file_is_referred_to_frame_by_frame(tmp_path):
    save(enhanced(voxels(), [20.0, 0.0, 10.0], **TAGS), tmp_path / "dicom" / "a.dcm")
    manifest_dicom(tmp_path / "dicom", tmp_path / "nifti" / "manifest.json")
    predicted(tmp_path / "out", tmp_path / "nifti" / "images" / "P1_LGE.nii.gz")
    export(tmp_path)
    labels, volume = nib.load(tmp_path / "out" / "P1_labels.nii.gz"), read_back(tmp_path).get_volume()
    for index in CLASSES.values():
        there = positions_of(volume.array[..., index - 1], volume.affine, 1)
        here = positions_of(np.asarray(labels.dataobj), RAS_TO_LPS @ labels.affine, index)
        np.testing.assert_allclose(there, here, atol=0.011)


def test_the_series_is_found_beside_others_by_its_geometry(tmp_path, converted):
    predicted(tmp_path / "out", converted)
    series(tmp_path / "dicom", series=2, description="T2_sax", **TAGS)  # 3 slices, not 4
    export(tmp_path)
    (referred,) = read_back(tmp_path).ReferencedSeriesSequence
    assert referred.SeriesInstanceUID == f"{ROOT}.1.1"


def referred_series(tmp_path, study):
    (referred,) = read_back(tmp_path, study).ReferencedSeriesSequence
    return referred.SeriesInstanceUID


@pytest.fixture
def clinic(tmp_path):
    """Two imported studies; LGE, T2 and a derived series share one geometry in each."""
    for study, patient in ((1, "P1"), (2, "P2")):
        for number, description in ((1, "T2_sax"), (2, "LGE_sax"), (3, "LGE_sax")):
            kind = ["DERIVED", "SECONDARY", "M"] if number == 3 else ["ORIGINAL", "PRIMARY", "M"]
            options = {"study": study, "series": number, "patient": patient, "description": description}
            series(tmp_path / "dicom", voxels(number), ImageType=kind, **options, **TAGS)
    manifest_dicom(tmp_path / "dicom", tmp_path / "nifti" / "manifest.json")
    return tmp_path / "nifti"


def test_the_series_are_those_that_the_import_recorded(tmp_path, clinic):
    for study in ("P1", "P2"):
        predicted(tmp_path / "out", clinic / "images" / f"{study}_LGE.nii.gz", study=study, sequence="LGE")
    result = export(tmp_path)
    assert result.done == ("P1", "P2")
    assert [referred_series(tmp_path, study) for study in result.done] == [f"{ROOT}.1.2", f"{ROOT}.2.2"]
    assert {(p.severity, p.what) for p in result.problems} == {
        ("note", "refers to series 2 'LGE_sax' (LGE), as the import recorded")
    }


def test_the_record_may_lie_elsewhere(tmp_path, clinic):
    file = clinic / "images" / "P1_LGE.nii.gz"
    predicted(tmp_path / "out", file)  # of another computer, say: the side file names no image
    record = (clinic / "images.json").rename(tmp_path / "kept.json")
    export(tmp_path, record=record)
    assert referred_series(tmp_path, "P1") == f"{ROOT}.1.2"
    (tmp_path / "seg" / "P1_seg.dcm").unlink()
    predicted(tmp_path / "out", file, study="P3")
    with pytest.raises(InputError, match="does not name the images of this study"):
        export(tmp_path, record=record, studies=["P3"])
    record.write_text("[]")
    with pytest.raises(InputError, match="the record of the import is damaged"):
        export(tmp_path, record=record)


def test_another_series_of_the_same_geometry_is_not_taken_for_the_recorded_one(tmp_path, clinic):
    predicted(tmp_path / "out", clinic / "images" / "P1_LGE.nii.gz", sequence="LGE")
    for file in (tmp_path / "dicom").glob("1_[23]_*"):
        file.unlink()
    with pytest.raises(InputError, match="is not in the DICOM folder") as caught:
        export(tmp_path, dicom=tmp_path / "dicom")
    (problem,) = caught.value.problems
    assert (problem.study, problem.expected, problem.got) == (
        "P1",
        f"LGE: series {ROOT}.1.2, magnitude",
        "other images of this study",
    )
    # The number of a part means another part where images are gone.
    record = json.loads((clinic / "images.json").read_text())
    record["images"]["P1_LGE.nii.gz"] |= {"series": [f"{ROOT}.1.1"], "component": "PSIR"}
    (clinic / "images.json").write_text(json.dumps(record))
    with pytest.raises(InputError, match="is not in the DICOM folder"):
        export(tmp_path, dicom=tmp_path / "dicom")


def test_an_image_that_was_written_anew_is_not_the_one_that_was_segmented(tmp_path, clinic):
    file = clinic / "images" / "P1_LGE.nii.gz"
    predicted(tmp_path / "out", file, sequence="LGE")
    side = tmp_path / "out" / "P1.json"
    digest = hashlib.sha256(file.read_bytes()).hexdigest()
    side.write_text(json.dumps({**json.loads(side.read_text()), "made_with": {"images": {"LGE": digest}}}))
    assert export(tmp_path).done == ("P1",)
    (tmp_path / "seg" / "P1_seg.dcm").unlink()
    file.write_bytes((clinic / "images" / "P1_T2.nii.gz").read_bytes())  # of the same geometry
    with pytest.raises(InputError, match="the image has changed since it was segmented"):
        export(tmp_path)


def test_by_geometry_alone_a_series_of_another_sequence_is_doubted(tmp_path, clinic):
    predicted(tmp_path / "out", clinic / "images" / "P1_LGE.nii.gz", sequence="LGE")
    (clinic / "images.json").unlink()
    for file in [*(tmp_path / "dicom").glob("1_[23]_*"), *(tmp_path / "dicom").glob("2_*")]:
        file.unlink()
    (doubt,) = export(tmp_path).problems
    assert (doubt.severity, doubt.what) == (
        "warning",
        "refers to series 1 'T2_sax', by its geometry alone; it looks like T2, but the study was segmented "
        "on LGE",
    )


def test_a_label_map_on_another_grid_than_the_recorded_series(tmp_path, clinic):
    file = clinic / "images" / "P1_LGE.nii.gz"
    image = nib.load(file)
    save_nifti(file, np.asarray(image.dataobj)[..., :2], image.affine)
    predicted(tmp_path / "out", file, sequence="LGE")
    with pytest.raises(InputError, match="not on the grid of the series that the import recorded"):
        export(tmp_path)


def test_series_of_one_slice_each_are_joined_as_the_import_did(tmp_path):
    pixels = voxels(shape=(4, 6, 5))
    for k in range(4):
        one = {"heights_mm": [10.0 * k], "series": 9 - k, "description": "LGE sax"}
        series(tmp_path / "dicom", pixels[[k]], **one, **TAGS)
    manifest_dicom(tmp_path / "dicom", tmp_path / "nifti" / "manifest.json")
    predicted(tmp_path / "out", tmp_path / "nifti" / "images" / "P1_LGE.nii.gz", sequence="LGE")
    (note,) = export(tmp_path).problems
    assert note.what.startswith("refers to 4 series, the first of them 6 'LGE sax' (LGE)")
    listed = read_back(tmp_path).ReferencedSeriesSequence
    assert {item.SeriesInstanceUID for item in listed} == {f"{ROOT}.1.{number}" for number in (6, 7, 8, 9)}
    assert all(len(item.ReferencedInstanceSequence) == 1 for item in listed)
    heights = {f"{ROOT}.1.{9 - k}.1": 10.0 * k for k in range(4)}
    frames = read_back(tmp_path).PerFrameFunctionalGroupsSequence
    assert len(frames) == 16
    for frame in frames:
        (referred,) = frame.DerivationImageSequence[0].SourceImageSequence
        place = frame.PlanePositionSequence[0].ImagePositionPatient
        assert position(heights[referred.ReferencedSOPInstanceUID]) == pytest.approx(
            [float(v) for v in place], abs=1e-4
        )


def test_of_an_enhanced_file_only_the_frames_of_the_segmented_kind_are_referred_to(tmp_path):
    """Magnitude and PSIR of three slices, mixed: magnitude is taken, and only its frames are named."""
    heights = [20.0, 0.0, 10.0, 0.0, 20.0, 10.0]
    kinds = ["R", "M", "M", "R", "M", "R"]
    own = [{"MRImageFrameTypeSequence": {"FrameType": ["ORIGINAL", "PRIMARY", kind]}} for kind in kinds]
    data = enhanced(voxels(shape=(6, 6, 5)), heights, own=own, description="LGE", **TAGS)
    save(data, tmp_path / "dicom" / "a.dcm")
    manifest_dicom(tmp_path / "dicom", tmp_path / "nifti" / "manifest.json")
    predicted(tmp_path / "out", tmp_path / "nifti" / "images" / "P1_LGE.nii.gz")
    for record in (None, tmp_path / "nifti" / "images.json"):  # by geometry, and by the record
        result = export(tmp_path, record=record)
        assert len(result.problems) == 1
        frames = read_back(tmp_path).PerFrameFunctionalGroupsSequence
        assert len(frames) == 3 * 4  # slices with every class
        for frame in frames:
            (referred,) = frame.DerivationImageSequence[0].SourceImageSequence
            index = referred.ReferencedFrameNumber - 1  # numbers count from 1
            assert kinds[index] == ("M" if record else "R")
            place = [float(v) for v in frame.PlanePositionSequence[0].ImagePositionPatient]
            assert position(heights[index]) == pytest.approx(place, abs=1e-4)
        (tmp_path / "seg" / "P1_seg.dcm").unlink()


def test_a_header_without_what_may_be_empty_will_do(tmp_path):
    series(tmp_path / "dicom", FrameOfReferenceUID=f"{ROOT}.77")
    manifest_dicom(tmp_path / "dicom", tmp_path / "nifti" / "manifest.json")
    predicted(tmp_path / "out", tmp_path / "nifti" / "images" / "P1_LGE.nii.gz")
    export(tmp_path)
    assert read_back(tmp_path).get("PatientName", "") in ("", None)


def test_series_that_do_not_fit(tmp_path, converted):
    predicted(tmp_path / "out", converted)
    folders = {name: tmp_path / name for name in ("none", "text", "other", "moved", "twice")}
    for folder in list(folders.values())[1:]:
        folder.mkdir()
    (folders["text"] / "a.txt").write_text("no DICOM")
    series(folders["other"], voxels(shape=(3, 6, 5)), **TAGS)
    series(folders["moved"], voxels(shape=(4, 6, 5)), heights_mm=[2, 12, 22, 32], **TAGS)
    for number in (1, 2):
        series(folders["twice"], voxels(shape=(4, 6, 5)), series=number, **TAGS)
    messages = {
        "none": "the DICOM folder is not there",
        "text": "there are no MR images in the DICOM folder",
        "other": "no series has the geometry of the label map",
        "moved": "no series has the geometry of the label map",
        "twice": "several series have the geometry of the label map",
    }
    for name, message in messages.items():
        with pytest.raises(InputError, match=message) as caught:
            export(tmp_path, dicom=folders[name])
        assert caught.value.problems[-1].file == str(folders[name])
    assert not (tmp_path / "seg").exists()


def test_a_series_without_a_frame_of_reference_is_an_error(tmp_path):
    series(tmp_path / "dicom")
    manifest_dicom(tmp_path / "dicom", tmp_path / "nifti" / "manifest.json")
    predicted(tmp_path / "out", tmp_path / "nifti" / "images" / "P1_LGE.nii.gz")
    with pytest.raises(InputError, match="no DICOM SEG can refer to this series") as caught:
        export(tmp_path)
    assert "Frame Of Reference UID" in caught.value.problems[0].got


def test_bad_requests(tmp_path, converted):
    predicted(tmp_path / "out", converted)
    predicted(tmp_path / "out", converted, study="P2")
    with pytest.raises(InputError, match="a DICOM series belongs to one study"):
        export(tmp_path)
    with pytest.raises(InputError, match="need the series that they refer to"):
        export(tmp_path, dicom=None)
    with pytest.raises(InputError, match="takes no DICOM series"):
        export(tmp_path, format="bids")
    with pytest.raises(InputError, match="takes no record of an import"):
        export(tmp_path, format="bids", dicom=None, record="images.json")
    with pytest.raises(InputError, match="there is no such record"):
        export(tmp_path, record=tmp_path / "images.json")
    predicted(tmp_path / "out", converted, study="P3", classes={"grey": 1})
    with pytest.raises(InputError, match="no DICOM code for the class 'grey'"):
        export(tmp_path, studies=["P3"])
    assert export(tmp_path, studies=["P2"]).done == ("P2",)
    assert [path.name for path in (tmp_path / "seg").iterdir()] == ["P2_seg.dcm"]


def test_without_highdicom_the_error_names_the_extra(tmp_path, converted, monkeypatch):
    predicted(tmp_path / "out", converted)
    monkeypatch.setitem(sys.modules, "highdicom", None)
    for module in ("mrigmm.export.dicom_seg", "mrigmm.jobs.dicom.export_seg"):
        monkeypatch.delitem(sys.modules, module, raising=False)
    with pytest.raises(InputError) as caught:
        export(tmp_path)
    assert caught.value.problems[0].remedy == "pip install 'mrigmm[dicom]'"


def test_the_command(cli, tmp_path, converted):
    predicted(tmp_path / "out", converted)
    arguments = ("--format", "dicom-seg", "--dicom", tmp_path / "dicom", "--quiet")
    result = cli("export", tmp_path / "out", "-o", tmp_path / "seg", *arguments)
    assert (result.code, result.out) == (0, f"exported 1 study: {tmp_path / 'seg'}\n")
    assert read_back(tmp_path).Rows == SHAPE[1]
