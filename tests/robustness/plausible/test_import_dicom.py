"""What a DICOM folder holds that is not what its name, or the first look, says."""

import nibabel as nib
import numpy as np
import pytest
from pydicom import dcmread
from pydicom.uid import DeflatedExplicitVRLittleEndian

from mrigmm.data.dicom.recognise import IGNORE, recognise
from mrigmm.jobs.manifest import manifest_dicom

from ...data.dicom.files import STEP_MM, enhanced, image, save, series, voxels
from ...data.dicom.test_recognise import series as part
from ...data.dicom.test_series import write_cine

KIND = "import of DICOM"
CHECK = "the names of series against their tags, and the places and times of the images against each other"

CINE_TAGS = {"physics": ("GR", "SS"), "phases": 12}
BLACK_BLOOD = {"physics": ("SE",), "echo_time_ms": 80.0}
INVERSION = {"physics": ("GR", "IR"), "inversion_time_ms": 280.0}


def imported(folder, out):
    """Problems of the import; those that are errors are in them too."""
    from mrigmm.errors import InputError

    try:
        return manifest_dicom(folder, out / "manifest.json").problems
    except InputError as error:
        return error.problems


def said(problems):
    return "\n".join(map(str, problems))


@pytest.mark.parametrize(
    ("name", "tags", "expected"),
    [
        ("EJE CORTO DE VI", CINE_TAGS, "bSSFP"),
        ("PETIT AXE SANG NOIR COUPE DE VG", BLACK_BLOOD, "T2"),
        ("LGE_sax", CINE_TAGS, "bSSFP"),
        ("LGE_sax", BLACK_BLOOD, "T2"),
        ("T2_stir_sax", INVERSION, "LGE"),
        ("cine_sax", INVERSION, "LGE"),
        ("LGE_sax", {"phases": 12}, IGNORE),
        ("cine_sax", {"physics": ("GR", "IR", "SS"), "phases": 20}, IGNORE),
        ("corte de VI", {}, "LGE"),
        ("LGE_scout", {}, "LGE"),
    ],
)
def test_tags_win_over_words(name, tags, expected):
    """name and tags of a series contradict each other -> the tags decide, and the doubt is told"""
    verdict = recognise(part(name, **tags))
    assert verdict.sequence == expected
    assert verdict.doubt or verdict.ambiguous


@pytest.mark.parametrize(
    ("name", "tags", "expected"),
    [
        ("DE_SAX", INVERSION, "LGE"),
        ("de_psir_sax", {}, "LGE"),
        ("T2_stir_sax", BLACK_BLOOD, "T2"),
        ("cine_sax", CINE_TAGS, "bSSFP"),
        ("tirm sax", {"physics": ("SE", "IR"), "inversion_time_ms": 170.0, "echo_time_ms": 65.0}, "T2"),
        ("psir trufi sax", {"physics": ("GR", "IR", "SS"), "inversion_time_ms": 300.0}, "LGE"),
    ],
)
def test_tags_that_agree_are_no_doubt(name, tags, expected):
    """name and tags of a series agree -> the series is taken without a word"""
    verdict = recognise(part(name, **tags))
    assert (verdict.sequence, verdict.doubt) == (expected, "")


@pytest.mark.parametrize(
    "name",
    [
        *("LGE eje largo", "PSIR grand axe", "LGE 4 camaras", "LGE lange Achse", "LGE asse lungo"),
        *("mapa T1 eje corto", "cartographie T2", "Lokalisierer LGE", "LGE_sax_PHA", "LGE phase image"),
    ],
)
def test_words_of_other_languages(name):
    """a long axis, map, localiser or phase image by its name -> the series is ignored"""
    assert recognise(part(name)).sequence == IGNORE


@pytest.mark.parametrize(
    "types",
    [("LOCALIZER",), ("M", "T1 MAP"), ("PROJECTION IMAGE",), ("P", "ND"), ("M", "PHASE"), ("I",), ("SUB",)],
)
def test_another_kind_of_image_by_its_image_type(types):
    """Image Type names another kind of image under the name of an LGE -> the series is ignored"""
    assert recognise(part("LGE_sax", image_type=types)).sequence == IGNORE


@pytest.mark.parametrize("tags", [{"ComplexImageComponent": "PHASE"}, {"ge": 1}, {"ge": 3}])
def test_a_phase_image_that_says_m(tmp_path, tags):
    """a phase image whose Image Type says M, by its component or GE's private tag -> ignored with a line"""
    for z in range(3):
        data = image(voxels()[z], number=z + 1, height_mm=10.0 * z)
        if "ge" in tags:
            data.private_block(0x0043, "GEMS_PARM_01", create=True).add_new(0x2F, "SS", tags["ge"])
        else:
            data.ComplexImageComponent = tags["ComplexImageComponent"]
        save(data, tmp_path / f"{z}.dcm")
    text = said(imported(tmp_path, tmp_path / "out"))
    assert "no series of the study is recognised" in text
    assert "1 series not taken, see map.yaml: 1 phase image" in text
    assert not (tmp_path / "out" / "images").exists()


def test_a_phase_in_an_enhanced_file(tmp_path):
    """magnitude and phase frames of one enhanced file -> only the magnitude is written"""
    pixels = voxels(shape=(4, 6, 5))
    own = [{"MRImageFrameTypeSequence": {"ComplexImageComponent": c}} for c in ("MAGNITUDE", "PHASE")] * 2
    save(enhanced(pixels, [0.0, 0.0, 10.0, 10.0], own=own), tmp_path / "e.dcm")
    text = said(imported(tmp_path, tmp_path / "out"))
    written = nib.load(tmp_path / "out" / "images" / "P1_LGE.nii.gz")
    np.testing.assert_array_equal(written.get_fdata(), pixels[::2].transpose(2, 1, 0))
    assert "1 phase image" in text


def test_a_classic_file_of_several_frames(tmp_path):
    """a classic MR file with 3 frames and one position -> refused by name, not read in part"""
    data = image(voxels())
    data.NumberOfFrames = 3
    save(data, tmp_path / "many.dcm")
    series(tmp_path, series=2)
    problem = next(p for p in imported(tmp_path, tmp_path / "out") if p.severity == "error")
    assert problem.got == "3 frames in a classic file, and nothing says where each was taken"
    assert problem.file.endswith("many.dcm")
    assert nib.load(tmp_path / "out" / "images" / "P1_LGE.nii.gz").shape == (5, 6, 3)


def test_a_cine_that_stopped_early(tmp_path):
    """the last slice has phases 5 to 8 of 8 only -> the cine is refused; slice and times are named"""
    for z in range(3):
        for t in range(8) if z < 2 else range(4, 8):
            data = image(
                voxels()[z], number=8 * z + t, height_mm=10.0 * z, description="cine", TriggerTime=40 * t
            )
            save(data, tmp_path / f"z{z}t{t}.dcm")
    series(tmp_path, series=2)
    problem = next(p for p in imported(tmp_path, tmp_path / "out") if p.severity == "error")
    assert "1 slice of the cine has no image of the heart phase at which the others begin" in problem.what
    assert "(z2t4.dcm)" in problem.what
    assert problem.expected == "a first frame between 0 and 60 ms in each of 3 slices"
    assert problem.got.startswith("the first frame is that of 160 ms at ")
    assert (tmp_path / "out" / "images" / "P1_LGE.nii.gz").exists()  # the other sequence goes on


def test_a_cine_whose_last_phases_are_missing(tmp_path):
    """the last slice has phases 1 to 4 of 8 only -> end-diastole of all slices is written"""
    for z in range(3):
        for t in range(8 if z < 2 else 4):
            data = image(
                voxels(t)[z], number=8 * z + t, height_mm=10.0 * z, description="cine", TriggerTime=40 * t
            )
            save(data, tmp_path / f"z{z}t{t}.dcm")
    assert "cine of 4 to 8 frames" in said(imported(tmp_path, tmp_path / "out"))
    written = nib.load(tmp_path / "out" / "images" / "P1_bSSFP.nii.gz").get_fdata()
    np.testing.assert_array_equal(written, voxels(0).transpose(2, 1, 0))


def test_a_cine_slice_that_was_taken_twice(tmp_path):
    """a slice of a cine taken a second time -> the first phase of the later one is written"""
    write_cine(tmp_path / "a", [0.0, 30.0, 60.0, 90.0], AcquisitionTime="100000")
    again = voxels(9)[1]
    for t in range(4):
        tags = {"description": "cine_sax", "TriggerTime": 30.0 * t, "AcquisitionTime": "100500"}
        save(image(again, number=900 + t, height_mm=STEP_MM, **tags), tmp_path / f"again{t}.dcm")
    imported(tmp_path, tmp_path / "out")
    written = nib.load(tmp_path / "out" / "images" / "P1_bSSFP.nii.gz").get_fdata()
    np.testing.assert_array_equal(written[..., 1], again.T)


def test_a_frame_without_a_time_is_not_the_first(tmp_path):
    """one image of a cine has no trigger time -> it is not taken for end-diastole"""
    write_cine(tmp_path, [0.0, 30.0, 60.0, 90.0])
    save(image(voxels(8)[0], number=999, description="cine_sax"), tmp_path / "untimed.dcm")
    imported(tmp_path, tmp_path / "out")
    written = nib.load(tmp_path / "out" / "images" / "P1_bSSFP.nii.gz").get_fdata()
    np.testing.assert_array_equal(written, voxels(0).transpose(2, 1, 0))


@pytest.mark.parametrize(
    ("moved", "beside"),
    [({"height_mm": 21.0}, "at 1.0 mm"), ({"height_mm": 20.0, "right_mm": 3.0}, "at 3.0 mm")],
)
@pytest.mark.parametrize("own_series", [True, False])
def test_a_repeated_breath_hold(tmp_path, moved, beside, own_series):
    """a slice repeated 1 mm along or 3 mm across the stack -> it is named beside the one that it repeats"""
    pixels = voxels(shape=(6, 6, 5))
    for z in range(5):
        data = image(pixels[z], number=z + 1, height_mm=10.0 * z, series=z + 1 if own_series else 1)
        save(data, tmp_path / f"z{z}.dcm")
    again = image(pixels[5], number=30, height_mm=moved["height_mm"], series=99 if own_series else 1)
    right = moved.get("right_mm", 0.0) * np.array(again.ImageOrientationPatient[:3], dtype=float)
    again.ImagePositionPatient = [round(float(v), 6) for v in np.array(again.ImagePositionPatient) + right]
    save(again, tmp_path / "again.dcm")
    problem = next(p for p in imported(tmp_path, tmp_path / "out") if p.severity == "error")
    if own_series and "right_mm" in moved:  # which of two images at one height counts is a rule, and told
        return
    assert "1 slice off the regular distances of the others" in problem.what
    assert f"(again.dcm) {beside} from that of z2.dcm" in problem.what
    assert "again.dcm" in problem.remedy
    assert ("set its series (" in problem.remedy) is own_series


@pytest.mark.parametrize("number", [1, 4])
def test_repeated_slices_and_missing_ones(tmp_path, number):
    """one or four of six slices repeated 1 mm off -> as many are named, and none is said to be missing"""
    heights = [10.0 * z for z in range(6)] + [10.0 * z + 1 for z in range(number)]
    series(tmp_path, voxels(shape=(len(heights), 6, 5)), heights_mm=heights)
    problem = next(p for p in imported(tmp_path, tmp_path / "out") if p.severity == "error")
    assert f"{number} slice{'s' * (number > 1)} off the regular distances" in problem.what


def test_a_negative_slice_distance(tmp_path):
    """one slice with SpacingBetweenSlices -10 and SliceThickness 8 -> a slice of 10 mm"""
    series(tmp_path, voxels()[:1], SpacingBetweenSlices=-10.0)
    imported(tmp_path, tmp_path / "out")
    assert nib.load(tmp_path / "out" / "images" / "P1_LGE.nii.gz").header.get_zooms()[2] == pytest.approx(
        10.0
    )


def test_pixel_spacings_that_are_rounded(tmp_path):
    """pixel spacings that differ in the fourth digit -> one stack of all slices, and a line"""
    for z in range(3):
        size = 1.4063 if z % 2 else 1.40625
        save(
            image(voxels()[z], number=z + 1, height_mm=10.0 * z, PixelSpacing=[size, size]),
            tmp_path / f"{z}.dcm",
        )
    assert "the pixel sizes of the slices differ a little (1.40625 x" in said(
        imported(tmp_path, tmp_path / "out")
    )
    assert nib.load(tmp_path / "out" / "images" / "P1_LGE.nii.gz").shape == (5, 6, 3)


def test_no_pixel_spacing(tmp_path):
    """ImagerPixelSpacing alone -> every file is refused; a voxel size is not made up"""
    series(tmp_path, PixelSpacing=None, ImagerPixelSpacing=[1.5, 1.5])
    assert "ImagerPixelSpacing is that of the detector" in said(imported(tmp_path, tmp_path / "out"))
    assert not (tmp_path / "out" / "images").exists()


def test_a_derived_series(tmp_path):
    """the only LGE is derived from other images -> it is taken, and a line says so"""
    series(tmp_path, ImageType=["DERIVED", "SECONDARY", "M"])
    assert "3 of 3 slices are derived from other images" in said(imported(tmp_path, tmp_path / "out"))


def test_an_original_goes_before_a_derived_image_of_the_slice(tmp_path):
    """a later derived image of a slice in the same series -> the original is taken"""
    series(tmp_path, AcquisitionTime="100000")
    tags = {"ImageType": ["DERIVED", "SECONDARY", "M", "ND"], "AcquisitionTime": "110000"}
    save(image(voxels(5)[1], number=9, height_mm=10.0, **tags), tmp_path / "derived.dcm")
    imported(tmp_path, tmp_path / "out")
    written = nib.load(tmp_path / "out" / "images" / "P1_LGE.nii.gz").get_fdata()
    np.testing.assert_array_equal(written, voxels().transpose(2, 1, 0))


def test_images_of_two_days_in_one_study(tmp_path):
    """LGE and T2 of two days under one StudyInstanceUID -> a line with both days"""
    series(tmp_path, AcquisitionDate="20240101", AcquisitionTime="100000")
    tags = {"AcquisitionDate": "20240601", "AcquisitionTime": "100000", "description": "T2 sax"}
    series(tmp_path, series=2, **tags)
    assert "several days (LGE 20240101, T2 20240601)" in said(imported(tmp_path, tmp_path / "out"))


def test_different_images_of_one_uid(tmp_path):
    """all slices have one SOPInstanceUID -> all are read, and a line says so; they are no copies"""
    series(tmp_path, SOPInstanceUID="1.2.3.4")
    text = said(imported(tmp_path, tmp_path / "out"))
    assert "several different images have one SOPInstanceUID" in text
    assert nib.load(tmp_path / "out" / "images" / "P1_LGE.nii.gz").shape == (5, 6, 3)


def test_slices_repeated_in_series_of_their_own(tmp_path):
    """a slice taken again at the same place, in its own series -> the last one is taken, with a line"""
    for z in range(3):
        save(
            image(voxels()[z], height_mm=10.0 * z, series=z + 1, AcquisitionTime="100000"),
            tmp_path / f"{z}.dcm",
        )
    save(image(voxels(7)[1], height_mm=10.0, series=9, AcquisitionTime="110000"), tmp_path / "again.dcm")
    assert "4 series fit" in (text := said(imported(tmp_path, tmp_path / "out")))
    assert "(of repeated slices the last ones)" in text
    written = nib.load(tmp_path / "out" / "images" / "P1_LGE.nii.gz").get_fdata()
    np.testing.assert_array_equal(written[..., 1], voxels(7)[1].T)


@pytest.mark.parametrize(
    ("said_mm", "thickness_mm", "told"),
    [(10.0, 8.0, True), (-10.0, 8.0, True), (2.0, 8.0, False), (20.0, 8.0, False), (None, 8.0, False)],
)
def test_every_second_slice_of_a_stack(tmp_path, said_mm, thickness_mm, told):
    """slices 20 mm apart whose SpacingBetweenSlices says 10 mm -> written, and a line with both"""
    tags = {"SpacingBetweenSlices": said_mm, "SliceThickness": thickness_mm}
    series(tmp_path, heights_mm=[0.0, 20.0, 40.0], **tags)
    text = said(imported(tmp_path, tmp_path / "out"))
    assert ("the slices lie 20 mm apart, and SpacingBetweenSlices says 10 mm" in text) == told
    assert nib.load(tmp_path / "out" / "images" / "P1_LGE.nii.gz").header.get_zooms()[2] == pytest.approx(20)


@pytest.mark.parametrize("syntax", [DeflatedExplicitVRLittleEndian, None])
def test_transfer_syntaxes_that_are_rare(tmp_path, syntax):
    """deflated files, and old ones that name no transfer syntax -> read as they are"""
    for file in series(tmp_path):
        data = dcmread(file)
        if syntax is None:
            del data.file_meta
            data.save_as(file, implicit_vr=True, little_endian=True, enforce_file_format=False)
        else:
            data.file_meta.TransferSyntaxUID = syntax
            data.save_as(file)
    imported(tmp_path, tmp_path / "out")
    written = nib.load(tmp_path / "out" / "images" / "P1_LGE.nii.gz").get_fdata()
    np.testing.assert_array_equal(written, voxels().transpose(2, 1, 0))
