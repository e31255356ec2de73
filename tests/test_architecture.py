"""Who may import whom (docs/architecture.md), read from the source without running it."""

import ast
import re
from graphlib import TopologicalSorter
from pathlib import Path

ROOT = Path(__file__).parent.parent
PACKAGE = ROOT / "mrigmm"

DOC = (ROOT / "docs" / "architecture.md").read_text()


def layout() -> dict[str, set[str]]:
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


MAY_IMPORT = {**layout(), "__main__": {"cli"}, "__init__": {"jobs"}}
ANYONE = {"labels", "errors", "settings_yaml", "plugins", "lazy"} | {
    f"config{kind}" for kind in ("", "_anatomy", "_pretrain", "_learning")
}
IMPORTS = (ast.Import, ast.ImportFrom)
LIGHTNING = {"lightning", "pytorch_lightning"}


def part_of(module: str) -> str:
    return [*module.split("."), "__init__"][1]


def imports(path: Path) -> set[str]:
    """Full names of all modules that a file imports, wherever in the file."""
    return imported(ast.parse(path.read_text()), path)


def imported(tree: ast.AST, path: Path) -> set[str]:
    """Full names of all modules that a syntax tree imports."""
    names = set()
    for node in ast.walk(tree):
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


def ours(path: Path) -> set[str]:
    """Parts of the package that a file imports, beside its own."""
    return {part_of(name) for name in imports(path) if name.split(".")[0] == "mrigmm"} - {owner(path)}


def test_imports_run_one_way_and_the_table_grants_none_that_nobody_makes():
    made: dict[str, set[str]] = {part: set() for part in MAY_IMPORT}
    foreign = []
    for path in FILES:
        part = owner(path)
        made[part] |= ours(path)
        allowed = MAY_IMPORT[part] | (set() if part == "mixture" else ANYONE)
        foreign += [f"{path.relative_to(ROOT)} imports {name}" for name in sorted(ours(path) - allowed)]
    assert foreign == []
    unused = {part: MAY_IMPORT[part] - ANYONE - made[part] for part in MAY_IMPORT}
    assert {part: names for part, names in unused.items() if names} == {}


def neighbours(folder: Path) -> dict[str, set[str]]:
    """File or folder inside a folder of the package -> those beside it that it imports."""
    prefix = [PACKAGE.name, *folder.relative_to(PACKAGE).parts]
    graph: dict[str, set[str]] = {}
    for path in folder.rglob("*.py"):
        name = path.relative_to(folder).parts[0].removesuffix(".py")
        parts = [module.split(".") for module in imports(path)]
        beside = {p[len(prefix)] for p in parts if p[: len(prefix)] == prefix and len(p) > len(prefix)}
        graph.setdefault(name, set()).update(beside - {name})
    return graph


def test_no_import_inside_a_folder_runs_back():
    assert neighbours(PACKAGE / "jobs")["predicting"] >= {"reading", "quantify"}
    for folder in sorted({path.parent for path in FILES}):
        assert [*TopologicalSorter(neighbours(folder)).static_order()]  # raises CycleError


def test_the_files_that_the_docs_name_are_there():
    named = set(re.findall(r"\b[\w/]+\.py\b", DOC))
    paths = {
        str(path.relative_to(ROOT))
        for path in [
            *FILES,
            *(ROOT / "tests").glob("*.py"),
            *(ROOT / "docs").glob("*.py"),
            *(ROOT / "scripts").glob("*.py"),
        ]
    }
    missing = {name for name in named if not any(path == name or path.endswith(f"/{name}") for path in paths)}
    assert len(named) > 10
    assert missing == set()


def test_only_training_knows_lightning():
    users = {owner(path) for path in FILES if {name.split(".")[0] for name in imports(path)} & LIGHTNING}
    assert users == {"training"}


def test_what_info_loads_knows_no_torch():
    heavy = {"torch", "monai", "numpy", "nibabel", *LIGHTNING}
    found = []
    for path in (p for p in FILES if owner(p) in {"labels", "errors", "config", "settings_yaml", "cli"}):
        top = ast.Module([n for n in ast.parse(path.read_text()).body if isinstance(n, IMPORTS)], [])
        if used := {name.split(".")[0] for name in imported(top, path)} & heavy:
            found.append(f"{path.relative_to(ROOT)} imports {sorted(used)}")
    assert found == []


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
