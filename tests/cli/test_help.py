"""Help pages: groups, width, and examples that the command line itself understands."""

import inspect
import os
import re
import shlex

import pytest
import typer

from mrigmm.cli import app
from mrigmm.cli.application import COMMANDS
from mrigmm.cli.console import EXIT_CODES
from mrigmm.cli.help import text_and_examples
from mrigmm.cli.options import PANELS
from mrigmm.config import PRESETS, make_config
from mrigmm.config_anatomy import make_anatomy_config
from mrigmm.methods.registry import METHODS

from ..test_docs import ROOT

GROUP = typer.main.get_command(app)
EXAMPLES = [
    (command.__name__.replace("_", "-"), line)
    for commands in COMMANDS.values()
    for command in commands
    for line in text_and_examples(command)[1].splitlines()
]


def test_every_command_has_an_example_of_itself():
    for name in GROUP.commands:
        assert [line for command, line in EXAMPLES if command == name and line.split()[1] == name], name


@pytest.mark.parametrize(("shown_by", "line"), EXAMPLES)
def test_examples_are_understood(shown_by, line):
    program, name, *arguments = shlex.split(line)
    assert program == "mrigmm"
    assert len(f"  {line}") <= 80
    with GROUP.commands[name].make_context(name, arguments) as context:
        values = context.params
    assert values.get("method") in (None, *METHODS)
    if name == "train":
        assert make_config(values["preset"] or "default", values["overrides"] or ())
        assert values["preset"] in (None, *PRESETS)
    if name == "train-anatomy":
        assert make_anatomy_config(values["overrides"] or ())


@pytest.mark.parametrize(
    ("arguments", "where"),
    [
        (["simulate", "-o", "", "--seed", 1], " after '-o'"),
        (["simulate", "--out=", "--seed", 1], " after '--out='"),
        (["segment", "", "-o", "out"], ""),
    ],
)
def test_an_empty_value_is_not_the_folder_of_now(cli, tmp_path, monkeypatch, arguments, where):
    monkeypatch.chdir(tmp_path)
    result = cli(*arguments)
    assert result.code == 2
    assert f"Empty value{where}. Is a variable of the shell not set?" in result.err
    assert not list(tmp_path.iterdir())


def test_an_example_that_is_wrong_is_found():
    with pytest.raises(Exception, match="no-such-option"):
        GROUP.commands["check"].make_context("check", ["manifest.json", "--no-such-option"])


@pytest.mark.parametrize("name", [None, *GROUP.commands])
def test_help_fits_80_columns(cli, monkeypatch, name):
    monkeypatch.setattr("shutil.get_terminal_size", lambda *_: os.terminal_size((80, 24)))
    text = cli(*([] if name is None else [name]), "--help").out
    assert max(len(line) for line in text.splitlines()) <= 80


@pytest.mark.parametrize("name", GROUP.commands)
def test_every_option_stands_in_its_group(cli, name):
    text = cli(name, "--help").out
    headings = re.findall(r"^(\S[\w ]*):$", text, flags=re.MULTILINE)
    known = ["Arguments", *PANELS, "Options", "Examples"]
    assert headings == [heading for heading in known if heading in headings]
    rest = text.partition("\nOptions:\n")[2].partition("\nExamples:\n")[0]
    assert re.findall(r"^ +(--[\w-]+)", rest, flags=re.MULTILINE) == ["--help"]
    assert "Examples" in headings


def test_commands_stand_in_their_groups(cli):
    text = cli("--help").out
    headings = re.findall(r"^(\S[\w ]*):$", text, flags=re.MULTILINE)
    assert headings == ["Options", *COMMANDS, "Exit codes"]
    assert "..." not in text.partition("First look")[2]  # no sentence is cut


def test_exit_codes_are_documented(cli):
    rows = dict(
        re.findall(r"^\| (\d+) \| (.+) \|$", (ROOT / "docs" / "reliability.md").read_text(), re.MULTILINE)
    )
    text = " ".join(cli("--help").out.split())
    for code, meaning in EXIT_CODES.items():
        assert f"{code} {meaning}" in text
        assert rows[str(code)].replace("`", "").startswith(meaning)


def test_examples_are_no_part_of_the_text(cli):
    text, examples = text_and_examples(COMMANDS["Cohort"][2])
    assert "Examples" not in text
    assert examples.startswith("mrigmm check ")
    assert "Examples:" in inspect.getdoc(COMMANDS["Cohort"][2])


@pytest.mark.parametrize("name", GROUP.commands)
def test_how_much_is_said_is_asked_for_alike(name):
    options = {option for param in GROUP.commands[name].params for option in param.opts}
    assert {"--quiet", "--verbose"} <= options or name == "info"  # which is its result alone
    wanted = {
        "check",
        "evaluate",
        "compare",
        "agreement",
        "quantify",
        "measure",
        "info",
        "predict",
        "segment",
    }
    assert ("--json" in options) == (name in wanted)


def test_all_that_is_missing_is_named_at_once(cli):
    result = cli("simulate", "--seed", "1")
    assert result.code == 2
    assert "Missing -o / --out, --studies." in result.err
    assert "Missing A, B." in cli("compare").err
    assert "Missing option '-o' / '--out'" in cli("demo", "-o").err + cli("predict").err
    several = cli("predict", "-o", "out", "--run", "r", "--method", "map-em")
    assert several.code == 2
    assert "give either a manifest or --image NAME=FILE" in several.err
    assert "give either a trained run or a method" in several.err
