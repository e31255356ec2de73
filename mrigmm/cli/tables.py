"""The tables that commands print."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from rich.markup import escape
from rich.table import Table

from mrigmm.cli.console import out_console
from mrigmm.errors import Problem, printable
from mrigmm.labels import in_words

if TYPE_CHECKING:
    from mrigmm.jobs.compare import Compared
    from mrigmm.jobs.evaluate import Evaluation
    from mrigmm.jobs.quantify import Quantified
    from mrigmm.jobs.shown import ShownTable


def _name(text: str) -> str:
    """A name from files, for a table."""
    return escape(printable(text))


def print_problem_table(problems: Sequence[Problem]) -> None:
    """Everything that `check` found."""
    table = Table(show_lines=True)
    for name in ("severity", "study", "problem"):
        table.add_column(name, overflow="fold")  # never cut a path
    for problem in problems:
        text = str(replace(problem, study=None))
        table.add_row(problem.severity, _name(problem.study or ""), escape(text))
    # Into a file or a pipe, lines may be as long as they like.
    out_console.print(table, width=None if out_console.is_terminal else 200)


def print_metrics(evaluations: Mapping[str, Evaluation]) -> None:
    """Overlap and boundary distance of each class; of several folders, one row under the other."""
    several = len(evaluations) > 1
    table = Table(title=None if several else _name(next(iter(evaluations))), title_justify="left")
    for column in ("class", "predictions") if several else ("class",):
        table.add_column(column, overflow="fold")
    for metric in ("dice", "iou"):
        table.add_column(in_words(metric), justify="right")
    table.add_column("studies", justify="right")
    table.add_column(in_words("hd95_mm"), justify="right")
    table.add_column("studies", justify="right")  # an object that is missed has no distance
    for row in dict.fromkeys(name for evaluation in evaluations.values() for name in evaluation.summary):
        with_row = {name: found for name, found in evaluations.items() if row in found.summary}
        for number, (name, found) in enumerate(with_row.items()):
            figures, distance = found.summary[row], found.estimates[row]["hd95_mm"]
            names = [_name(found.title(row)) if number == 0 else "", *([_name(name)] if several else [])]
            overlaps = f"{figures.dice_mean:.3f}", f"{figures.iou_mean:.3f}"
            table.add_row(*names, *overlaps, str(figures.n), f"{distance.mean:.1f}", str(distance.n))
        if several:
            table.add_section()
    out_console.print(table)
    for name, found in evaluations.items():
        for line in found.one_sided():
            out_console.print(_name(f"{name}: {line}" if several else line))


def print_comparison(result: Compared) -> None:
    """Two folders beside each other, a table per metric."""
    for metric, by_class in result.metrics.items():
        table = Table(title=in_words(metric), title_justify="left")
        for column in ("class", *map(_name, result.names)):
            table.add_column(column, overflow="fold")
        for column in ("difference", "p (Holm)", "studies"):
            table.add_column(column)
        for name, found in by_class.items():
            means = (f"{found.first_mean:.3f}", f"{found.second_mean:.3f}", f"{found.difference.mean:+.3f}")
            table.add_row(_name(name), *means, f"{found.p_holm:.3f}", str(found.difference.n))
        out_console.print(table)


def print_quantities(result: Quantified) -> None:
    """The first few numbers of each study; of a large cohort, its first studies."""
    print_tables(result.tables())
    if any(name.startswith("interval_") for row in result.studies.values() for name in row):
        out_console.print(
            "95 % intervals in the files: from what the method is nearly certain of to what it does not rule "
            "out; a wide one means that the images leave it open (docs/quantities.md)",
            highlight=False,
        )


def print_tables(tables: Sequence[ShownTable]) -> None:
    """Tables with headings in words."""
    for shown in tables:
        table = Table(title=shown.title or None, title_justify="left")
        for number, column in enumerate(shown.columns):
            table.add_column(in_words(column), justify="right" if number else "left", overflow="fold")
        for row in shown.first_rows:
            table.add_row(*map(_name, row))
        out_console.print(table, width=None if out_console.is_terminal else 200)
        for line in shown.left_out:
            out_console.print(line)
