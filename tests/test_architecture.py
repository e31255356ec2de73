"""Who may import whom (docs/architecture.md), read from the source without running it."""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PACKAGE = ROOT / "mrigmm"

ANYONE = {"labels", "errors", "config", "config_anatomy", "settings_yaml"}
STAGES = {"training", "methods", "evaluation", "quantification", "reporting", "export"}
# Part of the package -> parts that it may import beside itself and `ANYONE`.
MAY_IMPORT = {
    "labels": set(),
    "errors": set(),
    "config": set(),
    "settings_yaml": set(),
    "config_anatomy": set(),
    "mixture": set(),
    "networks": {"mixture"},
    "data": {"mixture"},
    "phantom": {"data", "mixture"},
    "export": {"data", "networks", "mixture"},
    "evaluation": {"data", "networks", "mixture"},
    "quantification": {"data"},
    "reporting": {"data", "networks", "mixture"},
    "methods": {"data", "networks", "mixture"},
    "training": {"data", "networks", "mixture"},
    "jobs": {*STAGES, "data", "networks", "mixture", "phantom"},
    "cli": {"jobs"},
    "__main__": {"cli"},
    "__init__": {"jobs"},
}
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
