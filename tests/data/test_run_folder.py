import json
import os
import pickle
import stat

import pytest
import torch
from safetensors.torch import load_file, save_file

from mrigmm.config import make_config
from mrigmm.data.priors.shipped import default_prior
from mrigmm.data.run_folder import RunFolder, RunRecord
from mrigmm.errors import InputError

RECORD = RunRecord(
    classes=("blood", "scar"),
    sequences=("LGE", "T2"),
    component_order=(1, 0),
    training_studies=("a", "b"),
    versions={"torch": "2.13.0"},
)


def network(width=4):
    torch.manual_seed(0)
    return torch.nn.Sequential(torch.nn.Linear(3, width), torch.nn.BatchNorm1d(width))


@pytest.fixture
def run(tmp_path):
    folder = RunFolder(tmp_path / "run")
    folder.write_settings(make_config("tiny"), default_prior(), None)
    folder.write_weights(network())
    folder.write_record(RECORD)
    return folder


def test_a_run_comes_back(run):
    config, record, prior = run.read()
    assert config == make_config("tiny")
    assert record == RECORD
    assert prior.to_dict() == default_prior().to_dict()
    other = network()
    with torch.no_grad():
        for parameter in other.parameters():
            parameter.zero_()
    run.load_weights(other)
    for name, tensor in network().state_dict().items():
        torch.testing.assert_close(other.state_dict()[name], tensor)


def test_every_file_of_a_run_may_be_read_by_those_whom_the_umask_allows(tmp_path):
    before = os.umask(0o027)
    try:
        run = RunFolder(tmp_path)
        run.write_settings(make_config("tiny"), default_prior(), None)
        run.write_weights(network())
    finally:
        os.umask(before)
    modes = {file.name: stat.S_IMODE(file.stat().st_mode) for file in tmp_path.iterdir()}
    assert modes == {"config.yaml": 0o640, "prior.json": 0o640, "weights.safetensors": 0o640}


def test_a_run_without_prior(tmp_path):
    folder = RunFolder(tmp_path)
    folder.write_settings(make_config("tiny"), None, None)
    folder.write_record(RECORD)
    assert folder.read()[2] is None
    assert sorted(p.name for p in tmp_path.iterdir()) == ["config.yaml", "run.json"]


def test_missing_parts(run, tmp_path):
    with pytest.raises(InputError, match="the run folder does not exist"):
        RunFolder(tmp_path / "no").read()
    with pytest.raises(InputError, match="the run has no configuration"):
        RunFolder(tmp_path).read()
    run.record.unlink()
    with pytest.raises(InputError, match="the run is not finished") as caught:
        run.read()
    assert "--resume" in caught.value.problems[0].remedy
    run.weights.unlink()
    with pytest.raises(InputError, match="the run has no weights"):
        run.load_weights(network())


@pytest.mark.parametrize(
    "content",
    [b"", b"{", b"\xff", b"[]", b"{}", b"[" * 100_000, json.dumps({**RECORD.model_dump(), "x": 1}).encode()],
)
def test_a_damaged_record(run, content):
    run.record.write_bytes(content)
    with pytest.raises(InputError, match="the run's record is damaged") as caught:
        run.read()
    assert caught.value.problems[0].file == str(run.record)


def test_misfits_are_named_one_by_one(run):
    with pytest.raises(InputError, match="do not fit the run's configuration") as caught:
        run.load_weights(network(width=5))
    got = caught.value.problems[0].got
    assert "0.weight: expected (5, 3), got (4, 3)" in got
    assert "1.running_mean: expected (5,), got (4,)" in got


def test_missing_and_superfluous_tensors_are_named(run):
    tensors = load_file(run.weights)
    tensors["foreign"] = tensors.pop("0.bias")
    save_file(tensors, run.weights)
    with pytest.raises(InputError) as caught:
        run.load_weights(network())
    assert caught.value.problems[0].got == "0.bias is missing; foreign is not part of the network"


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_weights_that_are_no_numbers(run, value):
    tensors = load_file(run.weights)
    tensors["0.bias"][2] = value
    save_file(tensors, run.weights)
    with pytest.raises(InputError, match=r"0\.bias has NaN or infinite values"):
        run.load_weights(network())


class Bomb:
    """A pickle of this would write a file when loaded."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return (open, (str(self.path), "w"))


@pytest.mark.parametrize("writer", ["pickle", "torch"])
def test_a_pickle_is_refused_unopened(run, tmp_path, writer):
    mark = tmp_path / "was-run"
    content = {"0.weight": Bomb(mark)}
    if writer == "pickle":
        run.weights.write_bytes(pickle.dumps(content))
    else:
        torch.save(content, run.weights)
    with pytest.raises(InputError, match="the weights are damaged") as caught:
        run.load_weights(network())
    assert caught.value.problems[0].file == str(run.weights)
    assert not mark.exists()


def test_a_truncated_weights_file(run):
    content = run.weights.read_bytes()
    for n in (0, 7, len(content) - 1):
        run.weights.write_bytes(content[:n])
        with pytest.raises(InputError, match="the weights are damaged"):
            run.load_weights(network())
