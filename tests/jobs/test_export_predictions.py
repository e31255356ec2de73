"""`mrigmm export` of predictions: ids, names, BIDS, challenge."""

import csv
import json

import nibabel as nib
import numpy as np
import pytest

import mrigmm
from mrigmm.data.manifest_file import read_manifest
from mrigmm.errors import InputError
from mrigmm.labels import SCHEMES

from ..conftest import oblique_affine, save_nifti, ventricle

OURS = {"blood": 1, "myocardium": 2, "edema": 3, "scar": 4}


def data_of(path):
    return np.asarray(nib.load(path).dataobj)


def names(folder):
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())


def predicted(folder, study="myops_test_201", *, classes=OURS, labels=None, affine=None, mvo=None):
    """One study's results as `predict` leaves them: oblique, 1.2 x 1.2 x 10 mm, not in RAS order."""
    where = oblique_affine() if affine is None else affine
    labels = ventricle() if labels is None else labels
    save_nifti(folder / f"{study}_labels.nii.gz", labels, where, qform_code=1, sform_code=2)
    if mvo is not None:
        save_nifti(folder / f"{study}_mvo.nii.gz", mvo.astype(np.uint8), where)
    side = {
        "study": study,
        "method": "map-em",
        "classes": classes,
        "inputs": {"LGE": "/home/me/secret.nii.gz"},
    }
    (folder / f"{study}.json").write_text(json.dumps(side))
    return folder


def test_ids_of_myops(tmp_path):
    source = predicted(tmp_path / "out")
    result = mrigmm.export_predictions(source, tmp_path / "ids", format="nifti", scheme="myops")
    assert (result.done, result.problems) == (("myops_test_201",), ())
    written = nib.load(tmp_path / "ids" / "myops_test_201_labels.nii.gz")
    assert written.get_data_dtype() == np.uint16
    expected = np.array([0, 500, 200, 1220, 2221])[ventricle()]
    np.testing.assert_array_equal(np.asarray(written.dataobj), expected)
    reference = nib.load(source / "myops_test_201_labels.nii.gz")
    np.testing.assert_array_equal(written.affine, reference.affine)
    codes = [int(written.header[code]) for code in ("qform_code", "sform_code")]
    assert codes == [1, 2]
    table = (tmp_path / "ids" / "labels_itksnap.txt").read_text()
    assert [line.split()[0] for line in table.splitlines()[2:]] == ["500", "200", "1220", "2221"]
    assert (tmp_path / "ids" / "labels_slicer.ctbl").read_text().splitlines()[-1] == "2221 scar 213 94 0 255"


@pytest.mark.parametrize("scheme", SCHEMES)
def test_every_scheme_is_read_back_as_it_was(tmp_path, scheme):
    """Ids as that data set's own files have them: read with its scheme, they are our classes again."""
    mrigmm.export_predictions(predicted(tmp_path / "out"), tmp_path / "ids", format="nifti", scheme=scheme)
    labels, truth = data_of(tmp_path / "ids" / "myops_test_201_labels.nii.gz"), ventricle()
    known = SCHEMES[scheme]
    wall = [OURS[name] for name in OURS if name == "myocardium" or (name != "blood" and name not in known)]
    np.testing.assert_array_equal(np.isin(labels, known["myocardium"]), np.isin(truth, wall))
    for name in set(OURS) & set(known) - {"myocardium"}:
        np.testing.assert_array_equal(np.isin(labels, known[name]), truth == OURS[name])
    assert not np.isin(labels, known.get("mvo", ())).any()


def test_what_a_scheme_does_not_tell_apart_is_said(tmp_path):
    source = predicted(tmp_path / "out")
    result = mrigmm.export_predictions(source, tmp_path / "ids", format="nifti", scheme="emidec")
    (problem,) = result.problems
    assert (problem.severity, problem.study) == ("warning", "myops_test_201")
    assert problem.what == "edema is written as myocardium: 'emidec' does not tell them apart"
    assert sorted(np.unique(data_of(tmp_path / "ids" / "myops_test_201_labels.nii.gz"))) == [0, 1, 2, 3]


def test_microvascular_obstruction_has_its_id_where_the_scheme_has_one(tmp_path):
    mvo = (ventricle() == 4) & (np.arange(3) == 1)
    source = predicted(tmp_path / "out", mvo=mvo)
    for scheme, index in (("emidec", 4), ("myops", 2221)):
        mrigmm.export_predictions(source, tmp_path / scheme, format="nifti", scheme=scheme)
        assert set(data_of(tmp_path / scheme / "myops_test_201_labels.nii.gz")[mvo]) == {index}
    assert "4 mvo 160 80 255 255" in (tmp_path / "emidec" / "labels_slicer.ctbl").read_text()


def test_classes_of_another_organ_have_no_ids_in_a_scheme(tmp_path):
    source = predicted(tmp_path / "out", classes={"grey": 1, "white": 2}, labels=ventricle() % 3)
    with pytest.raises(InputError, match="the scheme 'acdc' has no id for 'grey'"):
        mrigmm.export_predictions(source, tmp_path / "ids", format="nifti", scheme="acdc")
    assert not (tmp_path / "ids").exists()


def test_a_label_map_keeps_its_stored_shape(tmp_path):
    """A 2-D file stays one."""
    source = predicted(tmp_path / "out", labels=ventricle()[..., 0])
    mrigmm.export_predictions(source, tmp_path / "ids", format="nifti", scheme="acdc")
    assert data_of(tmp_path / "ids" / "myops_test_201_labels.nii.gz").shape == (16, 14)


def test_a_submission_to_myops_holds_label_maps_only(tmp_path):
    source = predicted(tmp_path / "out")
    predicted(source, "202")
    mrigmm.export_predictions(source, tmp_path / "send", format="myops-submission")
    assert names(tmp_path / "send") == ["myops_test_201_seg.nii.gz", "myops_test_202_seg.nii.gz"]
    found = set(np.unique(data_of(tmp_path / "send" / "myops_test_202_seg.nii.gz")))
    assert found == {0, 200, 500, 1220, 2221}


def test_a_submission_takes_test_studies_only_and_writes_the_others(tmp_path):
    source = predicted(tmp_path / "out")
    predicted(source, "myops_training_101")
    result = mrigmm.export_predictions(source, tmp_path / "send", format="myops-submission")
    assert result.done == ("myops_test_201",)
    (problem,) = result.problems
    assert (problem.study, problem.severity) == ("myops_training_101", "error")
    assert names(tmp_path / "send") == ["myops_test_201_seg.nii.gz"]


def test_bids(tmp_path):
    source = predicted(tmp_path / "out", "sub-07_ses-2")
    predicted(source, "p_08.a")
    root = tmp_path / "bids" / "derivatives" / "mrigmm"
    result = mrigmm.export_predictions(source, root, format="bids")
    assert result.done == ("p_08.a", "sub-07_ses-2")
    first, second = (
        "sub-07/ses-2/anat/sub-07_ses-2_desc-mrigmm_dseg",
        "sub-p08a/anat/sub-p08a_desc-mrigmm_dseg",
    )
    assert names(root) == [
        "dataset_description.json",
        "dseg.tsv",
        *(f"{name}.{end}" for name in (first, second) for end in ("json", "nii.gz")),
    ]
    np.testing.assert_array_equal(data_of(root / f"{first}.nii.gz"), ventricle())
    side = json.loads((root / f"{second}.json").read_text())
    assert side == {"Manual": False, "SpatialReference": "orig", "StudyId": "p_08.a", "Method": "map-em"}
    description = json.loads((root / "dataset_description.json").read_text())
    assert description["DatasetType"] == "derivative"
    assert description["GeneratedBy"][0]["Version"] == mrigmm.__version__
    with (root / "dseg.tsv").open() as file:
        table = {row["name"]: (row["index"], row["color"]) for row in csv.DictReader(file, delimiter="\t")}
    assert table["scar"] == ("4", "#d55e00")
    assert len(table) == 5


def test_our_own_bids_reader_knows_the_derivative_as_labels(tmp_path):
    source = predicted(tmp_path / "out", "sub-07")
    mrigmm.export_predictions(source, tmp_path / "bids" / "derivatives" / "mrigmm", format="bids")
    save_nifti(tmp_path / "bids/sub-07/anat/sub-07_LGE.nii.gz", ventricle().astype(float), oblique_affine())
    mrigmm.manifest("bids", tmp_path / "bids", tmp_path / "bids" / "manifest.json")
    cohort = read_manifest(tmp_path / "bids" / "manifest.json")
    (study,) = cohort.split("all")
    assert study.label.name == "sub-07_desc-mrigmm_dseg.nii.gz"
    assert cohort.labels == {"background": (0,), **{name: (i,) for name, i in OURS.items()}}


def test_two_studies_are_never_one_in_bids(tmp_path):
    source = predicted(tmp_path / "out", "a_1")
    predicted(source, "a-1", labels=np.zeros_like(ventricle()))
    result = mrigmm.export_predictions(source, tmp_path / "bids", format="bids")
    assert result.done == ("a-1",)
    assert "the same name in BIDS" in result.problems[0].what
    assert not data_of(tmp_path / "bids/sub-a1/anat/sub-a1_desc-mrigmm_dseg.nii.gz").any()


def test_one_table_of_ids_holds_for_all_studies_of_bids(tmp_path):
    source = predicted(tmp_path / "out", "a1")
    predicted(source, "a2", classes={"blood": 1, "myocardium": 2, "scar": 4}, labels=ventricle() // 4 * 4)
    predicted(source, "a3", classes={"grey": 1}, labels=ventricle() // 4)
    result = mrigmm.export_predictions(source, tmp_path / "bids", format="bids")
    assert result.done == ("a1", "a2")
    assert "predicted with different classes" in result.problems[0].what


def test_one_damaged_study_does_not_stop_the_others(tmp_path):
    source = predicted(tmp_path / "out", "a")
    for study in ("b", "c", "d"):
        predicted(source, study)
    (source / "b.json").write_text('{"classes": [')
    (source / "c.json").unlink()
    (source / "d_labels.nii.gz").write_bytes(b"no image")
    result = mrigmm.export_predictions(source, tmp_path / "ids", format="nifti", scheme="acdc")
    assert result.done == ("a",)
    errors = {p.study: p.what for p in result.problems if p.severity == "error"}
    assert "side file of the prediction is damaged" in errors["b"]
    assert "the study has no prediction" in errors["c"]
    assert "not a NIfTI file" in errors["d"]
    assert not list((tmp_path / "ids").glob("[bcd]_*"))


def test_bad_requests(tmp_path):
    source = predicted(tmp_path / "out")
    how = {"format": "nifti", "scheme": "myops"}
    with pytest.raises(InputError, match="unknown format 'nift'"):
        mrigmm.export_predictions(source, tmp_path / "ids", format="nift")
    with pytest.raises(InputError, match="unknown scheme 'adc'") as caught:
        mrigmm.export_predictions(source, tmp_path / "ids", format="nifti", scheme="adc")
    assert caught.value.problems[0].remedy == "did you mean acdc?"
    with pytest.raises(InputError, match="needs --scheme"):
        mrigmm.export_predictions(source, tmp_path / "ids", format="nifti")
    with pytest.raises(InputError, match="has ids of its own"):
        mrigmm.export_predictions(source, tmp_path / "ids", format="bids", scheme="myops")
    with pytest.raises(InputError, match="folder of predictions does not exist"):
        mrigmm.export_predictions(tmp_path / "no", tmp_path / "ids", **how)
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match="no label maps in the folder"):
        mrigmm.export_predictions(tmp_path / "empty", tmp_path / "ids", **how)
    with pytest.raises(InputError, match="the study has no prediction") as caught:
        mrigmm.export_predictions(source, tmp_path / "ids", **how, studies=["myops_test_20"])
    assert caught.value.problems[0].remedy == "did you mean myops_test_201?"
    with pytest.raises(InputError, match="already has results"):
        mrigmm.export_predictions(source, source, **how)
    assert names(tmp_path) == ["out/myops_test_201.json", "out/myops_test_201_labels.nii.gz"]


def test_the_command(cli, workshop, tmp_path):
    out = tmp_path / "out"
    mrigmm.predict(workshop.manifest([workshop.study("a"), workshop.study("b")]), out, method="map-em")
    result = cli("export", out, "-o", tmp_path / "ids", "--format", "nifti", "--scheme", "emidec")
    assert (result.code, result.out) == (0, f"exported 2 studies: {tmp_path / 'ids'}\n")
    assert "warning (a, b): edema is written as myocardium" in result.err
    result = cli("export", out, "-o", tmp_path / "one", "--format", "bids", "--study", "b", "--quiet")
    assert (result.code, result.err) == (0, "")
    assert (tmp_path / "one" / "sub-b").is_dir()
    assert not (tmp_path / "one" / "sub-a").exists()
    (out / "a.json").unlink()
    result = cli("export", out, "-o", tmp_path / "two", "--format", "bids")
    assert result.code == 2
    assert "1 study could not be processed" in result.err
    assert (tmp_path / "two" / "sub-b").is_dir()


def test_the_format_says_which_folder_it_takes(cli, tmp_path):
    source, run = predicted(tmp_path / "out"), tmp_path / "run"
    run.mkdir()
    (run / "config.yaml").write_text("version: 2\n")
    result = cli("export", source, "-o", tmp_path / "n.onnx", "--format", "onnx")
    assert result.code == 2
    assert "is written from a run, and this folder has predictions" in result.err
    result = cli("export", run, "-o", tmp_path / "ids", "--format", "bids")
    assert result.code == 2
    assert "is written from predictions, and this is a run" in result.err
    result = cli("export", run, "-o", tmp_path / "n.onnx", "--format", "onnx", "--study", "a")
    assert result.code == 2
    assert "leave out --scheme, --dicom, --record and --study" in result.err
