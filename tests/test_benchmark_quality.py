import json
import math
from dataclasses import replace

import benchmark_quality as script
import numpy as np
import pytest
import torch
from quality import ceilings, cohorts, competitors, scoring, summary

from mrigmm.data.manifest import RegionRule
from mrigmm.data.manifest_file import read_manifest
from mrigmm.data.study import load_study
from mrigmm.errors import InputError
from mrigmm.jobs.common import no_progress
from mrigmm.methods.base import Segmentation, Task

CLASSES = ("blood", "myocardium", "edema", "scar")
VOXEL_ML = 1.2 * 1.2 * 10 / 1000


def load(manifest, kind="cavity-wall"):
    """First test study of a manifest with a region map from its label."""
    cohort = read_manifest(manifest)
    study = replace(cohort.split("test")[0], region=RegionRule(kind))
    return load_study(study, cohort.sequences, CLASSES, labels=cohort.labels, with_label=True)


@pytest.fixture
def study(workshop):
    return load(workshop.manifest())


def segmentation(study, label):
    """What a method would return that is sure of a label map (X, Y, Z) of class indices, -1 outside."""
    resp = (label == torch.arange(4)[:, None, None, None]).float()
    labels = torch.where(study.region > 0, label + 1, 0).to(torch.uint8)
    return Segmentation(resp, labels, None, study.sequences, torch.zeros(label.shape), 0, True)


def competitor(method, **options):
    return scoring.Competitor("row", lambda _protocol: method, {"a": 1}, **options)


def run(row, cases):
    return scoring.run_competitor(row, row.build(None), cases, CLASSES, CLASSES, no_progress)


# What is segmented


def test_seeds_are_named_and_differ():
    assert cohorts.SEEDS["report"] == 2026  # docs/phantom.md
    assert len(set(cohorts.SEEDS.values())) == 3


def test_only_slices_with_all_classes_and_each_alone(workshop):
    whole = load(workshop.manifest())
    label = whole.label.clone()
    label[..., 1][label[..., 1] == 3] = 2  # no scar in the middle slice
    parts = list(cohorts.full_slices(replace(whole, label=label), range(4)))
    assert len(parts) == 2
    assert [part.region.shape[2] for part in parts] == [1, 1]
    np.testing.assert_array_equal(parts[1].image[..., 0], whole.image[..., 2])
    np.testing.assert_array_equal(parts[1].label[..., 0], label[..., 2])


def test_region_comes_from_the_label_only_where_it_shows_the_ventricle(workshop):
    cohort = read_manifest(workshop.manifest())
    study = cohort.split("test")[0]
    assert cohorts.region_of(study, cohort, "cavity-wall").region == RegionRule("cavity-wall")
    lesions_only = replace(cohort, labels={"background": (0, 1, 2), "edema": (3,), "scar": (4,)})
    assert cohorts.region_of(study, lesions_only, "cavity-wall").region == study.region


def test_healthy_protocol_takes_the_studies_without_lesion(workshop):
    """One study with an infarct, one whose lesions are called wall in the label."""
    entries = [workshop.study("ill"), workshop.study("well")]
    label = np.minimum(np.asarray(load(workshop.manifest(entries)).label), 1) + 1
    workshop.volume("well_label.nii.gz", label.astype(np.uint8))
    manifest = workshop.manifest(entries)
    cohort = cohorts.given_cohort(manifest, "test", None, None)
    for name, expected in (("healthy", ["well"]), ("cavity-wall", ["ill", "well"])):
        cases, unreadable = cohorts.read_cases(cohort, cohorts.PROTOCOLS[name], CLASSES, no_progress)
        assert [case.study for case in cases] == expected
        assert not unreadable


def test_unreadable_studies_are_named(workshop):
    entries = [workshop.study("good"), workshop.study("bad")]
    (workshop.folder / "bad_T2.nii.gz").write_bytes(b"no image")
    cohort = cohorts.given_cohort(workshop.manifest(entries), "test", None, None)
    cases, unreadable = cohorts.read_cases(cohort, cohorts.PROTOCOLS["lv"], CLASSES, no_progress)
    assert [case.study for case in cases] == ["good"]
    assert list(unreadable) == ["bad"]


def test_a_cohort_is_simulated_once(tmp_path, monkeypatch):
    options = {"preset": "healthy", "seed": 5, "n_studies": 1, "track": no_progress}
    cohort = cohorts.simulated_cohort(tmp_path, **options)
    cases, _ = cohorts.read_cases(cohort, cohorts.PROTOCOLS["healthy"], CLASSES, no_progress)
    assert len(cases) == 1
    monkeypatch.setattr(cohorts, "simulate_cohort", None)
    assert cohorts.simulated_cohort(tmp_path, **options) == cohort


def test_training_manifest_has_the_region_map_of_the_protocol(workshop, tmp_path):
    cohort = cohorts.given_cohort(workshop.manifest(), "test", None, None)
    path = cohorts.region_manifest(cohort, "cavity-wall", tmp_path / "training.json")
    written = read_manifest(path, cohort.data_root)
    assert [s.region for s in written.split("training")] == [RegionRule("cavity-wall")]
    assert written.splits["test"] == ()


# Scores


def test_only_what_starts_at_random_runs_with_every_seed():
    task = Task(("blood", "myocardium"), ("LGE",), None)
    rows = list(competitors.methods(["kmeans", "otsu"], task, [1, 2]))
    assert [(row.name, row.seed) for row in rows] == [("kmeans", 1), ("kmeans", 2), ("otsu", None)]
    assert [row.build(cohorts.PROTOCOLS["lv"]).settings.seed for row in rows[:2]] == [1, 2]
    assert [row.settings["seed"] for row in rows[:2]] == [1, 2]


def test_a_perfect_map_has_perfect_scores(study):
    row = scoring.score(cohorts.Case("s", study), segmentation(study, study.label), CLASSES, CLASSES)
    for group in (*CLASSES, "wall", "pathology"):
        assert row[f"dice/{group}"] == row[f"iou/{group}"] == 1
        assert row[f"hd95_mm/{group}"] == 0
    assert row["infarct_error_ml"] == row["infarct_error_percent"] == 0


def test_edema_called_scar_by_hand(study):
    """n_e voxels of edema become scar: Dice 2 n_s / (2 n_s + n_e), volumes in ml and % of the wall."""
    n_e, n_s = int((study.label == 2).sum()), int((study.label == 3).sum())
    n_wall = int((study.label > 0).sum())
    wrong = torch.where(study.label == 2, 3, study.label)
    row = scoring.score(cohorts.Case("s", study), segmentation(study, wrong), CLASSES, CLASSES)
    assert row["dice/edema"] == 0
    assert math.isnan(row["hd95_mm/edema"])
    assert row["dice/scar"] == pytest.approx(2 * n_s / (2 * n_s + n_e))
    assert row["iou/scar"] == pytest.approx(n_s / (n_s + n_e))
    assert row["dice/pathology"] == 1
    assert row["infarct_error_ml"] == pytest.approx(n_e * VOXEL_ML)
    assert row["infarct_error_percent"] == pytest.approx(100 * n_e / n_wall)
    assert row["volume_ml/scar"] == pytest.approx((n_s + n_e) * VOXEL_ML)
    assert row["volume_percent/scar"] == pytest.approx(100 * (n_s + n_e) / n_wall)


def test_classes_that_the_reference_lacks_are_not_scored(study):
    known = ("blood", "myocardium", "scar")
    merged = replace(study, label=torch.where(study.label == 2, 1, study.label))
    row = scoring.score(cohorts.Case("s", merged), segmentation(merged, merged.label), CLASSES, known)
    assert "dice/edema" not in row
    assert row["dice/myocardium"] == row["dice/wall"] == 1


def test_nll_rests_on_the_voxels_that_all_sequences_show(study):
    hidden = study.observed.clone()
    hidden[1, :8] = False
    half = replace(study, observed=hidden)
    image = study.image.clone()
    image[:, :8] = 50.0  # whatever stands there
    values = [
        scoring.score(cohorts.Case("s", s), segmentation(s, s.label), CLASSES, CLASSES)["nll"]
        for s in (half, replace(half, image=image), study)
    ]
    assert values[0] == pytest.approx(values[1])
    assert values[0] != pytest.approx(values[2])


class Spy:
    """Returns the truth that it was made with and remembers what it was shown."""

    def __init__(self, label, refuse=()):
        self.label, self.refuse, self.shown = label, refuse, []

    def segment(self, study):
        self.shown.append(study.label)
        if study.id in self.refuse:
            raise InputError("too dark")
        return segmentation(study, self.label)


def test_only_the_oracle_is_shown_the_label(study):
    spy = Spy(study.label)
    run(competitor(spy), [cohorts.Case("s", study)])
    run(competitor(spy, sees_labels=True), [cohorts.Case("s", study)])
    assert spy.shown[0] is None
    assert spy.shown[1] is study.label


def test_a_study_fails_as_a_whole_and_says_why(study):
    """Two slices of `a`, of which one is refused, and one of `b`."""
    cases = [
        cohorts.Case(name, replace(study, id=f"{name}{i}")) for name, i in (("a", 0), ("a", 1), ("b", 0))
    ]
    found = run(competitor(Spy(study.label, refuse=("a1",))), cases)
    assert found.failures == {"a": "too dark"}
    assert list(found.studies) == ["b"]
    assert found.n_cases == 1


def test_slices_are_averaged_where_defined(study):
    """Dice 1 in one slice and 0 in the other; HD95 only in the first."""
    wrong = torch.where(study.label == 2, 3, study.label)
    truths = iter([study.label, wrong])
    method = Spy(None)
    method.segment = lambda s: segmentation(s, next(truths))
    found = run(competitor(method), [cohorts.Case("s", study)] * 2)
    assert found.studies["s"]["dice/edema"] == pytest.approx(0.5)
    assert found.studies["s"]["hd95_mm/edema"] == 0
    assert found.n_cases == 2


# What is kept


def test_results_are_kept_for_the_same_circumstances_only(tmp_path):
    store = scoring.Store(tmp_path)
    row = competitor(None, seed=2)
    result = scoring.Result({"s": {"dice/scar": 0.5, "hd95_mm/scar": math.nan}}, {"t": "no"}, 1.5, 1)
    here = {"cohort": {"seed": 1}, "classes": CLASSES}
    store.save("lv", row, here, result)
    again = store.load("lv", row, here)
    assert again.studies["s"]["dice/scar"] == 0.5
    assert math.isnan(again.studies["s"]["hd95_mm/scar"])
    assert (again.failures, again.seconds, again.n_cases) == ({"t": "no"}, 1.5, 1)
    assert store.load("cavity-wall", row, here) is None
    assert store.load("lv", replace(row, seed=3), here) is None
    assert store.load("lv", replace(row, settings={"a": 2}), here) is None
    assert store.load("lv", row, here | {"cohort": {"seed": 9}}) is None


def test_a_damaged_result_is_computed_again(tmp_path):
    store, row = scoring.Store(tmp_path), competitor(None)
    store.save("lv", row, {}, scoring.Result({}))
    next(tmp_path.rglob("row.json")).write_text("{")
    assert store.load("lv", row, {}) is None


def test_a_method_that_cannot_be_made_is_tried_again(workshop, tmp_path):
    cohort = cohorts.given_cohort(workshop.manifest(), "test", None, None)
    task = script.cohort_task(cohort.manifest, None, "cpu")

    def refuse(_protocol):
        raise InputError("the training diverged")

    row, store = scoring.Competitor("row", refuse, {}), scoring.Store(tmp_path / "results")
    [(_, result)], _ = script._run_protocol("lv", cohort, [row], task, store, no_progress)
    assert result.failures == {"s1": "the training diverged"}
    assert not list(tmp_path.glob("results/**/*.json"))


def test_a_training_killed_before_its_first_epoch_starts_anew(tmp_path, monkeypatch):
    calls = []

    def train(_manifest, folder, **options):
        calls.append((folder.exists(), options["resume"]))
        (folder / "checkpoints").mkdir(parents=True)
        (folder / "checkpoints" / "last.ckpt").write_text("")

    monkeypatch.setattr(competitors.mrigmm, "train", train)
    monkeypatch.setattr(competitors, "_run_method", lambda run, device: run.path.name)
    monkeypatch.setattr(competitors.Trainer, "manifest", lambda self, region: None)
    cohort = cohorts.Cohort(tmp_path / "m.json", tmp_path, "all", None, {})
    trainer = competitors.Trainer(tmp_path, cohort, None, "cpu", no_progress)
    (tmp_path / "tiny_lv_seed7").mkdir()
    (tmp_path / "tiny_lv_seed7" / "config.yaml").write_text("left behind")
    (row,) = trainer.competitors("tiny", [7])
    assert row.build(cohorts.PROTOCOLS["lv"]) == "tiny_lv_seed7"
    monkeypatch.setattr(competitors.mrigmm, "train", lambda *_, **options: calls.append(options["resume"]))
    row.build(cohorts.PROTOCOLS["lv"])
    assert calls == [(False, False), True]


# Summaries


def rows(**dice):
    """One row per name with Dice of scar per seed and study."""
    return {
        name: {
            seed: scoring.Result({f"s{i}": {"dice/scar": value} for i, value in enumerate(values)})
            for seed, values in by_seed.items()
        }
        for name, by_seed in dice.items()
    }


def test_seeds_are_averaged_per_study_before_anything_else():
    found = summary.summarise(rows(net={1: [0.2, 0.6], 2: [0.4, 0.8]}), ["s0", "s1"])["net"]
    estimate = found.metrics["dice/scar"]
    assert estimate.mean == pytest.approx(0.5)
    assert estimate.sd == pytest.approx(math.sqrt(2 * 0.2**2))  # of 0.3 and 0.7
    assert estimate.n == 2
    assert found.seed_sd("dice/scar") == pytest.approx(math.sqrt(2 * 0.1**2))  # of 0.4 and 0.6
    assert found.as_dict()["metrics"]["dice/scar"]["seed_means"] == pytest.approx([0.4, 0.6])


def test_a_study_without_result_counts_as_undefined():
    found = summary.summarise(rows(a={None: [0.5]}), ["s0", "s1"])["a"]
    assert (found.metrics["dice/scar"].n, found.metrics["dice/scar"].n_undefined) == (1, 1)


def test_no_pair_stands_twice():
    names = {"em-gmm-sklearn": 0.3, "map-em": 0.5, "map-em-2step": 0.6, "new": 0.7}
    found = summary.summarise(rows(**{n: {None: [v, v]} for n, v in names.items()}), ["s0", "s1"])
    pairs = [(name, baseline) for name, row in found.items() for baseline in row.paired]
    assert len(pairs) == len({frozenset(pair) for pair in pairs}) == 6
    assert found["new"].paired["map-em"]["dice/scar"].mean == pytest.approx(0.2)


@pytest.mark.parametrize(
    ("score", "expected"), [(0.1, (None, 1)), (0.45, (2, 5)), (0.4, (2, 5)), (0.9, (5, None))]
)
def test_how_many_labels_a_method_is_worth(score, expected):
    assert summary.labelled_studies_worth({1: 0.2, 2: 0.4, 5: 0.6}, score) == expected


# Rows


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("deepsvg", ("deepsvg", "deepsvg", ())),
        ("tiny:epochs=2,filters=4", ("tiny (epochs=2, filters=4)", "tiny", ("epochs=2", "filters=4"))),
        ("mine=tiny:epochs=2", ("mine", "tiny", ("epochs=2",))),
    ],
)
def test_what_is_to_be_trained(text, expected):
    assert competitors.parse_training(text) == expected


def test_a_run_needs_a_name_and_a_folder(tmp_path):
    with pytest.raises(InputError, match="NAME=FOLDER"):
        competitors.existing_run("runs/first", None, "cpu")
    with pytest.raises(InputError, match="run folder does not exist"):
        competitors.existing_run(f"first={tmp_path / 'no'}", None, "cpu")


def test_supervised_network_is_not_tested_on_its_labels(workshop, tmp_path, capsys):
    manifest = workshop.manifest(training=[workshop.study("t")])
    arguments = ["--manifest", manifest, "--split", "all", "--supervised", "-o", tmp_path / "out", "--quiet"]
    assert script.main([str(a) for a in arguments]) == 2
    assert "labels it has seen" in capsys.readouterr().err


def test_unknown_names_are_refused_with_a_remedy(capsys):
    with pytest.raises(SystemExit):
        script.parse_arguments(["-o", "x", "--methods", "map-emm"])
    assert "did you mean map-em" in capsys.readouterr().err


# Ceilings


def test_oracle_needs_the_label_and_beats_chance(study):
    oracle = ceilings.Oracle(CLASSES)
    with pytest.raises(InputError, match="reference label"):
        oracle.segment(replace(study, label=None))
    row = scoring.score(cohorts.Case("s", study), oracle.segment(study), CLASSES, CLASSES)
    assert row["dice/blood"] == 1  # given
    assert row["dice/scar"] > 0.9


def test_oracle_gives_no_class_that_the_label_lacks(study):
    none = replace(study, label=torch.where(study.label == 2, 1, study.label))
    assert not (ceilings.Oracle(CLASSES).segment(none).labels == 3).any()


def test_network_sees_image_region_and_label_in_one_crop(study):
    settings = ceilings.SupervisedSettings(filters=2, epochs=1, spacing_mm=1.2, levels=2, crop_mm=24)
    found = ceilings.labelled_slices(study, settings)
    assert found.image.shape[0] == found.label.shape[0] == study.region.shape[2]
    for index in range(4):  # pixels are not resampled: every voxel is there, with its own intensities
        there = study.label == index
        assert int((found.label == index).sum()) == int(there.sum())
        values = found.image.permute(1, 0, 2, 3)[:, found.label == index]
        np.testing.assert_allclose(values.sum(1), study.image[:, there].sum(1), rtol=1e-3, atol=1e-2)
    assert ((found.region > 0) == (found.label >= 0)).all()


def test_augmentation_moves_all_maps_alike():
    generator = torch.Generator().manual_seed(4)
    label = torch.arange(36).reshape(1, 6, 6)
    image = label[:, None].float()
    for _ in range(4):
        x, region, y = ceilings.augmented(image, label, label, generator)
        np.testing.assert_array_equal(region, y)
        gain_offset = np.polyfit(y.flatten(), x.flatten(), 1)
        np.testing.assert_allclose(np.polyval(gain_offset, y.flatten()), x.flatten(), atol=1e-3)


def test_supervised_network_learns_and_is_reproducible(study):
    settings = ceilings.SupervisedSettings(filters=4, epochs=1, spacing_mm=1.2, levels=2, crop_mm=24)
    slices = ceilings.labelled_slices(study, settings)

    def dice(steps):
        network = ceilings.train_unet(
            [slices], CLASSES, settings, steps=steps, seed=1, device=torch.device("cpu"), track=no_progress
        )
        found = ceilings.Supervised(network, CLASSES, settings).segment(replace(study, label=None))
        return scoring.score(cohorts.Case("s", study), found, CLASSES, CLASSES)["dice/scar"]

    trained = dice(60)
    assert trained > 0.85
    assert trained > dice(1)
    assert dice(60) == trained


# All of it


def arguments(out, *more):
    return ["-o", str(out), "--phantom", "small", "--studies", "2", "--quiet", *more]


def test_benchmark_writes_table_json_and_figure_and_computes_nothing_twice(tmp_path, monkeypatch, capsys):
    options = arguments(tmp_path, "--protocols", "lv,healthy", "--methods", "map-em,otsu")
    assert script.main(options) == 0
    printed = capsys.readouterr().out
    text = (tmp_path / "benchmark.md").read_text()
    assert printed == text
    content = json.loads((tmp_path / "benchmark.json").read_text())
    lv, healthy = (content["protocols"][name] for name in ("lv", "healthy"))
    assert lv["cohort"]["seed"] == 2026
    assert (lv["cohort"]["preset"], healthy["cohort"]["preset"]) == ("small", "healthy")
    assert "`otsu`: not applicable (otsu needs to know the wall)" in text
    assert set(lv["summary"]["otsu"]["failures"]) == set(lv["studies"]["map-em"])
    assert set(healthy["summary"]) == {"map-em", "otsu"}  # an oracle of healthy studies says nothing
    mean = lv["summary"]["map-em"]["metrics"]["dice/scar"]["mean"]
    assert mean == pytest.approx(np.mean([row["dice/scar"] for row in lv["studies"]["map-em"].values()]))
    assert lv["summary"]["oracle"]["metrics"]["dice/scar"]["mean"] > mean
    assert lv["summary"]["oracle"]["paired"]["map-em"]["dice/scar"]["n"] == 2
    assert healthy["summary"]["map-em"]["metrics"]["volume_ml/scar"]["mean"] >= 0
    assert (tmp_path / "benchmark.png").stat().st_size > 10_000

    monkeypatch.setattr(script, "run_competitor", None)
    assert script.main(options) == 0
    assert (tmp_path / "benchmark.md").read_text() == text


@pytest.mark.gate
def test_nothing_given(tmp_path, capsys):
    """The networks find the wall, which no row is given; in the healthy heart, too."""
    options = arguments(tmp_path, "--protocols", "nothing,healthy-nothing", "--methods", "map-em")
    assert script.main([*options, "--no-oracle"]) == 0
    content = json.loads((tmp_path / "benchmark.json").read_text())["protocols"]
    assert content["nothing"]["cohort"]["preset"] == "small"
    rows = content["nothing"]["studies"]["map-em"].values()
    assert len(rows) == 2
    assert all(0.6 < row["dice/wall"] < 1 for row in rows)
    healthy = content["healthy-nothing"]
    assert healthy["cohort"]["preset"] == "healthy"
    assert len(healthy["studies"]["map-em"]) == 2


def test_own_cohort(workshop, tmp_path, capsys):
    manifest = workshop.manifest([workshop.study("a"), workshop.study("b", seed=1)])
    options = ["--manifest", str(manifest), "--protocols", "published,cavity-wall", "--methods", "map-em"]
    assert script.main(["-o", str(tmp_path / "out"), *options, "--quiet"]) == 0
    content = json.loads((tmp_path / "out" / "benchmark.json").read_text())
    assert set(content["protocols"]["published"]["studies"]["map-em"]) == {"a", "b"}
    assert "2 studies, 6 slices" in capsys.readouterr().out


@pytest.mark.slow
def test_trained_rows_and_label_efficiency(tmp_path, capsys):
    options = arguments(
        tmp_path,
        "--protocols",
        "cavity-wall",
        "--methods",
        "map-em",
        "--train",
        "net=tiny:epochs=2,filters=4",
    )
    options += ["--train-seeds", "1,2", "--train-studies", "3", "--supervised", "--supervised-epochs", "20"]
    options += ["--supervised-filters", "4", "--device", "cpu"]
    assert script.main(options) == 0
    text = capsys.readouterr().out
    content = json.loads((tmp_path / "benchmark.json").read_text())["protocols"]["cavity-wall"]
    names = {"map-em", "net", "oracle", *(f"supervised, {n} labelled" for n in (1, 2, 3))}
    assert set(content["summary"]) == names
    assert len(content["summary"]["net"]["metrics"]["dice/scar"]["seed_means"]) == 2
    assert content["studies"]["net, seed 1"] != content["studies"]["net, seed 2"]
    assert "Seeds: mean Dice ± SD over seeds" in text
    assert "### Label efficiency, cavity-wall: dice of scar" in text

    assert script.main([*options, "--run", f"again={tmp_path / 'runs' / 'net_cavity-wall_seed1'}"]) == 0
    again = json.loads((tmp_path / "benchmark.json").read_text())["protocols"]["cavity-wall"]["studies"]
    assert again["again"] == content["studies"]["net, seed 1"]
