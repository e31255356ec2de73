"""Requests that cannot be met: a message that helps, exit code 2, nothing written."""

import pytest

from .cases import assert_clean


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


REQUESTS = [
    # Arguments beside the study, and what the message says.
    (["--method", "map-emm"], "unknown method 'map-emm'", "did you mean map-em"),
    (["--method", "deepsvg"], "'deepsvg' is a preset of train, not a method", "then predict with --run RUN"),
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
        (["--image", "LGE=a.nii"], "the LGE file does not exist"),
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


# Nine lines that stand for a billion values.
LAUGHS = (
    "epochs=[&a [x, x, x, x, x, x, x, x, x], "
    + ", ".join(
        f"&{new} [{', '.join([f'*{old}'] * 9)}]" for old, new in zip("abcdefgh", "bcdefghi", strict=True)
    )
    + "]"
)


def test_spoilt_training_is_refused_before_anything_is_written(cli, workshop, tmp_path):
    manifest = workshop.manifest([], training=[workshop.study()])
    for arguments, what in (
        (["--preset", "deep-svg"], "did you mean deepsvg"),
        (["--set", "epoch=1"], "did you mean epochs"),
        (["--set", "sequences=[LGE, LGE]"], "each name may stand once"),
        (["--set", "sequences=[LGE, T1]"], "unknown sequence name 'T1'"),
        (["--set", "classes=[blood]"], "at least two different classes"),
        (["--set", "learning_rate=inf"], "finite"),
        (["--set", "learning_rate=1e400"], "finite"),
        (["--set", "learning_rate=nan"], "finite"),
        (["--set", f"seed={10**30}"], "less than"),
        (["--set", "epochs=" + "9" * 5000], "cannot be read"),
        (["--set", "epochs=2020-99-99"], "cannot be read"),
        (["--set", "epochs=" + "[" * 10**5], "cannot be read"),
        (["--set", "epochs=!!python/object/apply:os.system [id]"], "cannot be read"),
        (["--set", LAUGHS], "aliases"),
        (["--set", "epochs={a: 1, a: 2}"], "stands twice"),
        (["--set", "crop_mm=1e9"], "less than or equal to 1000"),
        (["--set", "spacing_mm=1e-9"], "greater than or equal to 0.05"),
        (["--set", "filters=1000000"], "less than or equal to 1024"),
        (["--set", "epochs=x\x1b[2Jx"], "'epochs' "),
        (["--preset", "tiny", "--num-workers", "-1"], "negative"),
        (["--preset", "tiny", "--cache", "tape"], "unknown cache"),
        (["--preset", "tiny", "--precision", "64"], "precision"),
        (["--preset", "tiny", "--devices", "0,0"], "devices"),
        (["--set", "preset=tiny"], "choose it with --preset"),
        (["--resume"], "the run has no configuration"),
        (["--device", "cuda:99"], "is not there"),
        (["--preset", "tiny", "--device", "cuda:99"], "is not there"),
        (["--set", "steps=0"], "greater than or equal to 1"),
    ):
        result = cli("train", manifest, "-o", tmp_path / "run", *arguments)
        assert_clean(result, 2)
        assert what in result.err, result.err
        assert len(result.err) < 20_000
        assert not (tmp_path / "run").exists()
