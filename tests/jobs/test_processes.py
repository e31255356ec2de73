import json

import numpy as np
import pytest
import torch

import mrigmm
from mrigmm.errors import InputError
from mrigmm.jobs.processes import Processes, joined_processes, part_of
from mrigmm.mixture import PARTIAL_SUMS


@pytest.mark.parametrize("count", [1, 2, 3, 9])
def test_each_item_is_in_exactly_one_share(count):
    items = tuple("abcdefg")
    shares = [Processes(rank, count).share(items) for rank in range(count)]
    assert sorted(item for share in shares for item in share) == list(items)
    assert max(map(len, shares)) - min(map(len, shares)) <= 1


@pytest.mark.parametrize("count", [1, 2, 3, 4, 2000])
def test_each_summand_is_added_by_one_process_in_order(count):
    """Those that share a partial sum come from the same process."""
    items = [f"s{i}" for i in range(2500)]
    parts = [Processes(rank, count).summands(items) for rank in range(count)]
    assert sorted(pair for part in parts for pair in part) == list(enumerate(items))
    owner = {position: rank for rank, part in enumerate(parts) for position, _ in part}
    assert all(owner[i] == owner[i % PARTIAL_SUMS] for i in range(2500))
    assert all(part == sorted(part) for part in parts)


@pytest.mark.parametrize("count", [1, 2, 5])
def test_each_item_is_in_exactly_one_part(count):
    parts = [part_of("abcde", f"{k}/{count}") for k in range(1, count + 1)]
    assert sorted("".join(parts)) == list("abcde")
    assert part_of("abcde", f"1/{count}")[0] == "a"
    assert part_of("abcde", f" 1 / {count}") == parts[0]


@pytest.mark.parametrize(
    ("part", "message"),
    [
        ("3", "must be K/N"),
        ("a/b", "must be K/N"),
        ("1/2/3", "must be K/N"),
        ("-1/3", "must be K/N"),
        ("0/3", "count from 1"),
        ("4/3", "there is no such part"),
        ("0/0", "at least one part"),
        ("6/9", "at most 5 parts"),
    ],
)
def test_parts_that_are_none(part, message):
    with pytest.raises(InputError, match=message):
        part_of("abcde", part)


def test_tasks_of_srun_do_not_all_do_the_same(monkeypatch):
    monkeypatch.setenv("SLURM_STEP_NUM_TASKS", "4")
    with pytest.raises(InputError, match="whole job") as caught, joined_processes():
        pass
    assert "docs/scale.md" in caught.value.problems[0].remedy
    with joined_processes(apart=True) as processes:
        assert processes.count == 1


def test_alone_without_torchrun():
    with joined_processes() as processes:
        assert (processes.rank, processes.count, processes.first) == (0, 1, True)
        processes.wait()
        assert processes.gather(["a"]) == ["a"]
        assert processes.add_up(np.ones(2)).tolist() == [1.0, 1.0]


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


@pytest.mark.slow
def test_one_mixture_of_a_cohort_from_1_2_and_4_processes(workshop, tmp_path, torchrun):
    """The same bits; with a study that cannot be read and one without T2."""
    entries = [workshop.study(f"p{i}", seed=i) for i in range(3)]
    entries.append(workshop.study("no T2", sequences=("LGE", "bSSFP"), seed=7))
    damaged = {**entries[0], "id": "damaged", "region": "nowhere.nii.gz"}
    manifest = workshop.manifest([damaged, *entries])
    settings = ("scope=cohort", "covariance=full")
    mrigmm.predict(manifest, tmp_path / "1", method="em-gmm", overrides=settings, device="cpu")
    names = sorted(file.name for file in (tmp_path / "1").iterdir())
    options = [part for text in settings for part in ("--set", text)]
    for count in (2, 4):
        out = tmp_path / str(count)
        command = ("predict", manifest, "-o", out, "--method", "em-gmm", "--device", "cpu", *options)
        result = torchrun(*command, "--quiet", processes=count)
        assert "segmented 4 studies" in result.out
        assert result.err.count("study: damaged") == 1
        assert sorted(file.name for file in out.iterdir()) == names
        for entry in entries:
            one, many = (
                json.loads((folder / f"{entry['id']}.json").read_text()) for folder in (tmp_path / "1", out)
            )
            for key in ("mixture", "mean_log_likelihood", "iterations", "cohort_studies", "volume_ml"):
                assert many[key] == one[key]
            assert many["cohort_studies"] == 4
            labels = f"{entry['id']}_labels.nii.gz"
            assert (out / labels).read_bytes() == (tmp_path / "1" / labels).read_bytes()
