"""Output of commands: results on stdout, everything else on stderr; exit codes; progress."""

from __future__ import annotations

import ctypes
import gc
import json
import os
import sys
import time
from collections.abc import Iterable, Iterator, Mapping, Sized
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import typer
from rich.console import Console

from mrigmm.errors import InputError, Problem, grouped, printable

if TYPE_CHECKING:
    from mrigmm.jobs.common import Outcome

EXIT_PROBLEMS, EXIT_BAD_INPUT, EXIT_UNEXPECTED, EXIT_INTERRUPTED, EXIT_TERMINATED = 1, 2, 70, 130, 143
EXIT_CODES: Mapping[int, str] = {
    0: "done",
    EXIT_PROBLEMS: "check found errors",
    EXIT_BAD_INPUT: "bad input: some or all studies could not be processed; full disk; too little memory",
    EXIT_UNEXPECTED: "an error that nobody foresaw",
    EXIT_INTERRUPTED: "interrupted (Ctrl-C)",
    EXIT_TERMINATED: "ended by SIGTERM",
}

# What an interrupted `predict` or `segment` does next.
KEEPS_FINISHED = "with --resume keeps the finished studies"

# Off a terminal, progress is told in lines: after so many seconds and so much of the work.
_LINE_S, _LINE_SHARE = 2.0, 0.1

_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3  # of malloc.h


def _console(*, stderr: bool) -> Console:
    """No emoji codes: they are parts of file names here. With NO_COLOR nothing is bold either."""
    plain = bool(os.environ.get("NO_COLOR"))
    return Console(stderr=stderr, soft_wrap=True, emoji=False, color_system=None if plain else "auto")


out_console = _console(stderr=False)
err_console = _console(stderr=True)


@contextmanager
def first_imports() -> Iterator[None]:
    """Import torch and what needs it without looking for garbage, of which imports leave none.

    Of 4 s that `segment` takes for a study, .4 went into looking through a million new objects. What is
    there after the imports is never looked through again.
    """
    keep_freed_memory()
    if "torch" in sys.modules:
        yield
        return
    gc.disable()
    try:
        yield
    finally:
        gc.freeze()
        gc.enable()


def keep_freed_memory() -> None:
    """Let glibc keep freed memory, up to 256 MiB: taken anew, a study's maps cost 5 to 10 % of its time.

    Blocks of over 32 MiB are given back as before. Does nothing with another allocator, or where the
    environment sets this one (`MALLOC_...`).
    """
    if sys.platform != "linux" or any(name.startswith("MALLOC_") for name in os.environ):
        return
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        mallopt(_M_MMAP_THRESHOLD, 32 << 20)
        mallopt(_M_TRIM_THRESHOLD, 256 << 20)


@dataclass(frozen=True)
class Voice:
    """Amount that a command tells beside its result.

    Attributes:
        quiet: errors only.
        verbose: also how long every step took, and all that is known of a note.
    """

    quiet: bool = False
    verbose: bool = False
    _told: set[Problem] = field(default_factory=set, init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        if self.quiet and self.verbose:
            raise InputError("a command is quiet or verbose, not both", remedy="leave out one of them")

    def track(self, items: Iterable[Any], description: str) -> Iterable[Any]:
        """A `jobs.common.Track` on stderr: a bar on a terminal, some lines in a log."""
        if self.quiet:
            return items
        total = len(items) if isinstance(items, Sized) else None
        if self.verbose:
            items = _timed(items, description, total)
        if not err_console.is_terminal:
            return items if self.verbose else _told(items, description, total)
        from rich.progress import track  # costs too much of `mrigmm --help`

        return track(items, description, total=total, console=err_console, transient=True)

    def finish(self, result: Outcome, text: str, *, as_json: Mapping[str, Any] | None = None) -> None:
        """Say notes, errors and how it ended; exit 2 when a study failed.

        Args:
            result: of the job.
            text: the closing line.
            as_json: printed instead of the closing line.
        """
        if not result.speaks:
            return
        self.tell(result.problems)
        errors = [problem for problem in result.problems if problem.severity == "error"]
        if as_json is None:
            out_console.print(text, markup=False, highlight=False)
        else:
            print_json(as_json)
        if errors:
            failed = {problem.study for problem in errors} - {None, *result.done}
            if failed:
                count = f"{studies_text(len(failed))} could not be processed"
                err_console.print(count, style="red", highlight=False)
            raise typer.Exit(EXIT_BAD_INPUT)

    def tell(self, problems: Iterable[Problem]) -> None:
        """Say what has not been said yet; what is the same of several studies is said once.

        With `verbose` each stands for itself, with all that is known of it.
        """
        new = [problem for problem in dict.fromkeys(problems) if problem not in self._told]
        self._told.update(new)
        if not self.verbose:
            new = grouped(new)
        if not self.quiet:
            self._print_notes(problem for problem in new if problem.severity != "error")
        print_problems(problem for problem in new if problem.severity == "error")

    def _print_notes(self, notes: Iterable[Problem]) -> None:
        for note in notes:
            about = "" if note.study is None else f" ({note.study})"
            found = "" if note.got is None else f": {note.got}"
            text = str(note) if self.verbose else printable(f"{note.what}{found}")
            err_console.print(
                f"{note.severity}{printable(about)}: {text}", style="yellow", markup=False, highlight=False
            )


def _timed(items: Iterable[Any], description: str, total: int | None) -> Iterator[Any]:
    """Items, with a line for each that says how long it took, with its making."""
    of_total = "" if total is None else f" of {total}"
    started = time.monotonic()
    for number, item in enumerate(items, start=1):
        yield item
        now = time.monotonic()
        name = printable(str(getattr(item, "id", "")))
        about = f" ({name})" if name else ""
        _say(f"{description} {number}{of_total}{about}: {now - started:.1f} s")
        started = now


def _told(items: Iterable[Any], description: str, total: int | None) -> Iterator[Any]:
    """Items, with a line now and then; nothing of what is over soon."""
    started = last = time.monotonic()
    told = 0
    for number, item in enumerate(items, start=1):
        yield item
        now = time.monotonic()
        if number == total and now - started >= _LINE_S:
            _say(f"{description}: {total} of {total} in {_duration(now - started)}")
        elif total and number < total and now - last >= _LINE_S and number - told >= _LINE_SHARE * total:
            left = (now - started) / number * (total - number)
            _say(f"{description}: {number} of {total}, about {_duration(left)} left")
            last, told = now, number


def _duration(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min" if hours else f"{minutes} min {rest} s" if minutes else f"{rest} s"


def _say(text: str) -> None:
    err_console.print(text, markup=False, highlight=False)


@contextmanager
def resumable(what: str) -> Iterator[None]:
    """Tell who interrupts a command what the same command does next."""
    try:
        yield
    except KeyboardInterrupt:
        err_console.print(f"interrupted: the same command {what}")
        raise typer.Exit(EXIT_INTERRUPTED) from None


def print_json(content: Mapping[str, Any]) -> None:
    """A result as JSON on stdout."""
    sys.stdout.write(json.dumps(content, indent=1) + "\n")


def studies_text(count: int) -> str:
    """A number of studies in words."""
    return f"{count} {'study' if count == 1 else 'studies'}"


def print_problems(problems: Iterable[Problem]) -> None:
    """Errors, with all that they carry, on stderr."""
    for problem in problems:
        err_console.print(f"error: {problem}", style="red", markup=False, highlight=False)
