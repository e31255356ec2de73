"""Manifests that are damaged, hostile, or lead out of their folder."""

import json

import pytest

from ..conftest import LABELS, SEQUENCES
from .cases import RequestCase, assert_clean, assert_nothing_half, assert_request_case, identified, messages

MODALITY = {str(i): name for i, name in enumerate(SEQUENCES)}


def raw(content):
    """A manifest of these bytes or this text."""

    def make(place):
        path = place.folder / "manifest.json"
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        return path

    return make


def changed(**changes):
    """A sound manifest with changed keys."""
    return lambda place: place.workshop.manifest(**{"test": [place.good, place.bad], **changes})


def bad(**changes):
    """A sound manifest with changes to the bad study's entry."""

    def make(place):
        place.bad.update(changes)
        return place.manifest()

    return make


def image(value):
    def make(place):
        place.bad["image"]["T2"] = value(place) if callable(value) else value
        return place.manifest()

    return make


def link_out(place):
    outside = place.out.parent / "outside.nii.gz"
    place.file("T2").rename(outside)
    place.file("T2").symlink_to(outside)
    return place.manifest()


def folder_link_out(place):
    outside = place.out.parent / "outside"
    outside.mkdir()
    place.file("T2").rename(outside / "t2.nii.gz")
    (place.folder / "sub").symlink_to(outside)
    return image("sub/t2.nii.gz")(place)


def cyclic(place):
    place.file("T2").unlink()
    place.file("T2").symlink_to(place.file("T2").name)
    return place.manifest()


def cyclic_folders(place):
    (place.folder / "a").symlink_to("b")
    (place.folder / "b").symlink_to("a")
    return image("a/t2.nii.gz")(place)


def dangling(place):
    place.file("T2").unlink()
    place.file("T2").symlink_to("nowhere.nii.gz")
    return place.manifest()


def as_list(place):
    return place.folder


def duplicate_key(place):
    text = place.manifest().read_text()
    return raw(text.replace('"test"', '"name": "a", "name": "b", "test"'))(place)


def many_keys(place):
    return raw("{" + ",".join(f'"k{i}": 0' for i in range(100_000)) + "}")(place)


def many_problems(place):
    entries = [{"id": f"s{i}", "image": ["../x.nii", None, None]} for i in range(2000)]
    return raw(json.dumps({"modality": MODALITY, "labels": LABELS, "test": entries}))(place)


LEADS_OUT = "the path leads out of the data folder"
JSON = "the manifest is not valid JSON"

# What every command that reads a manifest says of it. None of them goes on.
CASES = [
    ("not JSON", raw("hello"), JSON, ""),
    ("an empty file", raw(""), JSON, ""),
    ("cut short", raw('{"modality": {"0": "LGE"'), JSON, ""),
    ("YAML", raw("modality:\n  '0': LGE\n"), JSON, ""),
    ("binary", raw(bytes(range(256)) * 4), "the manifest cannot be read", ""),
    ("Latin-1", raw('{"name": "é"}'.encode("latin-1")), "the manifest cannot be read", ""),
    ("UTF-16", raw('{"modality": {}}'.encode("utf-16")), "the manifest cannot be read", ""),
    ("a list", raw("[]"), "the manifest is not a JSON object", ""),
    ("a text", raw('"x"'), "the manifest is not a JSON object", ""),
    ("null", raw("null"), "the manifest is not a JSON object", ""),
    ("nested 1,000,000 times", raw("[" * 10**6 + "]" * 10**6), JSON, ""),
    (
        "nested 900 times inside",
        raw('{"modality": ' + "[" * 900 + "]" * 900 + "}"),
        "'modality' must name",
        "",
    ),
    (
        "nested 900 times as a study's image",
        lambda p: raw(
            json.dumps({"modality": MODALITY, "test": [{"id": "a", "image": "X"}]}).replace(
                '"X"', "[" * 900 + "]" * 900
            )
        )(p),
        "the list of images does not fit",
        "a",
    ),
    ("a number of 5,000 digits", raw('{"modality": ' + "9" * 5000 + "}"), JSON, ""),
    ("100,000 keys", many_keys, "unknown key", ""),
    ("2,000 studies that lead out", many_problems, LEADS_OUT, "s0"),
    ("duplicate keys", duplicate_key, "the key 'name' stands twice", ""),
    ("an unknown key", changed(tset=[]), "unknown key 'tset'", ""),
    ("no modality", changed(modality=None), "'modality' must name the sequences", ""),
    (
        "modality counts from 1",
        changed(modality={"1": "LGE", "2": "T2", "3": "bSSFP"}),
        "must count from 0",
        "",
    ),
    (
        "a sequence twice",
        changed(modality={"0": "LGE", "1": "LGE", "2": "T2"}),
        "stands twice in 'modality'",
        "",
    ),
    ("a sequence named by a number", changed(modality={"0": 1}), "a sequence name must be", ""),
    ("no studies", lambda p: p.workshop.manifest([]), "the manifest names no study", ""),
    ("studies as an object", changed(training={"a": 1}), "'training' must be a list", ""),
    ("a study as a text", changed(test=["a.nii"]), "test[0] must be an object", ""),
    (
        "two studies of one id",
        lambda p: p.manifest(studies=[p.good, {**p.bad, "id": "good"}]),
        "the study id stands twice",
        "good",
    ),
    (
        "two ids that differ in case",
        lambda p: p.manifest(studies=[p.good, {**p.bad, "id": "GOOD"}]),
        "the study id stands twice",
        "GOOD",
    ),
    (
        "two ids that differ in a blank at the end",
        lambda p: p.manifest(studies=[p.good, {**p.bad, "id": "good "}]),
        "the study id stands twice",
        "good",
    ),
    (
        "two ids that differ in how é is written",
        lambda p: p.manifest(studies=[{**p.good, "id": "caf\u00e9"}, {**p.bad, "id": "cafe\u0301"}]),
        "the study id stands twice",
        "caf\u00e9",
    ),
    (
        "a label id that is infinite",
        raw(json.dumps({"modality": MODALITY, "labels": {"a": 0.5}, "test": []}).replace("0.5", "1e400")),
        "label 'a' has no valid id",
        "",
    ),
    ("a label id that is NaN", changed(labels={"blood": float("nan")}), "label 'blood' has no valid id", ""),
    ("a label id that is true", changed(labels={"blood": True}), "label 'blood' has no valid id", ""),
    ("a label id twice", changed(labels={"blood": 1, "scar": 1}), "given more than once", ""),
    ("an unknown label scheme", changed(labels="mypos"), "unknown label scheme 'mypos'", ""),
    ("an absolute path outside", image(lambda p: str(p.out.parent / "t2.nii")), LEADS_OUT, "bad"),
    ("a path of another computer", image("C:\\data\\t2.nii"), LEADS_OUT, "bad"),
    ("/etc/passwd", image("/etc/passwd"), LEADS_OUT, "bad"),
    ("a path with ..", image("../outside.nii.gz"), LEADS_OUT, "bad"),
    ("a path with .. in the middle", image("x/../../outside.nii.gz"), LEADS_OUT, "bad"),
    ("a label path with ..", bad(label="../../label.nii.gz"), LEADS_OUT, "bad"),
    ("a region path with ..", bad(region="../region.nii.gz"), LEADS_OUT, "bad"),
    ("a scribbles path with ..", bad(scribbles="../s.nii.gz"), LEADS_OUT, "bad"),
    ("a frame's path with ..", image({"file": "../t2.nii", "frame": 0}), LEADS_OUT, "bad"),
    ("a link that leads out", link_out, LEADS_OUT, "bad"),
    ("a folder that is a link out", folder_link_out, LEADS_OUT, "bad"),
    ("cyclic links", cyclic, "the path cannot be resolved", "bad"),
    ("cyclic links of folders", cyclic_folders, "the path cannot be resolved", "bad"),
    ("a path with a null byte", image("a\x00.nii"), "a path must be a non-empty text", "bad"),
    ("a path of half a character", image("\ud800.nii"), "the path cannot be resolved", "bad"),
    ("a path that is a number", image(7), "a path must be a non-empty text", "bad"),
    ("an empty path", image(""), "a path must be a non-empty text", "bad"),
    ("a negative frame", image({"file": "a.nii", "frame": -1}), "a frame must be a whole number", "bad"),
    (
        "a frame of 1e400",
        lambda p: raw(
            json.dumps(
                {
                    "modality": MODALITY,
                    "test": [{"id": "bad", "image": {"T2": {"file": "a.nii", "frame": 0.5}}}],
                }
            ).replace("0.5", "1e400")
        )(p),
        "a frame must be a whole number",
        "bad",
    ),
    ("too few images", bad(image=["a.nii"]), "the list of images does not fit", "bad"),
    ("an unknown sequence", lambda p: bad(image={"LGX": "a.nii"})(p), "unknown sequence name 'LGX'", "bad"),
    ("no image", bad(image={"LGE": None}), "the study has no image", "bad"),
    ("an unknown region rule", bad(region={"rule": "heart"}), "unknown region rule", "bad"),
    ("a patient that is a list", bad(patient=["a"]), "'patient' must be", "bad"),
]

IDS = [
    ("..", ".."),
    (".", "."),
    ("a leading dot", ".hidden"),
    ("an empty text", ""),
    ("blanks", "   "),
    ("a slash", "a/b"),
    ("out of the folder", "../../a"),
    ("an absolute path", "/tmp/a"),
    ("a backslash", "a\\b"),
    ("CON, which Windows keeps", "CON"),
    ("com1.x, which Windows keeps", "com1.x"),
    ("nul, which Windows keeps", "nul"),
    ("a newline", "a\nb"),
    ("an escape sequence", "a\x1b[2J"),
    ("a null byte", "a\x00"),
    ("half a character", "\ud800"),
    ("a right-to-left override", "a\u202egpj"),
    ("a colon", "a:b"),
    ("a wildcard", "*"),
    ("151 bytes", "é" * 76),
    ("a number", 7),
    ("a list", ["a"]),
    ("nothing", None),
]
READERS = {
    "predict": ["-o", "out", "--method", "em-gmm"],
    "train": ["-o", "out"],
    "train-anatomy": ["-o", "out"],
    "prior": ["-o", "out"],
    "check": [],
    "evaluate": [],
    "compare": [],
}


def with_prediction(folder):
    """The folder, with a file of a label map's name: that there is none is another error."""
    (folder / "x_labels.nii.gz").touch()
    return folder


def request(command, manifest):
    options = [manifest.parent.parent / "out" if part == "out" else part for part in READERS[command]]
    if command == "evaluate":
        return [with_prediction(manifest.parent), manifest]
    if command == "compare":
        (manifest.parent / "b").mkdir()
        return [with_prediction(manifest.parent), with_prediction(manifest.parent / "b"), manifest]
    return [manifest, *options]


@pytest.mark.parametrize("case", CASES, ids=lambda case: case[0].replace(" ", "-"))
def test_manifests(cli, place, case):
    _, make, what, study = case
    path = make(place)
    for command in ("predict", "check"):
        result = cli(command, *request(command, path))
        assert_clean(result, 1 if command == "check" else 2)
    result = cli("predict", *request("predict", path))
    found = [message for message in messages(result.err) if what in message["what"]]
    assert found, result.err[:2000]
    assert found[0]["file"] == str(path)
    assert found[0].get("study", "").split(", ")[0] == study  # the first of those that it is true of
    if what == LEADS_OUT:
        assert "--data-root" in found[0]["remedy"]
    assert_nothing_half(place.out, ())


@pytest.mark.parametrize("command", READERS)
@pytest.mark.parametrize(
    "make", [raw("hello"), link_out, raw("[" * 10**6)], ids=["not-JSON", "link", "nested"]
)
def test_every_command_that_reads_a_manifest(cli, place, command, make):
    result = cli(command, *request(command, make(place)))
    assert_clean(result, 1 if command == "check" else 2)
    assert_nothing_half(place.out, ())


@pytest.mark.parametrize("case", IDS, ids=lambda case: case[0].replace(" ", "-"))
def test_study_ids(cli, place, case):
    """No id leads out of the output folder, hides a file, or speaks to the terminal."""
    before = sorted(place.out.parent.rglob("*"))
    manifest = place.manifest(studies=[place.good, {**place.bad, "id": case[1]}])
    result = cli("predict", *request("predict", manifest))
    assert_clean(result, 2)
    assert "study id" in result.err
    if isinstance(case[1], str) and case[1]:
        single = place.workshop.single(place.bad)
        assert_clean(cli("predict", *single, "--id", case[1], "-o", place.out, "--method", "em-gmm"), 2)
    assert sorted(place.out.parent.rglob("*")) == sorted([*before, manifest])


def one_split(name):
    return lambda place: [place.workshop.manifest([place.good]), "-o", place.out, "--split", name]


SPLITS = [
    RequestCase(
        "train: the training split is empty",
        "train",
        lambda p: [p.workshop.manifest([p.good]), "-o", p.out],
        says=("the split 'training' has no studies", "test (1)"),
    ),
    RequestCase(
        "prior: the training split is empty",
        "prior",
        lambda p: [p.workshop.manifest([p.good]), "-o", p.out],
        says=("the split 'training' has no studies", "--split"),
    ),
    RequestCase(
        "predict: the test split is empty",
        "predict",
        lambda p: [p.manifest("training"), "-o", p.out, "--method", "em-gmm"],
        says=("the split 'test' has no studies", "training (2)", "the same command with --split all"),
    ),
    RequestCase(
        "evaluate: the test split is empty",
        "evaluate",
        lambda p: [with_prediction(p.folder), p.manifest("training")],
        says=("the split 'test' has no studies", "the same command with --split all"),
    ),
    RequestCase(
        "train-anatomy: the training split is empty",
        "train-anatomy",
        lambda p: [p.workshop.manifest([p.good]), "-o", p.out],
        says=("the split 'training' has no studies",),
    ),
    RequestCase(
        "a data root that is a file",
        "check",
        lambda p: [p.manifest(), "--data-root", p.file("T2")],
        code=1,
        says=("the data root is not a folder",),
    ),
    RequestCase(
        "a manifest that is a folder",
        "predict",
        lambda p: [p.folder, "-o", p.out, "--method", "em-gmm"],
        says=("the manifest cannot be read",),
    ),
    RequestCase(
        "a manifest in a folder that is not there",
        "check",
        lambda p: [p.folder / "no" / "m.json"],
        says=("the manifest does not exist",),
    ),
]


@pytest.mark.parametrize("case", SPLITS, ids=identified)
def test_requests(cli, place, case):
    assert_request_case(case, cli, place)


def test_a_link_that_stays_inside_is_followed(cli, place):
    place.file("T2").rename(place.folder / "real.nii.gz")
    place.file("T2").symlink_to("real.nii.gz")
    assert_clean(cli("predict", *request("predict", place.manifest())), 0)


def test_the_data_root_may_be_a_link(cli, place):
    manifest = place.manifest().rename(place.out.parent / "m.json")
    (place.out.parent / "link").symlink_to(place.folder)
    options = ["--data-root", place.out.parent / "link", "-o", place.out, "--method", "em-gmm"]
    assert_clean(cli("predict", manifest, *options), 0)
