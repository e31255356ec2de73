import os
import zipfile

import pytest

from mrigmm.data.dicom.scan import passed_over_text, scan
from mrigmm.errors import InputError
from mrigmm.jobs.common import no_progress

from .files import enhanced, image, save, series, voxels


def found(folder):
    return scan(folder, no_progress)


def counts(folder):
    return {what: count for what, count in found(folder).passed_over.items() if count}


def test_every_image_in_every_depth(tmp_path):
    series(tmp_path / "a" / "b")
    series(tmp_path, series=2)
    result = found(tmp_path)
    assert len(result.frames) == 6
    assert result.problems == ()
    assert counts(tmp_path) == {}


def test_what_is_no_mr_image_is_counted(tmp_path):
    (tmp_path / "notes.txt").write_text("DICM")
    (tmp_path / "empty").write_bytes(b"")
    (tmp_path / "noise").write_bytes(bytes(range(256)) * 4)
    report = image(voxels()[0], SOPClassUID="1.2.840.10008.5.1.4.1.1.88.11")
    report.file_meta.MediaStorageSOPClassUID = "1.2.840.10008.5.1.4.1.1.88.11"
    save(report, tmp_path / "report")
    save(image(voxels()[0], ImagePositionPatient=None), tmp_path / "screenshot")
    assert found(tmp_path).frames == ()
    assert counts(tmp_path) == {
        "files that are not DICOM": 3,
        "DICOM files that are no MR images": 1,
        "images without a position": 1,
    }


def test_links_are_not_followed(tmp_path):
    outside = tmp_path / "outside"
    (file, *_) = series(outside)
    source = tmp_path / "source"
    series(source, series=2)
    (source / "folder").symlink_to(outside)
    (source / "file.dcm").symlink_to(file)
    (source / "loop").symlink_to(source)
    result = found(source)
    assert {frame.file.parent for frame in result.frames} == {source}
    assert counts(source) == {"links": 3}


def test_a_pipe_does_not_hang(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    assert found(tmp_path).frames == ()


@pytest.mark.parametrize("kept", [140, 300, 500, 700])
def test_a_cut_off_header_is_named(tmp_path, kept):
    (file, *_) = series(tmp_path)
    file.write_bytes(file.read_bytes()[:kept])
    result = found(tmp_path)
    assert len(result.frames) == 2
    (problem,) = result.problems
    assert (problem.severity, problem.file) == ("error", str(file))


@pytest.mark.parametrize("lost", [1, 30, 60])
def test_cut_off_pixels_are_named(tmp_path, lost):
    (file, *_) = series(tmp_path)
    file.write_bytes(file.read_bytes()[:-lost])
    result = found(tmp_path)
    assert [frame.header.damage is not None for frame in result.frames] == [True, False, False]
    (problem,) = result.problems
    assert (problem.severity, problem.file) == ("warning", str(file))
    assert f"cut short: {60 - lost} of 60 bytes" in problem.what  # 5 x 6 pixels of 2 bytes


@pytest.mark.parametrize("first", ["a", "z"])
def test_a_whole_copy_goes_before_one_that_is_cut_short(tmp_path, first):
    (file, *_) = series(tmp_path)
    (tmp_path / f"{first}.dcm").write_bytes(file.read_bytes()[:-9])
    result = found(tmp_path)
    assert sorted(frame.file for frame in result.frames) == sorted(tmp_path.glob("1_*.dcm"))
    assert result.problems == ()
    assert counts(tmp_path) == {"second copies of an image": 1}


@pytest.mark.parametrize(
    ("tags", "reason"),
    [
        ({"SeriesInstanceUID": None}, "no SeriesInstanceUID"),
        ({"StudyInstanceUID": ""}, "no StudyInstanceUID"),
        ({"ImageOrientationPatient": [1.0, 0.0, 0.0, 1.0, 0.0, 0.0]}, "perpendicular"),
        ({"ImageOrientationPatient": [1.0, 0.0, 0.0]}, "3 values, not 6"),
        ({"PixelSpacing": [1.5, 0.0]}, "1.5 x 0 mm"),
        ({"PixelSpacing": None}, "0 values, not 2"),
        ({"PixelSpacing": [1.5, 1e-5]}, "1.5 x 1e-05 mm"),
        ({"RescaleSlope": 0.0}, "slope is 0"),
        ({"RescaleIntercept": 1e200}, "RescaleIntercept is 1e+200"),
    ],
)
def test_headers_that_say_too_little(tmp_path, tags, reason):
    save(image(voxels()[0], **tags), tmp_path / "a.dcm")
    result = found(tmp_path)
    assert result.frames == ()
    (problem,) = result.problems
    assert reason in problem.got


def test_enhanced_frames_have_headers_of_their_own(tmp_path):
    times = [{"CardiacSynchronizationSequence": {"NominalCardiacTriggerDelayTime": t}} for t in (7.5, 0.0)]
    save(enhanced(voxels()[:2], [0.0, 10.0], own=times), tmp_path / "e.dcm")
    one, two = found(tmp_path).frames
    assert (one.index, two.index) == (0, 1)
    assert (one.trigger_time_ms, two.trigger_time_ms) == (7.5, 0.0)
    assert two.height_mm - one.height_mm == pytest.approx(10.0, abs=1e-6)
    assert one.pixel_mm == (1.5, 1.25)


def test_enhanced_frames_without_all_headers(tmp_path):
    data = enhanced(voxels(), [0.0, 10.0, 20.0])
    del data.PerFrameFunctionalGroupsSequence[2]
    save(data, tmp_path / "e.dcm")
    (problem,) = found(tmp_path).problems
    assert problem.got == "3 frames, but the headers of 2"


def test_control_characters_of_a_header_reach_no_terminal(tmp_path):
    save(image(voxels()[0], description="LGE\x1b[31m"), tmp_path / "a.dcm")
    (frame,) = found(tmp_path).frames
    assert frame.header.description == "LGE [31m"


def test_no_folder(tmp_path):
    with pytest.raises(InputError, match="is not there"):
        found(tmp_path / "none")


def test_a_file_in_the_place_of_the_folder(tmp_path):
    single = tmp_path / "a.dcm"
    save(image(voxels()[0]), single)
    with pytest.raises(InputError, match=f"give its folder: {tmp_path}"):
        found(single)
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        archive.write(single)
    with pytest.raises(InputError, match="unzip it, and give the folder"):
        found(tmp_path / "a.zip")


def test_counts_in_words():
    assert passed_over_text("second copies of an image", 1) == "1 second copy of an image was"
    assert passed_over_text("links", 2) == "2 links were"
