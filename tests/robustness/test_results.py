"""Folders of predictions that somebody changed, or made to deceive."""

import json
import shutil

import numpy as np
import pytest

from ..conftest import oblique_affine, save_nifti
from .cases import TRUTH, assert_clean, messages


def side(**changes):
    def spoil(out):
        content = json.loads((out / "bad.json").read_text())
        (out / "bad.json").write_text(json.dumps({**content, **changes}))

    return spoil


def raw(content):
    return lambda out: (out / "bad.json").write_bytes(content)


def infinite(key, value):
    """A number that JSON may say and no program can hold."""

    def spoil(out):
        side(**{key: value})(out)
        (out / "bad.json").write_text((out / "bad.json").read_text().replace("12345", "1e400"))

    return spoil


def labels(data, affine=None):
    return lambda out: save_nifti(
        out / "bad_labels.nii.gz", data, oblique_affine() if affine is None else affine
    )


def link(out):
    (out / "bad_labels.nii.gz").unlink()
    (out / "bad_labels.nii.gz").symlink_to("bad_labels.nii.gz")


# How bad's results are spoilt, and whether evaluate and report refuse the study.
CASES = {
    "no side file": (lambda out: (out / "bad.json").unlink(), "er"),
    "side file empty": (raw(b""), "er"),
    "side file no JSON": (raw(b"{"), "er"),
    "side file nested": (raw(b"[" * 10**6), "er"),
    "side file of bytes": (raw(b"\xff\xfe\x00"), "er"),
    "side file a list": (raw(b"[]"), "er"),
    "side file a number of 5,000 digits": (raw(b'{"classes": ' + b"9" * 5000 + b"}"), "er"),
    "classes a list": (side(classes=["blood"]), "er"),
    "class id a text": (side(classes={"blood": "x"}), "er"),
    "class id null": (side(classes={"blood": None}), "er"),
    "class id 1e400": (infinite("classes", {"blood": 12345}), "er"),
    "classes of nobody": (side(classes={"bone": 1, "fat": 2, "skin": 3, "hair": 4}), "e"),
    "frames 1e400": (infinite("frames", {"LGE": 12345}), "er"),
    "inputs a text": (side(inputs="LGE"), "er"),
    "inputs that lead elsewhere": (side(inputs={"LGE": "/etc/passwd"}), ""),
    "volume a text": (side(volume_ml={"blood": "much"}), "er"),
    "warnings that are markup": (side(warnings=["<script>alert(1)</script>", "[red]x"]), ""),
    "method that is markup": (side(method="<img src=x onerror=alert(1)>"), ""),
    "prior a text": (side(prior="x"), ""),
    "prior ids a number": (side(prior={"study_ids": 7}), ""),
    "prior ids nested": (side(prior={"study_ids": [[["a"]]]}), ""),
    "no label map": (lambda out: (out / "bad_labels.nii.gz").unlink(), "e"),
    "label map a link to itself": (link, "er"),
    "label map zero bytes": (lambda out: (out / "bad_labels.nii.gz").write_bytes(b""), "er"),
    "label map of unknown ids": (labels(TRUTH * np.uint8(9)), "er"),
    "label map of fractions": (labels(TRUTH * 0.5), "er"),
    "label map of another shape": (labels(TRUTH[:-1]), "er"),
    "label map elsewhere": (labels(TRUTH, oblique_affine(origin_mm=(200, 0, 0))), "er"),
    "probabilities zero bytes": (lambda out: (out / "bad_probabilities.nii.gz").write_bytes(b""), ""),
}


@pytest.fixture(scope="module")
def predicted(tmp_path_factory):
    """A folder with predictions of a clean place (copied, never changed)."""
    import mrigmm

    from .cases import place_in

    here = place_in(tmp_path_factory.mktemp("predicted"))
    mrigmm.predict(here.manifest(), here.out, method="em-gmm")
    return here


@pytest.fixture
def out(predicted, tmp_path):
    return shutil.copytree(predicted.out, tmp_path / "out")


@pytest.mark.parametrize("name", CASES)
def test_evaluate(cli, predicted, out, name):
    spoil, refusing = CASES[name]
    spoil(out)
    result = cli("evaluate", out, predicted.folder / "manifest.json")
    assert_clean(result, 2 if "e" in refusing else 0)
    metrics = json.loads((out / "metrics.json").read_text())
    assert set(metrics["studies"]) == ({"good"} if "e" in refusing else {"good", "bad"})
    if "e" in refusing:
        assert {message["study"] for message in messages(result.err)} == {"bad"}


@pytest.mark.parametrize(
    "name", [name for name, (_, refusing) in CASES.items() if "r" in refusing or not refusing]
)
def test_report(cli, out, name):
    spoil, refusing = CASES[name]
    spoil(out)
    result = cli("report", out)
    assert_clean(result, 2 if "r" in refusing else 0)
    page = (out / "report.html").read_text(encoding="utf-8")
    assert "<script>alert" not in page
    assert "<img src=x" not in page
    assert "root:" not in page


@pytest.mark.parametrize("command", ["compare", "agreement"])
@pytest.mark.parametrize(
    "name", ["class id 1e400", "side file nested", "classes a list", "label map zero bytes"]
)
def test_two_folders(cli, predicted, out, command, name):
    CASES[name][0](out)
    manifest = predicted.folder / "manifest.json"
    target = out.parent / "both"
    arguments = [manifest] if command == "compare" else []
    result = cli(command, predicted.out, out, *arguments, "-o", target)
    assert_clean(result, 2)
    assert {message["study"] for message in messages(result.err)} == {"bad"}


@pytest.mark.parametrize(
    "content", [b"", b"[]", b"[" * 10**6, b'{"summary": 1e400, "studies": {}}', b"\xff\xfe"]
)
def test_a_damaged_evaluation(cli, out, content):
    (out / "metrics.json").write_bytes(content)
    result = cli("report", out)
    assert_clean(result, 2)
    assert messages(result.err)[0]["file"] == str(out / "metrics.json")
