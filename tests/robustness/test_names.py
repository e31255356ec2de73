"""Names of files and studies that terminals, tables, shells and other file systems stumble over."""

import html
import json
import re

import pytest

from .cases import assert_clean, assert_nothing_half

# They are printable, and so they are kept as they are.
NAMES = [
    "é å ß",
    "患者一",
    "[bold]x",
    "a&amp;b",
    "$(touch x)",
    "--help",
    "patient 7",
    "مريض",
    "-o",
    "`id`; rm",
    "%s%n{}",
    "a'b",
    "🫀",
    "x" * 150,
    "1e400",
    "null",
    "metrics2",
    "a_mvo",
    "good_labels",
]
HOSTILE = "x\x1b[31m\x1b]0;owned\x07\nremedy: run this\r"


def test_study_names_from_manifest_to_report(cli, place):
    entries = [{**place.bad, "id": name} for name in NAMES]
    manifest = place.manifest(studies=entries)
    result = cli("predict", manifest, "-o", place.out, "--method", "em-gmm")
    assert_clean(result, 0)
    assert_nothing_half(place.out, NAMES)
    assert_clean(cli("evaluate", place.out, manifest), 0)
    assert set(json.loads((place.out / "metrics.json").read_text())["studies"]) == set(NAMES)
    for name in NAMES[6:]:  # a page of a few is enough
        (place.out / f"{name}_labels.nii.gz").unlink()
    assert_clean(cli("report", place.out), 0)
    page = (place.out / "report.html").read_text(encoding="utf-8")
    assert all(html.escape(name) in page or name in page for name in NAMES[:6])
    assert sorted(p.name for p in place.out.parent.iterdir()) == ["data", "out"]


@pytest.mark.parametrize("name", ["metrics", "Metrics", "comparison", "quantities"])
def test_a_study_of_a_results_name(cli, place, name):
    """Its side file would be what evaluate writes."""
    manifest = place.manifest(studies=[place.good, {**place.bad, "id": name}])
    result = cli("predict", manifest, "-o", place.out, "--method", "em-gmm")
    assert_clean(result, 2)
    assert f"study: {name}" in result.err
    assert "rename the study" in result.err
    assert_nothing_half(place.out, ())


@pytest.mark.parametrize(
    "name", ["患者 一.nii.gz", "[red]é.nii.gz", "x" * 240 + ".nii.gz", "-o.nii.gz", "a;b.nii.gz"]
)
def test_file_names(cli, place, name):
    place.file("T2").rename(place.folder / name)
    place.bad["image"]["T2"] = name
    assert_clean(cli("predict", place.manifest(), "-o", place.out, "--method", "em-gmm"), 0)
    (place.folder / name).write_bytes(b"")
    result = cli("predict", place.manifest(), "-o", place.out, "--method", "em-gmm", "--overwrite")
    assert_clean(result, 2)
    assert f"file: {place.folder / name}\n" in result.err
    assert (
        name in re.sub(r"[│\s]+", " ", cli("check", place.manifest()).out) or len(name) > 100 or " " in name
    )


@pytest.mark.parametrize("there", [False, True])
def test_a_file_name_does_not_speak_to_the_terminal(cli, place, there):
    """Escape sequences and line breaks in names are printed as escapes; nobody adds a line of their own."""
    name = HOSTILE + ".nii.gz"
    if there:
        (place.folder / name).write_bytes(b"hello")
    place.bad["image"]["T2"] = name
    for command in ("check", "predict"):
        options = ["-o", place.out, "--method", "em-gmm"] if command == "predict" else []
        result = cli(command, place.manifest(), *options)
        assert_clean(result, 1 if command == "check" else 2)
        assert "\\x1b[31m" in result.out + result.err
        assert "\nremedy: run this" not in result.out + result.err


def test_names_in_a_folder_that_is_made_into_a_manifest(cli, place):
    (place.folder / "a\x1b[2J_lge.nii.gz").write_bytes(place.file("LGE").read_bytes())
    manifest = place.out.parent / "m.json"
    result = cli("manifest", "files", place.folder, "-o", manifest, "--image", "LGE={id}_lge.nii.gz")
    assert_clean(result, 2)
    assert "study id" in result.err
    assert not manifest.exists()


def test_bytes_that_are_no_text_in_a_file_name(cli, place):
    name = "a\udcff.nii.gz"
    (place.folder / name).write_bytes(b"hello")
    single = ["--image", f"LGE={place.folder / name}", "--region", place.file("region"), "--id", "a"]
    result = cli("predict", *single, "-o", place.out, "--method", "em-gmm")
    assert_clean(result, 2)
    assert "a\\udcff.nii.gz" in result.err


def test_class_names_of_the_manifest(cli, place):
    labels = {"background": 0, "[red]a": 1, "b c": 2, "<i>d": 3, "é": 4}
    manifest = place.workshop.manifest([place.good, place.bad], labels=labels)
    assert_clean(cli("predict", manifest, "-o", place.out, "--method", "em-gmm"), 0)
    result = cli("evaluate", place.out, manifest)
    assert_clean(result, 0)
    assert all(name in result.out for name in labels if name != "background")
    assert_clean(cli("report", place.out), 0)
    assert "<i>d" not in (place.out / "report.html").read_text(encoding="utf-8")


@pytest.mark.parametrize("names", [{"a\x1b[2J": 1, "b": 2}, {"": 1, "b": 2}, {"a\nb": 1, "b": 2}])
def test_class_names_that_are_none(cli, place, names):
    manifest = place.workshop.manifest([place.good, place.bad], labels=names)
    assert_clean(cli("predict", manifest, "-o", place.out, "--method", "em-gmm"), 2)
    assert_nothing_half(place.out, ())
