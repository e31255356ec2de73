"""Who may import whom (docs/architecture.md), read from the source without running it."""

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PACKAGE = ROOT / "mrigmm"

DOC = (ROOT / "docs" / "architecture.md").read_text()


def rooms() -> dict[str, set[str]]:
    """Part of the package -> parts that the table of the docs lets it import, beside itself."""
    rows = [row.strip("|").split("|") for row in DOC.splitlines() if row.startswith("| `")]
    table: dict[str, set[str]] = {}
    for row in (row for row in rows if len(row) == 3):
        for name in re.findall(r"`(\w+)(?:/|\.py)`", row[0]):
            table[name] = set(re.findall(r"`(\w+)`", row[2]))
            below = "everything below" in row[2]
            if below:
                table[name] = set(re.findall(r"^\| `(\w+)/`", DOC, re.MULTILINE)) - set(table)
    return table


MAY_IMPORT = {**rooms(), "__main__": {"cli"}, "__init__": {"jobs"}}
ANYONE = {"labels", "errors", "config", "config_anatomy", "settings_yaml"}
LIGHTNING = {"lightning", "pytorch_lightning"}


def part_of(module: str) -> str:
    return [*module.split("."), "__init__"][1]


def imports(path: Path) -> set[str]:
    """Full names of all modules that a file imports, wherever in the file."""
    names = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            assert node.module is not None
            names |= (
                {f"mrigmm.{alias.name}" for alias in node.names} if node.module == "mrigmm" else {node.module}
            )
    return names


FILES = sorted(PACKAGE.rglob("*.py"))


def owner(path: Path) -> str:
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


def test_every_part_has_its_rule():
    assert {owner(path) for path in FILES} - {"resources"} == set(MAY_IMPORT)


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_imports_run_one_way(path):
    part = owner(path)
    ours = {part_of(name) for name in imports(path) if name.split(".")[0] == "mrigmm"}
    foreign = ours - {part} - MAY_IMPORT[part]
    allowed = set() if part == "mixture" else ANYONE
    assert foreign <= allowed, f"{path.name} imports {sorted(foreign - allowed)}"


@pytest.mark.parametrize("part", sorted(MAY_IMPORT))
def test_the_table_grants_no_import_that_nobody_makes(part):
    files = [path for path in FILES if owner(path) == part]
    made = {part_of(name) for path in files for name in imports(path) if name.split(".")[0] == "mrigmm"}
    assert MAY_IMPORT[part] - ANYONE <= made


def test_the_files_that_the_docs_name_are_there():
    named = set(re.findall(r"\b[\w/]+\.py\b", DOC))
    paths = {
        str(path.relative_to(ROOT))
        for path in [*FILES, *(ROOT / "tests").glob("*.py"), *(ROOT / "docs").glob("*.py")]
    }
    missing = {name for name in named if not any(path == name or path.endswith(f"/{name}") for path in paths)}
    assert len(named) > 10
    assert missing == set()


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_only_training_knows_lightning(path):
    used = {name.split(".")[0] for name in imports(path)} & LIGHTNING
    assert not used or owner(path) == "training"


def test_the_rule_finds_what_it_is_for():
    used = {name.split(".")[0] for path in FILES if owner(path) == "training" for name in imports(path)}
    assert used & LIGHTNING


@pytest.mark.parametrize(
    "path",
    [p for p in FILES if owner(p) in {"labels", "errors", "config", "settings_yaml", "cli"}],
    ids=lambda p: p.name,
)
def test_what_info_loads_knows_no_torch(path):
    top = {
        name.split(".")[0]
        for node in ast.parse(path.read_text()).body
        if isinstance(node, ast.Import | ast.ImportFrom)
        for name in ([a.name for a in node.names] if isinstance(node, ast.Import) else [node.module or ""])
    }
    assert not top & {"torch", "monai", "numpy", "nibabel", *LIGHTNING}


def calls_print(path: Path) -> bool:
    return any(
        isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "print"
        for node in ast.walk(ast.parse(path.read_text()))
    )


def test_nothing_prints_but_the_command_line():
    assert [path.name for path in FILES if calls_print(path) and owner(path) != "cli"] == []


def test_no_pickle_is_loaded():
    """`torch.load` needs `weights_only=True`; pickle and joblib are not used at all."""
    for path in FILES:
        assert not imports(path) & {"pickle", "joblib", "dill", "cloudpickle"}, path
        for node in ast.walk(ast.parse(path.read_text())):
            if (
                isinstance(node, ast.Call)
                and isinstance(node.func, ast.Attribute)
                and ast.unparse(node.func) == "torch.load"
            ):
                assert any(
                    k.arg == "weights_only" and ast.unparse(k.value) == "True" for k in node.keywords
                ), path
