"""The application: all commands in the order of the help."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from importlib.metadata import version
from typing import Annotated

import typer

from mrigmm.cli.cohort import check, demo, manifest, simulate
from mrigmm.cli.console import out_console
from mrigmm.cli.evaluate import agreement, compare, evaluate, measure, quantify, report
from mrigmm.cli.export import export
from mrigmm.cli.help import Command, Group, text_and_examples
from mrigmm.cli.info import info
from mrigmm.cli.predict import predict, segment_image
from mrigmm.cli.review import review
from mrigmm.cli.segment import segment
from mrigmm.cli.train import pretrain, prior, train, train_anatomy

# Groups of the help, and the commands in its order.
COMMANDS: Mapping[str, Sequence[Callable[..., None]]] = {
    "First look": (demo, info),
    "Cohort": (simulate, manifest, check),
    "Training": (train, train_anatomy, pretrain, prior),
    "Segmentation": (segment, predict, segment_image),
    "Evaluation": (evaluate, compare, agreement, quantify, measure, report, review),
    "Exchange": (export,),
}

app = typer.Typer(
    cls=Group,
    help="Infarct and edema maps from cardiac MR without pixel labels. "
    "Research software, not for clinical use.",
    no_args_is_help=True,
    add_completion=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)
for group, commands in COMMANDS.items():
    for command in commands:
        text, examples = text_and_examples(command)
        app.command(cls=Command, help=text, epilog=examples, rich_help_panel=group)(command)


def _print_version(asked: bool) -> None:
    if asked:
        out_console.print(f"mrigmm {version('mrigmm')}", highlight=False)
        raise typer.Exit


@app.callback()
def options(
    _version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    """Options before any command; the help text is that of `app`."""
