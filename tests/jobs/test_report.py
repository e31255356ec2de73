import base64
import io
import json
import re

import numpy as np
import pytest
from PIL import Image

import mrigmm
from mrigmm.errors import InputError
from mrigmm.jobs.report import study_figure

from ..conftest import ventricle


@pytest.fixture
def predicted(workshop, tmp_path):
    """Manifest and predictions of two studies."""
    manifest = workshop.manifest([workshop.study("a"), workshop.study("b", seed=1)])
    mrigmm.predict(manifest, tmp_path / "out", method="map-em")
    return manifest, tmp_path / "out"


def change(path, **fields):
    path.write_text(json.dumps({**json.loads(path.read_text()), **fields}))


def test_volumes_and_overlays(predicted):
    _, out = predicted
    result = mrigmm.report(out)
    assert (result.output, result.done, result.problems) == (out / "report.html", ("a", "b"), ())
    html = result.output.read_text()
    figures = re.findall(r"data:image/png;base64,([A-Za-z0-9+/=]+)", html)
    assert len(figures) == 2
    assert all(base64.b64decode(figure).startswith(b"\x89PNG") for figure in figures)
    volume = json.loads((out / "a.json").read_text())["volume_ml"]["scar"]
    assert f"<td>{volume:.1f}</td>" in html
    assert "Agreement" not in html  # not evaluated
    assert "Not for clinical use" in html
    assert "http" not in re.sub(r"base64,[A-Za-z0-9+/=]+", "", html)


def test_agreement_beside_another_folder(predicted, tmp_path):
    manifest, out = predicted
    other = tmp_path / "baseline"
    mrigmm.predict(manifest, other, method="em-gmm")
    for folder in (out, other):
        mrigmm.evaluate(folder, manifest)
    html = mrigmm.report(out, beside=[other], out=tmp_path / "page.html").output.read_text()
    assert re.findall(r"Agreement with the reference: (\w+)", html) == ["out", "baseline"]
    mean = json.loads((out / "metrics.json").read_text())["summary"]["scar"]["dice_mean"]
    assert f"<td>{mean:.3f}</td>" in html


def heights(html):
    """Of the overlays, in pixels."""
    figures = re.findall(r"data:image/png;base64,([A-Za-z0-9+/=]+)", html)
    return [Image.open(io.BytesIO(base64.b64decode(figure))).height for figure in figures]


def test_an_evaluated_study_is_shown_with_its_reference(workshop, tmp_path):
    """Also with the ids of another scheme; without a row where the reference is gone."""
    entries = [workshop.study("a"), workshop.study("b", seed=1)]
    myops = np.array([0, 500, 200, 1220, 2221])
    workshop.volume(entries[0]["label"], myops[ventricle()].astype(np.int16))
    workshop.volume(entries[1]["label"], myops[ventricle()].astype(np.int16))
    manifest, out = workshop.manifest(entries, labels="myops"), tmp_path / "out"
    mrigmm.predict(manifest, out, method="map-em")
    plain = heights(mrigmm.report(out).output.read_text())
    mrigmm.evaluate(out, manifest)
    (workshop.folder / entries[1]["label"]).unlink()
    first, second = heights(mrigmm.report(out).output.read_text())
    assert first > plain[0]
    assert second == plain[1]
    same_ids = workshop.volume("same.nii.gz", ventricle())
    assert study_figure(out, "a", reference=same_ids) == study_figure(
        out,
        "a",
        reference=workshop.folder / entries[0]["label"],
        reference_ids={
            "background": [0, 600],
            "blood": [500],
            "myocardium": [200],
            "edema": [1220],
            "scar": [2221],
        },
    )


def test_a_damaged_reference_is_told(predicted, workshop):
    manifest, out = predicted
    mrigmm.evaluate(out, manifest)
    (workshop.folder / "a_label.nii.gz").write_bytes(b"broken")
    result = mrigmm.report(out)
    assert result.done == ("b",)
    assert [problem.study for problem in result.problems] == ["a"]


def test_a_hostile_study_is_shown_and_not_run(predicted):
    _, out = predicted
    change(
        out / "a.json",
        warnings=["<script>alert(1)</script>"],
        classes={"<script>x</script>": 1, "b": 2, "c": 3, "d": 4},
    )
    html = mrigmm.report(out).output.read_text()
    assert "<script" not in html
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in html


def test_images_that_are_gone(predicted, workshop):
    _, out = predicted
    for file in workshop.folder.glob("a_*"):
        file.unlink()
    html = mrigmm.report(out).output.read_text()
    assert html.count("no overlay can be drawn") == 1
    assert html.count("data:image/png") == 1


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
    for folder in (tmp_path, tmp_path / "no"):
        with pytest.raises(InputError, match="no label maps to report on"):
            mrigmm.report(folder)
    for study in ("a", "b"):
        (out / f"{study}.json").unlink()
    with pytest.raises(InputError, match="the prediction has no side file") as caught:
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
