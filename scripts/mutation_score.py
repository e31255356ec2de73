"""How many small mistakes the tests notice: the mutation score of `mixture/` and `evaluation/`.

mutmut (`[tool.mutmut]` in pyproject.toml) writes copies of the package into mutants/, each function with one
small mistake at a time, and runs those tests that reach the function. Noticed is a mistake with which a test
fails or does not end. Not mutated: decorated functions (`@property`, `@cache`), and what stands outside of
functions. All mutants take hours: a sample is drawn, and its score has a Wilson interval.

    python scripts/mutation_score.py "mrigmm.mixture.*" --sample 600 --seed 1
"""

from __future__ import annotations

import argparse
import fnmatch
import json
import os
import random
import subprocess
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from benchmarking import markdown_table
from scipy.stats import binomtest

# mutmut's words for how a run ended, and ours. What no test reaches, no test notices.
OUTCOMES = {
    "killed": "killed",
    "segfault": "killed",
    "survived": "survived",
    "no tests": "survived",
    "timeout": "timed out",
}


def drawn(names: Iterable[str], patterns: Sequence[str], sample: int | None, seed: int) -> list[str]:
    """The mutants that match one of the patterns, or `sample` of them."""
    matching = sorted(name for name in names if any(fnmatch.fnmatch(name, p) for p in patterns))
    return matching if sample is None else random.Random(seed).sample(matching, min(sample, len(matching)))


def table(outcomes: Mapping[str, str]) -> str:
    """Numbers per module, and the share that was noticed with its 95 % interval; mutant -> outcome."""
    modules: dict[str, Counter[str]] = {}
    for name, outcome in sorted(outcomes.items()):
        modules.setdefault(name.rpartition(".")[0], Counter())[outcome] += 1
    rows = [_row(module, counts) for module, counts in modules.items()]
    total = sum(modules.values(), Counter())
    noticed = binomtest(total["killed"] + total["timed out"], total.total())
    interval = noticed.proportion_ci(method="wilson")
    score = f"{100 * noticed.statistic:.1f} % ({100 * interval.low:.1f} to {100 * interval.high:.1f})"
    header = ("module", "mutants", "killed", "survived", "timed out")
    return f"{markdown_table(header, [*rows, _row('all', total)])}\n\nMutation score: {score}"


def _row(module: str, counts: Counter[str]) -> tuple[str, ...]:
    numbers = (counts.total(), counts["killed"], counts["survived"], counts["timed out"])
    return (module, *map(str, numbers))


def possible_mutants() -> list[str]:
    """Write the mutants of what pyproject.toml selects; their names."""
    from mutmut.__main__ import copy_also_copy_files, copy_src_dir, create_mutants

    Path("mutants").mkdir(exist_ok=True)
    copy_src_dir()
    copy_also_copy_files()
    create_mutants(1)
    return list(_exit_codes())


def outcomes_of(names: Sequence[str]) -> dict[str, str]:
    """Run the tests with each of these mutants; mutant -> outcome."""
    from mutmut.stats import status_by_exit_code

    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    subprocess.run(["mutmut", "run", "--max-children", "1", *names], check=True, env=environment)
    codes = _exit_codes()
    return {name: OUTCOMES[status_by_exit_code[codes[name]]] for name in names}


def _exit_codes() -> dict[str, int | None]:
    """How the tests ended with each mutant; None: not run yet."""
    codes: dict[str, int | None] = {}
    for path in Path("mutants/mrigmm").rglob("*.meta"):
        codes |= json.loads(path.read_text())["exit_code_by_key"]
    return codes


def difference(name: str) -> str:
    """Return the lines that a mutant changes."""
    from mutmut.mutation.diff_apply import get_diff_for_mutant

    return f"# {name}\n{get_diff_for_mutant(name)}\n"


def main() -> None:
    parser = argparse.ArgumentParser(description="Mutation score of mixture/ and evaluation/.")
    parser.add_argument("patterns", nargs="*", default=["*"], help='of names, such as "mrigmm.mixture.em.*"')
    parser.add_argument("--sample", type=int, help="as many, drawn from them; default all")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--survivors", type=Path, default=Path("mutants/survivors.diff"))
    arguments = parser.parse_args()
    outcomes = outcomes_of(drawn(possible_mutants(), arguments.patterns, arguments.sample, arguments.seed))
    survivors = [name for name in sorted(outcomes) if outcomes[name] == "survived"]
    arguments.survivors.write_text("".join(map(difference, survivors)))
    print(f"{table(outcomes)}\n{len(survivors)} survivors: {arguments.survivors}")


if __name__ == "__main__":
    main()
