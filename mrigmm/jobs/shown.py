"""Results in an interpreter and in a notebook."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

from mrigmm.errors import printable

MAX_ROWS = 20  # of a table; a cohort may have thousands of studies


@dataclass(frozen=True)
class ShownTable:
    """A few figures of a result.

    Attributes:
        columns: headings; the first column names the rows.
        rows: cells, texts of the same number.
        title: what is measured, where a result has several tables.
    """

    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    title: str = ""

    @property
    def first_rows(self) -> tuple[tuple[str, ...], ...]:
        """As many rows as are shown."""
        return self.rows[:MAX_ROWS]

    @property
    def left_out(self) -> tuple[str, ...]:
        """A line that says how many rows are not shown; none where all are."""
        more = len(self.rows) - MAX_ROWS
        return (f"... and {more} more",) if more > 0 else ()

    def as_text(self) -> str:
        """Columns of equal width: names to the left, figures to the right."""
        lines = [tuple(map(printable, row)) for row in (self.columns, *self.first_rows)]
        first, *others = [max(map(len, column)) for column in zip(*lines, strict=True)]
        text = [
            "  ".join([line[0].ljust(first), *map(str.rjust, line[1:], others)]).rstrip() for line in lines
        ]
        return "\n".join([*filter(None, [self.title]), *text, *self.left_out])

    def as_html(self) -> str:
        """An HTML table; what comes from files is escaped."""
        head = _html_row("th", self.columns)
        rows = "".join(_html_row("td", row) for row in self.first_rows)
        caption = f"<caption>{escape(self.title)}</caption>" if self.title else ""
        more = "".join(f"<p>{line}</p>" for line in self.left_out)
        return f"<table>{caption}<thead>{head}</thead><tbody>{rows}</tbody></table>{more}"


def figure(value: float | None, decimals: int = 3) -> str:
    """A number, or a dash where there is none."""
    return "–" if value is None or math.isnan(value) else f"{value:.{decimals}f}"


def _html_row(tag: str, cells: Sequence[str]) -> str:
    return "<tr>" + "".join(f"<{tag}>{escape(cell)}</{tag}>" for cell in cells) + "</tr>"
