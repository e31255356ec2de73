"""Resolve all dependencies: requirements.lock, with hashes, and constraints.txt, the same versions.

What is pinned stays; `--upgrade` (or `--upgrade-package NAME`) goes to uv, as any further argument.
PyTorch is pinned in constraints.txt alone, because its builds for the CPU and for each CUDA are other
files: `uv pip install --torch-backend cpu` or `pip` choose one. Needs uv (`pip install uv`).
"""

from __future__ import annotations

import argparse
import re
import subprocess
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
LOCK, CONSTRAINTS = ROOT / "requirements.lock", ROOT / "constraints.txt"
HEADER = "# Exact versions that the README's commands and CI install; written by scripts/lock.py.\n"
RESOLVE = [
    *("uv", "pip", "compile", "pyproject.toml", "--python-version", "3.11.5", "--generate-hashes"),
    *("--extra", "all", "--extra", "tensorboard", "--group", "mutation", "--group", "docs"),
    *("--no-annotate", "--no-header", "--quiet", "-o", LOCK.name),
]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    _, further = parser.parse_known_args()
    upgrade = any(option.startswith("--upgrade") for option in further)
    as_pinned = [] if upgrade else ["-c", CONSTRAINTS.name]
    subprocess.run([*RESOLVE, *as_pinned, *further], cwd=ROOT, check=True)
    lock, versions = without_torch(LOCK.read_text())
    LOCK.write_text(lock)
    CONSTRAINTS.write_text(HEADER + "".join(f"{line}\n" for line in versions))


def without_torch(lock: str) -> tuple[str, list[str]]:
    """Return the lock without the builds of PyTorch, and `name==version` of everything, PyTorch too."""
    blocks = re.findall(r"^\S+==[^\n]*\n(?:[ ].*\n)*", lock, flags=re.MULTILINE)
    versions = [re.match(r"[^ ;\\]+", block)[0].split("+")[0] for block in blocks]
    return "".join(block for block in blocks if not block.startswith("torch==")), versions


if __name__ == "__main__":
    main()
