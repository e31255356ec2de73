import json

import pytest
import torch

import mrigmm
from mrigmm.errors import InputError
from mrigmm.jobs.processes import Processes, joined_processes


@pytest.mark.parametrize("count", [1, 2, 3, 9])
def test_each_item_is_in_exactly_one_share(count):
    items = tuple("abcdefg")
    shares = [Processes(rank, count).share(items) for rank in range(count)]
    assert sorted(item for share in shares for item in share) == list(items)
    assert max(map(len, shares)) - min(map(len, shares)) <= 1


def test_alone_without_torchrun():
    with joined_processes() as processes:
        assert (processes.rank, processes.count, processes.first) == (0, 1, True)
        processes.wait()
        assert processes.gather(["a"]) == ["a"]


@pytest.mark.parametrize("missing", ["RANK", "MASTER_ADDR", "LOCAL_RANK"])
def test_half_an_environment_is_refused(monkeypatch, missing):
    """Not a silent share of the studies."""
    whole = {
        "RANK": "0",
        "WORLD_SIZE": "2",
        "LOCAL_RANK": "0",
        "MASTER_ADDR": "localhost",
        "MASTER_PORT": "1",
    }
    for name, value in whole.items():
        monkeypatch.setenv(name, value)
    monkeypatch.delenv(missing)
    with pytest.raises(InputError, match="not as torchrun does"), joined_processes():
        pass


def test_gpus_are_taken_in_turn(monkeypatch):
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    fourth = Processes(3, 4, local_rank=3)
    assert [fourth.device(name) for name in ("auto", "cuda", "cpu", "cuda:0")] == [
        "cuda:1",
        "cuda:1",
        "cpu",
        "cuda:0",
    ]
    assert Processes().device("auto") == "auto"


@pytest.mark.slow
def test_two_processes_share_a_cohort(cohort, tmp_path, torchrun):
    """Every study once, the same files as from one process, one summary; a bad study is told once."""
    content = json.loads(cohort.read_text())
    root = cohort.parent
    entries = [entry for split in ("training", "test") for entry in content.get(split, [])]
    damaged = {**entries[0], "id": "damaged", "image": {"LGE": "nowhere.nii.gz"}}
    manifest = tmp_path / "manifest.json"
    manifest.write_text(
        json.dumps(
            {"modality": content["modality"], "labels": content["labels"], "test": [damaged, *entries]}
        )
    )
    arguments = ("predict", manifest, "--data-root", root, "--method", "em-gmm", "--device", "cpu", "--quiet")
    result = torchrun(*arguments, "-o", tmp_path / "two")
    alone = mrigmm.predict(manifest, tmp_path / "one", data_root=root, method="em-gmm", device="cpu")

    assert len(alone.done) == len(entries)
    assert f"segmented {len(entries)} studies" in result.out
    assert result.out.count("segmented") == 1
    assert result.err.count("study: damaged") == 1
    assert result.code != 0  # torchrun's own code for "a process ended with an error"
    names = [sorted(file.name for file in (tmp_path / where).iterdir()) for where in ("one", "two")]
    assert names[0] == names[1]
    for name in names[0]:
        if not name.endswith(".json"):  # those hold the seconds
            assert (tmp_path / "one" / name).read_bytes() == (tmp_path / "two" / name).read_bytes()

    again = torchrun(*arguments, "-o", tmp_path / "two")
    assert again.code != 0
    assert "already has results" in again.err
