"""Bad input of `predict`, by manifest and by files: a message that helps, exit code 2, nothing written."""

import gzip
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pytest

from .conftest import SHAPE, SPACING_MM, Workshop, intensities, oblique_affine, save_nifti, ventricle

LV = (ventricle() > 0).astype(np.uint8)


@dataclass(frozen=True)
class Case:
    """One bad study: how it is spoilt, and what the message has to say."""

    name: str
    role: str  # the file that is spoilt: a sequence or "region"
    spoil: Callable[[Path], object]
    what: str
    expected: str
    got: str
    remedy: str
    method: str = field(default="map-em")


def written(data, affine=None, **options):
    return lambda path: save_nifti(path, data, oblique_affine() if affine is None else affine, **options)


def with_value(value):
    data = intensities(ventricle(), "T2")
    data[0, 0, 0] = value
    return written(data)


def shortened(path):
    whole = gzip.decompress(path.read_bytes())
    path.write_bytes(gzip.compress(whole[:-100]))


MOVED = oblique_affine(origin_mm=(231.0, -17.5, 42.25))
TURNED = oblique_affine(order=(1, 0, 2))
NOT_NIFTI = ("is not a NIfTI file", "a NIfTI-1 or NIfTI-2 file", "", "convert it")
GRID = ("is not on the grid of the reference sequence", "16 x 14 x 3 voxels of 1.2 x 1.2 x 10 mm, LPS")

CASES = [
    Case("missing image", "T2", Path.unlink, "the T2 file does not exist", "", "", "correct the path"),
    Case(
        "missing region", "region",
        Path.unlink, "the region file does not exist", "", "", "correct the path",
    ),
    Case("text", "LGE", lambda p: p.write_text("hello"), *NOT_NIFTI),
    Case("empty file", "LGE", lambda p: p.write_bytes(b""), *NOT_NIFTI),
    Case("empty region file", "region", lambda p: p.write_bytes(b""), *NOT_NIFTI),
    Case(
        "truncated", "bSSFP",
        shortened, "is damaged", "a complete NIfTI file", "Expected", "copy or convert",
    ),
    Case(
        "several frames", "T2", written(np.ones((*SHAPE, 4), np.float32)),
        "T2 is not one volume", "2 or 3 dimensions", "(16, 14, 3, 4)", "extract one frame",
    ),
    Case(
        "complex", "LGE", written(np.ones(SHAPE, np.complex64)),
        "no single real numbers", "integer or floating-point", "complex64", "save the magnitude",
    ),
    Case(
        "NaN", "T2", with_value(np.nan),
        "T2 has NaN or infinite voxels", "finite numbers", "1 of 672 voxels", "replace them",
    ),
    Case(
        "infinite", "T2", with_value(-np.inf),
        "T2 has NaN or infinite voxels", "finite numbers", "1 of 672 voxels", "replace them",
    ),
    Case(
        "overflow", "T2", with_value(1e35),
        "intensities that no scanner writes", "at most 1e+30", "1e+35", "check scl_slope",
    ),
    Case(
        "other shape", "region", written(LV[:, :-1]),
        *GRID, "16 x 13 x 3 voxels", "resample the map",
    ),
    Case(
        "region outside the image", "region",
        written(LV, MOVED), *GRID, "by up to 200.0 mm", "resample the map",
    ),
    Case("region stored otherwise", "region", written(LV, TURNED), *GRID, "16 x 14 x 3", "resample the map"),
    Case(
        "sequence elsewhere", "T2", written(intensities(ventricle(), "T2"), MOVED),
        "T2 does not show the region", "covers the region", "covers 0 %", "repair the header",
    ),
    Case(
        "empty region", "region", written(LV * 0),
        "the region is empty", "voxels above 0", "none", "leave the study out",
    ),
    Case(
        "unknown id", "region", written(LV * 5),
        "unknown class id", "ids 0, 1, 2", "5", "1 = cavity and 2 = wall",
    ),
    Case(
        "fractions", "region", written(LV * 0.5),
        "no whole numbers", "integer ids", "0.5", "nearest neighbour",
    ),
    Case(
        "one voxel", "region", written(np.eye(1, LV.size, 300, dtype=np.uint8).reshape(SHAPE)),
        "no sequence varies", "contrast inside the region", "all 1 voxels", "belong together",
    ),
    Case(
        "three voxels", "region", written((np.arange(LV.size).reshape(SHAPE) // 3 == 100).astype(np.uint8)),
        "fewer voxels than there are classes", "at least 4 voxels", "3", "check the region",
    ),
]  # fmt: skip


def parts(err):
    """The message's five parts."""
    lines = err.strip().splitlines()
    (first,) = [line for line in lines if line.startswith("error: ")]
    found = {"what": first.removeprefix("error: ")}
    for line in lines:
        name, separator, value = line.strip().partition(": ")
        if separator and line.startswith("  "):
            found[name] = value
    return found


@pytest.mark.parametrize("form", ["manifest", "files"])
@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name.replace(" ", "-"))
def test_bad_studies(cli, workshop: Workshop, tmp_path, case, form):
    entry = workshop.study()
    path = workshop.folder / (entry["region"] if case.role == "region" else entry["image"][case.role])
    case.spoil(path)
    arguments = (
        [workshop.manifest([entry])] if form == "manifest" else [*workshop.single(entry), "--id", "s1"]
    )
    out = tmp_path / "out"
    result = cli("predict", *arguments, "-o", out, "--method", case.method)
    assert result.code == 2
    assert "Traceback" not in result.err
    message = parts(result.err)
    assert case.what in message["what"]
    assert message["study"] == "s1"
    for name in ("expected", "got", "remedy"):
        wanted = getattr(case, name)
        assert wanted in message.get(name, ""), (name, message)
    # A study that cannot be segmented for its size alone has no file to blame.
    assert message.get("file", str(path)) in (str(path), str(workshop.folder / "s1_LGE.nii.gz"))
    assert not out.exists()


REQUESTS = [
    # Arguments beside the study, and what the message says.
    (["--method", "map-emm"], "unknown method 'map-emm'", "did you mean map-em"),
    (["--method", "map-em", "--set", "prior_strenth=1"], "has no setting 'prior_strenth'", "prior_strength"),
    (["--method", "map-em-2step", "--set", "scope=slice"], "map-em-2step has no setting 'scope'", ""),
    (
        ["--method", "map-em", "--set", "max_iter=0"],
        "'max_iter' is not allowed",
        "greater than or equal to 1",
    ),
    (["--method", "map-em", "--set", "max_iter"], "must be key=value", "for example"),
    (["--method", "map-em", "--prior", "no.json"], "the prior file does not exist", "mrigmm prior"),
    (["--method", "map-em", "--device", "cuda:99"], "the device 'cuda:99' is not there", "--device cpu"),
    (["--method", "map-em", "--device", "gpu"], "unknown device 'gpu'", "auto, cpu, cuda or cuda:N"),
    (["--run", "no"], "the run folder does not exist", "mrigmm train"),
    (["--run", "no", "--method", "map-em"], "either a trained run or a method", ""),
    ([], "either a trained run or a method", ""),
]


@pytest.mark.parametrize("form", ["manifest", "files"])
@pytest.mark.parametrize(("arguments", "what", "help_text"), REQUESTS)
def test_bad_requests(cli, workshop, tmp_path, monkeypatch, form, arguments, what, help_text):
    monkeypatch.chdir(tmp_path)
    entry = workshop.study()
    study = [workshop.manifest([entry])] if form == "manifest" else workshop.single(entry)
    result = cli("predict", *study, "-o", tmp_path / "out", *arguments)
    assert result.code == 2
    assert result.err.startswith("error: ")
    assert what in result.err
    assert help_text in result.err
    assert not (tmp_path / "out").exists()


def test_unknown_sequence_by_manifest(cli, workshop, tmp_path):
    entry = workshop.study()
    entry["image"]["LGX"] = entry["image"].pop("LGE")
    result = cli("predict", workshop.manifest([entry]), "-o", tmp_path / "out", "--method", "map-em")
    message = parts(result.err)
    assert result.code == 2
    assert message["what"] == "unknown sequence name 'LGX'"
    assert message["study"] == "s1"
    assert message["file"] == str(workshop.folder / "manifest.json")
    assert message["expected"] == "one of LGE, T2, bSSFP"
    assert message["remedy"] == "did you mean LGE?"
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(("name", "remedy"), [("DE", "name it LGE"), ("LGX", "did you mean LGE?")])
def test_unknown_sequence_by_files(cli, workshop, tmp_path, name, remedy):
    entry = workshop.study()
    entry["image"][name] = entry["image"].pop("LGE")
    result = cli("predict", *workshop.single(entry), "-o", tmp_path / "out", "--method", "map-em")
    message = parts(result.err)
    assert (result.code, message["what"]) == (2, f"unknown sequence name '{name}'")
    assert message["expected"].startswith("one of LGE, T2, bSSFP")
    assert message["remedy"].startswith(remedy)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("form", ["manifest", "files"])
def test_results_that_are_there(cli, workshop, tmp_path, form):
    entry = workshop.study()
    study = [workshop.manifest([entry])] if form == "manifest" else workshop.single(entry)
    out = tmp_path / "out"
    arguments = ("predict", *study, "-o", out, "--method", "em-gmm")
    assert cli(*arguments).code == 0
    before = {path.name: path.read_bytes() for path in out.iterdir()}
    result = cli(*arguments)
    message = parts(result.err)
    assert result.code == 2
    assert message["what"] == "the output folder already has results"
    assert message["file"] == str(out)
    assert message["expected"] == "a new or empty folder"
    assert "_labels.nii.gz" in message["got"]
    assert "--overwrite" in message["remedy"]
    assert {path.name: path.read_bytes() for path in out.iterdir()} == before
    assert cli(*arguments, "--overwrite").code == 0


@pytest.mark.parametrize("below", [False, True])
def test_an_output_that_is_no_folder(cli, workshop, tmp_path, below):
    (tmp_path / "file").write_text("mine")
    out = tmp_path / "file" / "out" if below else tmp_path / "file"
    result = cli("predict", workshop.manifest(), "-o", out, "--method", "em-gmm")
    assert (result.code, parts(result.err)["what"]) == (2, "the output is not a folder")
    assert (tmp_path / "file").read_text() == "mine"


@pytest.mark.parametrize(
    ("arguments", "what"),
    [
        ([], "give either a manifest or --image"),
        (["M", "--image", "LGE=a.nii"], "give either a manifest or --image"),
        (["M", "--id", "a"], "--region and --id belong to --image"),
        (["M", "--region", "a.nii"], "--region and --id belong to --image"),
        (["--image", "LGE=a.nii"], "a single study needs a region map"),
        (["--image", "a.nii", "--region", "r.nii"], "--image must be NAME=FILE"),
        (["--image", "LGE=", "--region", "r.nii"], "--image must be NAME=FILE"),
        (["--image", "LGE=a.nii", "--image", "LGE=b.nii", "--region", "r.nii"], "'LGE' is given twice"),
        (["--image", "LGE=a.nii", "--region", "r.nii", "--id", "../a"], "a study id becomes a file name"),
        (
            ["--image", "LGE=a.nii", "--region", "r.nii", "--data-root", "."],
            "--data-root belongs to a manifest",
        ),
        (["M", "--split", "tset"], "unknown split 'tset'"),
        (["M", "--split", "training"], "the split 'training' has no studies"),
        (["M", "--data-root", "no"], "the data root is not a folder"),
        (["no.json"], "the manifest does not exist"),
    ],
)
def test_contradictions(cli, workshop, tmp_path, monkeypatch, arguments, what):
    monkeypatch.chdir(tmp_path)
    manifest = str(workshop.manifest())
    given = [manifest if argument == "M" else argument for argument in arguments]
    result = cli("predict", *given, "-o", tmp_path / "out", "--method", "map-em")
    assert result.code == 2
    assert result.err.startswith("error: ")
    assert what in result.err
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("name", ["x" * 300, "x/" * 3000])
@pytest.mark.parametrize(
    "command",
    [
        ["predict", "{}", "-o", "out", "--method", "em-gmm"],
        ["predict", "M", "-o", "{}", "--method", "em-gmm"],
        ["predict", "M", "-o", "out", "--run", "{}"],
        ["predict", "M", "-o", "out", "--method", "em-gmm", "--prior", "{}"],
        ["predict", "M", "-o", "out", "--method", "em-gmm", "--data-root", "{}"],
        ["predict", "--image", "LGE={}/a.nii", "--region", "{}", "-o", "out", "--method", "em-gmm"],
        ["train", "M", "-o", "{}", "--set", "foo=1"],
        ["evaluate", "{}", "M"],
        ["evaluate", "out", "{}"],
        ["report", "{}"],
        ["prior", "M", "-o", "{}", "--split", "test"],
        ["check", "{}"],
        ["simulate", "-o", "{}", "--studies", "1", "--seed", "1", "--preset", "small"],
        ["demo", "-o", "{}"],
    ],
    ids=lambda command: "-".join(command)[:30],
)
def test_names_that_no_file_can_have(cli, workshop, tmp_path, monkeypatch, command, name):
    monkeypatch.chdir(tmp_path)
    manifest = str(workshop.manifest())
    result = cli(*(manifest if part == "M" else part.replace("{}", name) for part in command))
    assert result.code == 2
    assert "error: " in result.err
    assert sorted(path.name for path in tmp_path.iterdir()) == ["data"]


@pytest.mark.parametrize(
    "arguments",
    [
        ["simulate", "-o", "c", "--studies", "0", "--seed", "1"],
        ["simulate", "-o", "c", "--studies", "1", "--seed", "-1"],
        ["simulate", "-o", "c", "--studies", "1"],
        ["simulate", "-o", "c", "--studies", "1", "--seed", "1", "--region", "heart"],
        ["predict", "--method", "em-gmm"],
        ["train", "m.json"],
        ["info", "--jason"],
        ["segment"],
    ],
    ids=lambda arguments: "-".join(arguments),
)
def test_usage_errors(cli, tmp_path, monkeypatch, arguments):
    monkeypatch.chdir(tmp_path)
    result = cli(*arguments)
    assert result.code == 2
    assert "Usage: " in result.err
    assert list(tmp_path.iterdir()) == []


def test_spoilt_training_is_refused_before_anything_is_written(cli, workshop, tmp_path):
    manifest = workshop.manifest([], training=[workshop.study()])
    for arguments, what in (
        (["--preset", "deep-svg"], "did you mean deepsvg"),
        (["--set", "epoch=1"], "did you mean epochs"),
        (["--set", "sequences=[LGE, LGE]"], "each name may stand once"),
        (["--set", "sequences=[LGE, T1]"], "unknown sequence name 'T1'"),
        (["--set", "classes=[blood]"], "at least two classes"),
        (["--set", "learning_rate=inf"], "finite"),
        (["--set", "preset=tiny"], "choose it with --preset"),
        (["--resume"], "the run has no configuration"),
        (["--device", "cuda:99"], "is not there"),
    ):
        result = cli("train", manifest, "-o", tmp_path / "run", *arguments)
        assert (result.code, what in result.err) == (2, True), result.err
        assert not (tmp_path / "run").exists()


def test_spacing_of_the_hand_made_studies_is_what_the_messages_say():
    np.testing.assert_allclose(np.linalg.norm(oblique_affine()[:3, :3], axis=0), SPACING_MM)
