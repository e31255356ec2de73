"""Speed, use and memory of a device, and how far its results are from those of the CPU.

    python scripts/benchmark_device.py --device cuda

Predictions. `mrigmm.predict` on simulated studies from files to files, by `map-em` and by a default run
(random weights: the time does not depend on them); after a study that warms up, medians over the rounds.
Equality: the same studies on the CPU, with probabilities: the share of the voxels that have a label there and
another one here, and the largest difference of a probability.

Training. Steps of the default preset (batch 4 of 160 x 160; augmentation, forward, loss, backward, clipping,
AdamW), the batch fetched from the CPU in each, from pinned memory where there is a GPU. Precisions are those
of `mrigmm train`; autocast as Lightning does it. `compiled` is `torch.compile` of the network, only here: the
package does not use it. Equality: the first step's objective beside that of the CPU in 32-true.

A GPU's busy share is the time in which it ran a kernel or copied, over the time of the clock, from
torch.profiler in a round of its own; its memory is what tensors held at most. A CPU's is CPU time over
the clock and the threads; its memory is the largest resident memory of the process (Linux).
"""

from __future__ import annotations

import json
import platform
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import torch
from benchmark_end_to_end import cohort_of, part_of, random_run
from benchmark_prediction import BATCH, CLASSES, SEED, SEQUENCES, gem_batch, training_batch
from benchmarking import forget_peak, markdown_table, peak_mib, save_numbers, script_parser

import mrigmm
from mrigmm.config import make_config
from mrigmm.jobs.common import LABELS_SUFFIX, PROBABILITIES_SUFFIX, select_device
from mrigmm.methods.deep_gem import build_spatial_prior
from mrigmm.training.batches import TrainingBatch
from mrigmm.training.gem_module import DeepGEMModule

CPU = torch.device("cpu")
FILTERS = make_config("default").filters
# What Lightning's precisions compute the network in.
DTYPES = {"32-true": None, "bf16-mixed": torch.bfloat16, "16-mixed": torch.float16}
WARM_STEPS = 3


# The clock, the busy share, the memory


def synchronise(device: torch.device) -> None:
    """Wait until the device has done all that it was given."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def wall_s(device: torch.device, work: Callable[[], object]) -> float:
    """Seconds that some work takes, until the device has done it."""
    synchronise(device)
    begin = time.perf_counter()
    work()
    synchronise(device)
    return time.perf_counter() - begin


@dataclass(frozen=True)
class Use:
    """How busy a device is, 0 to 1, and what it holds at most, MiB."""

    busy: float
    peak_mib: float


def use_of(device: torch.device, work: Callable[[], object]) -> Use:
    """Busy share and memory while some work is done; slower than without."""
    if device.type != "cuda":
        forget_peak()
        used, begin = time.process_time(), time.perf_counter()
        work()
        share = (time.process_time() - used) / (time.perf_counter() - begin)
        return Use(share / torch.get_num_threads(), peak_mib())
    torch.cuda.reset_peak_memory_stats(device)
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CUDA]) as profile:
        seconds = wall_s(device, work)
    ranges = [
        (event.time_range.start, event.time_range.end)
        for event in profile.events()
        if event.device_type == torch.autograd.DeviceType.CUDA and not event.is_user_annotation
    ]
    return Use(1e-6 * covered(ranges) / seconds, torch.cuda.max_memory_allocated(device) / 2**20)


def covered(ranges: Iterable[tuple[float, float]]) -> float:
    """Length of the union of (start, end): what runs beside something else counts once."""
    total, until = 0.0, -np.inf
    for start, end in sorted(ranges):
        total += max(0.0, end - max(start, until))
        until = max(until, end)
    return total


# Predictions


@dataclass(frozen=True)
class Prediction:
    """One program on one device."""

    program: str
    device: str
    studies_per_s: float
    busy: float
    peak_mib: float
    other_labels: float
    largest_difference: float


def predictions(folder: Path, device: torch.device, *, studies: int, rounds: int) -> list[Prediction]:
    """`map-em` and a default run on a simulated cohort."""
    run = random_run(folder / "run")
    everything = cohort_of(folder / "cohort", max(studies, 3))  # fewer cannot be divided
    cohort, warm = part_of(everything, studies), part_of(everything, 1)
    return [
        predicted(folder / name, name, what, cohort, warm, device, rounds)
        for name, what in {"map-em": {"method": "map-em"}, "default": {"run": run}}.items()
    ]


def predicted(
    folder: Path,
    name: str,
    what: Mapping[str, Any],
    cohort: Path,
    warm: Path,
    device: torch.device,
    rounds: int,
) -> Prediction:
    """Time, use and equality of one program."""
    numbers = iter(range(1_000_000))

    def work(manifest: Path, where: torch.device, **more: Any) -> Path:
        out = folder / str(next(numbers))
        outcome = mrigmm.predict(manifest, out, device=str(where), **what, **more)
        if outcome.failed:
            raise SystemExit(f"{name}: {outcome.problems}")
        return out

    work(warm, device)
    seconds = [wall_s(device, lambda: work(cohort, device)) for _ in range(rounds)]
    use = use_of(device, lambda: work(cohort, device))
    here = work(cohort, device, save_probabilities=True)
    other, largest = differences(work(cohort, CPU, save_probabilities=True), here)
    n_studies = len(json.loads(cohort.read_text())["test"])
    return Prediction(
        name, str(device), n_studies / float(np.median(seconds)), use.busy, use.peak_mib, other, largest
    )


def differences(cpu: Path, device: Path) -> tuple[float, float]:
    """Share of the CPU's labelled voxels with another label, and the largest difference of a probability."""
    labelled = other = 0
    largest = 0.0
    files = sorted(cpu.glob(f"*{LABELS_SUFFIX}"))
    assert files, f"{cpu} has no label maps"
    for file in files:
        study = file.name.removesuffix(LABELS_SUFFIX)
        expected, found = (np.asarray(nib.load(out / file.name).dataobj) for out in (cpu, device))
        labelled += int(np.count_nonzero(expected))
        other += int(np.count_nonzero(expected != found))
        maps = [nib.load(out / f"{study}{PROBABILITIES_SUFFIX}").get_fdata() for out in (cpu, device)]
        largest = max(largest, float(np.abs(maps[0] - maps[1]).max()))
    return other / labelled, largest


def prediction_table(rows: Sequence[Prediction]) -> str:
    """Markdown."""
    head = ["program", "device", "studies per s", "busy", "peak, MiB", "other labels than on the CPU"]
    return markdown_table(
        [*head, "largest difference of a probability"],
        [
            [
                *(f"`{row.program}`", row.device, f"{row.studies_per_s:.2f}", f"{row.busy:.0%}"),
                *(f"{row.peak_mib:.0f}", f"{row.other_labels:.1e}", f"{row.largest_difference:.1e}"),
            ]
            for row in rows
        ],
    )


# Training


@dataclass(frozen=True)
class Training:
    """Steps in one precision."""

    precision: str
    compiled: bool
    device: str
    slices_per_s: float
    busy: float
    peak_mib: float
    difference: float


class Steps:
    """Training steps of the default preset on a device.

    Args:
        device: where the network is.
        precision: one of `DTYPES`.
        compiled: compile the network.
        filters: of the U-Net at full resolution.
    """

    def __init__(self, device: torch.device, precision: str, *, compiled: bool, filters: int) -> None:
        config = make_config("default").model_copy(
            update={"sequences": SEQUENCES, "classes": CLASSES, "filters": filters}
        )
        torch.manual_seed(SEED)
        self.device, self.dtype, self.clip_norm = device, DTYPES[precision], config.clip_norm
        self.module = DeepGEMModule(build_spatial_prior(config), config).to(device)
        if compiled:
            self.module.network.compile()
        self.optimiser = torch.optim.AdamW(
            self.module.network.parameters(), lr=config.learning_rate, weight_decay=config.weight_decay
        )
        # Half precision alone has too small a range for gradients.
        self.scaler = torch.amp.GradScaler(device.type, enabled=self.dtype == torch.float16)
        batch = gem_batch(training_batch())
        self.batch: TrainingBatch = batch.pin_memory() if device.type == "cuda" else batch

    def step(self) -> torch.Tensor:
        """One step; its objective, still on the device."""
        batch = self.module.augmented(self.batch.to(self.device))
        with torch.autocast(self.device.type, self.dtype, enabled=self.dtype is not None):
            loss = self.module.objectives(batch)[0]["objective"]
        self.optimiser.zero_grad()
        self.scaler.scale(loss).backward()
        self.scaler.unscale_(self.optimiser)
        torch.nn.utils.clip_grad_norm_(self.module.network.parameters(), self.clip_norm)
        self.scaler.step(self.optimiser)
        self.scaler.update()
        return loss.detach()

    def run(self, n: int) -> None:
        """Several steps."""
        for _ in range(n):
            self.step()


def precisions(device: torch.device) -> list[str]:
    """Those that `mrigmm train` takes there."""
    return [name for name in DTYPES if device.type == "cuda" or name != "16-mixed"]


def trainings(
    device: torch.device, *, steps: int, rounds: int, filters: int = FILTERS, with_compiled: bool = True
) -> list[Training]:
    """Every precision, with and without a compiler; what cannot be compiled is said and left out."""
    expected = float(Steps(CPU, "32-true", compiled=False, filters=filters).step())
    found = []
    for compiled in (False, True) if with_compiled else (False,):
        for precision in precisions(device):
            try:
                if compiled:
                    torch.compiler.reset()  # nothing of one compilation is left to the next
                found.append(trained(device, precision, compiled, steps, rounds, filters, expected))
            except Exception as error:  # compilers fail in many ways
                if not compiled:
                    raise
                reason = str(error).strip().splitlines()[0] if str(error).strip() else ""
                print(f"not compiled, {precision}: {type(error).__name__}: {reason}", flush=True)
    return found


def trained(
    device: torch.device,
    precision: str,
    compiled: bool,
    steps: int,
    rounds: int,
    filters: int,
    expected: float,
) -> Training:
    """Speed, use and first objective in one precision."""
    training = Steps(device, precision, compiled=compiled, filters=filters)
    first = float(training.step())
    training.run(WARM_STEPS)
    seconds = [wall_s(device, lambda: training.run(steps)) for _ in range(rounds)]
    use = use_of(device, lambda: training.run(steps))
    return Training(
        precision,
        compiled,
        str(device),
        BATCH * steps / float(np.median(seconds)),
        use.busy,
        use.peak_mib,
        abs(first - expected) / abs(expected),
    )


def training_table(rows: Sequence[Training]) -> str:
    """Markdown."""
    return markdown_table(
        ["precision", "compiled", "device", "slices per s", "busy", "peak, MiB", "first objective, relative"],
        [
            [
                *(row.precision, "yes" if row.compiled else "no", row.device, f"{row.slices_per_s:.1f}"),
                *(f"{row.busy:.0%}", f"{row.peak_mib:.0f}", f"{row.difference:.1e}"),
            ]
            for row in rows
        ],
    )


def surroundings(device: torch.device) -> dict[str, Any]:
    """Return the circumstances that the numbers depend on."""
    found = {
        "torch": torch.__version__,
        "python": platform.python_version(),
        "threads": torch.get_num_threads(),
    }
    if device.type == "cuda":
        found["gpu"] = torch.cuda.get_device_name(device)
        # Convolutions in 10 bits of mantissa unless it is off: 32-true differs from the CPU by it.
        found["tf32 convolutions"] = torch.backends.cudnn.allow_tf32
    return found


def main() -> None:
    """Parse, measure, print, write."""
    parser = script_parser(__doc__)
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda or cuda:N")
    parser.add_argument("-o", "--out", type=Path, help="JSON file for the numbers")
    parser.add_argument("--studies", type=int, default=24)
    parser.add_argument("--steps", type=int, default=25, help="of a round")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--no-compile", action="store_true", help="leave out torch.compile")
    given = parser.parse_args()
    device = select_device(given.device)
    about = surroundings(device)
    print(", ".join(f"{name} {value}" for name, value in about.items()), flush=True)
    with tempfile.TemporaryDirectory() as folder:
        predicting = predictions(Path(folder), device, studies=given.studies, rounds=given.rounds)
    print("\n" + prediction_table(predicting), flush=True)
    training = trainings(device, steps=given.steps, rounds=given.rounds, with_compiled=not given.no_compile)
    sys.stdout.write("\n" + training_table(training) + "\n")
    parts = {"predictions": list(map(asdict, predicting)), "trainings": list(map(asdict, training))}
    save_numbers(given.out, {**about, **parts})


if __name__ == "__main__":
    main()
