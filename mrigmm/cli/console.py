"""Where and how commands speak: results on stdout, everything else on stderr; exit codes; progress bars."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

import typer
from rich.console import Console
from rich.progress import track as rich_track

from mrigmm.errors import Problem, printable

if TYPE_CHECKING:
    from mrigmm.jobs.common import Outcome

# What each means stands in `mrigmm.cli`.
EXIT_PROBLEMS, EXIT_BAD_INPUT, EXIT_UNEXPECTED, EXIT_INTERRUPTED, EXIT_TERMINATED = 1, 2, 70, 130, 143

# No emoji codes: they are parts of file names here.
out_console = Console(soft_wrap=True, emoji=False)
err_console = Console(stderr=True, soft_wrap=True, emoji=False)


def progress_bar(quiet: bool) -> Any:
    """A `jobs.common.Track` on stderr."""

    def track(items: Iterable[Any], description: str) -> Iterable[Any]:
        if quiet:
            return items
        return rich_track(items, description, console=err_console, transient=True)

    return track


def finish(result: Outcome, text: str, quiet: bool) -> None:
    """Print warnings, errors and the closing line; exit 2 when a study failed."""
    if not result.speaks:
        return
    if not quiet:
        for problem in result.problems:
            if problem.severity == "warning":
                about = "" if problem.study is None else f" ({problem.study})"
                err_console.print(printable(f"note{about}: {problem.what}"), style="yellow", markup=False)
    errors = [problem for problem in result.problems if problem.severity == "error"]
    print_problems(errors)
    out_console.print(text, markup=False, highlight=False)
    if errors:
        failed = {problem.study for problem in errors} - {None, *result.done}
        if failed:
            err_console.print(
                f"{studies_text(len(failed))} could not be processed", style="red", highlight=False
            )
        raise typer.Exit(EXIT_BAD_INPUT)


def studies_text(count: int) -> str:
    """A number of studies in words."""
    return f"{count} {'study' if count == 1 else 'studies'}"


def print_problems(problems: Iterable[Problem]) -> None:
    """Errors, with all that they carry, on stderr."""
    for problem in problems:
        err_console.print(f"error: {problem}", style="red", markup=False, highlight=False)
