import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
import yaml
from lock import LOCK, without_torch
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

import mrigmm

ROOT = Path(__file__).parent.parent
PYPROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
PROJECT = PYPROJECT["project"]


def requirements() -> list[Requirement]:
    extras = PROJECT["optional-dependencies"].values()
    groups = PYPROJECT["dependency-groups"].values()
    texts = [text for group in (PROJECT["dependencies"], *extras, *groups) for text in group]
    found = [Requirement(text) for text in texts if isinstance(text, str)]  # else another group
    return [requirement for requirement in found if requirement.name != "mrigmm"]  # its other extras


def pins() -> dict[str, Version]:
    found = {}
    for line in (ROOT / "constraints.txt").read_text().splitlines():
        if line and not line.startswith("#"):
            match = re.fullmatch(r"([A-Za-z0-9._-]+)==([A-Za-z0-9.+!]+)", line)
            assert match, f"not an exact pin: {line}"
            name = canonicalize_name(match[1])
            assert name not in found, f"{name} is pinned twice"
            found[name] = Version(match[2])
    return found


def test_every_dependency_has_a_lower_bound_that_its_pin_meets():
    pinned = pins()
    for requirement in requirements():
        assert [s.operator for s in requirement.specifier] == [">="], f"{requirement}: a lower bound, no more"
        assert requirement.specifier.contains(pinned[canonicalize_name(requirement.name)]), requirement


def test_the_lock_has_a_hash_of_every_pin_but_that_of_pytorch():
    locked = re.findall(r"^(\S+)==(\S+) \\\n    --hash=sha256:", LOCK.read_text(), flags=re.MULTILINE)
    assert {canonicalize_name(name): Version(text) for name, text in locked} == {
        name: version for name, version in pins().items() if name != "torch"
    }
    assert "://" not in LOCK.read_text()


def test_constraints_are_those_of_the_lock():
    lock = "numpy==2.4.6 \\\n    --hash=sha256:aa\ntorch==2.13.0+cpu \\\n    --hash=sha256:bb\n"
    assert without_torch(lock) == (
        "numpy==2.4.6 \\\n    --hash=sha256:aa\n",
        ["numpy==2.4.6", "torch==2.13.0"],
    )


def test_the_console_script_and_the_version():
    assert PROJECT["scripts"] == {"mrigmm": "mrigmm.cli:main"}
    assert mrigmm.__version__ == PROJECT["version"]


def test_hooks_of_pre_commit_are_the_pinned_versions():
    hooks = yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text())["repos"]
    revisions = {hook["repo"]: hook.get("rev") for hook in hooks}
    assert revisions["https://github.com/astral-sh/ruff-pre-commit"] == f"v{pins()['ruff']}"
    assert all(re.fullmatch(r"v\d+\.\d+\.\d+", rev) for repo, rev in revisions.items() if repo != "local")


def test_pages_and_dockerfile_install_the_cpu_build_in_one_way():
    command = "uv pip install --torch-backend cpu -c constraints.txt ."
    for page in ("README.md", "docs/index.md"):
        assert f"pip install uv && {command}" in (ROOT / page).read_text()
    assert "--torch-backend cpu -c constraints.txt" in (ROOT / "Dockerfile").read_text()
    assert any(line.startswith("torch==") for line in (ROOT / "constraints.txt").read_text().splitlines())


def test_the_conda_recipe_has_version_and_requirements_of_the_project():
    recipe = yaml.safe_load((ROOT / "conda" / "recipe.yaml").read_text())
    assert recipe["context"]["version"] == PROJECT["version"]
    names = {"torch": "pytorch", "isal": "python-isal", "matplotlib": "matplotlib-base"}  # conda-forge's
    needed = [f"python {PROJECT['requires-python']}"]
    for text in PROJECT["dependencies"]:
        requirement = Requirement(text)
        name = names.get(requirement.name, requirement.name.lower())
        needed.append(f"{name} {requirement.specifier}")
    assert recipe["requirements"]["run"] == needed
    (backend,) = PYPROJECT["build-system"]["requires"]
    assert recipe["requirements"]["host"][-1] == backend.replace(">", " >", 1)


def test_the_newest_changes_are_those_of_this_version():
    headings = re.findall(r"^## (\S+)", (ROOT / "CHANGELOG.md").read_text(), flags=re.MULTILINE)
    assert headings == [PROJECT["version"], "0.1.0"]


def test_citation():
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text())
    assert citation["cff-version"] == "1.2.0"
    assert {"title", "message", "authors"} <= set(citation)
    assert citation["version"] == PROJECT["version"]
    assert citation["license"] == PROJECT["license"] == "Apache-2.0"
    article = citation["references"][0]
    assert article["identifiers"] == [{"type": "other", "value": "arXiv:2404.12252"}]
    assert [a["family-names"] for a in article["authors"]] == ["Schwab", "Mayr", "Haltmeier"]


def test_every_folder_of_the_package_is_a_sub_package():
    folders = {path.parent for path in (ROOT / "mrigmm").rglob("*.py")}
    assert [str(folder) for folder in folders if not (folder / "__init__.py").exists()] == []


def test_public_names_are_there():
    for name in mrigmm.__all__:
        assert getattr(mrigmm, name) is not None


@pytest.mark.gate
def test_every_public_name_is_known_without_the_extras():
    """Help pages and `import *` ask for all of them."""
    extras = ("pydicom", "highdicom", "onnx", "onnxruntime", "onnxscript", "fire", "tensorboard")
    extras += ("werkzeug", "waitress", "playwright")
    code = f"""
import pydoc, sys
sys.modules.update(dict.fromkeys({extras}))
import mrigmm
assert "manifest_dicom" in pydoc.render_doc(mrigmm, renderer=pydoc.plaintext)
from mrigmm import *
"""
    subprocess.run([sys.executable, "-W", "error", "-c", code], check=True, timeout=600)
