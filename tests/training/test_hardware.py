import pytest
import torch

from mrigmm.errors import InputError
from mrigmm.training.hardware import Hardware, several_devices, single_device

CPU, SINGLE = torch.device("cpu"), "32-true"


@pytest.fixture
def gpus(monkeypatch):
    def there_are(n):
        monkeypatch.setattr(torch.cuda, "device_count", lambda: n)

    return there_are


@pytest.fixture
def torchrun(monkeypatch):
    def started(per_node, total):
        monkeypatch.setenv("LOCAL_WORLD_SIZE", str(per_node))
        monkeypatch.setenv("WORLD_SIZE", str(total))

    return started


def test_one_device(gpus):
    gpus(4)
    assert single_device(CPU, SINGLE, asked_for=False) == Hardware("cpu", 1, 1, SINGLE)
    third = single_device(torch.device("cuda:3"), "bf16-mixed", asked_for=True)
    assert third == Hardware("gpu", (3,), 1, "bf16-mixed")


@pytest.mark.parametrize(
    ("accelerator", "devices", "nodes", "expected", "processes"),
    [
        (None, None, None, Hardware("gpu", 4, 1, SINGLE), 4),
        ("gpu", "2", 3, Hardware("gpu", 2, 3, SINGLE), 6),
        ("gpu", "0,2", None, Hardware("gpu", (0, 2), 1, SINGLE), 2),
        ("auto", "3,", None, Hardware("gpu", (3,), 1, SINGLE), 1),
        ("cpu", None, None, Hardware("cpu", 1, 1, SINGLE), 1),
        ("cpu", "2", None, Hardware("cpu", 2, 1, SINGLE), 2),
    ],
)
def test_several_devices(gpus, accelerator, devices, nodes, expected, processes):
    gpus(4)
    hardware = several_devices(accelerator, devices, nodes, SINGLE)
    assert hardware == expected
    assert hardware.describe()["processes"] == processes


def test_torchrun_says_how_many(torchrun):
    torchrun(2, 6)
    assert single_device(CPU, SINGLE, asked_for=False) == Hardware("cpu", 2, 3, SINGLE)
    assert several_devices("cpu", None, None, SINGLE) == Hardware("cpu", 2, 3, SINGLE)
    with pytest.raises(InputError, match="that torchrun started"):
        several_devices("cpu", "3", None, SINGLE)


def test_one_gpu_by_its_index_is_not_for_several_processes(torchrun, gpus):
    gpus(2)
    torchrun(2, 2)
    with pytest.raises(InputError, match="one device was named"):
        single_device(torch.device("cuda:1"), SINGLE, asked_for=True)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("gpus", None, None, SINGLE), "did you mean gpu"),
        (("cpu", "two", None, SINGLE), "not a number of devices"),
        (("cpu", "-1", None, SINGLE), "not a number of devices"),
        (("cpu", "0", None, SINGLE), "one device at least"),
        (("cpu", "0,1", None, SINGLE), "only GPUs have indices"),
        (("gpu", "1,1", None, SINGLE), "named twice"),
        (("gpu", "0,7", None, SINGLE), "not as many GPUs"),
        (("gpu", "3", None, SINGLE), "not as many GPUs"),
        (("cpu", "1", 0, SINGLE), "one node at least"),
        (("cpu", "1", None, "bf16"), "did you mean bf16-mixed"),
        (("cpu", "1", None, "64-true"), "unknown precision"),
        (("cpu", "1", None, "16-mixed"), "no 16-mixed"),
    ],
)
def test_bad_values(gpus, arguments, message):
    gpus(2)
    with pytest.raises(InputError, match=message):
        several_devices(*arguments)


def test_no_gpu(gpus, monkeypatch):
    gpus(0)
    monkeypatch.setattr(torch.version, "cuda", "12.8")
    with pytest.raises(InputError, match="not as many GPUs") as caught:
        several_devices("gpu", None, None, SINGLE)
    assert (caught.value.problems[0].expected, caught.value.problems[0].got) == (
        "a GPU that torch can use",
        "0 GPUs",
    )
    monkeypatch.setattr(torch.version, "cuda", None)
    monkeypatch.setattr(torch.version, "hip", None)
    for devices in (None, "2"):
        with pytest.raises(InputError, match="not as many GPUs") as caught:
            several_devices("gpu", devices, None, SINGLE)
        assert caught.value.problems[0].got == f"PyTorch {torch.__version__}, which is built without CUDA"
    assert several_devices("auto", None, None, SINGLE).accelerator == "cpu"


def test_several_processes_that_nothing_starts_are_refused(monkeypatch):
    """In a job of SLURM with tasks, but without srun, each would wait for the others."""
    for name, value in {"NTASKS": "2", "NTASKS_PER_NODE": "2", "PROCID": "0"}.items():
        monkeypatch.setenv(f"SLURM_{name}", value)
    with pytest.raises(InputError, match="nothing starts the other processes") as caught:
        several_devices("cpu", "2", 1, SINGLE)
    assert caught.value.problems[0].remedy.startswith("start it with srun")
    assert several_devices("cpu", "1", None, SINGLE).n_processes == 1
    assert single_device(CPU, SINGLE, asked_for=False).n_processes == 1

    monkeypatch.setenv("SLURM_JOB_NAME", "interactive")  # Lightning starts them itself, on this node
    assert several_devices("cpu", "2", 1, SINGLE).n_processes == 2
    with pytest.raises(InputError, match="nothing starts the other processes"):
        several_devices("cpu", "2", 2, SINGLE)

    monkeypatch.setenv("LOCAL_WORLD_SIZE", "2")
    monkeypatch.setenv("WORLD_SIZE", "4")
    assert several_devices("cpu", "2", 2, SINGLE).n_processes == 4


def test_tasks_of_srun_train_together_only_when_told(monkeypatch):
    """They may as well be trainings of their own, which must not become one, nor share a folder."""
    monkeypatch.setenv("SLURM_STEP_NUM_TASKS", "4")
    with pytest.raises(InputError, match="whether they train together"):
        single_device(CPU, SINGLE, asked_for=False)
    assert single_device(CPU, SINGLE, asked_for=True).n_processes == 1
    assert several_devices("cpu", "2", 2, SINGLE).n_processes == 4
    for devices, nodes in (("1", None), ("2", 1), (None, None), ("4", 2)):
        with pytest.raises(InputError, match="that srun started"):
            several_devices("cpu", devices, nodes, SINGLE)
