"""The command info."""

from __future__ import annotations

from rich.markup import escape
from rich.table import Table

from mrigmm.cli.console import err_console, out_console, print_json
from mrigmm.cli.options import Json
from mrigmm.errors import printable


def info(as_json: Json = False) -> None:
    """Methods, presets, settings, classes and versions.

    Examples:
        mrigmm info
        mrigmm info --json
    """
    from mrigmm.jobs.info import info as job

    content = job()
    if as_json:
        print_json(content)
        return
    for title, values in content.items():
        if not isinstance(values, dict):
            continue
        table = Table(title=title.replace("_", " "), title_justify="left", show_header=False, box=None)
        for name, value in values.items():
            table.add_row(escape(name), escape(", ".join(value) if isinstance(value, list) else str(value)))
        out_console.print(table)
    for text in content["warnings"]:
        err_console.print(f"warning: {escape(printable(text))}")
