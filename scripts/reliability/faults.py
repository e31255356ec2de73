"""Faults that are injected into running commands, and what they broke."""

from __future__ import annotations

import random
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from reliability.commands import Started, file_size_limit, memory_limit, start
from reliability.jobs import Reference, Watch, Workshop, remove, unclean
from reliability.results import differences, hidden

MIB = 2**20
# What the shell says of SIGTERM and Ctrl-C.
CODES = {signal.SIGTERM: 143, signal.SIGINT: 130}


@dataclass
class Tally:
    """Attempts of a part, and what was lost.

    Attributes:
        cases: commands that were started to be disturbed.
        faults: faults that met a running command.
        lost: every result that was half, wrong, lost or done twice, and every traceback.
    """

    cases: int = 0
    faults: int = 0
    lost: list[str] = field(default_factory=list)


def at_random_moment(
    started: Started, reference: Reference, out: Path, number: int, rng: random.Random
) -> bool:
    """Send a signal at a random time of the writing, or after a random change of the folder.

    Returns:
        Whether the command was still running.
    """
    watch = Watch(out.parent if reference.job.extension else out)
    by_change = rng.random() < 0.5
    changes = rng.randint(1, max(1, reference.changes))
    seconds = rng.uniform(0, reference.seconds)
    begin = time.monotonic()
    begun = bool(reference.job.extension) or out.exists()
    while started.poll() is None:
        count = watch.update()
        if not begun and count:
            begun, begin = True, time.monotonic()
        if (by_change and count >= changes) or (
            not by_change and begun and time.monotonic() - begin >= seconds
        ):
            started.send(number)
            return started.poll() is None or started.wait().code != 0
        time.sleep(0.0005)
    return False


def kills(workshop: Workshop, name: str, count: int, rng: random.Random, tally: Tally) -> Iterator[Tally]:
    """`kill -9` until `count` met a running command; after each chain of kills the job is finished.

    Yields:
        The tally after each chain, so that it can be saved.
    """
    reference = workshop.reference(name)
    out = _output(workshop, reference, "killed")
    while tally.faults < count:
        remove(out)
        arguments = reference.job.first(out)
        more = True
        while more:
            tally.cases += 1
            started = workshop.start(arguments)
            more = at_random_moment(started, reference, out, signal.SIGKILL, rng)
            ended = started.wait()
            if not more:
                tally.lost += unclean(name, ended, {0})
                break
            tally.faults += 1
            tally.lost += reference.job.damage(out) + _wrong(reference, out)
            arguments = reference.job.again(out)
            more = tally.faults < count and rng.random() < 0.5
        tally.lost += workshop.finish(reference, out)
        yield tally


def signals(workshop: Workshop, name: str, count: int, rng: random.Random) -> Tally:
    """SIGTERM and SIGINT in turn: exit code, nothing half, no temporary file, and the job goes on."""
    reference, tally = workshop.reference(name), Tally()
    out = _output(workshop, reference, "signalled")
    for index in range(count):
        number = (signal.SIGTERM, signal.SIGINT)[index % 2]
        remove(out)
        tally.cases += 1
        started = workshop.start(reference.job.first(out))
        met = at_random_moment(started, reference, out, number, rng)
        tally.faults += met
        tally.lost += unclean(name, started.wait(), {CODES[number]} if met else {0})
        tally.lost += reference.job.damage(out) + _wrong(reference, out)
        folder = out.parent if reference.job.extension else out
        tally.lost += [f"{name}: {path.name} is left over" for path in hidden(folder)]
        tally.lost += workshop.finish(reference, out)
    return tally


def two_writers(workshop: Workshop, count: int, rng: random.Random) -> Tally:
    """Two predict processes on one folder, with different methods: one does it all, the other is refused."""
    tally = Tally()
    jobs = [workshop.predict_by(method) for method in ("map-em", "em-gmm")]
    folder = workshop.folder / "writers"
    references = [workshop.uninterrupted(job, folder / f"alone_{i}") for i, job in enumerate(jobs)]
    out = folder / "both"
    for _ in range(count):
        remove(out)
        tally.cases += 1
        delay = rng.uniform(0, references[0].seconds)
        order = rng.sample((0, 1), 2)
        started = []
        for place, which in enumerate(order):
            if place:
                time.sleep(delay)
            terminal = folder / f"terminal_{which}.txt"
            more = [] if rng.random() < 0.5 else ["--overwrite"]

            started.append((which, start([*jobs[which].first(out), *more], terminal)))
        ended = {which: process.wait() for which, process in started}
        for one in ended.values():
            tally.lost += unclean("two writers", one, {0, 2})
        refused = [one for one in ended.values() if one.code == 2]
        tally.faults += len(refused)
        done = [which for which, one in ended.items() if one.code == 0]
        if not done:
            tally.lost.append("two writers: both were refused")
        if not any(not differences(references[which].out, out) for which in done):
            tally.lost.append("two writers: the folder holds neither's results")
    return tally


def full_disk(workshop: Workshop, name: str) -> Tally:
    """No file may grow beyond a size: the message, exit code 2, nothing half; then the job goes on."""
    limits = [file_size_limit(kib * 1024) for kib in (4, 16, 64, 256, 1024)]
    return _limited(workshop, name, "limited", limits)


def full_tmpfs(workshop: Workshop, name: str) -> Tally | None:
    """The same on a small file system that really is full; None where mounting is not permitted."""
    reference, tally = workshop.reference(name), Tally()
    place = workshop.folder / "tmpfs"
    for kib in (8, 32, 128, 512, 2048):
        with _tmpfs(place, kib) as mounted:
            if not mounted:
                return None
            out = place / f"out{reference.job.extension}"
            tally.cases += 1
            ended = workshop.start(reference.job.first(out)).wait()
            tally.faults += ended.code != 0
            tally.lost += unclean(f"{name} on {kib} KiB", ended, {0, 2})
            tally.lost += reference.job.damage(out) + _wrong(reference, out)
            subprocess.run(["mount", "-o", "remount,size=64m", str(place)], check=True)
            tally.lost += workshop.finish(reference, out)
    return tally


def little_memory(workshop: Workshop, name: str) -> Tally:
    """Address space beyond what the packages take: done, or the message and exit code 2."""
    limits = [memory_limit(mib * MIB) for mib in (1, 4, 8, 16, 24, 32, 48, 64, 96, 128, 192, 256)]
    return _limited(workshop, name, "starved", limits)


def _limited(workshop: Workshop, name: str, what: str, limits: list[Callable[[], None]]) -> Tally:
    reference, tally = workshop.reference(name), Tally()
    out = _output(workshop, reference, what)
    for limit in limits:
        remove(out)
        tally.cases += 1
        ended = workshop.start(reference.job.first(out), limits=limit).wait()
        tally.faults += ended.code != 0
        tally.lost += unclean(f"{name} ({what})", ended, {0, 2})
        tally.lost += reference.job.damage(out) + _wrong(reference, out)
        tally.lost += workshop.finish(reference, out)
    return tally


@contextmanager
def _tmpfs(place: Path, kib: int) -> Iterator[bool]:
    place.mkdir(exist_ok=True)
    command = ["mount", "-t", "tmpfs", "-o", f"size={kib}k", "tmpfs", str(place)]
    mounted = (
        shutil.which("mount") is not None
        and subprocess.run(command, capture_output=True, check=False).returncode == 0
    )
    try:
        yield mounted
    finally:
        if mounted:
            subprocess.run(["umount", str(place)], check=True)
        place.rmdir()


def _output(workshop: Workshop, reference: Reference, what: str) -> Path:
    folder = workshop.folder / what / reference.job.name
    folder.mkdir(parents=True, exist_ok=True)
    return folder / f"out{reference.job.extension}"


def _wrong(reference: Reference, out: Path) -> list[str]:
    """Files of a study and of `export` are final as soon as they have their name; others need not be."""
    if reference.job.name == "train" or not out.exists():
        return []
    late = ("is missing", "is left over")
    tables = ("quantities.", "segments.")
    found = differences(reference.out, out)
    return [f"{reference.job.name}: {d}" for d in found if not d.endswith(late) and not d.startswith(tables)]
