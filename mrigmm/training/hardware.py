"""Accelerator, devices, nodes and precision of a training."""

from __future__ import annotations

import os
from dataclasses import asdict, dataclass
from typing import Any, Literal, get_args

import torch

from mrigmm.errors import InputError, near_misses

ACCELERATORS = ("auto", "cpu", "gpu")
# Others of Lightning's would turn intensities or mixtures into half precision.
Precision = Literal["32-true", "bf16-mixed", "16-mixed"]
PRECISIONS: tuple[Precision, ...] = get_args(Precision)
DEFAULT_PRECISION: Precision = "32-true"
# Names of SLURM jobs that are a shell.
_INTERACTIVE = ("bash", "interactive")


@dataclass(frozen=True)
class Hardware:
    """Hardware of a training.

    Attributes:
        accelerator: "cpu" or "gpu".
        devices: number of processes per node, or the indices of the GPUs of this node.
        num_nodes: number of computers.
        precision: arithmetic of the network.
    """

    accelerator: str
    devices: int | tuple[int, ...]
    num_nodes: int
    precision: Precision

    @property
    def n_processes(self) -> int:
        """Processes of all nodes together."""
        return self.num_nodes * (self.devices if isinstance(self.devices, int) else len(self.devices))

    def describe(self) -> dict[str, Any]:
        """Return what the run's record holds."""
        return {**asdict(self), "processes": self.n_processes}


def single_device(device: torch.device, precision: str, *, asked_for: bool) -> Hardware:
    """Return one device per process; as many processes as torchrun started.

    Args:
        device: the device.
        precision: one of `PRECISIONS`.
        asked_for: by the user, and not only the default. Tasks of srun then train each for itself.

    Raises:
        InputError: unknown precision, one device by its index for several processes, or several tasks of
            srun without a word whether they train together.
    """
    if slurm_tasks() > 1 and not asked_for:
        raise InputError(
            "srun started several tasks, and nothing says whether they train together",
            got=f"{slurm_tasks()} tasks",
            remedy="--accelerator, --devices and --num-nodes for one training, --device for one each",
        )
    per_node, nodes = _launched()
    if device.index is not None and per_node > 1:
        raise InputError(
            "one device was named for several processes",
            got=f"--device {device} in {per_node} processes per node",
            remedy="use --accelerator gpu, and let torchrun's --nproc-per-node say how many",
        )
    devices = per_node if device.index is None else (device.index,)
    accelerator = "gpu" if device.type == "cuda" else "cpu"
    return _checked(Hardware(accelerator, devices, nodes, _precision(precision)))


def several_devices(
    accelerator: str | None, devices: str | None, num_nodes: int | None, precision: str
) -> Hardware:
    """Devices as Lightning names them; what torchrun says is taken over.

    Args:
        accelerator: one of `ACCELERATORS`; None: "auto".
        devices: a number, "auto" (all GPUs; one process on the CPU), or indices of GPUs such as "0,2";
            None: as torchrun started, else "auto".
        num_nodes: number of computers; None: as torchrun started, else 1.
        precision: one of `PRECISIONS`.

    Raises:
        InputError: a value that is not allowed, or devices that are not there.
    """
    accelerator = accelerator or "auto"
    if accelerator not in ACCELERATORS:
        raise InputError(
            f"unknown accelerator '{accelerator}'", remedy=near_misses(accelerator, ACCELERATORS)
        )
    n_gpus = torch.cuda.device_count()
    if accelerator == "auto":
        accelerator = "gpu" if n_gpus else "cpu"
    per_node, nodes = _launched()
    launched = per_node * nodes > 1
    wanted = _devices(devices or (str(per_node) if launched else "auto"), accelerator, n_gpus)
    asked_nodes = nodes if num_nodes is None else num_nodes
    hardware = Hardware(accelerator, wanted, asked_nodes, _precision(precision))
    if launched and hardware.n_processes != per_node * nodes:
        raise InputError(
            "the devices do not fit the processes that torchrun started",
            expected=f"{per_node} devices on each of {nodes} nodes",
            got=f"{wanted} devices on each of {hardware.num_nodes} nodes",
            remedy="leave out --devices and --num-nodes: torchrun says them",
        )
    if hardware.n_processes != slurm_tasks() > 1:
        raise InputError(
            "the devices do not fit the tasks that srun started",
            expected=f"{slurm_tasks()} processes",
            got=f"{wanted} devices on each of {hardware.num_nodes} nodes",
            remedy="--devices is --ntasks-per-node, --num-nodes is --nodes",
        )
    _require_srun(hardware)
    return _checked(hardware)


def _devices(text: str, accelerator: str, n_gpus: int) -> int | tuple[int, ...]:
    """`--devices` as a number, or as indices of GPUs."""
    if text == "auto":
        return n_gpus if accelerator == "gpu" else 1
    parts = [part.strip() for part in text.split(",") if part.strip()]
    if not parts or not all(part.isascii() and part.isdigit() for part in parts):
        raise InputError(
            "--devices is not a number of devices",
            expected="a number, auto, or indices of GPUs such as 0,2",
            got=text,
        )
    numbers = tuple(int(part) for part in parts)
    if "," not in text:
        if numbers[0] == 0:
            raise InputError("a training needs one device at least", got=f"--devices {text}")
        return numbers[0]
    if accelerator != "gpu":
        raise InputError(
            "only GPUs have indices", got=f"--devices {text}", remedy="give the number of processes"
        )
    if len(set(numbers)) < len(numbers):
        raise InputError("a GPU is named twice", got=f"--devices {text}")
    return numbers


def gpus_text() -> str:
    """Return the GPUs that torch finds on this computer, or why it can find none."""
    if torch.version.cuda is None and torch.version.hip is None:
        return f"PyTorch {torch.__version__}, which is built without CUDA"
    n_gpus = torch.cuda.device_count()
    return f"{n_gpus} {'GPU' if n_gpus == 1 else 'GPUs'}"


def slurm_tasks() -> int:
    """Tasks that srun started, this one among them; 1 without srun, or under torchrun."""
    tasks = os.environ.get("SLURM_STEP_NUM_TASKS", "1")
    return int(tasks) if tasks.isdecimal() and "LOCAL_WORLD_SIZE" not in os.environ else 1


def _require_srun(hardware: Hardware) -> None:
    """Refuse several processes that SLURM was asked for but did not start: each would wait for the others.

    In an interactive shell on one node, Lightning starts them itself.
    """
    tasks = os.environ.get("SLURM_NTASKS")
    alone = tasks is not None and slurm_tasks() == 1 and "LOCAL_WORLD_SIZE" not in os.environ
    interactive = os.environ.get("SLURM_JOB_NAME") in _INTERACTIVE and hardware.num_nodes == 1
    if alone and hardware.n_processes > 1 and not interactive:
        raise InputError(
            "nothing starts the other processes of this training",
            expected=f"{hardware.n_processes} tasks that srun started",
            got=f"SLURM_NTASKS={tasks}, and this process alone",
            remedy="start it with srun (or torchrun), see docs/training.md",
        )


def _launched() -> tuple[int, int]:
    """Processes per node and nodes as torchrun started them; one and one without it."""
    try:
        per_node = int(os.environ.get("LOCAL_WORLD_SIZE", "1"))
        total = int(os.environ.get("WORLD_SIZE", "1")) if "LOCAL_WORLD_SIZE" in os.environ else 1
    except ValueError:
        raise InputError(
            "WORLD_SIZE or LOCAL_WORLD_SIZE is not a number", remedy="unset it, or start with torchrun"
        ) from None
    return per_node, max(total // max(per_node, 1), 1)


def _precision(name: str) -> Precision:
    for known in PRECISIONS:
        if name == known:
            return known
    raise InputError(f"unknown precision '{name}'", remedy=near_misses(name, PRECISIONS))


def _checked(hardware: Hardware) -> Hardware:
    if hardware.precision == "16-mixed" and hardware.accelerator == "cpu":
        raise InputError("a CPU has no 16-mixed precision", remedy="use bf16-mixed or 32-true")
    if hardware.num_nodes < 1:
        raise InputError("a training needs one node at least", got=f"--num-nodes {hardware.num_nodes}")
    n_gpus = torch.cuda.device_count()
    needed = hardware.devices if isinstance(hardware.devices, int) else max(hardware.devices, default=-1) + 1
    if hardware.accelerator == "gpu" and not 0 < needed <= n_gpus:
        raise InputError(
            "there are not as many GPUs",
            expected=f"{needed} per node" if needed else "a GPU that torch can use",
            got=gpus_text(),
            remedy="use --accelerator cpu, or fewer --devices",
        )
    return hardware
