"""Speed of reading studies, against the plain MONAI dictionary chain, and of a second epoch from memory.

Two simulated cohorts are written to a temporary folder: one with all sequences on one grid, one with a
grid per sequence. The two programs run in turn over the whole cohort, and the medians of the repeats are
compared, so that a busy machine harms both alike; one thread. CPU time is listed beside the wall clock,
which means little on a machine that is shared.

The chain gets what it cannot know by itself: the reader, and the orientation that puts a study's slices
last. It does not check what it reads. MONAI's NormalizeIntensityd has no mask, so that mean and SD inside
the region are computed and handed to NormalizeIntensity. That both give the same is asserted.

`--waiting` measures something else instead: how long the training loop of the default preset waits for its
data in the second epoch, over what is left of that epoch: from memory, from the disk, by a worker.
"""

from __future__ import annotations

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")

import json
import sys
import tempfile
import time
import warnings
from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median
from typing import Any
from unittest.mock import patch

import monai
import torch
from benchmarking import machine, save_numbers, script_parser
from monai.transforms import (
    Compose,
    ConcatItemsd,
    EnsureChannelFirstd,
    LoadImaged,
    MapTransform,
    NormalizeIntensity,
    Orientationd,
    ResampleToMatchd,
)
from torch.utils.data import DataLoader, dataloader

import mrigmm
from mrigmm.data.crops import network_view
from mrigmm.data.geometry import slices_last
from mrigmm.data.manifest import Manifest, Study
from mrigmm.data.manifest_file import read_manifest
from mrigmm.data.run_folder import RunFolder, read_log
from mrigmm.data.study import load_study
from mrigmm.data.study_tensors import StudyTensors
from mrigmm.labels import TISSUES, allowed_classes
from mrigmm.phantom import simulate_cohort
from mrigmm.training.batches import MixtureBatchSampler, SliceDataset, TrainingStudy, collate
from mrigmm.training.cache import Cache
from mrigmm.training.fit import training_study

# Largest difference in SD of the region: both compute in float64 and store float32.
TOLERANCE = 1e-4
LOADING_TARGET, EPOCH_TARGET, WAITING_TARGET = 3.0, 50.0, 0.05
LOADERS: tuple[tuple[Cache, int], ...] = (("memory", 0), ("disk", 0), ("disk", 1))  # and workers
PRESETS = {"one grid": "cohort", "a grid per sequence": "hard-acquisition"}


@dataclass(frozen=True)
class Row:
    """One cohort: medians in ms per study, wall clock and CPU, their ratios, and the largest difference."""

    case: str
    studies: int
    chain_ms: float
    ours_ms: float
    ratio: float
    chain_cpu_ms: float
    ours_cpu_ms: float
    cpu_ratio: float
    difference: float
    first_epoch_ms: float
    second_epoch_ms: float
    epoch_ratio: float


class NormalizeInsided(MapTransform):
    """NormalizeIntensity by mean and SD inside a mask."""

    def __init__(self, keys: list[str], mask: str) -> None:
        super().__init__(keys)
        self.mask = mask

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Standardise the images of `keys`."""
        out = dict(data)
        inside = out[self.mask] > 0
        for key in self.keys:
            values = out[key][inside]
            scale = NormalizeIntensity(
                subtrahend=float(values.mean()), divisor=float(values.std(unbiased=False))
            )
            out[key] = scale(out[key])
        return out


def chain_of(study: Study, axcodes: str) -> Callable[[], dict[Hashable, Any]]:
    """The MONAI chain of one study, ready to run."""
    names = list(study.images)
    keys = [*names, "region"]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of readers that are offered and not asked for
        load = LoadImaged(keys, reader="NibabelReader")
    chain = Compose(
        [
            load,
            EnsureChannelFirstd(keys),
            ResampleToMatchd(
                [name for name in names if name != "LGE"],
                key_dst="LGE",
                mode="bilinear",
                padding_mode="border",
                align_corners=False,
            ),
            Orientationd(keys, axcodes=axcodes, labels=(("L", "R"), ("P", "A"), ("I", "S"))),
            NormalizeInsided(names, "region"),
            ConcatItemsd(names, "image"),
        ]
    )
    files = {name: str(path) for name, path in study.images.items()} | {"region": str(study.region)}
    return lambda: chain(files)


def largest_difference(ours: StudyTensors, theirs: Mapping[Hashable, Any]) -> float:
    """Largest difference in SD where the sequences were acquired; the regions have to be equal.

    Ours clips voxels far beyond those of the region (docs/data.md), and the chain does not: sequences with
    such voxels in the region, which carry a warning, are left out; elsewhere the chain's are clipped to the
    same range before they are compared.
    """
    assert torch.equal(ours.region > 0, theirs["region"].as_tensor()[0] > 0)
    names = [name for name, there in zip(ours.sequences, ours.present, strict=True) if there]
    apart = [0.0]
    for channel, name in zip(theirs["image"].as_tensor(), names, strict=True):
        if any(text.startswith(f"{name}: ") and "extreme" in text for text in ours.warnings):
            continue
        expected = ours.image[ours.sequences.index(name)]
        seen = ours.observed[ours.sequences.index(name)]
        clipped = channel.clamp(expected.min(), expected.max())
        apart.append(float((clipped - expected)[seen].abs().max()))
    return max(apart)


def in_turn(
    one: Callable[[], object], other: Callable[[], object], repeats: int
) -> tuple[tuple[float, float], tuple[float, float]]:
    """Median (wall, CPU) seconds of two programs that run alternately."""
    wall: tuple[list[float], list[float]] = ([], [])
    cpu: tuple[list[float], list[float]] = ([], [])
    for repeat in range(repeats + 1):
        for program, walls, cpus in zip((one, other), wall, cpu, strict=True):
            begin = time.perf_counter(), time.process_time()
            program()
            if repeat:  # the first round warms caches
                walls.append(time.perf_counter() - begin[0])
                cpus.append(time.process_time() - begin[1])
    return (median(wall[0]), median(cpu[0])), (median(wall[1]), median(cpu[1]))


def prepare(cohort: Manifest, studies: tuple[Study, ...]) -> list[TrainingStudy]:
    """Files to what training keeps in memory."""
    prepared = []
    for study in studies:
        tensors = read(cohort, study)
        view = network_view(tensors, spacing_mm=0.75, crop_mm=120.0, divisor=16)
        prepared.append(training_study(study.id, view, tensors.present))
    return prepared


def epoch(studies: list[TrainingStudy]) -> int:
    """Every slice once, in shuffled batches, as training loads them; returns how many batches."""
    dataset = SliceDataset(studies)
    sampler = MixtureBatchSampler(
        [study.shape for study in studies], batch_slices=32, scope="slice", flip_probability=0.5, seed=0
    )
    allowed = torch.tensor(allowed_classes(tuple(TISSUES)), dtype=torch.bool)
    return len([collate(dataset[share], scope="slice", allowed=allowed) for share in sampler])


def read(cohort: Manifest, study: Study) -> StudyTensors:
    """Our way from files to tensors."""
    return load_study(study, cohort.sequences, tuple(TISSUES), labels=cohort.labels)


def measure(case: str, folder: Path, studies: int, seed: int, repeats: int) -> Row:
    """Simulate a cohort, show that both programs agree, and time them."""
    manifest = simulate_cohort(folder / "cohort", n_studies=studies, seed=seed, preset=PRESETS[case])
    cohort = read_manifest(manifest)
    entries = cohort.split("all")
    ours = [read(cohort, study) for study in entries]
    chains = [
        chain_of(s, slices_last(tensors.output.grid).axcodes)
        for s, tensors in zip(entries, ours, strict=True)
    ]
    difference = max(largest_difference(o, chain()) for o, chain in zip(ours, chains, strict=True))
    assert difference < TOLERANCE, f"{case}: the results differ by {difference}"

    theirs, mine = in_turn(
        lambda: [chain() for chain in chains], lambda: [read(cohort, study) for study in entries], repeats
    )
    kept = prepare(cohort, entries)
    first, second = in_turn(lambda: epoch(prepare(cohort, entries)), lambda: epoch(kept), repeats)
    per_study = 1e3 / len(entries)
    return Row(
        case=f"{case} ({PRESETS[case]}, seed {seed})",
        studies=studies,
        chain_ms=theirs[0] * per_study,
        ours_ms=mine[0] * per_study,
        ratio=theirs[0] / mine[0],
        chain_cpu_ms=theirs[1] * per_study,
        ours_cpu_ms=mine[1] * per_study,
        cpu_ratio=theirs[1] / mine[1],
        difference=difference,
        first_epoch_ms=first[0] * per_study,
        second_epoch_ms=second[0] * per_study,
        epoch_ratio=first[0] / second[0],
    )


@dataclass(frozen=True)
class Waiting:
    """How long a training waited for its data, s: per epoch, and the whole epochs."""

    cache: Cache
    num_workers: int
    waited: tuple[float, ...]
    epochs: tuple[float, ...]

    @property
    def share(self) -> float:
        """Share of the second epoch: waiting over all else."""
        return self.waited[1] / (self.epochs[1] - self.waited[1])


@contextmanager
def timed_loading() -> Iterator[list[float]]:
    """Seconds that every pass through a `DataLoader` inside the block was waited for."""
    passes: list[float] = []
    begin_pass = DataLoader.__iter__
    next_batch = dataloader._BaseDataLoaderIter.__next__

    def timed(function: Callable[..., Any]) -> Callable[..., Any]:
        def run(*args: Any) -> Any:
            if function is begin_pass:
                passes.append(0.0)
            begin = time.perf_counter()
            try:
                return function(*args)
            finally:
                passes[-1] += time.perf_counter() - begin

        return run

    with (
        patch.object(DataLoader, "__iter__", timed(begin_pass)),
        patch.object(dataloader._BaseDataLoaderIter, "__next__", timed(next_batch)),
    ):
        yield passes


def waiting(
    manifest: Path, run: Path, cache: Cache, num_workers: int, overrides: Sequence[str] = ()
) -> Waiting:
    """Train two epochs of the default preset on the CPU."""
    with timed_loading() as passes:
        mrigmm.train(
            manifest,
            run,
            overrides=["epochs=2", *overrides],
            device="cpu",
            cache=cache,
            num_workers=num_workers,
        )
    epochs = read_log(RunFolder(run).log)["seconds"]
    assert len(passes) == len(epochs) == 2
    return Waiting(cache, num_workers, tuple(passes), tuple(epochs))


def all_waiting(folder: Path, studies: int, seed: int) -> list[Waiting]:
    """From memory, from the disk, and from the disk by a worker."""
    manifest = simulate_cohort(folder / "cohort", n_studies=studies, seed=seed, preset=PRESETS["one grid"])
    content = json.loads(manifest.read_text())
    splits = ("training", "validation", "test")
    everything = [study for split in splits for study in content.pop(split, [])]
    manifest.write_text(json.dumps({**content, "training": everything}))
    return [waiting(manifest, folder / f"{cache}_{n}", cache, n) for cache, n in LOADERS]


def waiting_table(found: list[Waiting]) -> str:
    """Markdown."""
    lines = [
        "| `--cache` | `--num-workers` | first epoch, s | waited, s | second epoch, s | waited, s "
        "| waited / rest of the second | asked |",
        "|" + "---|" * 8,
    ]
    for w in found:
        (first, second), (before, waited) = w.epochs, w.waited
        met = "" if w.share <= WAITING_TARGET else ", missed"
        lines.append(
            f"| {w.cache} | {w.num_workers} | {first:.1f} | {before:.2f} | {second:.1f} | {waited:.2f} "
            f"| {w.share:.1%} | {WAITING_TARGET:.0%}{met} |"
        )
    return "\n".join(lines)


def verdict(ratio: float, target: float) -> str:
    """Return what was asked for, and whether it was met."""
    return f"{target:g}{'' if ratio >= target else ', missed'}"


def table(rows: list[Row]) -> str:
    """Markdown; milliseconds per study."""
    lines = [
        "| cohort | MONAI chain, ms | ours, ms | ratio | asked | CPU: chain, ms | ours, ms | ratio "
        "| largest difference, SD | first epoch, ms | second, ms | ratio | asked |",
        "|" + "---|" * 13,
    ]
    lines += [
        f"| {r.case} | {r.chain_ms:.1f} | {r.ours_ms:.1f} | {r.ratio:.1f} "
        f"| {verdict(r.ratio, LOADING_TARGET)} "
        f"| {r.chain_cpu_ms:.1f} | {r.ours_cpu_ms:.1f} | {r.cpu_ratio:.1f} | {r.difference:.1e} "
        f"| {r.first_epoch_ms:.1f} | {r.second_epoch_ms:.2f} | {r.epoch_ratio:.0f} "
        f"| {verdict(r.epoch_ratio, EPOCH_TARGET)} |"
        for r in rows
    ]
    return "\n".join(lines)


def main() -> None:
    """Parse, run, print, write."""
    parser = script_parser(__doc__)
    parser.add_argument("-o", "--output", type=Path, help="write the numbers as JSON, and the table as .md")
    parser.add_argument("--studies", type=int, default=12, help="per cohort (default 12)")
    parser.add_argument("--seed", type=int, default=31, help="of the cohorts (default 31)")
    parser.add_argument("--repeats", type=int, default=15, help="runs per program (default 15)")
    parser.add_argument("--waiting", action="store_true", help="how long training waits for its data")
    options = parser.parse_args()
    torch.set_num_threads(1)
    if options.waiting:
        with tempfile.TemporaryDirectory() as folder:
            found = all_waiting(Path(folder), options.studies, options.seed)
        sys.stdout.write(waiting_table(found) + "\n")
        save_numbers(options.output, [asdict(w) for w in found])
        return
    rows = []
    for case in PRESETS:
        with tempfile.TemporaryDirectory() as folder:
            rows.append(measure(case, Path(folder), options.studies, options.seed, options.repeats))
    text = table(rows)
    sys.stdout.write(text + "\n")
    if options.output:
        load = {"cpus": os.cpu_count(), "load_average": os.getloadavg()[0], "monai": monai.__version__}
        report = {"rows": [asdict(row) for row in rows], "repeats": options.repeats, **load, **machine()}
        save_numbers(options.output, report)
        options.output.with_suffix(".md").write_text(text + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
