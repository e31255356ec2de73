import json
from dataclasses import replace

import nibabel as nib
import numpy as np
import pytest
import SimpleITK as sitk  # noqa: N813 - its own name

import mrigmm
import mrigmm.jobs.predicting.segmenter as job
from mrigmm.data.manifest_file import read_manifest
from mrigmm.errors import InputError
from mrigmm.methods.base import Segmentation
from mrigmm.methods.em_gmm import EMGMM

from ..conftest import PATIENT, SEQUENCES, SHAPE, intensities, oblique_affine, save_nifti, ventricle

LV = ventricle() > 0


def names(folder):
    return sorted(path.name for path in folder.iterdir()) if folder.exists() else []


def data_of(path):
    return np.asarray(nib.load(path).dataobj)


def test_what_is_written(workshop, tmp_path):
    out = tmp_path / "out"
    manifest = workshop.manifest([workshop.study(affine=PATIENT)])
    result = mrigmm.predict(manifest, out, method="map-em")
    assert (result.done, result.problems, result.output) == (("s1",), (), out)
    assert names(out) == [
        *("labels_itksnap.txt", "labels_slicer.ctbl", "quantities.csv", "quantities.json"),
        *("quantities_dictionary.csv", "quantities_intervals.csv"),
        *("s1.json", "s1_labels.nii.gz", "s1_mvo.nii.gz", "segments.csv"),
    ]


def test_the_label_map_finds_the_ventricle(workshop, tmp_path):
    """Four classes 6 or more noise SDs apart in at least one sequence: MAP-EM gets nearly all voxels."""
    mrigmm.predict(workshop.manifest(), tmp_path / "out", method="map-em")
    labels = data_of(tmp_path / "out" / "s1_labels.nii.gz")
    truth = ventricle()
    assert (labels == truth).mean() > 0.99
    np.testing.assert_array_equal(labels > 0, LV)


def test_the_side_file(workshop, tmp_path):
    mrigmm.predict(workshop.manifest(), tmp_path / "out", method="map-em", overrides=["prior_strength=0.2"])
    side = json.loads((tmp_path / "out" / "s1.json").read_text())
    labels = data_of(tmp_path / "out" / "s1_labels.nii.gz")
    assert side["classes"] == {"blood": 1, "myocardium": 2, "edema": 3, "scar": 4}
    for name, index in side["classes"].items():
        assert side["volume_ml"][name] == pytest.approx((labels == index).sum() * 0.0144, rel=1e-5)
    assert side["method"] == "map-em"
    assert side["settings"]["prior_strength"] == 0.2
    assert side["mixture"]["sequences"] == list(SEQUENCES)
    assert np.shape(side["mixture"]["covariances"]) == (1, 4, 3, 3)
    assert side["inputs"]["T2"] == str(workshop.folder / "s1_T2.nii.gz")
    assert side["reference_grid"] == str(workshop.folder / "s1_LGE.nii.gz")
    assert side["disclaimer"] == "Research software. Not for clinical use."
    assert side["versions"]["mrigmm"] == mrigmm.__version__
    assert side["seconds"] >= 0


@pytest.mark.parametrize("region", ["lv", "cavity-wall"])
def test_probabilities_are_a_distribution_inside_the_region(workshop, tmp_path, region):
    entry = workshop.study(region=region)
    mrigmm.predict(workshop.manifest([entry]), tmp_path / "out", method="map-em", save_probabilities=True)
    resp = data_of(tmp_path / "out" / "s1_probabilities.nii.gz")
    labels = data_of(tmp_path / "out" / "s1_labels.nii.gz")
    assert resp.shape == (*SHAPE, 4)
    np.testing.assert_allclose(resp.sum(axis=-1), LV, atol=1e-5)
    assert resp.min() >= 0
    np.testing.assert_array_equal(np.where(LV, resp.argmax(axis=-1) + 1, 0), labels)
    if region == "cavity-wall":
        cavity = ventricle() == 1
        assert not resp[cavity][:, 1:].any()
        assert not resp[LV & ~cavity][:, 0].any()


@pytest.mark.parametrize(
    ("shape", "affine", "options"),
    [
        (SHAPE, oblique_affine(), {}),
        (SHAPE, oblique_affine(flips=(1, -1, -1)), {}),
        ((16, 14, 1), oblique_affine(), {}),
        (SHAPE, oblique_affine(), {"sform_code": 0}),
        (SHAPE, oblique_affine(), {"qform_code": 0}),
        (SHAPE, np.diag([-1.2, 1.2, 10, 1]), {"qform_code": 0, "sform_code": 0}),
    ],
)
def test_the_output_grid_is_that_of_the_reference(workshop, tmp_path, shape, affine, options):
    entry = workshop.study(shape=shape, affine=affine, **options)
    mrigmm.predict(workshop.manifest([entry]), tmp_path / "out", method="map-em")
    source, result = workshop.folder / "s1_LGE.nii.gz", tmp_path / "out" / "s1_labels.nii.gz"
    a, b = nib.load(source), nib.load(result)
    assert (b.shape, b.get_data_dtype()) == (a.shape, np.uint8)
    np.testing.assert_array_equal(b.affine, a.affine)
    for code in ("qform_code", "sform_code"):
        assert b.header[code] == a.header[code]
    s, t = sitk.ReadImage(str(source)), sitk.ReadImage(str(result))
    assert (t.GetSize(), t.GetSpacing(), t.GetOrigin()) == (s.GetSize(), s.GetSpacing(), s.GetOrigin())
    assert t.GetDirection() == s.GetDirection()
    # Not only the header: the ventricle is where it was.
    np.testing.assert_array_equal(data_of(result) > 0, ventricle(shape) > 0)


def test_the_order_of_storage_does_not_change_the_result(workshop, tmp_path):
    entry = workshop.study()
    turned = {"id": "t", "image": {}}
    ornt = np.array([[2, -1], [0, 1], [1, -1]], dtype=float)
    for role, name in [*entry["image"].items(), ("region", entry["region"])]:
        image = nib.load(workshop.folder / name)
        data = nib.orientations.apply_orientation(np.asarray(image.dataobj), ornt)
        affine = image.affine @ nib.orientations.inv_ornt_aff(ornt, SHAPE)
        workshop.volume(f"t_{name}", data, affine)
        if role == "region":
            turned["region"] = f"t_{name}"
        else:
            turned["image"][role] = f"t_{name}"
    mrigmm.predict(workshop.manifest([entry, turned]), tmp_path / "out", method="map-em")
    straight = data_of(tmp_path / "out" / "s1_labels.nii.gz")
    other = data_of(tmp_path / "out" / "t_labels.nii.gz")
    assert other.shape != straight.shape
    np.testing.assert_array_equal(other, nib.orientations.apply_orientation(straight, ornt))


def test_a_missing_sequence_is_done_without(workshop, tmp_path):
    entries = [workshop.study("all"), workshop.study("no T2", sequences=("LGE", "bSSFP"))]
    result = mrigmm.predict(workshop.manifest(entries), tmp_path / "out", method="map-em")
    assert result.done == ("all", "no T2")
    side = json.loads((tmp_path / "out" / "no T2.json").read_text())
    assert side["mixture"]["sequences"] == ["LGE", "bSSFP"]
    assert np.shape(side["mixture"]["means"]) == (1, 4, 2)
    # Edema is bright in T2 alone; blood and scar are told by the other two.
    labels, truth = data_of(tmp_path / "out" / "no T2_labels.nii.gz"), ventricle()
    for index in (1, 4):
        assert (labels[truth == index] == index).mean() > 0.95


def test_one_study_as_files_is_the_study_of_the_manifest(workshop, tmp_path):
    entry = workshop.study()
    mrigmm.predict(workshop.manifest([entry]), tmp_path / "a", method="map-em")
    files = {name: workshop.folder / file for name, file in entry["image"].items()}
    region = workshop.folder / entry["region"]
    result = mrigmm.predict_study(files, region, tmp_path / "b", method="map-em")
    assert result.done == ("s1_LGE",)  # named by the reference sequence's file
    a = data_of(tmp_path / "a" / "s1_labels.nii.gz")
    np.testing.assert_array_equal(data_of(tmp_path / "b" / "s1_LGE_labels.nii.gz"), a)
    # Whatever the order on the command line.
    backwards = dict(reversed(files.items()))
    mrigmm.predict_study(backwards, region, tmp_path / "c", method="map-em", study_id="p 1")
    np.testing.assert_array_equal(data_of(tmp_path / "c" / "p 1_labels.nii.gz"), a)


def test_one_bad_study_does_not_stop_the_others(workshop, tmp_path):
    entries = [workshop.study(name, affine=PATIENT) for name in ("a", "b", "c")]
    (workshop.folder / "b_T2.nii.gz").write_bytes(b"")
    result = mrigmm.predict(workshop.manifest(entries), tmp_path / "out", method="map-em")
    assert result.done == ("a", "c")
    assert result.failed
    assert [problem.study for problem in result.problems] == ["b"]
    assert [name for name in names(tmp_path / "out") if name.startswith("b")] == ["b_failed.json"]


def test_results_are_not_replaced_unasked(workshop, tmp_path):
    manifest, out = workshop.manifest(), tmp_path / "out"
    mrigmm.predict(manifest, out, method="map-em")
    before = (out / "s1_labels.nii.gz").read_bytes()
    with pytest.raises(InputError, match="already has results"):
        mrigmm.predict(manifest, out, method="em-gmm")
    assert json.loads((out / "s1.json").read_text())["method"] == "map-em"
    assert (out / "s1_labels.nii.gz").read_bytes() == before
    mrigmm.predict(manifest, out, method="em-gmm", overwrite=True)
    assert json.loads((out / "s1.json").read_text())["method"] == "em-gmm"


def test_an_older_result_does_not_stand_in_for_one_that_fails(workshop, tmp_path):
    entries = [workshop.study(name) for name in ("a", "b")]
    manifest, out = workshop.manifest(entries), tmp_path / "out"
    mrigmm.predict(manifest, out, method="map-em", save_probabilities=True)
    (workshop.folder / "b_region.nii.gz").unlink()
    result = mrigmm.predict(manifest, out, method="map-em", overwrite=True)
    assert result.done == ("a",)
    # The probabilities of the first time are gone too: they belong to another result.
    assert names(out) == [
        *("a.json", "a_labels.nii.gz", "a_mvo.nii.gz", "b_failed.json"),
        *("labels_itksnap.txt", "labels_slicer.ctbl", "quantities.csv", "quantities.json"),
        *("quantities_dictionary.csv", "quantities_intervals.csv", "segments.csv"),
    ]


def test_what_was_concluded_from_older_results_goes_with_them(workshop, tmp_path):
    manifest, out = workshop.manifest(), tmp_path / "out"
    mrigmm.predict(manifest, out, method="em-gmm")
    mrigmm.evaluate(out, manifest)
    mrigmm.report(out)
    assert {"metrics.json", "metrics.csv", "report.html"} <= set(names(out))
    mrigmm.predict(manifest, out, method="map-em", overwrite=True)
    assert not {"metrics.json", "metrics.csv", "report.html"} & set(names(out))


def test_a_refused_request_leaves_the_older_results(workshop, tmp_path):
    manifest, out = workshop.manifest(), tmp_path / "out"
    mrigmm.predict(manifest, out, method="em-gmm")
    mrigmm.evaluate(out, manifest)
    before = names(out)
    with pytest.raises(InputError):
        mrigmm.predict(manifest, out, method="map-em", overrides=["foo=1"], overwrite=True)
    assert names(out) == before


@pytest.mark.parametrize("overwrite", [False, True])
def test_the_acquisition_parameters_beside_an_image_are_no_result(workshop, overwrite):
    """Converters write p.json beside p.nii.gz, and results beside the images would be named the same."""
    entry = workshop.study()
    sidecar = workshop.folder / "s1_LGE.json"
    sidecar.write_text('{"EchoTime": 0.001}')
    files = {name: workshop.folder / file for name, file in entry["image"].items()}
    with pytest.raises(InputError, match="would replace an input"):
        mrigmm.predict_study(
            files, workshop.folder / entry["region"], workshop.folder, method="map-em", overwrite=overwrite
        )
    assert sidecar.read_text() == '{"EchoTime": 0.001}'
    assert not list(workshop.folder.glob("*_labels.nii.gz"))


def test_a_reference_label_is_never_replaced(workshop):
    entry = workshop.study()
    reference = workshop.folder / "s1_labels.nii.gz"
    (workshop.folder / entry["label"]).rename(reference)
    before = reference.read_bytes()
    manifest = workshop.manifest([{**entry, "label": reference.name}])
    for overwrite in (False, True):
        with pytest.raises(InputError):
            mrigmm.predict(manifest, workshop.folder, method="map-em", overwrite=overwrite)
        assert reference.read_bytes() == before


def test_the_manifest_is_never_replaced(workshop):
    manifest = workshop.manifest([workshop.study("manifest")])
    before = manifest.read_text()
    with pytest.raises(InputError, match="would replace an input"):
        mrigmm.predict(manifest, workshop.folder, method="map-em", overwrite=True)
    assert manifest.read_text() == before


def test_another_file_of_that_name_is_not_replaced_unasked(workshop, tmp_path):
    out = tmp_path / "out"
    out.mkdir()
    (out / "s1.json").write_text("mine")
    with pytest.raises(InputError, match="already there"):
        mrigmm.predict(workshop.manifest(), out, method="map-em")
    assert (out / "s1.json").read_text() == "mine"


@pytest.mark.parametrize("error", [OSError(28, "No space left on device"), KeyboardInterrupt()])
def test_a_label_map_without_its_side_file_is_not_left(workshop, tmp_path, monkeypatch, error):
    def fail(*_):
        raise error

    monkeypatch.setattr("mrigmm.jobs.predicting.segmented_study.write_json", fail)
    with pytest.raises(type(error)):
        mrigmm.predict(workshop.manifest(), tmp_path / "out", method="map-em", save_probabilities=True)
    assert names(tmp_path / "out") == []


def test_warnings_reach_the_caller_and_the_side_file(workshop, tmp_path):
    entry = workshop.study(affine=PATIENT)
    workshop.volume("s1_T2.nii.gz", np.full(SHAPE, 3, np.float32), PATIENT)
    result = mrigmm.predict(workshop.manifest([entry]), tmp_path / "out", method="map-em")
    text = "T2 is constant inside the region and is left out"
    told = [(p.study, p.what, p.severity) for p in result.problems]
    assert told == [("s1", text, "warning"), ("s1", "edema cannot be told reliably without T2", "warning")]
    assert not result.failed
    assert text in json.loads((tmp_path / "out" / "s1.json").read_text())["warnings"]


def test_reference_labels_are_not_looked_at(workshop, tmp_path):
    entry = workshop.study()
    mrigmm.predict(workshop.manifest([entry]), tmp_path / "a", method="map-em")
    workshop.volume(entry["label"], np.full(SHAPE, 4, np.uint8))
    mrigmm.predict(workshop.manifest([entry]), tmp_path / "b", method="map-em")
    np.testing.assert_array_equal(
        data_of(tmp_path / "a" / "s1_labels.nii.gz"), data_of(tmp_path / "b" / "s1_labels.nii.gz")
    )


def test_classes_of_another_organ_are_numbered_from_1(workshop, tmp_path):
    manifest = workshop.manifest(labels={"background": 0, "grey": 2, "white": [1, 3, 4]})
    result = mrigmm.predict(manifest, tmp_path / "out", method="em-gmm")
    side = json.loads((tmp_path / "out" / "s1.json").read_text())
    assert side["classes"] == {"grey": 1, "white": 2}
    assert any("ordered by brightness" in problem.what for problem in result.problems)
    assert np.unique(data_of(tmp_path / "out" / "s1_labels.nii.gz")).tolist() == [0, 1, 2]


def test_a_study_on_grids_of_its_own(workshop, tmp_path):
    """T2 in voxels of 0.9 x 0.9 x 10 mm: the label map is still on the grid of LGE."""
    entry = workshop.study()
    affine = oblique_affine((0.9, 0.9, 10.0))
    coarse, fine = ventricle(), np.zeros((22, 19, 3), np.uint8)
    index = np.stack(np.meshgrid(*(np.arange(n) for n in fine.shape), indexing="ij"), axis=-1)
    nearest = np.rint(index * [0.75, 0.75, 1]).astype(int)
    fine = coarse[tuple(np.minimum(nearest, np.array(SHAPE) - 1).T)].T
    save_nifti(workshop.folder / "s1_T2.nii.gz", intensities(fine, "T2"), affine)
    mrigmm.predict(workshop.manifest([entry]), tmp_path / "out", method="map-em")
    image = nib.load(tmp_path / "out" / "s1_labels.nii.gz")
    assert image.shape == SHAPE
    np.testing.assert_array_equal(image.affine, nib.load(workshop.folder / "s1_LGE.nii.gz").affine)
    labels = np.asarray(image.dataobj)
    assert (labels[coarse == 1] == 1).mean() > 0.95  # T2 lies on the anatomy and not beside it
    assert (labels[coarse == 3] == 3).mean() > 0.5


def test_simulated_studies_are_segmented_well(cohort, tmp_path):
    mrigmm.predict(cohort, tmp_path / "out", method="map-em", split="all")
    study = read_manifest(cohort).split("test")[0]
    labels, truth = data_of(tmp_path / "out" / f"{study.id}_labels.nii.gz"), data_of(study.label)
    overlap = 2 * ((labels == 1) & (truth == 1)).sum() / ((labels == 1).sum() + (truth == 1).sum())
    assert overlap > 0.7  # blood, the easiest class


def test_a_method_that_finds_a_study_impossible_does_not_stop_the_others(workshop, tmp_path, monkeypatch):
    """Errors of methods are InputErrors; here the second of three."""

    class Picky:
        name = "picky"

        def __init__(self, inner):
            self.inner = inner

        def describe(self):
            return {}

        def segment(self, study) -> Segmentation:
            if study.id == "b":
                raise InputError("too few voxels", study=study.id)
            return replace(self.inner.segment(study), warnings=("seen",))

    make = job.make_method
    monkeypatch.setattr(job, "make_method", lambda *arguments: Picky(make(*arguments)))
    entries = [workshop.study(name, affine=PATIENT) for name in ("a", "b", "c")]
    result = mrigmm.predict(workshop.manifest(entries), tmp_path / "out", method="map-em")
    assert result.done == ("a", "c")
    assert [(p.study, p.severity) for p in result.problems] == [
        ("a", "warning"),
        ("b", "error"),
        ("c", "warning"),
    ]


def test_an_unforeseen_error_does_not_stop_the_cohort(cohort, tmp_path, monkeypatch):
    """The first study makes the method fail in a way that nobody thought of."""
    plain, failed = EMGMM.segment, []

    def segment(self, study):
        if not failed:
            failed.append(study.id)
            raise ZeroDivisionError("nobody thought of this")
        return plain(self, study)

    monkeypatch.setattr(EMGMM, "segment", segment)
    result = mrigmm.predict(cohort, tmp_path / "out", method="em-gmm", split="all")
    assert result.failed
    assert [p.study for p in result.problems if p.severity == "error"] == failed
    assert len(result.done) >= 1
    assert not (tmp_path / "out" / f"{failed[0]}_labels.nii.gz").exists()


@pytest.mark.parametrize(("method", "used"), [("map-em", True), ("em-gmm", True), ("nsd", False)])
def test_the_side_file_says_where_the_prior_comes_from(workshop, tmp_path, method, used):
    manifest = workshop.manifest([workshop.study(region="cavity-wall")])
    mrigmm.predict(manifest, tmp_path / "out", method=method)
    prior = json.loads((tmp_path / "out" / "s1.json").read_text())["prior"]
    if used:
        assert prior["dataset"] == "MyoPS 2020"
        assert prior["study_ids"][0] == "myops_training_101"
    else:
        assert prior is None


def test_the_map_of_agreement_is_a_result_like_the_others(workshop, tmp_path):
    manifest, out = workshop.manifest(), tmp_path / "out"
    file = out / "s1_agreement.nii.gz"
    how = {"method": "consensus", "overrides": ["members=em-gmm,map-em,kmeans"]}
    mrigmm.predict(manifest, out, **how, save_probabilities=True)
    written, reference = nib.load(file), nib.load(workshop.folder / "s1_LGE.nii.gz")
    assert written.get_data_dtype() == np.float32
    np.testing.assert_array_equal(written.affine, reference.affine)
    agreement = data_of(file)
    assert set(np.unique(agreement[LV].round(4))) <= {0.0, 0.3333, 0.6667, 1.0}
    assert not agreement[~LV].any()
    assert json.loads((out / "s1.json").read_text())["agreement"]["mean"] == pytest.approx(
        agreement[LV].mean(), abs=1e-6
    )
    with pytest.raises(InputError, match="already has results"):
        mrigmm.predict(manifest, out, **how)
    mrigmm.predict(manifest, out, **how, overwrite=True)  # without the probabilities: the old map is gone
    assert not file.exists()
    out.joinpath("s1_labels.nii.gz").unlink()
    file.write_bytes(b"another file of that name")
    with pytest.raises(InputError, match="a file of a result's name is already there"):
        mrigmm.predict(manifest, out, **how)


def test_uncertainty_maps_lie_on_the_input_grid(workshop, tmp_path):
    manifest, out = workshop.manifest(), tmp_path / "out"
    mrigmm.predict(manifest, out, method="map-em", save_uncertainty=True, save_probabilities=True)
    reference = nib.load(workshop.folder / "s1_LGE.nii.gz")
    for name in ("entropy", "log_likelihood"):
        written = nib.load(out / f"s1_{name}.nii.gz")
        assert written.get_data_dtype() == np.float32
        np.testing.assert_array_equal(written.affine, reference.affine)
        assert not data_of(out / f"s1_{name}.nii.gz")[~LV].any()
    p = data_of(out / "s1_probabilities.nii.gz").astype(float)
    expected = -(p * np.log(np.where(p > 0, p, 1))).sum(axis=-1)
    entropy = data_of(out / "s1_entropy.nii.gz")
    np.testing.assert_allclose(entropy, expected, atol=1e-6)
    assert 0 <= entropy.min() < 1e-3 < entropy.max() < np.log(4)
    density = data_of(out / "s1_log_likelihood.nii.gz")[LV]
    side = json.loads((out / "s1.json").read_text())
    assert density.mean() == pytest.approx(side["mean_log_likelihood"], abs=1e-5)
    mrigmm.predict(manifest, out, method="map-em", overwrite=True)  # not asked for: the old maps are gone
    assert not list(out.glob("*_entropy.nii.gz")) + list(out.glob("*_log_likelihood.nii.gz"))


def test_a_method_without_probabilities_says_that_its_entropy_is_none(workshop, tmp_path):
    manifest = workshop.manifest()
    result = mrigmm.predict(manifest, tmp_path / "out", method="kmeans", save_uncertainty=True)
    assert not data_of(tmp_path / "out" / "s1_entropy.nii.gz").any()
    assert any("gives no probabilities" in problem.what for problem in result.problems)


def test_what_was_concluded_stays_until_a_result_changes(cli, workshop, tmp_path):
    good, bad = workshop.study("s1"), workshop.study("s2")
    region = bad.pop("region")
    out = tmp_path / "out"
    command = (workshop.manifest([good, bad]), "-o", out, "--method", "map-em")
    assert cli("predict", *command).code == 2
    assert cli("evaluate", out, command[0]).code == 2
    metrics = (out / "metrics.json").read_bytes()
    assert cli("predict", *command, "--resume").code == 2  # s2 has no region still
    assert (out / "metrics.json").read_bytes() == metrics
    workshop.manifest([good, {**bad, "region": region}])
    assert cli("predict", *command, "--resume").code == 0
    assert not (out / "metrics.json").exists()
