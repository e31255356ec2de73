"""`train --labels` from tiny networks: runs, folds, and going on from a run."""

import json
import shutil
from dataclasses import replace

import numpy as np
import pytest

import mrigmm
from mrigmm.config_learning import LabelsConfig
from mrigmm.data.manifest import Study
from mrigmm.data.manifest_file import read_manifest
from mrigmm.errors import InputError
from mrigmm.jobs.pretrain import pretrain
from mrigmm.jobs.training.folds import best_choice, divisions
from mrigmm.jobs.training.labelled_studies import Labelled, labelled_study
from mrigmm.jobs.training.studies import Entry
from mrigmm.labels import class_set
from mrigmm.methods.network_finder import NetworkFinder
from mrigmm.pretrained.folder import PretrainedFolder, shipped_folder
from mrigmm.pretrained.learning import LearningRecord, read_learning
from mrigmm.training.label_tuning import Candidate
from tests.training.test_labelled import labelled
from tests.training.test_pretraining import TINY

FEW = ["steps=2", "batch=2", "simulated=1", "calibrated_on=0"]


@pytest.fixture(scope="module")
def start(tmp_path_factory):
    """Networks that learnt nearly nothing."""
    folder = tmp_path_factory.mktemp("start") / "networks"
    pretrain(folder, overrides={**TINY, "seeds": [3, 4], "steps": 2}, device="cpu", workers=0)
    shutil.copy(shipped_folder().calibration, folder)
    return folder


@pytest.fixture(scope="module")
def labelled_run(start, cohort, tmp_path_factory):
    """A run in folds on the three training studies of the small cohort, three networks each."""
    out = tmp_path_factory.mktemp("labels") / "run"
    told = []
    result = mrigmm.train(
        cohort, out, labels=True, folds=3, seeds=3, from_run=start, overrides=FEW, tell=told.extend
    )
    return result, out


def test_a_run_holds_networks_and_what_they_have_learnt(labelled_run, start, cohort):
    result, out = labelled_run
    ids = tuple(study.id for study in read_manifest(cohort).split("training"))
    assert result.done == ids
    config, record = PretrainedFolder(out).read()
    assert [file.file for file in record.segmenters] == [f"segmenter_{k}.safetensors" for k in range(3)]
    assert record.finder is not None
    assert record.finder.sha256 in {f.sha256 for f in record.files}
    assert config == PretrainedFolder(start).read()[0]
    assert (out / "locator.safetensors").read_bytes() == (start / "locator.safetensors").read_bytes()
    learning = read_learning(PretrainedFolder(out))
    assert learning.start == read_learning(PretrainedFolder(start)).start
    [learnt] = learning.cohorts
    assert (learnt.use, learnt.labelled, set(learnt.held_out)) == ("labels", ids, set(ids))
    assert learnt.before.keys() == learnt.after.keys()
    assert "infarct, wall given" in learnt.before
    assert "wall, nothing given, by the finder" in learnt.before
    assert not [name for name in learnt.before if "wall given" in name and "finder" in name]
    assert learnt.settings["steps"] == 2
    assert not list(out.rglob("*.ckpt"))


def test_every_study_is_predicted_by_networks_that_have_not_seen_it(labelled_run, cohort):
    _, out = labelled_run
    predictions = out / "folds" / "predictions"
    for n in range(3):
        [learnt] = read_learning(PretrainedFolder(out / "folds" / f"fold_{n}")).cohorts
        [seen_by_others] = learnt.held_out
        assert seen_by_others not in learnt.labelled
        side = json.loads((predictions / f"{seen_by_others}.json").read_text())
        files = PretrainedFolder(out / "folds" / f"fold_{n}").read()[1].segmenters
        assert {file.sha256 for file in files} <= {*side["settings"]["networks"].values()}
    result = mrigmm.evaluate(predictions, cohort, split="training")
    assert len(result.done) == 3


def test_the_card_lists_cohorts_and_names_no_study(labelled_run, cohort):
    _, out = labelled_run
    text = (out / "model_card.md").read_text()
    assert "Cohort 1" in text
    assert "learnt from those of 3 studies: blood" in text
    assert all(study.id not in text for study in read_manifest(cohort).split("all"))


def test_a_run_predicts_with_its_networks(labelled_run, cohort, tmp_path):
    _, out = labelled_run
    result = mrigmm.predict(cohort, tmp_path / "predictions", run=out)
    [study] = result.done
    side = json.loads((tmp_path / "predictions" / f"{study}.json").read_text())
    assert side["method"] == "pretrained"
    assert side["infarct"]["calibrated"] is False
    assert "expected_dice" not in side
    assert "No Dice is estimated" in (out / "model_card.md").read_text()
    again = mrigmm.predict(cohort, tmp_path / "predictions", run=out, resume=True)
    assert again.done == (study,)
    with pytest.raises(InputError, match="otherwise than is asked for"):
        mrigmm.predict(cohort, tmp_path / "predictions", resume=True)
    with pytest.raises(InputError, match="networks are those of the run"):
        mrigmm.predict(cohort, tmp_path / "other", run=out, overrides={"networks": str(out)})


def test_verdicts_of_a_run_are_calibrated_on_simulated_studies(
    start, cohort, workshop, tmp_path, monkeypatch
):
    """The networks are tiny: what they find is not looked at, only that it is calibrated, and on what."""
    monkeypatch.setattr("mrigmm.jobs.training.recalibration.COHORTS", {"small": 1, "healthy": 2})
    manifest = workshop.manifest([], training=[workshop.study("a", region="cavity-wall")], name="one.json")
    out = tmp_path / "run"
    overrides = [*FEW[:-1], "calibrated_on=1"]
    steps = []
    mrigmm.train(
        manifest, out, labels=True, seeds=1, from_run=start, overrides=overrides, track=recorded(steps)
    )
    assert "Calibrating" in steps
    calibration = PretrainedFolder(out).read_calibration()
    assert calibration["rescaled"]["cohorts"] == {"small": 1, "healthy": 2}
    assert "networks" not in calibration
    assert {*calibration["expected_dice"]} == {"infarct", "wall"}
    result = mrigmm.predict(cohort, tmp_path / "predictions", run=out)
    side = json.loads((tmp_path / "predictions" / f"{result.done[0]}.json").read_text())
    assert side["infarct"]["calibrated"] is True
    assert "calibrated on simulated hearts" in " ".join((out / "model_card.md").read_text().split())


def recorded(steps):
    """A progress bar that keeps what it is told."""

    def track(items, description):
        steps.append(description)
        return items

    return track


def test_a_run_is_gone_on_from(labelled_run, workshop, tmp_path):
    """One labelled study of another cohort: nobody is held out, the card lists both."""
    _, before = labelled_run
    manifest = workshop.manifest([], training=[workshop.study("a", region="cavity-wall")], name="second.json")
    out = tmp_path / "run"
    mrigmm.train(manifest, out, labels=True, seeds=1, from_run=before, overrides=FEW)
    first, second = read_learning(PretrainedFolder(out)).cohorts
    assert len(first.studies) == 3
    assert (second.studies, second.held_out, second.before) == (("a",), (), {})
    assert "too few labelled patients to hold one out" in second.measured
    assert second.why == "50 % of the weights after 2 steps, not chosen by any study"
    assert "Cohort 2" in (out / "model_card.md").read_text()
    done = mrigmm.train(manifest, out, labels=True, from_run=before, overrides=FEW, resume=True)
    assert done.done == ("a",)
    with pytest.raises(InputError, match="already has results"):
        mrigmm.train(manifest, out, labels=True, from_run=before)


def test_some_are_held_out_of_three_and_a_start_that_is_best_is_kept(start, cohort, tmp_path, monkeypatch):
    monkeypatch.setattr(
        "mrigmm.jobs.training.labels.best_choice",
        lambda folds: best_choice([[c for f in folds for c in f][:1]]),
    )
    out = tmp_path / "run"
    mrigmm.train(cohort, out, labels=True, from_run=start, overrides=FEW)
    [learnt] = read_learning(PretrainedFolder(out)).cohorts
    assert (len(learnt.held_out), learnt.kept_start, learnt.before) == (1, True, learnt.after)
    for seed, number in ((3, 0), (4, 1)):
        kept, was = (out / f"segmenter_{number}.safetensors"), (start / f"segmenter_{seed}.safetensors")
        assert kept.read_bytes() == was.read_bytes()
    calibrations = [PretrainedFolder(folder).read_calibration() for folder in (out, start)]
    assert calibrations[0] == calibrations[1]


def test_where_nothing_tells_the_ventricle_the_locator_does(start, workshop):
    """Scar alone: no region, the square about the place that the locator finds."""
    manifest = read_manifest(
        workshop.manifest(
            [],
            training=[{**workshop.study("a"), "region": None}],
            labels={"background": [0, 1, 2, 3], "scar": 4},
        )
    )
    [study] = manifest.split("training")
    finder = NetworkFinder("cpu", start)
    found = labelled_study(Entry(study, manifest.labels), manifest.sequences, finder)
    assert (found.given, found.region.max(), len(found.sets)) == (0, 0, 3)
    assert all(0 <= c < n for c, n in zip(found.centre, found.sets.shape[1:], strict=True))
    with pytest.raises(InputError, match="networks know none of the sequences"):
        labelled_study(Entry(study, manifest.labels), ("T1",), finder)


def held_out(patients, n_folds=None, healthy=()):
    studies = [
        Labelled(
            Entry(Study(f"s{number}", {}, patient=patient), {}),
            without_scar() if number in healthy else labelled(),
        )
        for number, patient in enumerate(patients)
    ]
    return [
        ([s.entry.study.id for s in d.used], [s.entry.study.id for s in d.held_out])
        for d in divisions(LabelsConfig(), studies, n_folds)
    ]


def test_who_is_held_out():
    assert held_out([None]) == held_out(["A", "A"]) == []
    assert sorted(held_out([None, None])) == [(["s0"], ["s1"]), (["s1"], ["s0"])]
    [(used, others)] = held_out([None] * 3)
    assert (len(used), len(others)) == (2, 1)
    [(used, others)] = held_out([None] * 10)
    assert (len(used), len(others)) == (8, 2)
    folds = held_out(["A", "A", "B", "C", "B"], 3)
    assert sorted(s for _, others in folds for s in others) == ["s0", "s1", "s2", "s3", "s4"]
    for used, others in folds:
        assert not {"s0", "s1"} & {*used} or not {"s0", "s1"} & {*others}  # one patient
        assert not {"s2", "s4"} & {*used} or not {"s2", "s4"} & {*others}
    with pytest.raises(InputError, match="not enough labelled patients"):
        held_out(["A", "A", "B"], 3)


def without_scar():
    study = labelled()
    sets = np.where(study.sets == class_set(("scar", "mvo")), class_set(("myocardium",)), study.sets)
    return replace(study, sets=sets.astype(np.uint8))


def test_every_fold_learns_from_infarcts_where_it_can():
    both = {("s0",), ("s1",)}
    assert {tuple(others) for _, others in held_out([None, None], healthy=(0, 1))} == both
    assert held_out([None, None], healthy=(1,)) == held_out([None, None], healthy=(0,)) == []
    healthy = set(range(10)) - {3, 7}
    [(used, others)] = held_out([None] * 10, healthy=healthy)
    assert len({"s3", "s7"} & {*used}) == len({"s3", "s7"} & {*others}) == 1
    [(used, _)] = held_out([None] * 10, healthy=set(range(10)) - {3})
    assert "s3" in used
    for used, _ in held_out([None] * 9, 3, healthy=set(range(9)) - {0, 4, 8}):
        assert len({"s0", "s4", "s8"} & {*used}) == 2


def test_the_best_mean_over_folds_is_chosen_and_the_start_of_equals():
    def fold(*scores):
        return [Candidate(step, share, score, {}) for (step, share), score in zip(tried, scores, strict=True)]

    tried = [(0, 0.0), (100, 0.5), (100, 1.0)]
    assert vars(best_choice([fold(0.5, 0.6, 0.7), fold(0.5, 0.6, 0.3)])) == {"step": 100, "share": 0.5}
    assert vars(best_choice([fold(0.6, 0.6, 0.6)])) == {"step": 0, "share": 0.0}
    assert vars(best_choice([fold(*[float("nan")] * 3)])) == {"step": 0, "share": 0.0}


@pytest.mark.parametrize(("labels", "seeds"), [(True, 0), (False, -1)])
def test_no_network_at_all(cohort, tmp_path, labels, seeds):
    with pytest.raises(InputError, match="no network would be trained"):
        mrigmm.train(cohort, tmp_path / "run", labels=labels, seeds=seeds)
    assert not (tmp_path / "run").exists()


def test_what_cannot_be_asked_for(workshop, start, cohort, tmp_path):
    out = tmp_path / "run"
    with pytest.raises(InputError, match="does not have these options") as error:
        mrigmm.train(cohort, out, labels=True, preset="tiny", precision="bf16-mixed")
    assert "--preset, --precision" in str(error.value)
    with pytest.raises(InputError, match="stepps"):
        mrigmm.train(cohort, out, labels=True, from_run=start, overrides=["stepps=3"])
    with pytest.raises(InputError, match="no run of pretrained networks"):
        mrigmm.train(cohort, out, labels=True, from_run=tmp_path)
    bare = workshop.study("a")
    del bare["label"], bare["region"]
    with pytest.raises(InputError, match="no study is labelled"):
        mrigmm.train(workshop.manifest([], training=[bare]), out, labels=True, from_run=start)
    assert not (out / "networks.json").exists()


def test_a_damaged_record_is_named(labelled_run, tmp_path):
    _, out = labelled_run
    copy = PretrainedFolder(tmp_path)
    for file in (copy.config.name, copy.record.name):
        (tmp_path / file).write_bytes((out / file).read_bytes())
    assert read_learning(copy) == LearningRecord(start=read_learning(copy).start)
    copy.learning.write_text("{")
    with pytest.raises(InputError, match="record of what the networks have learnt is damaged"):
        read_learning(copy)
