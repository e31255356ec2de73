"""docs/bad_input.md is made of the cases.

`python -m tests.robustness.test_catalogue --write` writes it; without `--write` it is printed.
"""

import sys
from pathlib import Path

from . import (
    test_files,
    test_headers,
    test_intensities,
    test_manifests,
    test_names,
    test_regions,
    test_results,
    test_runs,
)
from .cases import StudyCase, TableRow
from .plausible import catalogue

PAGE = Path(__file__).parents[2] / "docs" / "bad_input.md"
NO_RESULT = {"er": "evaluate and report", "e": "evaluate", "r": "report"}


def of_studies(kind: str, cases: list[StudyCase]) -> list[TableRow]:
    return [
        TableRow(kind, case.name, ", ".join(("check", "predict", *case.commands)), case.outcome)
        for case in cases
    ]


def rows() -> list[TableRow]:
    """The named cases of all tables."""
    labels = [
        TableRow("label", case.name, "predict, evaluate, prior", case.outcome) for case in test_regions.LABELS
    ]
    bare = test_regions.NOT_NAMED
    outcome = f"{bare.result}; prior: {bare.outcome}"
    labels.append(TableRow("label", bare.name, "evaluate, prior", outcome))
    manifests = [
        TableRow("manifest", name, "check, predict", f"refused: {what}")
        for name, _, what, _ in test_manifests.CASES
    ]
    requests = [TableRow("manifest", case.name, case.command, case.outcome) for case in test_manifests.SPLITS]
    ids = [TableRow("study id", name, "predict", "refused: study id") for name, _ in test_manifests.IDS]
    runs = [TableRow("run", name, "predict, export", f"refused: {what}") for name, _, what in test_runs.CASES]
    results = [
        TableRow(
            "results",
            name,
            "evaluate, report",
            f"study refused by {NO_RESULT[refusing]}" if refusing else "evaluated and shown; nothing is run",
        )
        for name, (_, refusing) in test_results.CASES.items()
    ]
    names = [
        TableRow("name", name, "predict, evaluate, report", "kept as it is") for name in test_names.NAMES
    ]
    return [
        *of_studies("file", test_files.CASES),
        *of_studies("header", test_headers.CASES),
        *of_studies("intensities", test_intensities.CASES),
        *of_studies("region", test_regions.CASES),
        *labels,
        *manifests,
        *requests,
        *ids,
        *runs,
        *results,
        *names,
    ]


_INTRO = """\
# Bad input, case by case

Written by `python -m tests.robustness.test_catalogue --write` from the tests in
`tests/robustness/`, which run every case. What holds for all of them:
[reliability](reliability.md).

## Damaged and wrong
"""


def page() -> str:
    """The page of the documentation: a table of the named cases, and the chapter on plausible input."""
    lines = [
        _INTRO,
        f"{len(rows())} named cases:",
        "",
        "| kind | case | commands | what happens |",
        "|---|---|---|---|",
    ]
    for row in rows():
        name = row.name if len(row.name) < 100 else f"{row.name[:20]}... ({len(row.name)} characters)"
        lines.append(catalogue.table_row(row.kind, name, row.commands, row.outcome))
    return "\n".join([*lines, "", catalogue.chapter()])


def test_the_documentation_has_every_case():
    assert PAGE.read_text(encoding="utf-8") == page()


def test_every_kind_of_plausible_input_is_there_once():
    names = [kind.name for kind in catalogue.kinds()]
    assert len(set(names)) == len(names) >= 4
    assert all(kind.cases for kind in catalogue.kinds())


def test_names_are_given_once():
    named = [(row.kind, row.name) for row in rows()]
    assert len(set(named)) == len(named) >= 60


if __name__ == "__main__":
    if "--write" in sys.argv:
        PAGE.write_text(page(), encoding="utf-8")
    else:
        print(page())
