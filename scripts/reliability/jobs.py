"""The commands under test, on a tiny simulated cohort."""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from mrigmm.phantom import simulate_cohort
from reliability.commands import Ended, Started, start
from reliability.results import broken, differences, half_run, half_studies, side_files

Arguments = list[object]
EPOCHS = 3


@dataclass(frozen=True)
class Job:
    """A command that writes to a folder or a file.

    Attributes:
        name: of the command.
        first: its arguments for an output.
        again: the arguments after an interruption.
        half: what is wrong with the set of files in a folder that an interruption left.
        extension: of the output, where it is one file.
    """

    name: str
    first: Callable[[Path], Arguments]
    again: Callable[[Path], Arguments]
    half: Callable[[Path], list[str]]
    extension: str = ""

    def damage(self, out: Path) -> list[str]:
        """Return what is wrong after an interruption: files that are not whole, and results that lie."""
        folder = out.parent if self.extension else out
        return [f"{self.name}: {problem}" for problem in (*broken(folder), *self.half(folder))]


@dataclass(frozen=True)
class Reference:
    """The uninterrupted result of a job, how long its writing took and how often its folder changed."""

    job: Job
    out: Path
    seconds: float
    changes: int


class Workshop:
    """A cohort, a trained run and the uninterrupted results, made once in a folder.

    Args:
        folder: for everything.
        seed: of the cohort.
    """

    def __init__(self, folder: Path, seed: int) -> None:
        self.folder = folder
        cohort = folder / "cohort"
        self.manifest = cohort / "manifest.json"
        if not self.manifest.exists():
            shutil.rmtree(cohort, ignore_errors=True)
            simulate_cohort(cohort, n_studies=6, seed=seed, preset="small", test_share=0.5)
        self._references: dict[str, Reference] = {}

    @property
    def jobs(self) -> dict[str, Job]:
        """Jobs by name; `export` where its packages are installed."""
        jobs = {"train": self._train(), "predict": self._predict("--run", self.run)}
        if find_spec("onnx") and find_spec("onnxruntime") and find_spec("onnxscript"):
            jobs["export"] = self._export()
        return jobs

    @property
    def run(self) -> Path:
        """The uninterrupted run."""
        return self.folder / "reference" / "train" / "out"

    def reference(self, name: str) -> Reference:
        """The uninterrupted result of a job."""
        if name not in self._references:
            if name != "train":
                self.reference("train")
            self._references[name] = self.uninterrupted(self.jobs[name], self.folder / "reference")
        return self._references[name]

    def uninterrupted(self, job: Job, folder: Path) -> Reference:
        """Let a job run through."""
        out = folder / job.name / f"out{job.extension}"  # as the disturbed ones: its name is in its files
        out.parent.mkdir(parents=True, exist_ok=True)
        remove(out)
        watch = Watch(out.parent if job.extension else out)
        started = self.start(job.first(out))
        begin = time.monotonic()
        while started.poll() is None:
            if watch.update() == 0 and not job.extension:
                begin = time.monotonic()
            time.sleep(0.001)
        ended = started.wait()
        if ended.code:
            raise RuntimeError(f"{job.name} failed without being disturbed: {ended.text}")
        return Reference(job, out, time.monotonic() - begin, watch.update())

    def start(self, arguments: Arguments, limits: Callable[[], None] | None = None) -> Started:
        """Start a command; what it writes is kept in `terminal.txt`."""
        return start(arguments, self.folder / "terminal.txt", limits=limits)

    def finish(self, reference: Reference, out: Path) -> list[str]:
        """Run the job again to its end; what differs from the uninterrupted result."""
        name = reference.job.name
        kept = finished(out) if name == "predict" else {}
        ended = self.start(reference.job.again(out)).wait()
        problems = unclean(name, ended, {0})
        problems += [f"{name}: {d}" for d in differences(reference.out, out)]
        for file, stamp in kept.items():
            if not file.exists() or stamp_of(file) != stamp:
                problems.append(f"{name}: {file.name} was finished and was done twice")
        return problems

    def _train(self) -> Job:
        def first(out: Path) -> Arguments:
            settings = [text for s in (f"epochs={EPOCHS}", "filters=4") for text in ("--set", s)]
            fixed = ["--preset", "tiny", "--device", "cpu", "--quiet"]
            return ["train", self.manifest, "-o", out, *settings, *fixed]

        def again(out: Path) -> Arguments:
            return [*first(out), *(["--resume"] if (out / "config.yaml").exists() else [])]

        return Job("train", first, again, half_run)

    def _predict(self, *what: object) -> Job:
        def first(out: Path) -> Arguments:
            fixed = ["--device", "cpu", "--save-probabilities", "--quiet"]
            return ["predict", self.manifest, "-o", out, *what, *fixed]

        return Job("predict", first, lambda out: [*first(out), "--resume"], half_studies)

    def predict_by(self, method: str) -> Job:
        """`predict` with a method by name."""
        return self._predict("--method", method)

    def _export(self) -> Job:
        def first(out: Path) -> Arguments:
            return ["export", self.run, "-o", out, "--format", "onnx"]

        return Job("export", first, first, lambda _: [], ".onnx")


class Watch:
    """Counts how often the names or sizes in a folder changed."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.count = folder, 0
        self._last: Any = None

    def update(self) -> int:
        """Look once more; the changes so far."""
        found = self._look()
        if self._last is not None and found != self._last:
            self.count += 1
        self._last = found
        return self.count

    def _look(self) -> list[tuple[str, int]]:
        names = []
        for path in [*self.folder.glob("*"), *self.folder.glob("*/*")]:
            try:
                names.append((str(path), path.stat().st_size))
            except FileNotFoundError:
                continue
        return sorted(names)


def unclean(name: str, ended: Ended, codes: set[int]) -> list[str]:
    """Return what is wrong with how a command ended."""
    problems = [] if ended.code in codes else [f"{name}: exit code {ended.code}: {ended.text[-400:]}"]
    if "Traceback" in ended.text:
        problems.append(f"{name}: traceback: {ended.text[-1500:]}")
    return problems


def stamp_of(file: Path) -> tuple[int, int]:
    """Tells a file that was written again from one that was not."""
    found = file.stat()
    return found.st_ino, found.st_mtime_ns


def finished(out: Path) -> dict[Path, tuple[int, int]]:
    """Files of the studies that are finished, with their stamps."""
    files = [file for side in side_files(out) for file in (side, *out.glob(f"{side.stem}_*"))]
    return {file: stamp_of(file) for file in files}


def remove(out: Path) -> None:
    """Delete an output, a folder or a file."""
    if out.is_dir():
        shutil.rmtree(out)
    out.unlink(missing_ok=True)
