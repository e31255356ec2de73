"""The command info."""

from __future__ import annotations

import json
import sys
from typing import Annotated

import typer
from rich.markup import escape
from rich.table import Table

from mrigmm.cli.console import out_console


def info(as_json: Annotated[bool, typer.Option("--json", help="As JSON.")] = False) -> None:
    """Methods, presets, classes and versions."""
    from mrigmm.jobs.info import info as job

    content = job()
    if as_json:
        sys.stdout.write(json.dumps(content, indent=1) + "\n")
        return
    for title, values in content.items():
        if not isinstance(values, dict):
            continue
        table = Table(title=title.replace("_", " "), title_justify="left", show_header=False, box=None)
        for name, value in values.items():
            table.add_row(escape(name), escape(", ".join(value) if isinstance(value, list) else str(value)))
        out_console.print(table)
