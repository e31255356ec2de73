"""How much of the package one study passes on its way through `predict --run`, and how long the package is.

    python scripts/trace_study.py                  # simulates and trains first: a quarter of a minute
    python scripts/trace_study.py --run RUN --manifest MANIFEST -o trace.json

Traced is one call of the command line in this process, on the manifest's test split; the report is about one
study, so the split should hold one. Counted are functions of mrigmm only: each once, however often it is
called, with its file. Comprehensions belong to the function around them; what runs while a module is
imported is left out. A change of file is a call of a function that stands in another file than the one that
was called before it.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
import threading
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType
from typing import Any

from benchmarking import markdown_table, save_numbers, script_parser

PACKAGE = Path(__file__).resolve().parent.parent / "mrigmm"
MODULE_BODY = "<module>"


@dataclass
class Passed:
    """The calls of functions of one package, as a profile function of ``sys.setprofile``.

    Attributes:
        package: folder of the package.
        functions: calls of each function, by file (relative to the package) and qualified name.
        changes: calls of a function in another file than that of the call before.
    """

    package: Path
    functions: Counter[tuple[str, str]] = field(default_factory=Counter)
    changes: int = 0
    _file: str | None = None
    _importing: int = 0

    def __call__(self, frame: FrameType, event: str, _: Any) -> None:
        """Count one event of the interpreter."""
        if event not in ("call", "return") or not frame.f_code.co_filename.startswith(f"{self.package}/"):
            return
        if frame.f_code.co_name == MODULE_BODY:
            self._importing += 1 if event == "call" else -1
        elif event == "call" and not self._importing and not frame.f_code.co_name.startswith("<"):
            file = str(Path(frame.f_code.co_filename).relative_to(self.package))
            self.functions[file, frame.f_code.co_qualname] += 1
            self.changes += self._file not in (None, file)
            self._file = file

    @property
    def files(self) -> set[str]:
        """Files of the functions that were called."""
        return {file for file, _ in self.functions}


def traced(work: Callable[[], object], package: Path = PACKAGE) -> Passed:
    """Return the calls that some work makes, in this thread and in those that it starts."""
    passed = Passed(package.resolve())
    threading.setprofile(passed)
    sys.setprofile(passed)
    try:
        work()
    finally:
        sys.setprofile(None)
        threading.setprofile(None)  # type: ignore[arg-type]  # None ends it (standard library)
    return passed


def package_lines(package: Path = PACKAGE) -> int:
    """Return the lines of all Python files of a package."""
    return sum(len(path.read_text().splitlines()) for path in package.rglob("*.py"))


def predict(run: Path, manifest: Path, out: Path) -> None:
    """Run the command `predict --run` in this process.

    Raises:
        SystemExit: it failed.
    """
    from mrigmm.cli import main as mrigmm

    before, sys.argv = (
        sys.argv,
        ["mrigmm", "predict", *map(str, (manifest, "--run", run, "-o", out, "--quiet"))],
    )
    try:
        mrigmm()
    except SystemExit as stop:
        if stop.code:
            raise
    finally:
        sys.argv = before


def small_run(folder: Path) -> tuple[Path, Path]:
    """Simulate three small studies, one of them in the test split, and train; return run and manifest.

    In processes of their own, so that nothing is imported or kept in a cache when the tracing starts.
    """
    cohort, run = folder / "cohort", folder / "run"
    for command in (
        f"simulate --preset small --studies 3 --seed 1 -o {cohort} --quiet",
        f"train {cohort / 'manifest.json'} -o {run} --preset tiny --quiet",
    ):
        subprocess.run([sys.executable, "-m", "mrigmm", *command.split(" ")], check=True, cwd=PACKAGE.parent)
    return run, cohort / "manifest.json"


def tables(numbers: dict[str, Any]) -> str:
    """Return the totals, and functions and files of each part of the package."""
    totals = [
        [name, f"{numbers[name]:,}"] for name in ("functions", "files", "changes of file", "package lines")
    ]
    parts = [[part, str(n["functions"]), str(n["files"])] for part, n in numbers["parts"].items()]
    return "\n\n".join(
        [
            markdown_table(["predict --run, one study", "number"], totals),
            markdown_table(["part", "functions", "files"], parts),
        ]
    )


def numbers_of(passed: Passed, lines: int) -> dict[str, Any]:
    """Return what the tables and the JSON hold."""
    parts = sorted({file.split("/")[0] for file in passed.files})
    return {
        "functions": len(passed.functions),
        "files": len(passed.files),
        "changes of file": passed.changes,
        "package lines": lines,
        "parts": {
            part: {
                "functions": sum(file.split("/")[0] == part for file, _ in passed.functions),
                "files": sum(file.split("/")[0] == part for file in passed.files),
            }
            for part in parts
        },
        "calls": {f"{file}:{name}": count for (file, name), count in sorted(passed.functions.items())},
    }


def main() -> None:
    """Parse, trace, print, write."""
    parser = script_parser(__doc__)
    parser.add_argument("--run", type=Path, help="folder of a trained run. Default: one trained on 2 studies")
    parser.add_argument("--manifest", type=Path, help="with --run: a manifest with one test study")
    parser.add_argument("-o", "--output", type=Path, help="write the numbers, and every function, as JSON")
    given = parser.parse_args()
    if (given.run is None) != (given.manifest is None):
        parser.error("--run and --manifest belong together")
    with tempfile.TemporaryDirectory() as folder:
        run, manifest = (given.run, given.manifest) if given.run else small_run(Path(folder))
        out = Path(folder) / "predictions"
        passed = traced(lambda: predict(run, manifest, out))
    numbers = numbers_of(passed, package_lines())
    print(tables(numbers))
    save_numbers(given.output, numbers)


if __name__ == "__main__":
    main()
