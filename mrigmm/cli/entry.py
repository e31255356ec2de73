"""The command line as a program: signals, and how every error ends in a message and an exit code."""

from __future__ import annotations

import io
import logging
import signal
import sys
import traceback
from pathlib import Path

from mrigmm.cli.application import app
from mrigmm.cli.console import (
    EXIT_BAD_INPUT,
    EXIT_INTERRUPTED,
    EXIT_TERMINATED,
    EXIT_UNEXPECTED,
    err_console,
    print_problems,
)
from mrigmm.errors import InputError, Problem, grouped, memory_checked


def main() -> None:
    """Run the command line; bad input ends in a message and an exit code, never in a traceback."""
    terminated: list[int] = []

    def end(number: int, _: object) -> None:
        """As Ctrl-C does: files that are half written go."""
        terminated.append(number)
        raise KeyboardInterrupt

    # Where it may write to no home, it says twice that it makes a temporary folder, as it should.
    logging.getLogger("matplotlib").setLevel(logging.ERROR)
    before = signal.signal(signal.SIGTERM, end)
    try:
        _run()
    except SystemExit as stop:
        if terminated and stop.code == EXIT_INTERRUPTED:
            sys.exit(EXIT_TERMINATED)
        raise
    finally:
        signal.signal(signal.SIGTERM, before)


def _run() -> None:
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")  # file names need not be text of this terminal
    try:
        with memory_checked():
            app()
    except InputError as error:
        print_problems(error.problems if "--verbose" in sys.argv else grouped(error.problems))
        sys.exit(EXIT_BAD_INPUT)
    except OSError as error:
        file = None if error.filename is None else str(error.filename)
        print_problems([Problem("a file or folder cannot be used", file=file, got=error.strerror)])
        sys.exit(EXIT_BAD_INPUT)
    except KeyboardInterrupt:
        err_console.print("interrupted")
        sys.exit(EXIT_INTERRUPTED)
    except Exception as error:
        print_problems([_unexpected(error)])
        sys.exit(EXIT_UNEXPECTED)


def _unexpected(error: Exception) -> Problem:
    """An error that nobody foresaw, with the place in this package that it comes from."""
    ours = [frame for frame in traceback.extract_tb(error.__traceback__) if "mrigmm" in frame.filename]
    where = f", at {Path(ours[-1].filename).name}:{ours[-1].lineno}" if ours else ""
    return Problem(
        "unexpected error",
        got=f"{type(error).__name__}: {error}{where}",
        remedy="where memory ran out, use smaller settings or another --device; else please report it",
    )
