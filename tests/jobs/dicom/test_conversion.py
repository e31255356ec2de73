"""From a DICOM folder to a manifest that the strict reader reads; geometry beside SimpleITK's own reader."""

import json
import sys

import nibabel as nib
import numpy as np
import pytest
import SimpleITK
import yaml

import mrigmm
from mrigmm.data.manifest_file import read_manifest
from mrigmm.errors import InputError
from mrigmm.jobs.dicom.conversion import MAP_FILE
from mrigmm.jobs.manifest import manifest_dicom
from tests.data.dicom.files import STEP_MM, enhanced, image, save, series, voxels
from tests.data.dicom.test_series import write_cine


def run(tmp_path, **options):
    return manifest_dicom(tmp_path / "dicom", tmp_path / "out" / "manifest.json", **options)


def files_in(folder):
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())


def assert_same_volume(file, folder, uid=""):
    """Voxel by voxel at the same place in mm as SimpleITK's reader of the series."""
    reader = SimpleITK.ImageSeriesReader()
    reader.SetFileNames(reader.GetGDCMSeriesFileNames(str(folder), uid))
    theirs = reader.Execute()
    ours = SimpleITK.ReadImage(str(file))
    assert ours.GetSize() == theirs.GetSize()
    points = []
    for index in np.ndindex(ours.GetSize()):
        at = tuple(int(i) for i in index)
        there = theirs.TransformPhysicalPointToIndex(ours.TransformIndexToPhysicalPoint(at))
        assert ours.GetPixel(at) == theirs.GetPixel(there)
        points.append(
            np.subtract(theirs.TransformIndexToPhysicalPoint(there), ours.TransformIndexToPhysicalPoint(at))
        )
    assert np.abs(points).max() < 1e-3  # mm; NIfTI headers are float32
    assert len(points) == np.prod(ours.GetSize())


@pytest.mark.parametrize("slope", [1.0, 0.25])
def test_geometry_is_that_of_simpleitk(tmp_path, slope):
    pixels = voxels(shape=(4, 6, 5))
    series(tmp_path / "dicom", pixels, numbers=[3, 1, 4, 2], RescaleSlope=slope, RescaleIntercept=-7.0)
    run(tmp_path)
    file = tmp_path / "out" / "images" / "P1_LGE.nii.gz"
    assert_same_volume(file, tmp_path / "dicom")
    header = nib.load(file).header
    assert header.get_zooms() == pytest.approx((1.25, 1.5, STEP_MM), abs=1e-5)
    assert (int(header["sform_code"]), int(header["qform_code"])) == (1, 1)
    assert header.get_xyzt_units()[0] == "mm"


def test_a_cohort(tmp_path):
    source = tmp_path / "dicom"
    series(source / "1", patient="A", study=1, series=1, description="LGE_sax")
    series(source / "2", voxels(7), patient="A", study=1, series=2, description="T2_STIR_sax")
    write_cine(source / "3", [60.0, 0.0, 30.0, 90.0], patient="A", study=1, series=3)
    series(source / "4", patient="A", study=1, series=4, description="localizer")
    series(source / "5", voxels(8), patient="B", study=2, series=1, description="de_psir_sax")
    (source / "junk.txt").write_text("no image")
    result = run(tmp_path)
    assert result.done == ("A", "B")
    assert not result.failed
    notes = {problem.what for problem in result.problems}
    assert "1 file that is not DICOM was passed over" in notes
    assert any(note.startswith("bSSFP: cine of 4 frames") for note in notes)

    cohort = read_manifest(result.output)
    assert cohort.sequences == ("LGE", "T2", "bSSFP")
    a, b = cohort.split("test")
    assert {name: path.name for name, path in a.images.items()} == {
        "LGE": "A_LGE.nii.gz",
        "T2": "A_T2.nii.gz",
        "bSSFP": "A_bSSFP.nii.gz",
    }
    assert list(b.images) == ["LGE"]
    np.testing.assert_array_equal(
        np.asarray(nib.load(a.images["bSSFP"]).dataobj), voxels(1).transpose(2, 1, 0)
    )
    assert files_in(tmp_path / "out") == [
        "images.json",
        "images/A_LGE.nii.gz",
        "images/A_T2.nii.gz",
        "images/A_bSSFP.nii.gz",
        "images/B_LGE.nii.gz",
        "manifest.json",
        "map.yaml",
    ]
    # DICOM brings no region maps, and there is no heart in these.
    assert {p.what for p in mrigmm.check(result.output).problems if p.severity == "error"} == {
        "no left ventricle was found"
    }


def test_region_maps_are_entered_and_then_check_is_content(tmp_path):
    series(tmp_path / "dicom")
    out = tmp_path / "out"
    run(tmp_path)
    lge = nib.load(out / "images" / "P1_LGE.nii.gz")
    region = np.zeros(lge.shape, dtype=np.uint8)
    region[1:4, 1:5] = 1
    (out / "regions").mkdir()
    nib.save(nib.Nifti1Image(region, lge.affine), out / "regions" / "P1.nii.gz")
    result = run(tmp_path, map_file=out / "map.yaml")
    assert read_manifest(result.output).split("test")[0].region == out / "regions" / "P1.nii.gz"
    assert not mrigmm.check(result.output).failed


def test_psir_and_magnitude_in_one_series(tmp_path):
    source = tmp_path / "dicom"
    series(source / "m", voxels(1), numbers=[1, 3, 5])
    series(source / "r", voxels(2), numbers=[2, 4, 6], ImageType=["ORIGINAL", "PRIMARY", "R", "PSIR"])
    result = run(tmp_path)
    (note,) = (p.what for p in result.problems if p.study == "P1")
    assert "magnitude before PSIR" in note
    file = tmp_path / "out" / "images" / "P1_LGE.nii.gz"
    np.testing.assert_array_equal(np.asarray(nib.load(file).dataobj), voxels(1).transpose(2, 1, 0))

    # The user prefers PSIR and says so in the map.
    path = tmp_path / "out" / "map.yaml"
    content = yaml.safe_load(path.read_text())
    first, second = content["studies"][0]["series"]
    assert (first["sequence"], second["sequence"]) == ("LGE", "ignore")
    first["sequence"], second["sequence"] = "ignore", "LGE"
    content["studies"][0]["id"] = "renamed"
    path.write_text(yaml.safe_dump(content))
    corrected = path.read_bytes()
    result = run(tmp_path, map_file=path)
    assert result.done == ("renamed",)
    assert [(p.severity, p.what.split(":")[0]) for p in result.problems] == [
        ("warning", "images/P1_LGE.nii.gz of an earlier run is removed"),
        ("note", "1 study without a region map (renamed)"),
    ]
    assert not (tmp_path / "out" / "images" / "P1_LGE.nii.gz").exists()
    file = tmp_path / "out" / "images" / "renamed_LGE.nii.gz"
    np.testing.assert_array_equal(np.asarray(nib.load(file).dataobj), voxels(2).transpose(2, 1, 0))
    assert path.read_bytes() == corrected


def entries(out):
    return json.loads((out / "manifest.json").read_text())["test"]


def change_map(out, **sequences):
    """Series by their last number -> sequence."""
    path = out / MAP_FILE
    content = yaml.safe_load(path.read_text())
    for study in content["studies"]:
        for entry in study["series"]:
            entry["sequence"] = sequences.get(f"s{entry['series'].split('.')[-1]}", entry["sequence"])
    path.write_text(yaml.safe_dump(content))
    return path


def test_two_visits_name_their_patient_and_pseudonyms_hide_the_name(tmp_path):
    source = tmp_path / "dicom"
    for study, patient in ((1, "Smith"), (2, "Smith"), (3, "Jones"), (4, ""), (5, "")):
        series(source, patient=patient, study=study, AcquisitionDateTime=f"2024010{study}")
    result = run(tmp_path)
    patients = {entry["id"]: entry.get("patient") for entry in entries(tmp_path / "out")}
    assert patients == {
        "patient": None,
        "patient-2": None,
        "Jones": None,
        "Smith": "Smith",
        "Smith-2": "Smith",
    }
    assert any(p.what.startswith("2 studies have no PatientID (patient, patient-2)") for p in result.problems)
    manifest_dicom(source, tmp_path / "p" / "manifest.json", pseudonyms=True)
    assert [entry.get("patient") for entry in entries(tmp_path / "p")] == [
        None,
        None,
        None,
        "study004",
        "study004",
    ]
    assert "Smith" not in (tmp_path / "p" / "manifest.json").read_text()


def test_images_that_a_corrected_map_no_longer_asks_for_are_removed(tmp_path):
    series(tmp_path / "dicom")
    series(tmp_path / "dicom", series=2, description="T2_sax")
    out = tmp_path / "out"
    run(tmp_path)
    (out / "images" / "mine.nii.gz").write_bytes(b"x")
    result = run(tmp_path, map_file=change_map(out, s1="ignore"))
    assert files_in(out / "images") == ["P1_T2.nii.gz", "mine.nii.gz"]
    said = [p.what for p in result.problems if p.severity == "warning"]
    assert said == [
        "images/P1_LGE.nii.gz of an earlier run is removed: this run did not write it",
        "the reference is now T2: maps that were drawn on LGE do not fit its grid",
    ]


def test_images_of_studies_that_this_run_does_not_have_stay(tmp_path):
    series(tmp_path / "dicom" / "a")
    series(tmp_path / "dicom" / "b", study=2, patient="P2")
    out = tmp_path / "out"
    run(tmp_path)
    before = (out / "images.json").read_text()
    manifest_dicom(tmp_path / "dicom" / "a", out / "manifest.json", map_file=out / MAP_FILE)
    assert files_in(out / "images") == ["P1_LGE.nii.gz", "P2_LGE.nii.gz"]
    assert json.loads((out / "images.json").read_text()) == json.loads(before)


def test_a_run_that_writes_nothing_leaves_the_record(tmp_path):
    series(tmp_path / "dicom")
    out = tmp_path / "out"
    run(tmp_path)
    before = files_in(out)
    with pytest.raises(InputError, match="no study could be converted"):
        run(tmp_path, map_file=change_map(out, s1="ignore"))
    assert files_in(out) == before


def test_labels_are_entered_with_their_scheme(tmp_path, cli):
    series(tmp_path / "dicom")
    out = tmp_path / "out"
    run(tmp_path)
    lge = nib.load(out / "images" / "P1_LGE.nii.gz")
    label = np.zeros(lge.shape, dtype=np.uint16)
    label[1:4, 1:5], label[2, 2] = 200, 2221
    for folder, data in (("labels", label), ("regions", (label > 0).astype(np.uint8))):
        (out / folder).mkdir()
        nib.save(nib.Nifti1Image(data, lge.affine), out / folder / "P1.nii.gz")
    (out / "regions" / "p1.nii").write_bytes(b"")
    result = run(tmp_path, map_file=out / MAP_FILE)
    assert [p.what.split(":")[0] for p in result.problems] == [
        "regions/p1.nii is not used",
        "1 reference label in labels/ not entered",
    ]
    assert "label" not in entries(out)[0]
    arguments = ("--map", out / MAP_FILE, "--labels", "myops")
    assert cli("manifest", "dicom", tmp_path / "dicom", "-o", out / "manifest.json", *arguments).code == 0
    cohort = read_manifest(out / "manifest.json")
    assert cohort.split("test")[0].label == out / "labels" / "P1.nii.gz"
    assert cohort.labels["scar"] == (2221,)
    assert not mrigmm.check(out / "manifest.json").failed
    with pytest.raises(InputError, match="the label ids cannot be read"):
        run(tmp_path, map_file=out / MAP_FILE, labels="scar")


def test_lge_below_0_is_phase_sensitive(tmp_path):
    series(tmp_path / "dicom", patient="A")
    series(tmp_path / "dicom", patient="B", study=2, RescaleSlope=1.0, RescaleIntercept=-2000.0)
    said = {(p.study, p.what.split(";")[0]) for p in run(tmp_path).problems if p.severity == "warning"}
    assert said == {
        ("B", "LGE: values below 0, so it is phase-sensitive (PSIR), which neither name nor tags say"),
        (None, "LGE: 1 magnitude, 1 phase-sensitive"),
    }


def test_a_study_without_lge_names_what_may_be_it(tmp_path):
    series(tmp_path / "dicom", description="T2_sax")
    series(tmp_path / "dicom", series=2, description="heart_x")
    (note,) = (p for p in run(tmp_path).problems if p.severity == "warning")
    assert (note.study, note.what) == (
        "P1",
        "no LGE and no bSSFP is recognised; it may be one of these, which are not: 2 'heart_x'",
    )


def test_the_remedy_of_a_missing_region_names_the_file(tmp_path):
    series(tmp_path / "dicom")
    (note,) = run(tmp_path).problems
    assert f"save it as {tmp_path / 'out' / 'regions'}/<id>.nii.gz" in note.what
    assert f"--map {tmp_path / 'out' / 'map.yaml'}" in note.what


def test_enhanced_multi_frame(tmp_path):
    pixels = voxels()
    save(enhanced(pixels[[1, 2, 0]], [10.0, 20.0, 0.0], description="LGE"), tmp_path / "dicom" / "e.dcm")
    series(tmp_path / "classic", pixels)
    run(tmp_path)
    assert_same_volume(tmp_path / "out" / "images" / "P1_LGE.nii.gz", tmp_path / "classic")


def test_single_slice_series_become_one_stack(tmp_path):
    pixels = voxels(shape=(4, 6, 5))
    for k in range(4):
        series(
            tmp_path / "dicom", pixels[[k]], heights_mm=[10.0 * k], series=9 - k, description=f"LGE sax {k}"
        )
    run(tmp_path)
    data = nib.load(tmp_path / "out" / "images" / "P1_LGE.nii.gz").dataobj
    np.testing.assert_array_equal(np.asarray(data), pixels.transpose(2, 1, 0))


@pytest.mark.parametrize("patient", ["../../x", "/etc/x", "..\\..\\x", "x"])
def test_a_hostile_patient_id_stays_inside(tmp_path, patient):
    series(tmp_path / "dicom", patient=patient)
    series(tmp_path / "dicom", patient=patient, study=2)
    series(tmp_path / "dicom", patient="X", study=3)
    before = set(files_in(tmp_path))
    result = run(tmp_path)
    assert len({study_id.casefold() for study_id in result.done}) == 3
    new = set(files_in(tmp_path)) - before
    assert len(new) == 6
    assert {name.split("/")[0] for name in new} == {"out"}
    assert len(read_manifest(result.output).split("test")) == 3


def test_nothing_of_the_headers_goes_along(tmp_path):
    series(tmp_path / "dicom", patient="Smith-1234", PatientName="Smith^Jane", PatientBirthDate="19500101")
    result = run(tmp_path, pseudonyms=True)
    assert result.done == ("study001",)
    out = tmp_path / "out"
    written = [result.output.read_bytes(), (out / "map.yaml").read_bytes()]
    volume = nib.load(out / "images" / "study001_LGE.nii.gz")
    written += [volume.header.binaryblock, *(e.get_content() for e in volume.header.extensions)]
    for word in (b"Smith", b"1234", b"Jane", b"1950"):
        assert not any(word in content for content in written)
    assert b"1.2.826" not in written[0]


def test_one_bad_series_stops_no_other(tmp_path, cli):
    source = tmp_path / "dicom"
    series(source / "1", patient="A", series=1, heights_mm=[0.0, 10.0, 23.0])
    series(source / "2", patient="A", series=2, description="T2 sax")
    (short, *_) = series(source / "3", patient="B", study=2)
    short.write_bytes(short.read_bytes()[:-20])
    (cut, *_) = series(source / "4", patient="C", study=3, description="cine sax")
    cut.write_bytes(cut.read_bytes()[:300])
    result = cli("manifest", "dicom", source, "-o", tmp_path / "out" / "m.json", "--quiet")
    assert result.code == 2
    for text in ("LGE: the slices do not lie at regular distances", str(short), str(cut)):
        assert text in result.err
    assert "1 study could not be processed" in result.err  # B; the others have a sequence left
    manifest = json.loads((tmp_path / "out" / "m.json").read_text())
    assert {entry["id"]: list(entry["image"]) for entry in manifest["test"]} == {"A": ["T2"], "C": ["bSSFP"]}
    assert manifest["modality"] == {"0": "T2", "1": "bSSFP"}


def test_the_command(tmp_path, cli):
    series(tmp_path / "dicom")
    out = tmp_path / "out" / "manifest.json"
    result = cli("manifest", "dicom", tmp_path / "dicom", "-o", out)
    assert (result.code, result.out) == (0, f"wrote 1 study; manifest: {out}\n")
    result = cli("manifest", "dicom", tmp_path / "dicom", "-o", out, "--map", out.with_name("map.yaml"))
    assert result.code == 0


def test_results_of_a_first_run_are_not_replaced(tmp_path):
    series(tmp_path / "dicom")
    run(tmp_path)
    (tmp_path / "out" / "map.yaml").write_text("corrected")
    with pytest.raises(InputError, match=r"give the corrected map\.yaml with --map"):
        run(tmp_path)
    assert (tmp_path / "out" / "map.yaml").read_text() == "corrected"


def test_map_and_folder_differ(tmp_path):
    source = tmp_path / "dicom"
    series(source)
    series(source, series=2, description="T2")
    series(source, patient="Q", study=2)
    run(tmp_path)
    path = tmp_path / "map.yaml"
    content = yaml.safe_load((tmp_path / "out" / "map.yaml").read_text())
    content["studies"][0]["series"][1]["series"] = "1.2.3"
    content["studies"][1]["study"] = "1.2.4"
    path.write_text(yaml.safe_dump(content))
    result = run(tmp_path, map_file=path)
    assert result.done == ("P1",)
    said = [(p.severity, p.what.split(" 1.2.826")[0]) for p in result.problems]
    assert said == [
        ("warning", "series"),
        ("warning", "series 1.2.3 of the map is not there"),
        ("error", "the study is not in the map and is left out"),
        ("warning", "the study of the map is not in the folder"),
        ("warning", "images/P1_T2.nii.gz of an earlier run is removed: this run did not write it"),
        ("note", said[-1][1]),
    ]


def test_nothing_recognised_leaves_the_map_to_correct(tmp_path):
    series(tmp_path / "dicom", description="abdomen")
    with pytest.raises(InputError, match="no study could be converted"):
        run(tmp_path)
    assert files_in(tmp_path / "out") == ["map.yaml"]
    path = tmp_path / "out" / "map.yaml"
    path.write_text(path.read_text().replace("sequence: ignore", "sequence: LGE"))
    assert run(tmp_path, map_file=path).done == ("P1",)


def test_a_folder_without_dicom(tmp_path):
    (tmp_path / "dicom").mkdir()
    (tmp_path / "dicom" / "a.txt").write_text("x")
    with pytest.raises(InputError, match="1 file that is not DICOM was passed over") as caught:
        run(tmp_path)
    assert MAP_FILE not in str(caught.value)  # none was written
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"pseudonyms": True, "map_file": "map.yaml"}, "exclude each other"),
        ({"map_file": "none"}, "does not exist"),
    ],
)
def test_options_that_do_not_fit(tmp_path, monkeypatch, options, message):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "map.yaml").write_text("studies: []")
    with pytest.raises(InputError, match=message):
        run(tmp_path, **options)


def test_the_output_is_a_json_file(tmp_path):
    with pytest.raises(InputError, match=r"ends in \.json"):
        manifest_dicom(tmp_path, tmp_path / "out")


@pytest.fixture
def no_pydicom(monkeypatch):
    for name in [
        name for name in sys.modules if name.split(".")[0] == "pydicom" or "dicom" in name.split(".")
    ]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "pydicom", None)


@pytest.mark.usefixtures("no_pydicom")
def test_other_layouts_need_no_pydicom(tmp_path, cli):
    (tmp_path / "a_lge.nii.gz").write_bytes(b"")
    result = cli("manifest", "files", tmp_path, "-o", tmp_path / "m.json", "--image", "LGE={id}_lge.nii.gz")
    assert result.code == 0


@pytest.mark.usefixtures("no_pydicom")
def test_without_pydicom(tmp_path, cli):
    result = cli("manifest", "dicom", tmp_path, "-o", tmp_path / "m.json")
    assert result.code == 2
    assert 'pip install "mrigmm[dicom]"' in result.err


def test_an_image_that_is_alone_in_its_file(tmp_path):
    save(image(voxels()[0], description="LGE"), tmp_path / "dicom" / "a.dcm")
    run(tmp_path)
    assert nib.load(tmp_path / "out" / "images" / "P1_LGE.nii.gz").shape == (5, 6, 1)
