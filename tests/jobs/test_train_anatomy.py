import json
from dataclasses import replace

import nibabel as nib
import numpy as np
import pytest
import SimpleITK
import torch

import mrigmm
from mrigmm.config_anatomy import AnatomyConfig
from mrigmm.data.manifest import Study
from mrigmm.data.whole import load_whole
from mrigmm.errors import InputError
from mrigmm.evaluation.overlap import overlap
from mrigmm.methods.anatomy import read_anatomy_finder
from mrigmm.phantom import simulate_cohort
from mrigmm.training.anatomy_module import AnatomyKeeper

QUICK = ("filters=4", "levels=2", "spacing_mm=3", "view_mm=120", "epochs=2", "steps_per_epoch=2")
LONGER = ("filters=8", "levels=3", "spacing_mm=2.5", "view_mm=120", "epochs=6", "steps_per_epoch=30")
TERMS = ("consistency=1", "global_mi=0.1", "local_mi=0.1", "mean_teacher=1", "entropy=0.1")


def without_regions(manifest, name="plain.json", **changes):
    """The manifest with all studies for training and none with a region map."""
    content = json.loads(manifest.read_text())
    studies = [study for split in ("training", "validation", "test") for study in content.pop(split, [])]
    for study in studies:
        study.pop("region", None)
    out = manifest.with_name(name)
    out.write_text(json.dumps({**content, "training": studies, **changes}))
    return out


@pytest.fixture(scope="module")
def cohort(tmp_path_factory):
    folder = tmp_path_factory.mktemp("anatomy") / "cohort"
    return without_regions(simulate_cohort(folder, n_studies=5, seed=21, preset="small"))


@pytest.fixture(scope="module")
def run(cohort, tmp_path_factory):
    folder = tmp_path_factory.mktemp("anatomy_run") / "run"
    mrigmm.train_anatomy(cohort, folder, labelled=3, overrides=LONGER, device="cpu")
    return folder


def weights(folder):
    return (folder / "weights.safetensors").read_bytes()


def test_the_ventricle_is_found_where_no_region_is_given(cohort, run, tmp_path):
    out = tmp_path / "out"
    result = mrigmm.predict(cohort, out, method="map-em", anatomy=run, split="training", device="cpu")
    assert len(result.done) == 5
    for entry in json.loads(cohort.read_text())["training"]:
        truth = nib.load(cohort.parent / entry["label"])
        found = nib.load(out / f"{entry['id']}_region.nii.gz")
        np.testing.assert_allclose(found.affine, truth.affine, atol=1e-4)
        assert SimpleITK.ReadImage(out / f"{entry['id']}_region.nii.gz").GetSize() == truth.shape
        label, region = np.asarray(truth.dataobj), np.asarray(found.dataobj)
        assert set(np.unique(region)) == {0, 1, 2}
        assert overlap(region > 0, label > 0, 1).dice > 0.8
        assert overlap(region == 1, label == 1, 1).dice > 0.7
        labels = np.asarray(nib.load(out / f"{entry['id']}_labels.nii.gz").dataobj)
        assert ((labels > 0) == (region > 0)).all()
        side = json.loads((out / f"{entry['id']}.json").read_text())["region"]
        assert side["anatomy_run"] == str(run.resolve())
        assert len(side["slice_quality"]) == 3
        assert side["quality"] <= 0
        assert side["quality_0_to_1"] == pytest.approx(np.exp(side["quality"]))
    # One text for all studies of a verdict, and the numbers with their scale in the report.
    own = {p.what for p in result.problems if "the region is the program's own" in p.what}
    assert all("_region.nii.gz); its quality, from 0 to 1, is " in text for text in own)
    assert len(own) <= 2
    html = mrigmm.report(out).output.read_text()
    assert html.count("the program&#39;s own, found by the anatomy stage; quality 0.") == 5
    assert (
        html.count("(from 0 to 1: mean probability of the tissues in and around the ventricle; below 0.") == 5
    )


@pytest.mark.gate
@pytest.mark.parametrize("num_workers", [0, 2])
def test_a_cohort_without_region_maps_can_be_checked(cohort, run, num_workers):
    """By the anatomy stage, and by the pretrained networks without one."""
    for options in ({"anatomy": run}, {}):
        found = mrigmm.check(cohort, num_workers=num_workers, **options)
        assert len(found.done) == 5
        assert not found.failed


def test_a_given_region_is_used_as_it_is(cohort, run, tmp_path):
    content = json.loads(cohort.read_text())
    entry = content["training"][0]
    entry["region"] = f"regions/{entry['id']}.nii.gz"
    manifest = cohort.with_name("given.json")
    manifest.write_text(json.dumps({**content, "training": [entry]}))
    options = {"method": "map-em", "split": "training", "device": "cpu"}
    mrigmm.predict(manifest, tmp_path / "a", anatomy=run, **options)
    mrigmm.predict(manifest, tmp_path / "b", **options)
    assert not list((tmp_path / "a").glob("*_region.nii.gz"))
    html = mrigmm.report(tmp_path / "a").output.read_text()
    assert f"<dt>region</dt><dd>{entry['id']}.nii.gz</dd>" in html
    one, other = (next((tmp_path / name).glob("*_labels.nii.gz")).read_bytes() for name in "ab")
    assert one == other


def test_one_study_by_its_files(cohort, run, tmp_path):
    entry = json.loads(cohort.read_text())["training"][0]
    images = {name: cohort.parent / file for name, file in entry["image"].items()}
    result = mrigmm.predict_study(images, None, tmp_path / "out", method="map-em", anatomy=run, device="cpu")
    assert list((tmp_path / "out").glob("*_region.nii.gz"))
    assert len(result.done) == 1
    only = {"T2": images["T2"]}  # learnt with sequences left out: any of them will do
    mrigmm.predict_study(only, None, tmp_path / "t2", method="map-em", anatomy=run, device="cpu")


def test_training_on_a_cohort_without_regions(cohort, run, tmp_path):
    options = ("filters=2", "levels=1", "spacing_mm=3", "epochs=1")
    result = mrigmm.train(cohort, tmp_path / "run", anatomy=run, overrides=options, device="cpu")
    assert len(result.done) == 5


@pytest.mark.gate
def test_training_on_a_cohort_without_regions_by_the_networks(cohort, tmp_path):
    options = ("filters=2", "levels=1", "spacing_mm=3", "epochs=1")
    result = mrigmm.train(cohort, tmp_path / "run", overrides=options, device="cpu")
    assert len(result.done) == 5


def test_the_record_says_who_was_labelled(run):
    record = json.loads((run / "run.json").read_text())
    assert (len(record["labelled_studies"]), len(record["unlabelled_studies"])) == (3, 2)
    assert record["lowest_quality"] < 0
    header = (run / "log.csv").read_text().splitlines()[0]
    assert header == "epoch,objective,supervised,learning_rate,seconds"
    assert (run / "loss.png").read_bytes().startswith(b"\x89PNG")


def test_the_model_card_counts_the_studies_and_names_none(run):
    text = (run / "model_card.md").read_text()
    assert "| labelled studies | 3 |" in text
    assert "| unlabelled studies | 2 |" in text
    assert "Not for clinical use" in text
    assert not any(study in text for study in json.loads((run / "run.json").read_text())["labelled_studies"])


def test_the_same_seed_gives_the_same_weights_and_resuming_too(cohort, tmp_path, monkeypatch):
    first, second, third = (tmp_path / name for name in "abc")
    mrigmm.train_anatomy(cohort, first, labelled=1, overrides=(*TERMS, *QUICK), device="cpu")
    mrigmm.train_anatomy(cohort, second, labelled=1, overrides=(*TERMS, *QUICK), device="cpu")
    assert weights(first) == weights(second)

    class StopError(Exception):
        pass

    original = AnatomyKeeper.on_train_epoch_start

    def start(self, trainer, module):
        if trainer.current_epoch == 1:
            raise StopError
        original(self, trainer, module)

    with monkeypatch.context() as patch:
        patch.setattr(AnatomyKeeper, "on_train_epoch_start", start)
        with pytest.raises(StopError):
            mrigmm.train_anatomy(cohort, third, labelled=1, overrides=(*TERMS, *QUICK), device="cpu")
    assert not (third / "run.json").exists()
    with pytest.raises(InputError, match="the run is not finished"):
        read_anatomy_finder(third, torch.device("cpu"))
    other = (*TERMS, *QUICK[:-1], "steps_per_epoch=3")
    with pytest.raises(InputError, match="differs from that of the training to resume"):
        mrigmm.train_anatomy(cohort, third, labelled=1, overrides=other, device="cpu", resume=True)
    mrigmm.train_anatomy(cohort, third, labelled=1, overrides=(*TERMS, *QUICK), device="cpu", resume=True)
    assert weights(first) == weights(third)


@pytest.mark.parametrize("off", range(len(TERMS)))
def test_each_term_can_be_switched(cohort, tmp_path, off):
    """All terms for unlabelled slices but one."""
    used = [term for index, term in enumerate(TERMS) if index != off]
    options = (*QUICK[:-2], "epochs=1", "steps_per_epoch=1", *used)
    mrigmm.train_anatomy(cohort, tmp_path / "run", labelled=1, overrides=options, device="cpu")
    header = (tmp_path / "run" / "log.csv").read_text().splitlines()[0].split(",")
    expected = {term.partition("=")[0] for term in used}
    assert set(header) - {"epoch", "objective", "supervised", "learning_rate", "seconds"} == expected


def test_what_cannot_be_trained_is_refused(cohort, tmp_path):
    with pytest.raises(InputError, match="not enough labelled patients") as caught:
        mrigmm.train_anatomy(cohort, tmp_path / "a", labelled=9, overrides=(*TERMS, *QUICK), device="cpu")
    assert caught.value.problems[0].got == "5"
    with pytest.raises(InputError, match="at least one labelled patient"):
        mrigmm.train_anatomy(cohort, tmp_path / "a", labelled=0, device="cpu")
    with pytest.raises(InputError, match="unknown configuration key 'epoch'") as caught:
        mrigmm.train_anatomy(cohort, tmp_path / "a", overrides=("epoch=3",), device="cpu")
    assert "did you mean epochs" in str(caught.value)
    with pytest.raises(InputError, match="unknown sequence name 'LG'"):
        mrigmm.train_anatomy(cohort, tmp_path / "a", overrides=("sequences=[LG]",), device="cpu")
    assert not (tmp_path / "a").exists()


def test_runs_of_two_kinds_are_not_mixed_up(cohort, run, tmp_path):
    with pytest.raises(InputError, match="give it with --anatomy"):
        mrigmm.predict(cohort, tmp_path / "out", run=run, split="training")
    mrigmm.train(cohort, tmp_path / "gem", anatomy=run, overrides=("epochs=1", "filters=2"), device="cpu")
    with pytest.raises(InputError, match="this is no anatomy run"):
        mrigmm.predict(cohort, tmp_path / "out", method="map-em", anatomy=tmp_path / "gem", split="training")


def test_a_study_without_a_ventricle_does_not_stop_the_others(cohort, run, tmp_path):
    content = json.loads(cohort.read_text())
    good = content["training"][0]
    noise = {}
    for seed, (name, file) in enumerate(good["image"].items()):
        image = nib.load(cohort.parent / file)
        values = np.random.default_rng(seed).normal(100, 1, image.shape).astype(np.float32)
        noise[name] = f"noise_{name}.nii.gz"
        nib.save(nib.Nifti1Image(values, image.affine), cohort.parent / noise[name])
    studies = [{"id": "noise", "image": noise}, {"id": "good", "image": good["image"]}]
    manifest = cohort.with_name("noise.json")
    manifest.write_text(json.dumps({**content, "training": studies}))
    result = mrigmm.predict(
        manifest, tmp_path / "out", method="map-em", anatomy=run, split="training", device="cpu"
    )
    assert "good" in result.done
    told = [p for p in result.problems if p.study == "noise"]
    told = [p for p in told if "the program's own" not in p.what or "which is low" in p.what]
    assert told  # refused, or flagged as implausible or uncertain


@pytest.mark.gate
def test_a_generative_head_learns_and_judges(cohort, tmp_path):
    """Its densities are no probabilities: the slices of its own training are typical, noise is not."""
    folder = tmp_path / "run"
    mrigmm.train_anatomy(cohort, folder, overrides=(*LONGER, "head=gmm"), device="cpu")
    finder, record = read_anatomy_finder(folder, torch.device("cpu"))
    content = json.loads(cohort.read_text())["training"][0]
    study = Study("s", {name: cohort.parent / file for name, file in content["image"].items()})
    whole = load_whole(study, finder.sequences, {})
    truth = np.asarray(nib.load(cohort.parent / content["label"]).dataobj)
    found = finder.find(whole)
    codes = whole.to_input_grid(torch.from_numpy(found.codes)[None])[0]
    assert overlap(codes > 0, truth > 0, 1).dice > 0.8
    assert found.study_quality > record.lowest_quality
    assert finder.on_scale(found.study_quality) is None
    torch.manual_seed(0)
    noise = replace(whole, image=whole.image + 3 * torch.randn(whole.image.shape))
    usual, unusual = (finder.look(study)[1][whole.region > 0].median() for study in (whole, noise))
    assert unusual < usual


def test_defaults_are_valid():
    assert not AnatomyConfig().uses_unlabelled
    assert AnatomyConfig(local_mi=0.1).uses_unlabelled
