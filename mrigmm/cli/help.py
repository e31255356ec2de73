"""Help pages in plain text: commands and options in groups, examples as they are typed.

Typer's own pages with groups are boxes, which neither fit 80 columns nor a log.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from typer.core import TyperCommand, TyperGroup

from mrigmm.cli.console import EXIT_CODES
from mrigmm.cli.options import PANELS

_EXAMPLES = "Examples:"
_NAME_WIDTH = 30  # a longer name has a line of its own
_WHOLE = 200  # characters: first sentences are shorter


class Command(TyperCommand):
    """A command whose options stand in their groups, and that names all that are missing."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Refuse empty values, and name all required arguments and options that a command line lacks."""
        empty = [k for k, text in enumerate(args) if not text or re.fullmatch("--[a-z-]+=", text)]
        if empty and not ctx.resilient_parsing:  # a path of no characters would be the folder of now
            words = [text for text in args[max(empty[0] - 1, 0) : empty[0] + 1] if text]
            where = f" after '{words[-1]}'" if words else ""
            ctx.fail(f"Empty value{where}. Is a variable of the shell not set?")
        given = self.make_parser(ctx).parse_args(args=list(args))[0]
        required = [param for param in self.get_params(ctx) if param.required]
        missing = [param for param in required if param.value_is_missing(given.get(param.name))]
        if len(missing) > 1 and not ctx.resilient_parsing and not given.get("help"):
            names = (
                " / ".join(p.opts) if p.param_type_name == "option" else p.metavar or p.name for p in missing
            )
            ctx.fail(f"Missing {', '.join(str(name) for name in names)}.")
        parsed: list[str] = super().parse_args(ctx, args)
        return parsed

    def format_options(self, ctx: Any, formatter: Any) -> None:
        """Arguments, then the groups of options in the order of `PANELS`, then the rest."""
        sections: dict[str, list[tuple[str, str]]] = {"Arguments": [], **{panel: [] for panel in PANELS}}
        for param in self.get_params(ctx):
            record = param.get_help_record(ctx)
            if record is not None:
                usual = "Arguments" if param.param_type_name == "argument" else "Options"
                sections.setdefault(getattr(param, "rich_help_panel", None) or usual, []).append(record)
        _write(formatter, sections)

    def format_epilog(self, ctx: Any, formatter: Any) -> None:
        """The examples, never wrapped, so that they can be copied."""
        if self.epilog:
            with formatter.section(_EXAMPLES.rstrip(":")):
                for line in self.epilog.splitlines():
                    formatter.write(f"{'':{formatter.current_indent}}{line}\n")


class Group(TyperGroup):
    """The application, whose commands stand in their groups."""

    def format_commands(self, ctx: Any, formatter: Any) -> None:
        """A section for each group of commands."""
        sections: dict[str, list[tuple[str, str]]] = {}
        for name in self.list_commands(ctx):
            command = self.get_command(ctx, name)
            if command is not None:
                panel = getattr(command, "rich_help_panel", None) or "Commands"
                sections.setdefault(panel, []).append((name, command.get_short_help_str(_WHOLE)))
        _write(formatter, sections)

    def format_epilog(self, ctx: Any, formatter: Any) -> None:
        """Write the meaning of the exit codes."""
        _write(formatter, {"Exit codes": [(str(code), meaning) for code, meaning in EXIT_CODES.items()]})


def text_and_examples(command: Callable[..., None]) -> tuple[str, str]:
    """Return what the docstring of a command says, and the command lines that it shows."""
    text, _, examples = (inspect.getdoc(command) or "").partition(f"\n\n{_EXAMPLES}\n")
    return text, inspect.cleandoc(examples)


def _write(formatter: Any, sections: Mapping[str, Sequence[tuple[str, str]]]) -> None:
    """Definition lists, aligned over all of them."""
    widths = [len(name) for records in sections.values() for name, _ in records]
    width = max((width for width in widths if width <= _NAME_WIDTH), default=0)
    for title, records in sections.items():
        if records:
            with formatter.section(title):
                formatter.write_dl([(name.ljust(width), text) for name, text in records])
