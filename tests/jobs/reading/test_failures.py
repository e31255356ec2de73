"""A study on which predict failed is named, with the reason, wherever results are looked at."""

import json

import pytest

import mrigmm
from mrigmm.errors import InputError
from mrigmm.jobs.reading.failures import failures

from ...conftest import PATIENT


@pytest.fixture
def cohort(workshop):
    """Manifest of a good study and of one whose LGE is no NIfTI file."""
    manifest = workshop.manifest(
        [workshop.study(name, affine=PATIENT, seed=i) for i, name in enumerate("ab")]
    )
    bad = workshop.folder / "b_LGE.nii.gz"
    good = bad.read_bytes()
    bad.write_bytes(b"no NIfTI")
    return manifest, bad, good


def test_a_failure_is_recorded_told_and_cleared(cohort, tmp_path):
    manifest, bad, good = cohort
    out = tmp_path / "out"
    result = mrigmm.predict(manifest, out, method="map-em")
    assert result.done == ("a",)
    record = json.loads((out / "b_failed.json").read_text())
    assert record["study"] == "b"
    (problem,) = record["problems"]
    assert problem["file"] == str(bad)
    assert problem["what"] == result.problems[-1].what
    reason = f"{problem['what']} (b_LGE.nii.gz)"
    assert {name: found.brief for name, found in failures(out).items()} == {"b": reason}

    assert json.loads((out / "quantities.json").read_text())["no_prediction"] == {"b": reason}
    for done in (mrigmm.quantify(out), mrigmm.report(out)):
        (said,) = done.problems
        assert (said.study, said.severity) == ("b", "warning")
        assert said.what == f"no prediction: {problem['what']}"
    html = (out / "report.html").read_text()
    assert f"<li>b: no prediction: {reason}</li>" in html
    assert "1 study, 1 more without a prediction" in html
    evaluated = mrigmm.evaluate(out, manifest)
    assert [p.what for p in evaluated.problems] == [f"the study has no prediction: {reason}"]
    metrics = json.loads((out / "metrics.json").read_text())
    assert (metrics["not_evaluated"], metrics["no_prediction"]) == (["b"], {"b": reason})

    bad.write_bytes(good)
    assert mrigmm.predict(manifest, out, method="map-em", resume=True).done == ("a", "b")
    assert not (out / "b_failed.json").exists()
    assert "no_prediction" not in json.loads((out / "quantities.json").read_text())
    assert mrigmm.report(out).problems == ()


def test_conclusions_stay_when_a_study_fails_once_more(cohort, tmp_path):
    manifest, _, _ = cohort
    out = tmp_path / "out"
    mrigmm.predict(manifest, out, method="map-em")
    mrigmm.evaluate(out, manifest)
    mrigmm.predict(manifest, out, method="map-em", resume=True)
    assert (out / "metrics.json").exists()
    assert (out / "b_failed.json").exists()


def test_a_single_study_is_recorded_beside_other_results(workshop, tmp_path, cli):
    out = tmp_path / "out"
    arguments = {name: workshop.single(workshop.study(name)) for name in "ab"}
    bad = workshop.folder / "b_T2.nii.gz"
    good = bad.read_bytes()
    bad.write_bytes(b"no NIfTI")
    options = ("-o", out, "--method", "map-em")
    assert cli("predict", *arguments["b"], "--id", "b", *options).code == 2
    assert not out.exists()  # alone, it leaves nothing
    assert cli("predict", *arguments["a"], "--id", "a", *options).code == 0
    assert cli("predict", *arguments["b"], "--id", "b", *options, "--overwrite").code == 2
    printed = cli("report", out)
    assert (printed.code, "warning (b): no prediction: " in printed.err) == (0, True)
    bad.write_bytes(good)
    assert cli("predict", *arguments["b"], "--id", "b", *options, "--overwrite").code == 0
    assert not (out / "b_failed.json").exists()


def test_all_studies_failed(cohort, tmp_path, cli):
    manifest, bad, _ = cohort
    (bad.parent / "a_LGE.nii.gz").write_bytes(b"no NIfTI")
    assert cli("predict", manifest, "-o", tmp_path / "out", "--method", "map-em").code == 2
    for command in (("report",), ("quantify",), ("evaluate", manifest)):
        printed = cli(command[0], tmp_path / "out", *command[1:])
        assert printed.code == 2
        assert "no prediction: the LGE file is not a NIfTI file" in printed.err
        assert "study: a, b" in printed.err


def test_a_damaged_record_still_names_the_study(cohort, tmp_path):
    manifest, _, _ = cohort
    mrigmm.predict(manifest, tmp_path / "out", method="map-em")
    (tmp_path / "out" / "b_failed.json").write_text('{"problems": []}')
    assert failures(tmp_path / "out")["b"].what == "the record of the failure is damaged"


def test_a_study_named_like_a_record_is_refused_or_left_alone(workshop, tmp_path):
    manifest = workshop.manifest([workshop.study("a"), workshop.study("a_failed", seed=1)])
    with pytest.raises(InputError, match="the record of a failure would replace the side file"):
        mrigmm.predict(manifest, tmp_path / "out", method="map-em")
    alone = workshop.manifest([workshop.study("a_failed")], name="alone.json")
    mrigmm.predict(alone, tmp_path / "out", method="map-em")
    assert failures(tmp_path / "out") == {}
    other = workshop.manifest([workshop.study("a")], name="other.json")
    with pytest.raises(InputError, match="the record of a failure would replace the side file"):
        mrigmm.predict(other, tmp_path / "out", method="map-em", overwrite=True)
