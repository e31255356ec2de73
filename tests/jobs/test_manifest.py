import json
import shutil

import numpy as np
import pytest

import mrigmm
from mrigmm.data.manifest_file import read_manifest
from mrigmm.data.priors.choice import multiscale_prior_for
from mrigmm.data.priors.prior_file import load_prior
from mrigmm.data.sources.table import KINDS
from mrigmm.errors import InputError
from mrigmm.labels import SCHEMES

from ..conftest import SEQUENCES, intensities, oblique_affine, save_nifti, ventricle

NAMES = {"LGE": "DE", "T2": "T2", "bSSFP": "C0"}
PUBLISHED_TEST = [f"myops_training_{n}" for n in (109, 114, 117, 120, 122)]


@pytest.fixture(scope="module")
def download(tmp_path_factory):
    """MyoPS 2020 in miniature: all 25 labelled studies and one test study (read only)."""
    folder = tmp_path_factory.mktemp("myops") / "MyoPS2020"
    ids = np.array([0, 500, 200, 1220, 2221], dtype=np.int16)
    for n in (*range(101, 126), 201):
        part, name = ("train25", f"myops_training_{n}") if n < 200 else ("test20", f"myops_test_{n}")
        for sequence in SEQUENCES:
            data = intensities(ventricle(), sequence, seed=n)
            save_nifti(folder / part / f"{name}_{NAMES[sequence]}.nii.gz", data, oblique_affine())
        if n < 200:
            label = folder / "train25_myops_gd" / f"{name}_gd.nii.gz"
            save_nifti(label, ids[ventricle()], oblique_affine())
    return folder


def test_paths_are_relative_to_the_manifest(download, tmp_path):
    shutil.copytree(download, tmp_path / "data" / "MyoPS2020")
    out = tmp_path / "data" / "m.json"
    result = mrigmm.manifest("myops", tmp_path / "data" / "MyoPS2020", out)
    assert result.data_root is None
    content = json.loads(out.read_text())
    assert content["name"] == "MyoPS"
    assert content["modality"] == {"0": "LGE", "1": "T2", "2": "bSSFP"}
    assert content["labels"] == {name: ids[0] for name, ids in SCHEMES["myops"].items()}
    assert content["training"][0] == {
        "id": "myops_training_101",
        "image": [f"MyoPS2020/train25/myops_training_101_{name}.nii.gz" for name in NAMES.values()],
        "label": "MyoPS2020/train25_myops_gd/myops_training_101_gd.nii.gz",
    }
    (tmp_path / "data").rename(tmp_path / "moved")
    assert all(s.label.exists() for s in read_manifest(tmp_path / "moved" / "m.json").split("training"))


def test_elsewhere_the_data_root_is_named(download, tmp_path, cli):
    out = tmp_path / "new" / "m.json"
    result = cli("manifest", "myops", download, "-o", out, "--region-from-labels", "cavity-wall", "--quiet")
    assert (result.code, result.err) == (0, "")
    assert result.out == f"26 studies\nmanifest: {out}\nuse it with --data-root {download}\n"
    content = json.loads(out.read_text())
    assert content["training"][0]["image"][0] == "train25/myops_training_101_DE.nii.gz"
    assert content["training"][0]["region"] == {"rule": "cavity-wall"}
    cohort = read_manifest(out, download)
    assert all(file.exists() for study in cohort.split("all") for file in study.images.values())


def test_a_linked_folder_is_elsewhere(download, tmp_path):
    (tmp_path / "link").symlink_to(download)
    result = mrigmm.manifest("myops", tmp_path / "link", tmp_path / "m.json")
    assert result.data_root == tmp_path / "link"
    assert len(read_manifest(result.output, result.data_root).split("training")) == 25


def test_links_out_of_the_folder_are_told_at_once(download, tmp_path):
    source = tmp_path / "data"
    source.mkdir()
    (source / "myops_training_101_DE.nii.gz").symlink_to(download / "train25/myops_training_101_DE.nii.gz")
    with pytest.raises(InputError, match="the path leads out of the data folder"):
        mrigmm.manifest("myops", source, source / "m.json")
    assert not (source / "m.json").exists()


def test_nothing_is_replaced_without_being_asked_to(download, tmp_path):
    out = tmp_path / "m.json"
    out.write_text("mine")
    with pytest.raises(InputError, match="the output is already there"):
        mrigmm.manifest("myops", download, out)
    assert out.read_text() == "mine"
    mrigmm.manifest("myops", download, out, overwrite=True)
    assert len(read_manifest(out, download).split("training")) == 25


def test_the_challenges_own_split_needs_no_prior(download, tmp_path):
    result = mrigmm.manifest("myops", download, tmp_path / "m.json", region_from_labels="lv")
    assert result.priors == ()
    assert not (tmp_path / "m_prior.json").exists()


def test_a_prior_of_the_training_studies_alone(download, tmp_path):
    """The shipped prior has seen the labels of the five test studies."""
    result = mrigmm.manifest(
        "myops", download, tmp_path / "m.json", region_from_labels="lv", split="myops-2020-published"
    )
    cohort = read_manifest(result.output, download)
    assert [study.id for study in cohort.split("test")] == PUBLISHED_TEST
    assert result.priors == (tmp_path / "m_prior.json",)
    prior = load_prior(tmp_path / "m_prior.json")
    assert prior.provenance["dataset"] == "MyoPS"
    assert multiscale_prior_for(prior, tmp_path / "m_prior.json").sigmas_mm == (0.75, 3.0)
    assert list(prior.provenance["study_ids"]) == [s.id for s in cohort.split("training")]
    assert not set(PUBLISHED_TEST) & set(prior.provenance["study_ids"])
    notes = [problem.what for problem in result.problems]
    assert notes[-1].startswith(
        "the shipped population prior comes from 5 of the studies that m.json holds out"
    )
    assert f"--prior {tmp_path / 'm_prior.json'}" in notes[-1]
    assert "in no split: 1 (myops_test_201)" in notes


def test_each_fold_has_its_own_prior(download, tmp_path):
    result = mrigmm.manifest(
        "myops", download, tmp_path / "m.json", region_from_labels="lv", split="folds=5", seed=3
    )
    assert [path.name for path in result.manifests] == [f"m_fold{i}.json" for i in range(5)]
    assert [path.name for path in result.priors] == [f"m_fold{i}_prior.json" for i in range(5)]
    assert not (tmp_path / "m.json").exists()
    tested = []
    for path, prior in zip(result.manifests, result.priors, strict=True):
        cohort = read_manifest(path, download)
        test = {study.id for study in cohort.split("test")}
        assert len(test) == 5
        assert not test & set(load_prior(prior).provenance["study_ids"])
        tested += test
    assert len(set(tested)) == 25


def test_without_region_maps_the_prior_is_the_users_task(download, tmp_path):
    result = mrigmm.manifest("myops", download, tmp_path / "m.json", split="myops-2020-published")
    assert (result.priors, result.failed) == ((), False)
    assert "not made here: the study has no region map" in result.problems[-1].what


def test_an_older_prior_goes_with_its_manifest(download, tmp_path):
    options = {"region_from_labels": "lv", "overwrite": True}
    mrigmm.manifest("myops", download, tmp_path / "m.json", split="myops-2020-published", **options)
    assert (tmp_path / "m_prior.json").exists()
    mrigmm.manifest("myops", download, tmp_path / "m.json", **options)
    assert not (tmp_path / "m_prior.json").exists()


def test_evaluate_tells_a_prior_that_has_seen_the_test_studies(download, tmp_path, cli):
    manifest = tmp_path / "m.json"
    mrigmm.manifest("myops", download, manifest, region_from_labels="lv", split="myops-2020-published")
    for name, options in (("shipped", {}), ("own", {"prior": tmp_path / "m_prior.json"})):
        mrigmm.predict(manifest, tmp_path / name, method="map-em", data_root=download, **options)
    shipped = mrigmm.evaluate(tmp_path / "shipped", manifest, data_root=download)
    (note,) = shipped.problems
    assert (note.severity, note.study) == ("warning", None)
    assert note.what.startswith(
        "the population prior was made from the reference labels of 5 of these 5 studies "
        f"({', '.join(PUBLISHED_TEST)}): their scores are optimistic"
    )
    metrics = json.loads((tmp_path / "shipped" / "metrics.json").read_text())
    assert metrics["seen_by_prior"] == {"sure": PUBLISHED_TEST, "perhaps": []}
    assert metrics["not_evaluated"] == []
    assert mrigmm.evaluate(tmp_path / "own", manifest, data_root=download).problems == ()
    printed = cli("evaluate", tmp_path / "shipped", manifest, "--data-root", download)
    assert printed.code == 0
    assert "warning: the population prior was made from" in printed.err


@pytest.mark.parametrize(
    ("arguments", "what"),
    [
        (["dycom", "."], "unknown kind of folder 'dycom'"),
        (["myops", "nowhere"], "the folder does not exist"),
        (["myops", "."], "no study was found in the folder"),
        (["myops", ".", "--image", "LGE={id}.nii"], "--image belongs to files and any, not to myops"),
        (["myops", ".", "--label", "{id}.nii"], "--label belongs to files, not to myops"),
        (["myops", ".", "--rename", "a=b"], "--rename belongs to nnunet and bids, not to myops"),
        (["nnunet", ".", "--rename", "a"], "--rename must be OLD=NEW"),
        (["files", ".", "--image", "LGE={id}.nii", "--image", "LGE=x"], "where the study's id stands"),
        (["nnunet", ".", "--rename", "a=b", "--rename", "a=c"], "'a' is given twice"),
        (["files", ".", "--image", "LGE={id}.nii"], "no study was found in the folder"),
    ],
)
def test_what_cannot_be_asked_for(cli, tmp_path, monkeypatch, arguments, what):
    monkeypatch.chdir(tmp_path)
    result = cli("manifest", *arguments, "-o", "m.json")
    assert (result.code, result.out) == (2, "")
    assert what in result.err
    assert list(tmp_path.iterdir()) == []


def test_a_manifest_is_json(download, tmp_path):
    with pytest.raises(InputError, match="a manifest is a JSON file"):
        mrigmm.manifest("myops", download, tmp_path)


def test_help_names_every_kind(cli):
    text = " ".join(cli("manifest", "--help").out.split())
    assert all(kind in text for kind in KINDS)


def test_dicom_is_among_the_kinds_that_are_named(tmp_path):
    with pytest.raises(InputError, match="did you mean dicom") as caught:
        mrigmm.manifest("dcm", tmp_path, tmp_path / "m.json")
    assert "dicom" in caught.value.problems[0].expected
