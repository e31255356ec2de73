import json
import re
import subprocess
import sys

import numpy as np
import pytest

import mrigmm
from mrigmm.data.run_folder import RunFolder
from mrigmm.errors import InputError
from mrigmm.jobs.reading.evaluated import StudyOverlap
from mrigmm.jobs.reading.predicted import read_predicted_study
from mrigmm.jobs.reporting.cohort import number_pairs

from ..conftest import ventricle

BASE64 = r"base64,[A-Za-z0-9+/=]+"
MIXTURE = "Mixture, standard deviations above the mean of the region"


@pytest.fixture
def predicted(workshop, tmp_path):
    """Manifest and predictions of two studies."""
    manifest = workshop.manifest([workshop.study("a"), workshop.study("b", seed=1)])
    mrigmm.predict(manifest, tmp_path / "out", method="map-em")
    return manifest, tmp_path / "out"


def change(path, **fields):
    path.write_text(json.dumps({**json.loads(path.read_text()), **fields}))


def rows(html, study):
    """Titles of the slices' rows of the study with this number."""
    part = re.split(r'<details class="card study" id="study-\d+"', html)[study]
    return re.findall(r'<figure class="slices">\n<figcaption>([^<]*?) *<', part)


def test_volumes_and_pictures(predicted):
    _, out = predicted
    result = mrigmm.report(out)
    assert (result.output, result.done, result.problems) == (out / "report.html", ("a", "b"), ())
    html = result.output.read_text()
    for study in (1, 2):
        assert rows(html, study) == ["LGE", "T2", "bSSFP"]
    assert html.count(MIXTURE) == 2
    volume = json.loads((out / "a.json").read_text())["volume_ml"]["scar"]
    assert f'<td class="more" data-value="{volume!r}">{volume:.1f}</td>' in html
    assert f'<td class="answer" data-value="{1.05 * volume!r}">{1.05 * volume:.1f}</td>' in html
    assert "Agreement" not in html  # not evaluated
    assert "Not for clinical use" in html
    assert not re.search("https?:", re.sub(BASE64, "", html))


def test_studies_are_in_the_order_of_their_numbers(workshop, tmp_path):
    manifest = workshop.manifest([workshop.study(name) for name in ("p10", "p2")])
    mrigmm.predict(manifest, tmp_path / "out", method="map-em")
    assert mrigmm.report(tmp_path / "out").done == ("p2", "p10")


def test_agreement_beside_another_folder(predicted, tmp_path):
    manifest, out = predicted
    other = tmp_path / "baseline"
    mrigmm.predict(manifest, other, method="em-gmm")
    for folder in (out, other):
        mrigmm.evaluate(folder, manifest)
    html = mrigmm.report(out, beside=[other], out=tmp_path / "page.html").output.read_text()
    assert re.findall(r"<caption>(\w+)</caption>", html) == ["out", "baseline"]
    metrics = json.loads((out / "metrics.json").read_text())
    assert f"<td>{metrics['summary']['scar']['dice_mean']:.3f}</td>" in html
    assert f'<td class="more" data-value="{metrics["studies"]["a"]["scar"]["dice"]!r}">' in html
    assert f"<td>{metrics['studies']['a']['scar']['reference_ml']:.1f}</td>" in html
    assert "Predicted against reference" not in html  # two studies


def test_an_evaluated_study_is_shown_with_its_reference(workshop, tmp_path):
    """Also with the ids of another scheme; without these rows where the reference is gone."""
    entries = [workshop.study("a"), workshop.study("b", seed=1)]
    myops = np.array([0, 500, 200, 1220, 2221])
    workshop.volume(entries[0]["label"], myops[ventricle()].astype(np.int16))
    workshop.volume(entries[1]["label"], myops[ventricle()].astype(np.int16))
    manifest, out = workshop.manifest(entries, labels="myops"), tmp_path / "out"
    mrigmm.predict(manifest, out, method="map-em")
    mrigmm.evaluate(out, manifest)
    (workshop.folder / entries[1]["label"]).unlink()
    html = mrigmm.report(out).output.read_text()
    assert rows(html, 1)[3:] == ["reference on LGE", "errors of edema on T2", "errors of scar on LGE"]
    assert rows(html, 2)[3:] == []
    same_ids = workshop.volume("same.nii.gz", ventricle())
    myops_ids = {"background": [0, 600], "blood": [500], "myocardium": [200], "edema": [1220], "scar": [2221]}
    plain, mapped = (
        read_predicted_study(out, "a", reference=file, reference_ids=ids).reference
        for file, ids in ((same_ids, None), (workshop.folder / entries[0]["label"], myops_ids))
    )
    np.testing.assert_array_equal(plain, mapped)


def test_the_training_of_the_run_is_shown_while_its_log_is_there(predicted, tmp_path):
    _, out = predicted
    run = RunFolder(tmp_path / "first")
    assert "Training" not in mrigmm.report(out).output.read_text()
    for study in ("a", "b"):
        change(out / f"{study}.json", run=str(run.path))
    assert "Training" not in mrigmm.report(out).output.read_text()
    run.path.mkdir()
    run.log.write_text("epoch,objective,learning_rate\n0,2.0,0.1\n1,1.0,0.05\n")
    assert "Run first" in mrigmm.report(out).output.read_text()
    run.log.write_text("epoch\nx\n")
    with pytest.raises(InputError, match="the log of the run is damaged"):
        mrigmm.report(out)


def test_a_run_of_its_own_units_and_its_training(workshop, tmp_path):
    """From train to report: z-scores over the network's crop, slice by slice."""
    manifest = workshop.manifest(training=[workshop.study("t")])
    options = ("filters=2", "levels=1", "spacing_mm=2", "epochs=2")
    run = mrigmm.train(manifest, tmp_path / "run", preset="deepsvg", overrides=options, device="cpu").output
    mrigmm.predict(manifest, tmp_path / "out", run=run, device="cpu")
    assert json.loads((tmp_path / "out" / "s1.json").read_text())["run"] == str(run)
    html = mrigmm.report(tmp_path / "out").output.read_text()
    assert "<figcaption>Mixture, standard deviations above the mean of the slice" in html
    assert "Run run" in html


def test_the_command_line_is_on_the_page(cli, workshop, tmp_path):
    manifest = workshop.manifest()
    cli("predict", manifest, "--method", "map-em", "-o", tmp_path / "out")
    cli("report", tmp_path / "out")
    html = (tmp_path / "out" / "report.html").read_text()
    for command in (f"predict {manifest} --method map-em", f"report {tmp_path / 'out'}"):
        assert re.search(rf"<dt>command line</dt><dd>mrigmm {command}", html)


def test_quantities_are_on_the_page(predicted):
    _, out = predicted
    content = {
        "volumes": {"infarct_mass_g": 7.25, "salvage": None, "expected_infarct_mass_g": 8.75},
        "intervals": {"infarct_mass_g": [5.5, 9.0]},
        "slices": [],
        "segments": [{"segment": 1, "transmurality_percent": 50.0}],
        "numbering": {
            "automatic": True,
            "base_first": True,
            "insertion_degrees": 100.0,
            "spread_degrees": 4.0,
        },
        "notes": ["no segments: <no insertion point>"],
    }
    path = out / "quantities.json"
    path.write_text(json.dumps({"studies": {"a": content}}))
    html = mrigmm.report(out).output.read_text()
    assert '<td class="answer" data-value="7.25">7.2</td>' in html
    assert "<td>7.2</td><td>8.8</td><td>5.5 to 9.0</td>" in html
    assert html.count("salvage</th>") == 1  # of the study: no study has it
    assert "no segments: &lt;no insertion point&gt;" in html
    by = r"<figcaption>Bull's eye: transmurality of the infarct, %; (.*)</figcaption>"
    assert re.findall(by, html) == ["numbered automatically, by the right ventricle that the program found"]
    content["numbering"]["spread_degrees"] = None
    path.write_text(json.dumps({"studies": {"a": content}}))
    html = mrigmm.report(out).output.read_text()
    assert re.findall(by, html) == ["numbered by the insertion point that was given"]
    assert "<title>segment 1: 50 %</title>" in html


def test_of_many_studies_those_that_are_expected_worst_have_pictures(predicted, monkeypatch):
    _, out = predicted
    assert mrigmm.report(out).output.read_text().count('<details class="card study"') == 2
    monkeypatch.setattr("mrigmm.jobs.report.MOST_DETAILED", 1)
    path = out / "quantities.json"
    for dice, shown in (({"a": 0.9, "b": 0.4}, "b"), ({"a": 0.9}, "b"), ({}, "a")):
        studies = {name: {"volumes": {"estimated_dice_infarct": value}} for name, value in dice.items()}
        path.write_text(json.dumps({"studies": studies}))
        html = mrigmm.report(out, interactive=True).output.read_text()
        assert re.findall(r'<details class="card study" id="study-1" open>', html)
        assert html.count('<details class="card study"') == 1
        assert f'<a href="#study-1">{shown}</a>' in html
        assert html.count('<th scope="row" data-value=') == 2
        assert html.count('<figure class="slices">') == len(rows(html, 1)) == 3
        assert "1 of 2: those whose infarct is expected to be segmented worst" in html
        viewer = re.search(r'id="viewer-data">(.*?)</script>', html)[1]
        assert [study["name"] for study in json.loads(viewer)["studies"]] == [shown]


@pytest.mark.parametrize(
    "content",
    [
        "",
        "[]",
        '{"studies": {"a": {}}}',
        '{"studies": {"a": {"volumes": {"x": "y"}}}}',
        '{"studies": {"a": {"volumes": {}, "segments": [{"segment": 17, "transmurality_percent": 1}]}}}',
    ],
)
def test_damaged_quantities(predicted, content):
    _, out = predicted
    (out / "quantities.json").write_text(content)
    with pytest.raises(InputError, match="the quantities cannot be read"):
        mrigmm.report(out)


def test_the_viewer_is_in_the_page_only_when_asked_for(predicted, cli):
    _, out = predicted
    plain = mrigmm.report(out).output.read_text()
    assert "niivue" not in plain
    assert "<canvas" not in plain
    assert cli("report", out, "--interactive").code == 0
    html = (out / "report.html").read_text()
    shown = json.loads(re.search(r'id="viewer-data">(.*?)</script>', html)[1])
    assert [study["name"] for study in shown["studies"]] == ["a", "b"]
    assert [part["name"] for part in shown["studies"][0]["sequences"]] == ["LGE", "T2", "bSSFP"]
    assert [part["name"] for part in shown["classes"]] == ["blood", "myocardium", "edema", "scar"]
    assert len(re.findall("^<script", html, flags=re.MULTILINE)) == 4  # ours, the data, NiiVue
    assert html.count("data-view=") == 2


def test_the_viewer_leaves_out_a_study_without_images(predicted, workshop):
    _, out = predicted
    (workshop.folder / "a_LGE.nii.gz").unlink()
    html = mrigmm.report(out, interactive=True).output.read_text()
    assert [
        s["name"] for s in json.loads(re.search(r'id="viewer-data">(.*?)</script>', html)[1])["studies"]
    ] == ["b"]


def test_a_damaged_reference_is_told(predicted, workshop):
    manifest, out = predicted
    mrigmm.evaluate(out, manifest)
    (workshop.folder / "a_label.nii.gz").write_bytes(b"broken")
    result = mrigmm.report(out)
    assert result.done == ("b",)
    assert [problem.study for problem in result.problems] == ["a"]
    assert f"<li>a: {result.problems[0].brief}</li>" in result.output.read_text()


def test_a_hostile_study_is_shown_and_not_run(predicted):
    _, out = predicted
    change(
        out / "a.json",
        warnings=["<script>alert(1)</script>"],
        classes={"<script>x</script>": 1, "b": 2, "c": 3, "d": 4},
        method="<script>m</script>",
        command="<script>c</script>",
        settings={"<script>s": "</script>"},
    )
    html = mrigmm.report(out).output.read_text()
    assert html.count("<script") == 1  # the page's own
    for text in ("alert(1)", "x", "m", "c"):
        assert f"&lt;script&gt;{text}&lt;/script&gt;" in html


def test_what_a_reviewer_decided_is_on_the_page(predicted):
    _, out = predicted
    review = {
        "verdict": "rejected",
        "comment": "<b>motion</b>",
        "by": "Ann",
        "at": "2026-01-01T00:00:00+00:00",
    }
    change(out / "a.json", review=review)
    html = mrigmm.report(out).output.read_text()
    assert '>a</a> <span class="none">rejected</span></th>' in html
    assert "rejected, Ann, 2026-01-01T00:00:00+00:00: &lt;b&gt;motion&lt;/b&gt;" in html
    assert html.count("rejected") == 2


def test_images_that_are_gone(predicted, workshop):
    _, out = predicted
    for file in workshop.folder.glob("a_*"):
        file.unlink()
    result = mrigmm.report(out)
    assert result.done == ("a", "b")
    html = result.output.read_text()
    assert html.count("The images cannot be shown: ") == 1
    assert "a_LGE.nii.gz" in html
    assert str(workshop.folder) not in re.search(r"The images cannot be shown.*", html)[0]
    assert (rows(html, 1), len(rows(html, 2))) == ([], 3)


def test_an_image_that_was_replaced_by_one_on_another_grid(predicted, workshop):
    _, out = predicted
    workshop.study("a", shape=(20, 20, 3))
    html = mrigmm.report(out).output.read_text()
    assert html.count("The images cannot be shown: ") == 1


@pytest.mark.parametrize(
    ("changes", "shown"),
    [
        ({}, True),
        ({"units": "1st to 99th percentile inside the region as -1 to 1"}, True),
        ({"units": "z-score over the crop, per slice"}, False),  # of a run, whose crop map-em has not
        ({"units": "bananas"}, False),
        ({"sequences": ["LGE", "T2", "T1"]}, False),
    ],
    ids=str,
)
def test_voxels_are_drawn_in_the_units_of_the_mixture_or_not_at_all(predicted, changes, shown):
    _, out = predicted
    mixture = json.loads((out / "a.json").read_text())["mixture"]
    change(out / "a.json", mixture={**mixture, **changes})
    html = mrigmm.report(out).output.read_text()
    assert html.count("No mixture plot") == (0 if shown else 1)
    assert len(re.findall(r"<figcaption>Mixture, ", html)) == (2 if shown else 1)


def test_mixtures_of_single_slices(workshop, tmp_path):
    manifest = workshop.manifest([workshop.study("a")])
    mrigmm.predict(manifest, tmp_path / "out", method="map-em", overrides=["scope=slice"])
    mixture = json.loads((tmp_path / "out" / "a.json").read_text())["mixture"]
    assert len(mixture["means"]) == 3
    assert f"{MIXTURE}, slice 1" in mrigmm.report(tmp_path / "out").output.read_text()


@pytest.mark.parametrize(
    "fields",
    [
        {"classes": ["a"]},
        {"classes": {"blood": "x"}},
        {"classes": {"blood": None}},
        {"volume_ml": [1]},
        {"volume_ml": {"blood": "x"}},
        {"warnings": 5},
        {"inputs": [1]},
        {"inputs": {"LGE": 5}},
        {"mixture": {"sequences": ["LGE"], "units": "", "weights": [1], "means": [1], "covariances": [1]}},
        {"settings": []},
        {"run": 5},
        {"seconds": "x"},
        {"versions": 5},
    ],
    ids=str,
)
def test_a_damaged_side_file_is_told_and_the_others_are_shown(predicted, fields):
    _, out = predicted
    change(out / "a.json", **fields)
    result = mrigmm.report(out)
    assert result.done == ("b",)
    (problem,) = result.problems
    assert (problem.study, problem.file) == ("a", str(out / "a.json"))
    assert problem.what == "the side file of the prediction is damaged"


def test_a_label_map_with_other_ids_than_its_side_file(predicted):
    _, out = predicted
    change(out / "a.json", classes={"blood": 1})
    assert mrigmm.report(out).problems[0].what == "the predicted label map has an unknown class id"


def test_nothing_to_report(tmp_path, predicted):
    _, out = predicted
    with pytest.raises(InputError, match="there are no label maps"):
        mrigmm.report(tmp_path)
    with pytest.raises(InputError, match="the folder of predictions does not exist"):
        mrigmm.report(tmp_path / "no")
    for study in ("a", "b"):
        (out / f"{study}.json").unlink()
    with pytest.raises(InputError, match="the study has no prediction") as caught:
        mrigmm.report(out)
    assert len(caught.value.problems) == 2
    assert not (out / "report.html").exists()


@pytest.mark.parametrize(
    "content",
    [
        "",
        "[]",
        '{"summary": [1]}',
        '{"summary": {"a": 5}}',
        '{"summary": {"a": {"n": 1}}}',
        '{"summary": {}, "studies": {}, "references": [1]}',
        '{"summary": {}, "studies": {}, "references": {"a": 5}}',
        '{"summary": {}, "studies": {}, "reference_ids": {"a": "x"}}',
        '{"summary": {}, "studies": {"a": {"scar": {"dice": 1}}}}',
    ],
)
def test_a_damaged_evaluation(predicted, content):
    _, out = predicted
    (out / "metrics.json").write_text(content)
    with pytest.raises(InputError, match="the evaluation cannot be read"):
        mrigmm.report(out)
    assert not (out / "report.html").exists()


def test_a_folder_to_compare_with_must_be_evaluated(predicted, tmp_path):
    _, out = predicted
    with pytest.raises(InputError, match="has not been evaluated"):
        mrigmm.report(out, beside=[tmp_path])


@pytest.mark.gate
def test_the_report_needs_no_lightning():
    """Which takes seconds to load."""
    code = "import sys, mrigmm.jobs.report; sys.exit('lightning' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_agreement_in_grams_and_percent_from_ten_studies():
    """Differences of 1 and 3 ml in turn: mean 2.1 g, SD 1.05 * sqrt(10 / 9) g; of 100 ml wall 2 %."""
    studies = {
        f"p{i}": {
            "scar": StudyOverlap(None, 11.0 + 2 * (i % 2), 10.0),
            "wall": StudyOverlap(None, 100.0, 100.0),
        }
        for i in range(10)
    }
    for i in range(9):
        studies[f"p{i}"]["edema"] = StudyOverlap(None, 1.0, 2.0)
    found = number_pairs(studies)
    assert [*found] == ["infarct (g)", "LV mass (g)", "infarct (% of LV mass)"]
    grams, percent = found["infarct (g)"], found["infarct (% of LV mass)"]
    assert grams.predicted[:2] == pytest.approx((1.05 * 11, 1.05 * 13))
    assert grams.bias == pytest.approx(2.1)
    spread = 1.96 * 1.05 * np.sqrt(10 / 9)
    assert grams.limits == pytest.approx((2.1 - spread, 2.1 + spread), abs=1e-3)
    assert percent.bias == pytest.approx(2.0)
    assert number_pairs({name: studies[name] for name in [*studies][:9]}) == {}
    other = {str(i): {"lesion": StudyOverlap(None, 1.0 + i, 1.0)} for i in range(10)}
    assert [*number_pairs(other)] == ["lesion (ml)"]
    empty = {
        str(i): {"scar": StudyOverlap(0.0, 1.0, 1.0), "wall": StudyOverlap(0.0, 0.0, 9.0)} for i in range(10)
    }
    assert "infarct (% of LV mass)" not in number_pairs(empty)


def test_a_report_replaces_reports_only(predicted, tmp_path):
    _, out = predicted
    for _ in range(2):
        page = mrigmm.report(out, out=tmp_path / "page.html").output
    page.write_text("my notes")
    with pytest.raises(InputError, match="would replace a file that this command did not write"):
        mrigmm.report(out, out=page)
    assert page.read_text() == "my notes"


def test_all_folders_that_cannot_be_used_are_named(tmp_path):
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError) as caught:
        mrigmm.report(tmp_path / "no", beside=[tmp_path / "neither", tmp_path / "empty"])
    assert [(p.what, p.file) for p in caught.value.problems] == [
        ("the folder of predictions does not exist", str(tmp_path / "no")),
        ("the folder of predictions does not exist", str(tmp_path / "neither")),
        ("the folder has not been evaluated", str(tmp_path / "empty" / "metrics.json")),
    ]


def test_a_healthy_heart_is_told_from_a_miss(workshop, tmp_path, cli):
    """Dice 0 of a class that the reference has none of says so, on the page and on screen."""
    entry = workshop.study()
    label = ventricle()
    workshop.volume(entry["label"], np.where(label > 2, 2, label).astype(np.uint8))
    manifest, out = workshop.manifest([entry]), tmp_path / "out"
    mrigmm.predict(manifest, out, method="map-em")
    printed = cli("evaluate", out, manifest).out
    assert "\nscar: Dice 0 where the reference has none (s1)\n" in printed
    ml = json.loads((out / "metrics.json").read_text())["studies"]["s1"]["scar"]["predicted_ml"]
    remark = f"the reference has no scar; {ml:.1f} ml predicted"
    html = mrigmm.report(out).output.read_text()
    assert f'<td class="remark">{remark}</td>' in html
    assert f'title="{remark}">0.00<span class="mark">*</span>' in html
    assert "* The prediction or the reference has none of this class." in html
