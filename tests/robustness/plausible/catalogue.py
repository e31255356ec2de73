"""The chapter "Plausible and wrong" of docs/bad_input.md, from the tests beside this file.

Each module has a `KIND`, a `CHECK` (which two sources of information are compared), and tests whose
docstrings say "input -> what happens". They are read as text: what a module imports need not be installed.
"""

from __future__ import annotations

import ast
from dataclasses import dataclass
from pathlib import Path

HEADING = "## Plausible and wrong"
_INTRO = """\
Damaged input is refused, above. Here is input that agrees with itself and means something else: a
header whose two scales disagree, a map with its ids exchanged, an image of another kind. What
exposes it is on disk, and is compared. Each kind is a module of `tests/robustness/plausible/`."""


@dataclass(frozen=True)
class Kind:
    """One module: its name for people, what is compared, and each input with what happens."""

    name: str
    check: str
    cases: tuple[tuple[str, str], ...]


def kinds() -> list[Kind]:
    """Every kind, in the order of the names of the modules."""
    return [_kind(path) for path in sorted(Path(__file__).parent.glob("test_*.py"))]


def _kind(path: Path) -> Kind:
    texts: dict[str, str] = {}
    cases: list[tuple[str, str]] = []
    for node in ast.parse(path.read_text(encoding="utf-8")).body:
        if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name):
            if node.targets[0].id in ("KIND", "CHECK"):
                texts[node.targets[0].id] = str(ast.literal_eval(node.value))
        elif isinstance(node, ast.FunctionDef) and node.name.startswith("test_"):
            given, arrow, happens = " ".join((ast.get_docstring(node) or "").split()).partition(" -> ")
            if not arrow:
                raise ValueError(f"{path.name}: the docstring of {node.name} is not 'input -> what happens'")
            cases.append((given, happens.removesuffix(".")))
    if texts.keys() != {"KIND", "CHECK"}:
        raise ValueError(f"{path.name}: KIND and CHECK are missing")
    check = texts["CHECK"].rstrip(".")
    return Kind(texts["KIND"], check[:1].lower() + check[1:], tuple(cases))


def chapter() -> str:
    """The chapter, from its heading to its last line."""
    found = kinds()
    total = sum(len(kind.cases) for kind in found)
    lines = [HEADING, "", _INTRO, "", f"{total} tests of {len(found)} kinds:", ""]
    lines += ["| kind | what is compared | tests |", "|---|---|---|"]
    lines += [
        table_row(kind.name, kind.check[:1].lower() + kind.check[1:], str(len(kind.cases))) for kind in found
    ]
    lines += ["", "| kind | input | what happens |", "|---|---|---|"]
    lines += [table_row(kind.name, given, happens) for kind in found for given, happens in kind.cases]
    return "\n".join(lines) + "\n"


def table_row(*cells: str) -> str:
    """Return a row of a Markdown table."""
    return "| " + " | ".join(cell.replace("|", "\\|").replace("<", "&lt;") for cell in cells) + " |"
