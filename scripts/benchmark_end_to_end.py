"""Cost of a cohort from its files to its label maps: CPU time and memory, stage by stage.

`mrigmm predict` as a user calls it, on simulated studies, by `map-em`, by a default run (random weights:
the time does not depend on them), by `pretrained` and by `em-gmm-sklearn`. A fifth program, `files`, only
reads the same files and writes the same label maps with nibabel: the floor.

Every program runs in a process of its own, one thread, the programs in turn in each of several rounds;
times are CPU time, which other work on the machine disturbs less than the clock. Tables give medians over
the rounds, and ratios within a round (quartiles in brackets). Stages are exclusive: the network's pass is not
part of `mixture`. Importing torch, once per command, is not part of any of them.

Peak memory is measured in a round of its own: what the process held at most while in a stage (Linux).
"""

from __future__ import annotations

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("MKL_NUM_THREADS", "1")
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

import argparse
import json
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import wraps
from pathlib import Path
from typing import Any

import numpy as np
from benchmarking import Ratio, forget_peak, markdown_table, peak_mib, save_numbers, script_parser

STAGES = ("read", "preprocess", "network", "mixture", "undo", "quantities", "write", "other")
PROGRAMS = ("files", "map-em", "default", "pretrained", "em-gmm-sklearn")
SEED = 7


# The clock of a process that predicts


@dataclass
class StageClock:
    """CPU seconds of each stage; what an inner stage takes is not counted in the outer one.

    With `memory`, the peak resident memory in MiB while in each stage instead, which slows the program down.
    """

    memory: bool = False
    used: dict[str, float] = field(default_factory=lambda: defaultdict(float))
    stack: list[str] = field(default_factory=lambda: ["other"])
    since: float = field(default_factory=time.process_time)

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Count the block as a stage."""
        self.settle()
        self.stack.append(name)
        try:
            yield
        finally:
            self.settle()
            self.stack.pop()

    def settle(self) -> None:
        """Book what was used since the last change of stage."""
        now = time.process_time()
        if self.memory:
            self.used[self.stack[-1]] = max(self.used[self.stack[-1]], peak_mib())
            forget_peak()
        else:
            self.used[self.stack[-1]] += now - self.since
        self.since = now

    def wrap(self, owner: Any, names: str, stage: str) -> None:
        """Count every call of some functions or methods of a module or class as a stage."""
        for name in names.split():
            setattr(owner, name, self._counted(getattr(owner, name), stage))

    def _counted(self, function: Callable[..., Any], stage: str) -> Callable[..., Any]:
        @wraps(function)
        def counted(*args: Any, **kwargs: Any) -> Any:
            with self.stage(stage):
                return function(*args, **kwargs)

        return counted


def watch(clock: StageClock) -> None:
    """Count the functions of the package where they are used."""
    from mrigmm.data import maps, study, study_tensors
    from mrigmm.data.crops import NetworkView
    from mrigmm.jobs.predicting import segmented_study, segmenter
    from mrigmm.methods import deep_gem, pretrained
    from mrigmm.networks.spatial_prior import SpatialPrior
    from mrigmm.pretrained.networks import PretrainedNetworks

    clock.wrap(study, "read_image", "read")
    clock.wrap(maps, "read_map", "read")
    clock.wrap(segmenter.Segmenter, "read", "preprocess")
    clock.wrap(deep_gem, "wall_view", "preprocess")
    clock.wrap(SpatialPrior, "forward", "network")
    clock.wrap(pretrained, "given_view", "preprocess")
    clock.wrap(PretrainedNetworks, "classes found", "network")
    clock.wrap(segmenter.Segmenter, "segment", "mixture")
    clock.wrap(NetworkView, "to_study_grid", "undo")
    clock.wrap(study_tensors.StudyTensors, "to_input_grid", "undo")
    clock.wrap(segmented_study, "predicted_quantities", "quantities")
    tables = "write_recorded write_itksnap_labels write_slicer_colours"
    clock.wrap(segmented_study, f"write_labels write_json {tables}", "write")


# The programs, each in a process of its own


def program(name: str, cohort: Path, run: Path, memory: bool) -> dict[str, float]:
    """Stages of one program on the cohort, after a study that warms up what is only once per process."""
    from mrigmm.cli.console import keep_freed_memory

    if name != "files":  # as the command line does
        keep_freed_memory()
    clock = StageClock(memory)
    do = _files_only if name == "files" else _predict
    manifest = json.loads(cohort.read_text())
    warm = {**manifest, "test": manifest["test"][:1]}
    first = cohort.with_name("one.json")
    first.write_text(json.dumps(warm))
    with tempfile.TemporaryDirectory(dir=cohort.parent) as folder:
        do(name, first, run, Path(folder) / "warm", StageClock())
        if name != "files":
            watch(clock)
        clock.settle()
        clock.used.clear()
        do(name, cohort, run, Path(folder) / "out", clock)
        clock.settle()
    return dict(clock.used)


def _predict(name: str, cohort: Path, run: Path, out: Path, _clock: StageClock) -> None:
    import mrigmm

    chosen = {"run": run} if name == "default" else {"method": name}
    outcome = mrigmm.predict(cohort, out, device="cpu", **chosen)
    if outcome.failed:
        raise SystemExit(f"{name}: {outcome.problems}")


def _files_only(_name: str, cohort: Path, _run: Path, out: Path, clock: StageClock) -> None:
    import nibabel as nib

    out.mkdir()
    for study in json.loads(cohort.read_text())["test"]:
        with clock.stage("read"):
            for file in study["image"].values():
                if file:
                    image = nib.load(cohort.parent / file)
                    np.asarray(image.dataobj, dtype=np.float32)
            region = nib.load(cohort.parent / study["region"])
            labels = np.asarray(region.dataobj).astype(np.uint8)
        with clock.stage("write"):
            nib.save(nib.Nifti1Image(labels, region.affine), out / f"{study['id']}_labels.nii.gz")


def in_process(name: str, cohort: Path, run: Path, *, memory: bool = False) -> dict[str, float]:
    """Run a program in a new process; its CPU seconds (or peak MiB) per stage."""
    command = [sys.executable, __file__, "--program", name, "--cohort", str(cohort), "--run", str(run)]
    answer = subprocess.run(
        [*command, *(["--memory"] if memory else [])], check=True, stdout=subprocess.PIPE, text=True
    )
    found: dict[str, float] = json.loads(answer.stdout.splitlines()[-1])
    return found


# Cohorts


def cohort_of(folder: Path, n_studies: int, **changes: Any) -> Path:
    """Simulate a cohort, with changes of the preset; its manifest, all studies under `test`."""
    from mrigmm.phantom import config, simulate_cohort

    config.PRESETS["benchmark"] = config.replace(config.PRESETS["cohort"], **changes)
    path = simulate_cohort(folder, n_studies=n_studies, seed=SEED, preset="benchmark", region="lv")
    manifest = json.loads(path.read_text())
    studies = [study for split in ("training", "validation", "test") for study in manifest.get(split, [])]
    path.write_text(json.dumps({**manifest, "training": [], "validation": [], "test": studies}))
    return path


def part_of(cohort: Path, n_studies: int) -> Path:
    """A manifest of the first studies of a cohort."""
    manifest = json.loads(cohort.read_text())
    path = cohort.with_name(f"first_{n_studies}.json")
    path.write_text(json.dumps({**manifest, "test": manifest["test"][:n_studies]}))
    return path


def random_run(folder: Path) -> Path:
    """A finished run of the default preset with random weights."""
    import torch

    from mrigmm.config import make_config
    from mrigmm.data.priors.shipped import default_multiscale_prior, default_prior
    from mrigmm.data.run_folder import RunFolder, RunRecord
    from mrigmm.data.standardise import STANDARDISATIONS
    from mrigmm.methods.deep_gem import build_spatial_prior

    sequences, classes = ("LGE", "T2", "bSSFP"), ("blood", "myocardium", "edema", "scar")
    config = make_config("default").model_copy(
        update={"sequences": sequences, "classes": classes, "spacing_mm": 0.75}
    )
    run = RunFolder(folder)
    torch.manual_seed(SEED)
    run.write_settings(
        config, default_prior(STANDARDISATIONS[config.standardise]), default_multiscale_prior()
    )
    run.write_weights(build_spatial_prior(config))
    run.write_record(
        RunRecord(
            classes=classes,
            sequences=sequences,
            component_order=tuple(range(len(classes))),
            training_studies=(),
            versions={},
        )
    )
    return folder


# Tables


Rounds = Mapping[str, list[dict[str, float]]]  # program -> stages of each round


def in_turn(programs: Mapping[str, tuple[str, Path]], run: Path, rounds: int, **options: Any) -> Rounds:
    """Run programs (name -> program, cohort) one after the other, in several rounds."""
    found: dict[str, list[dict[str, float]]] = {name: [] for name in programs}
    for n in range(rounds):
        for name, (what, cohort) in programs.items():
            print(f"round {n + 1} of {rounds}: {name}", file=sys.stderr, flush=True)
            found[name].append(in_process(what, cohort, run, **options))
    return found


def totals(rounds: Rounds, name: str, stages: Sequence[str] = STAGES) -> list[float]:
    """CPU seconds of some stages in every round."""
    return [sum(stages_of_round.get(stage, 0.0) for stage in stages) for stages_of_round in rounds[name]]


def stage_table(rounds: Rounds, n_studies: int) -> str:
    """Median CPU milliseconds per study of every stage."""
    rows = []
    for name in rounds:
        cells = [f"{1e3 * np.median(totals(rounds, name, [stage])) / n_studies:.1f}" for stage in STAGES]
        rows.append([f"`{name}`", *cells, f"{1e3 * np.median(totals(rounds, name)) / n_studies:.1f}"])
    return markdown_table(["program", *STAGES, "all, ms"], rows)


def memory_table(rounds: Rounds) -> str:
    """Peak MiB of every stage."""
    rows = [
        [f"`{name}`", *(f"{found[0][stage]:.0f}" if stage in found[0] else "–" for stage in STAGES)]
        for name, found in rounds.items()
    ]
    return markdown_table(["program", *(f"{stage}, MiB" for stage in STAGES)], rows)


def ratios(rounds: Rounds) -> dict[str, Ratio]:
    """What the targets are about, of the programs that ran."""
    beyond = [stage for stage in STAGES if stage != "network"]
    arrays, quantities, reading = ["mixture"], ["quantities"], ["read"]
    compared = {
        "default without the network's pass / files": (("default", beyond), ("files", STAGES)),
        "map-em / files": (("map-em", STAGES), ("files", STAGES)),
        "pretrained / em-gmm-sklearn": (("pretrained", STAGES), ("em-gmm-sklearn", STAGES)),
        "pretrained without the network's pass / em-gmm-sklearn": (
            ("pretrained", beyond),
            ("em-gmm-sklearn", STAGES),
        ),
        "pretrained / files": (("pretrained", STAGES), ("files", STAGES)),
        "quantities of pretrained / reading of files": (("pretrained", quantities), ("files", reading)),
        "em-gmm-sklearn / map-em, arrays to labels": (("em-gmm-sklearn", arrays), ("map-em", arrays)),
        "em-gmm-sklearn / map-em": (("em-gmm-sklearn", STAGES), ("map-em", STAGES)),
    }
    return {
        name: Ratio.of(totals(rounds, *above), totals(rounds, *below))
        for name, (above, below) in compared.items()
        if above[0] in rounds and below[0] in rounds
    }


def growth_table(rounds: Rounds, sizes: Mapping[str, float], base: str, unit: str) -> str:
    """Cost per unit (study, voxel) at every size, over that at the base size.

    Args:
        rounds: `"program, size"` -> stages of each round.
        sizes: size -> units in it.
        base: the size to compare with.
        unit: what is counted.
    """
    rows = []
    for what in dict.fromkeys(name.rsplit(", ", 1)[0] for name in rounds):
        per_unit = {size: np.array(totals(rounds, f"{what}, {size}")) / n for size, n in sizes.items()}
        rows.append([f"`{what}`", *(str(Ratio.of(list(t), list(per_unit[base]))) for t in per_unit.values())])
    return markdown_table([f"cost per {unit}, over that of {base}", *sizes], rows)


def region_voxels(cohort: Path) -> int:
    """Voxels in the regions of a cohort."""
    import nibabel as nib

    studies = json.loads(cohort.read_text())["test"]
    return sum(
        int(np.count_nonzero(np.asarray(nib.load(cohort.parent / study["region"]).dataobj)))
        for study in studies
    )


# The benchmark


def measured(
    folder: Path,
    *,
    studies: int,
    cohorts: Sequence[int],
    stacks: Sequence[int],
    rounds: int,
    programs: Sequence[str] = PROGRAMS,
) -> tuple[str, dict[str, Any]]:
    """All tables as Markdown, and the numbers behind them; no growth without sizes to grow to."""
    run = random_run(folder / "run")
    largest = cohort_of(folder / "cohort", max(studies, 3, *cohorts))
    cohort = part_of(largest, studies)

    stages = in_turn({name: (name, cohort) for name in programs}, run, rounds)
    own = [name for name in programs if name != "files"]
    memory = in_turn({name: (name, cohort) for name in own}, run, 1, memory=True)
    numbers = {"stages": stages, "memory": memory}
    parts = [
        f"CPU milliseconds per study, {studies} studies, medians of {rounds} rounds:",
        stage_table(stages, studies),
        markdown_table(["ratio within a round", ""], [[n, str(r)] for n, r in ratios(stages).items()]),
        "Peak resident memory while in a stage:",
        memory_table(memory),
    ]
    if cohorts:
        growing = [name for name in own if name in ("map-em", "default")]
        numbers["studies"] = in_turn(
            {f"{name}, {n} studies": (name, part_of(largest, n)) for name in growing for n in cohorts},
            run,
            rounds,
        )
        sizes = {f"{n} studies": float(n) for n in cohorts}
        table = growth_table(numbers["studies"], sizes, f"{cohorts[0]} studies", "study")
        parts += ["As the cohort grows:", table]
    if stacks:
        of_slices = {n: cohort_of(folder / f"slices_{n}", 4, slices=(n, n)) for n in stacks}
        numbers["slices"] = in_turn(
            {f"{name}, {n} slices": (name, path) for name in own for n, path in of_slices.items()},
            run,
            rounds,
        )
        sizes = {f"{n} slices": float(region_voxels(path)) for n, path in of_slices.items()}
        table = growth_table(numbers["slices"], sizes, f"{stacks[0]} slices", "voxel of the region")
        parts += ["As the volume grows:", table]
    return "\n\n".join(parts), numbers


def main() -> None:
    """Parse, measure, print, write."""
    parser = script_parser(__doc__)
    parser.add_argument("-o", "--out", type=Path, help="JSON file for the numbers")
    parser.add_argument("--studies", type=int, default=40, help="of the table of stages")
    parser.add_argument(
        "--cohorts", default="5,40,200", help="numbers of studies of growing cohorts, or none"
    )
    parser.add_argument("--slices", default="3,6,12,24", help="numbers of slices of growing volumes, or none")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--programs", default=",".join(PROGRAMS), help="which, by name")
    for hidden in ("--program", "--cohort", "--run"):
        parser.add_argument(hidden, help=argparse.SUPPRESS)
    parser.add_argument("--memory", action="store_true", help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.program:
        print(json.dumps(program(given.program, Path(given.cohort), Path(given.run), given.memory)))
        return
    with tempfile.TemporaryDirectory() as folder:
        text, numbers = measured(
            Path(folder),
            studies=given.studies,
            cohorts=[int(n) for n in filter(None, given.cohorts.split(","))],
            stacks=[int(n) for n in filter(None, given.slices.split(","))],
            rounds=given.rounds,
            programs=given.programs.split(","),
        )
    print(text)
    save_numbers(given.out, numbers)


if __name__ == "__main__":
    main()
