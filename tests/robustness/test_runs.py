"""Runs, weights, configurations and priors that are damaged, foreign, tampered with or hostile."""

import json
import pickle
import shutil
import zipfile

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from .cases import assert_clean, assert_nothing_half, messages


class Trap:
    """Runs a command when it is unpickled."""

    def __init__(self, sign):
        self.sign = sign

    def __reduce__(self):
        return (exec, (f"open({str(self.sign)!r}, 'w').close()",))


def text(name, content):
    return lambda run: (run / name).write_text(content)


def edited(name, old, new):
    def spoil(run):
        before = (run / name).read_text()
        assert old in before
        (run / name).write_text(before.replace(old, new))

    return spoil


def record(**changes):
    def spoil(run):
        content = json.loads((run / "run.json").read_text())
        (run / "run.json").write_text(json.dumps({**content, **changes}))

    return spoil


def tensors(change):
    def spoil(run):
        weights = load_file(run / "weights.safetensors")
        save_file(change(weights), run / "weights.safetensors")
        unsigned(run)

    return spoil


def unsigned(run):
    """A run of a version that kept no digest."""
    record(weights_sha256=None)(run)


def first(change):
    """Change one tensor."""

    def one(weights):
        name = sorted(weights)[0]
        return {**weights, name: change(weights[name])}

    return tensors(one)


def other_training(run):
    """Weights of another training of the same configuration: every tensor fits."""
    weights = load_file(run / "weights.safetensors")
    save_file({name: t + 0.25 for name, t in weights.items()}, run / "weights.safetensors")


def torch_pickle(run):
    torch.save({"a": Trap(run / "sprung")}, run / "weights.safetensors")


def plain_pickle(run):
    (run / "weights.safetensors").write_bytes(pickle.dumps(Trap(run / "sprung")))


def gone(name):
    return lambda run: (run / name).unlink()


def folder(name):
    def spoil(run):
        (run / name).unlink()
        (run / name).mkdir()

    return spoil


def huge_header(run):
    (run / "weights.safetensors").write_bytes((2**62).to_bytes(8, "little") + b"{}")


CASES = [
    ("no run", lambda run: shutil.rmtree(run), "the run folder does not exist"),
    ("an empty folder", lambda run: (shutil.rmtree(run), run.mkdir()), "the run has no configuration"),
    ("no configuration", gone("config.yaml"), "the run has no configuration"),
    ("a configuration that is a folder", folder("config.yaml"), "the configuration cannot be read"),
    ("an empty configuration", text("config.yaml", ""), "the configuration is not a mapping"),
    (
        "a configuration of bytes",
        lambda run: (run / "config.yaml").write_bytes(b"\xff\xfe\x00"),
        "the configuration cannot be read",
    ),
    (
        "a configuration of a newer version",
        edited("config.yaml", "version: 2", "version: 3"),
        "the configuration has another version",
    ),
    (
        "a configuration of no version",
        edited("config.yaml", "version: 2\n", ""),
        "the configuration has another version",
    ),
    (
        "a version that is a text",
        edited("config.yaml", "version: 2", "version: '2'"),
        "the configuration has another version",
    ),
    (
        "an unknown key",
        edited("config.yaml", "version: 2", "version: 2\nfliters: 3"),
        "unknown configuration key",
    ),
    ("a key twice", edited("config.yaml", "version: 2", "version: 2\nversion: 2"), "cannot be read"),
    ("a value of NaN", edited("config.yaml", "crop_mm: 32.0", "crop_mm: .nan"), "'crop_mm' is not allowed"),
    (
        "a value of 1e400",
        edited("config.yaml", "crop_mm: 32.0", "crop_mm: 1.0e+400"),
        "'crop_mm' is not allowed",
    ),
    (
        "a crop of 1e9 mm",
        edited("config.yaml", "crop_mm: 32.0", "crop_mm: 1.0e+9"),
        "'crop_mm' is not allowed",
    ),
    (
        "a YAML tag that runs code",
        edited("config.yaml", "version: 2", "version: !!python/object/apply:os.system [id]"),
        "cannot be read",
    ),
    ("a YAML bomb", edited("config.yaml", "version: 2", "version: &a [x, x]\nb: [*a, *a]"), "cannot be read"),
    ("100,000 brackets", text("config.yaml", "[" * 100_000), "cannot be read"),
    ("no record", gone("run.json"), "the run is not finished"),
    ("a record that is no JSON", text("run.json", "{"), "record is damaged"),
    ("a nested record", text("run.json", "[" * 10**6), "record is damaged"),
    ("a record with an unknown key", record(extra=1), "record is damaged"),
    ("an order of the components that is none", record(component_order=[0, 0, 1, 2]), "record is damaged"),
    ("an order of too many components", record(component_order=[0, 1, 2, 3, 4]), "record is damaged"),
    ("no weights", gone("weights.safetensors"), "the run has no weights"),
    (
        "weights of zero bytes",
        lambda run: ((run / "weights.safetensors").write_bytes(b""), unsigned(run)),
        "the weights are damaged",
    ),
    (
        "weights cut",
        lambda run: (
            (run / "weights.safetensors").write_bytes((run / "weights.safetensors").read_bytes()[:-50]),
            unsigned(run),
        ),
        "the weights are damaged",
    ),
    (
        "weights whose header claims 4 EB",
        lambda run: (huge_header(run), unsigned(run)),
        "the weights are damaged",
    ),
    ("weights tampered with", other_training, "the weights are not those that this training wrote"),
    (
        "weights of another model",
        tensors(lambda w: {f"x.{name}": t for name, t in w.items()}),
        "do not fit the run's configuration",
    ),
    ("weights of another shape", first(lambda t: torch.zeros(3, 3)), "do not fit the run's configuration"),
    (
        "a weight of NaN",
        first(lambda t: torch.full_like(t, float("nan"))),
        "do not fit the run's configuration",
    ),
    ("a tensor missing", tensors(lambda w: dict(list(w.items())[1:])), "do not fit the run's configuration"),
    ("a malicious pickle", lambda run: (plain_pickle(run), unsigned(run)), "the weights are damaged"),
    ("a malicious .pt", lambda run: (torch_pickle(run), unsigned(run)), "the weights are damaged"),
    ("a prior that is no JSON", text("prior.json", "x"), "the prior cannot be read"),
    ("a prior of NaN", edited("prior.json", '"means": [', '"means": [[NaN], '), "the prior cannot be"),
]


@pytest.fixture
def copy(run, tmp_path):
    return shutil.copytree(run, tmp_path / "run")


@pytest.mark.parametrize("case", CASES, ids=lambda case: case[0].replace(" ", "-"))
def test_runs(cli, place, copy, case):
    _, spoil, what = case
    spoil(copy)
    manifest = place.manifest()
    for arguments in (["predict", manifest, "-o", place.out, "--run", copy],
                      ["export", copy, "-o", place.out / "n.onnx", "--format", "onnx"]):  # fmt: skip
        result = cli(*arguments)
        assert_clean(result, 2)
        message = messages(result.err)[0]
        assert what in message["what"]
        assert message["file"].startswith(str(copy))
        assert "remedy" in message or "expected" in message
        assert_nothing_half(place.out, ())
    assert not (copy / "sprung").exists()


def test_the_clean_run(cli, place, run):
    assert_clean(cli("predict", place.manifest(), "-o", place.out, "--run", run), 0)
    assert_nothing_half(place.out, ("good", "bad"))


def test_a_run_of_an_older_version_has_no_digest(cli, place, copy):
    unsigned(copy)
    assert_clean(cli("predict", place.manifest(), "-o", place.out, "--run", copy), 0)


def test_a_run_is_no_anatomy_run(cli, place, run):
    result = cli("predict", place.manifest(), "-o", place.out, "--method", "em-gmm", "--anatomy", run)
    assert_clean(result, 2)


@pytest.mark.parametrize("writer", ["pickle", "torch", "zip", "text"])
def test_a_malicious_checkpoint_is_not_run(cli, place, copy, writer):
    """`train --resume` reads a checkpoint of a folder that somebody else may have made."""
    (copy / "run.json").unlink()
    checkpoint, sign = copy / "checkpoints" / "last.ckpt", copy / "sprung"
    if writer == "pickle":
        checkpoint.write_bytes(pickle.dumps(Trap(sign)))
    elif writer == "torch":
        torch.save({"state_dict": {}, "x": Trap(sign)}, checkpoint)
    elif writer == "zip":
        with zipfile.ZipFile(checkpoint, "w") as archive:
            archive.writestr("archive/data.pkl", pickle.dumps(Trap(sign)))
    else:
        checkpoint.write_text("hello")
    result = cli("train", place.manifest("training"), "-o", copy, "--resume", "--device", "cpu", "--quiet")
    assert_clean(result, 2)
    assert messages(result.err)[0]["file"] == str(checkpoint)
    assert not sign.exists()


PRIORS = {
    "text": b"hello",
    "empty": b"",
    "a list": b"[]",
    "nested": b"[" * 10**6,
    "bytes": b"\xff\xfe\x00",
    "1e400": b'{"classes": ["a"], "means": 1e400}',
    "pickle": pickle.dumps(Trap("sprung")),
}


@pytest.mark.parametrize("kind", PRIORS)
def test_priors(cli, place, kind):
    path = place.out.parent / "prior.json"
    path.write_bytes(PRIORS[kind])
    result = cli("predict", place.manifest(), "-o", place.out, "--method", "map-em", "--prior", path)
    assert_clean(result, 2)
    assert messages(result.err)[0]["file"] == str(path)
    assert "mrigmm prior" in messages(result.err)[0]["remedy"]
    assert_nothing_half(place.out, ())


@pytest.mark.parametrize("name", ["T2", "region"])
def test_an_array_of_objects_is_not_opened(cli, place, name, tmp_path):
    sign = tmp_path / "sprung"
    array = np.empty(1, dtype=object)
    array[0] = Trap(sign)
    np.save(tmp_path / "a.npy", array, allow_pickle=True)
    for suffix in (".npy", ".pt", ".nii.gz"):
        target = place.folder / f"x{suffix}"
        shutil.copy(tmp_path / "a.npy", target)
        if name == "region":
            place.bad["region"] = target.name
        else:
            place.bad["image"][name] = target.name
        result = cli("predict", place.manifest(), "-o", place.out, "--method", "em-gmm", "--overwrite")
        assert_clean(result, 2)
        assert "is not a NIfTI file" in result.err
    assert not sign.exists()
