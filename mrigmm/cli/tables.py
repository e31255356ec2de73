"""The tables that commands print."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from math import isnan
from typing import TYPE_CHECKING

from rich.markup import escape
from rich.table import Table

from mrigmm.cli.console import out_console
from mrigmm.errors import Problem, printable

if TYPE_CHECKING:
    from mrigmm.jobs.agreement import Agreement
    from mrigmm.jobs.compare import Compared
    from mrigmm.jobs.evaluate import Evaluation


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


def print_metrics(evaluations: dict[str, Evaluation]) -> None:
    """Overlap and boundary distance of each class, folder beside folder."""
    table = Table("class")
    for name in map(_name, evaluations):
        for column in ("Dice", "IoU", "studies", "HD95 mm"):
            table.add_column(f"{name}\n{column}", justify="right")
    for row in dict.fromkeys(name for evaluation in evaluations.values() for name in evaluation.summary):
        cells = []
        for evaluation in evaluations.values():
            if row not in evaluation.summary:
                cells += ["", "", "", ""]
                continue
            figures, estimates = evaluation.summary[row], evaluation.estimates[row]
            cells += [f"{figures.dice_mean:.3f}", f"{figures.iou_mean:.3f}", str(figures.n)]
            cells.append(f"{estimates['hd95_mm'].mean:.1f}")
        table.add_row(_name(row), *cells)
    out_console.print(table)


def print_comparison(result: Compared) -> None:
    """Two folders beside each other, a table per metric."""
    for metric, by_class in result.metrics.items():
        names = map(_name, result.names)
        table = Table(
            "class", *names, "difference", "p (Holm)", "studies", title=metric, title_justify="left"
        )
        for name, found in by_class.items():
            means = (f"{found.first_mean:.3f}", f"{found.second_mean:.3f}", f"{found.difference.mean:+.3f}")
            table.add_row(_name(name), *means, f"{found.p_holm:.3f}", str(found.difference.n))
        out_console.print(table)


def print_agreement(result: Agreement) -> None:
    """How far folders agree, class by class."""
    table = Table("class", "Dice of pairs", "95 % interval", "studies", "ICC of volumes")
    for name, found in result.summary.items():
        dice = found.dice
        interval = f"{dice.low:.3f} to {dice.high:.3f}"
        icc = "–" if isnan(found.volume_icc.value) else f"{found.volume_icc.value:.3f}"  # under 3 studies
        table.add_row(_name(name), f"{dice.mean:.3f}", interval, str(dice.n), icc)
    out_console.print(table)
