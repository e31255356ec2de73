import json
import math

import benchmark_quality as script
import numpy as np
import pytest
from quality import cohorts, shifted
from quality.scoring import Result

from mrigmm.jobs.common import no_progress
from mrigmm.labels import TISSUES
from mrigmm.pretrained.folder import PretrainedFolder

BLOOD, MYOCARDIUM, EDEMA, SCAR = (TISSUES[name].id for name in ("blood", "myocardium", "edema", "scar"))
ALL = ("LGE", "T2", "bSSFP")


def label_map(*ids):
    return np.array(ids, dtype=np.uint8).reshape(-1, 1, 1)


def study(infarct, volume, probability=math.nan, **dice):
    """A row as `score` gives it."""
    row = dict.fromkeys(shifted.DICE.values(), 0.5) | {f"dice/{name}": value for name, value in dice.items()}
    return row | {
        "volume_ml/scar": volume,
        "volume_percent/scar": volume,
        "probability": probability,
        "has_infarct": float(infarct),
    }


def test_seeds_of_tuning_and_report_differ():
    assert shifted.SEEDS == {"report": 901, "tuning": 900}


def test_figures_of_a_study():
    reference = label_map(0, BLOOD, MYOCARDIUM, MYOCARDIUM, EDEMA, SCAR, SCAR)
    predicted = label_map(BLOOD, BLOOD, MYOCARDIUM, SCAR, SCAR, SCAR, 0)
    row = shifted.score(predicted, reference, ALL, 0.5, probability=0.7)
    # blood 2 * 1 / (2 + 1), wall 2 * 4 / (4 + 5), scar 2 * 1 / (3 + 2), both 2 * 2 / (3 + 3)
    expected = {"blood": 2 / 3, "wall": 8 / 9, "edema": 0.0, "scar": 0.4, "pathology": 2 / 3}
    assert {name: row[f"dice/{name}"] for name in expected} == pytest.approx(expected)
    assert row["volume_ml/scar"] == pytest.approx(1.5)  # 3 voxels
    assert row["volume_percent/scar"] == pytest.approx(60)  # of a wall of 5
    assert (row["probability"], row["has_infarct"]) == (0.7, 1.0)


def test_lesions_are_scored_where_the_reference_has_and_could_have_them():
    healthy = shifted.score(label_map(BLOOD, SCAR), label_map(BLOOD, MYOCARDIUM), ALL, 1.0)
    assert math.isnan(healthy["dice/scar"])
    assert math.isnan(healthy["dice/pathology"])
    assert healthy["dice/wall"] == 1.0
    assert (healthy["has_infarct"], healthy["volume_percent/scar"]) == (0.0, 100.0)
    alone = shifted.score(label_map(BLOOD, SCAR), label_map(BLOOD, SCAR), ("LGE",), 1.0)
    assert alone["dice/scar"] == 1.0
    assert math.isnan(alone["dice/pathology"])


def test_a_study_without_result_has_no_overlap_and_no_volume():
    row = shifted.score(None, label_map(BLOOD, SCAR), ALL, 1.0)
    assert (row["dice/blood"], row["dice/scar"], row["dice/wall"]) == (0.0, 0.0, 0.0)
    assert math.isnan(row["volume_ml/scar"])
    assert math.isnan(row["volume_percent/scar"])


def test_summary_of_a_cohort():
    studies = [
        study(True, 9.0, 0.9, scar=0.8),
        study(True, 2.0, 0.8, scar=0.4),
        study(False, 1.0, 0.1, scar=math.nan),
        study(False, 3.0, 0.2, scar=math.nan),
        study(False, math.nan, scar=math.nan),
    ]
    found = shifted.summarise_cohort(studies, {"s4": "no ventricle found"})
    assert found.figures["scar"] == pytest.approx(0.6)
    assert (found.dice["scar"].n, found.dice["scar"].n_undefined) == (2, 3)
    assert found.figures[shifted.FALSE] == pytest.approx(2.0)  # median of 1 and 3
    assert found.healthy == 2
    # pairs (9,1) (9,3) (2,1) won, (2,3) lost
    assert found.figures["AUROC of volume"] == pytest.approx(0.75)
    assert found.figures["AUROC of probability"] == 1.0
    assert math.isnan(shifted.summarise_cohort(studies[:2], {}).figures["AUROC of volume"])


def test_mean_and_worst_over_cohorts_leave_out_what_is_not_defined():
    cohort_a = shifted.summarise_cohort([study(True, 5.0, scar=0.8), study(False, 4.0, scar=math.nan)], {})
    cohort_b = shifted.summarise_cohort([study(True, 5.0, scar=0.6, edema=math.nan)], {})
    found = shifted.over_cohorts({"a": cohort_a, "b": cohort_b})
    assert found["mean"]["scar"] == pytest.approx(0.7)
    assert found["worst"]["scar"] == pytest.approx(0.6)
    assert found["worst"]["edema"] == pytest.approx(0.5)
    assert found["worst"][shifted.FALSE] == pytest.approx(4.0)
    more = shifted.summarise_cohort([study(False, 1.0)], {})
    worst = shifted.over_cohorts({"a": cohort_a, "c": more})["worst"]
    assert worst[shifted.FALSE] == pytest.approx(4.0)  # more false infarct is worse


def test_table_has_mean_worst_and_all_studies_together():
    results = {
        "a": Result({"s": study(True, 5.0, scar=0.8), "t": study(False, 1.0)}),
        "b": Result({}, {"s": "no"}),
    }
    summaries = {"lv": {"net": shifted._with_all(results), "other": shifted._with_all({"b": results["b"]})}}
    text = shifted.markdown(summaries, "")
    assert "| `net` | mean | 0.50 |" in text
    assert "| `net` | worst | 0.50 |" in text
    assert f"| `net` | {shifted.TOGETHER} | 0.50 |" in text
    assert "| `other` | not applicable | – |" in text
    assert "| a | 0.50 [0.50, 0.50] |" in text


@pytest.fixture(scope="module")
def cohort(tmp_path_factory):
    return cohorts.simulated_cohort(
        tmp_path_factory.mktemp("shifted"), preset="small", seed=900, n_studies=2, track=no_progress
    )


def test_predict_gets_what_the_protocol_gives(cohort, tmp_path):
    written = {name: cohorts.given_to_predict(cohort, name, tmp_path / name) for name in shifted.GIVEN}
    entries = {name: json.loads(path.read_text())["test"] for name, path in written.items()}
    assert [entry["region"] for entry in entries["cavity-wall"]] == [{"rule": "cavity-wall"}] * 2
    assert [entry["region"] for entry in entries["lv"]] == [{"rule": "lv"}] * 2
    assert [sorted(entry) for entry in entries["nothing"]] == [["id", "image"]] * 2
    assert [sorted(entry) for entry in entries["lge"]] == [["id", "image"]] * 2
    assert [list(entry["image"]) for entry in entries["lge"] + entries["lge-wall"]] == [["LGE"]] * 4
    assert [entry["region"] for entry in entries["lge-wall"]] == [{"rule": "cavity-wall"}] * 2


def test_predictions_are_scored_and_what_does_not_apply_is_told(cohort, tmp_path):
    found = shifted.predict_and_score(cohort, "cavity-wall", {"method": "otsu"}, tmp_path / "wall")
    assert set(found.studies) == {"study_000", "study_001"}
    assert all(row["dice/blood"] == row["dice/wall"] == 1.0 for row in found.studies.values())  # given
    whole = shifted.predict_and_score(cohort, "lv", {"method": "otsu"}, tmp_path / "lv")
    assert not whole.studies
    assert set(whole.failures) == set(found.studies)


def test_predictions_that_were_made_otherwise_are_made_again(cohort, tmp_path):
    first, again = (
        shifted.predict_and_score(cohort, "cavity-wall", {"method": name}, tmp_path / "same")
        for name in ("otsu", "nsd")
    )
    assert set(again.studies) == set(first.studies)
    assert not again.failures
    # nsd takes the far brightest voxels of the wall only
    volumes = [[row["volume_ml/scar"] for row in found.studies.values()] for found in (first, again)]
    assert sum(volumes[1]) < sum(volumes[0])


def test_benchmark_computes_nothing_twice(tmp_path, monkeypatch, capsys):
    options = ["-o", str(tmp_path), "--shifted", "coarse", "--studies", "1", "--seed", "900", "--quiet"]
    options += ["--methods", "em-gmm-sklearn", "--protocols", "cavity-wall", "--device", "cpu"]
    assert script.main(options) == 0
    text = capsys.readouterr().out
    assert text == (tmp_path / "shifted.md").read_text()
    assert "| `em-gmm-sklearn` | mean | 1.00 | 1.00 |" in text  # wall and blood are given
    assert (tmp_path / "shifted.png").stat().st_size > 1000
    content = json.loads((tmp_path / "shifted.json").read_text())
    assert content["cohorts"]["coarse"]["seed"] == 900
    monkeypatch.setattr(shifted, "predict_and_score", None)
    assert script.main(options) == 0
    assert capsys.readouterr().out == text


def test_other_networks_or_another_calibration_make_another_result(tmp_path):
    folder = PretrainedFolder(tmp_path)
    digests = [shifted.networks_digest(folder)]
    for file, text in ((folder.record, "{}"), (folder.calibration, "{}"), (folder.calibration, "{ }")):
        file.write_text(text)
        digests.append(shifted.networks_digest(folder))
    assert len(set(digests)) == 4


@pytest.mark.parametrize("more", [["--shifted", "--protocols", "published"], ["--seed", "3"]])
def test_options_that_do_not_fit(more, capsys):
    with pytest.raises(SystemExit):
        script.parse_arguments(["-o", "x", *more])
    assert "shifted" in capsys.readouterr().err
