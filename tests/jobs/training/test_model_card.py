"""The card that a training leaves: what it says, and that it names no study."""

import csv
import json
import re

import pytest

import mrigmm
from mrigmm.data.run_folder import RunFolder
from mrigmm.errors import InputError
from mrigmm.jobs.training.model_card import model_card, write_anatomy_card
from mrigmm.phantom import simulate_cohort

QUICK = ("filters=4", "levels=2", "spacing_mm=2", "epochs=2", "held_out_share=0.34")


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("card")
    manifest = simulate_cohort(folder / "cohort", n_studies=4, seed=2, preset="small")
    content = json.loads(manifest.read_text())
    content["name"] = "cohort <b>one</b> | [two](three)"
    manifest.write_text(json.dumps(content))
    mrigmm.train(manifest, folder / "run", overrides=QUICK, device="cpu")
    return RunFolder(folder / "run")


def facts(text):
    """Name -> fact of all tables, and the titles of the sections."""
    rows = dict(re.findall(r"^\| ([^|]+) \| (.+) \|$", text, flags=re.MULTILINE))
    return rows, re.findall(r"^## (.+)$", text, flags=re.MULTILINE)


def test_what_the_card_says(run):
    text = run.model_card.read_text()
    assert "\n**Research software. Not for clinical use.**\n" in text
    rows, sections = facts(text)
    assert sections == [
        *("Data", "Population prior", "Protocol", "Numbers", "Versions"),
        *("Limits", "Licence of the weights", "All settings"),
    ]
    record = run.read()[1]
    assert rows["studies trained on"] == str(len(record.training_studies)) == "2"
    assert rows["studies held out, only watched"] == "1"
    assert rows["classes"] == "blood, myocardium, edema, scar"
    assert rows["data set"] == "MyoPS 2020"
    assert rows["studies whose reference labels it was made from"] == "25"
    assert rows["mrigmm"] == mrigmm.__version__
    assert rows["Dice"] == "not known to training"
    assert "spacing_mm: 2.0" in text.split("```yaml")[1]
    assert "No licence is given here" in text


def test_its_numbers_are_those_of_the_log(run):
    rows, _ = facts(run.model_card.read_text())
    with run.log.open() as file:
        log = list(csv.DictReader(file))
    best = min(log, key=lambda row: float(row["held_out"]))
    assert rows["epochs"] == "2"
    first, last = (f"{float(row['objective']):.5g}" for row in (log[0], log[-1]))
    assert rows["objective in the first and in the last epoch"] == f"{first}, {last}"
    assert rows["weights"] == f"of epoch {float(best['epoch']):.0f} (the first is 0)"
    assert rows["held-out objective there"] == f"{float(best['held_out']):.5g}"


def test_it_names_no_study_and_no_path(run):
    text, record = run.model_card.read_text(), run.read()[1]
    for study in (*record.training_studies, *record.held_out_studies, "myops_training_101"):
        assert study not in text
    assert str(run.path.parent) not in text


def test_names_from_files_cannot_break_out(run):
    assert r"| cohort | cohort &lt;b&gt;one&lt;/b&gt; \| \[two\](three) |" in run.model_card.read_text()


def test_a_run_without_its_log_or_of_an_older_version_has_a_card_all_the_same(run, tmp_path):
    old = RunFolder(tmp_path / "run")
    config, record, _ = run.read()
    old.write_settings(config, None, None)
    content = record.model_dump(mode="json")
    del content["cohorts"]
    old.record.write_text(json.dumps(content))
    rows, _ = facts(model_card(old))
    assert rows["cohort"] == "not recorded"
    assert rows["log"] == "not there any more"
    assert rows["source"].startswith("none")
    old.log.write_text("epoch,objective,seconds\n0,x,1\n")
    with pytest.raises(InputError, match="the run's log is damaged"):
        model_card(old)


def test_an_unfinished_run_has_no_card(run, tmp_path):
    unfinished = RunFolder(tmp_path / "run")
    unfinished.write_settings(run.read()[0], None, None)
    with pytest.raises(InputError, match="the run is not finished"):
        model_card(unfinished)
    with pytest.raises(InputError, match="run"):
        write_anatomy_card(unfinished)
    assert not unfinished.model_card.exists()
