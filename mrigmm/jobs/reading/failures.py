"""Studies that `mrigmm predict` failed on, and why: a file beside the results of the others."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from mrigmm.data.files import remove
from mrigmm.errors import InputError, Problem
from mrigmm.export.side_files import read_json, write_json
from mrigmm.jobs.common import LABELS_SUFFIX, command_line, versions

FAILED_SUFFIX = "_failed.json"
_TEXTS = ("what", "file", "expected", "got", "remedy")


def failure_file(folder: Path, study: str) -> Path:
    """Return the file that says why a study has no prediction."""
    return folder / f"{study}{FAILED_SUFFIX}"


def is_side_file(path: Path) -> bool:
    """Return whether a file is the side file of a study whose id ends as records do."""
    try:
        return "classes" in json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, TypeError, RecursionError):
        return False


def record_failure(folder: Path, study: str, problems: Sequence[Problem]) -> list[Problem]:
    """Write down why a study failed; returns the problem where even that is not possible."""
    content = {
        "study": study,
        "problems": [asdict(problem) for problem in problems],
        "command": command_line(),
        "versions": versions(),
    }
    try:
        write_json(failure_file(folder, study), content)
    except InputError as error:
        said = {problem.what for problem in problems}  # on a full disk, the same
        return [replace(problem, study=study) for problem in error.problems if problem.what not in said]
    return []


def clear_failure(folder: Path, study: str) -> None:
    """Delete the record of a study that has a prediction now."""
    remove(failure_file(folder, study))


def failure_of(folder: Path, study: str) -> Problem | None:
    """Return why predict failed on a study; None where it did not, or was not asked to."""
    path = failure_file(folder, study)
    if (folder / f"{study}.json").is_file() or not path.exists() or is_side_file(path):
        return None
    try:
        return read_json(
            path,
            lambda content: _first_problem(study, content),
            command="predict",
            missing="the record of the failure is gone",
            damaged="the record of the failure is damaged",
            study=study,
        )
    except InputError as error:
        return error.problems[0]


def failures(folder: Path) -> dict[str, Problem]:
    """Study -> why predict failed on it, of all studies of a folder without a prediction."""
    names = sorted(path.name.removesuffix(FAILED_SUFFIX) for path in folder.glob(f"*{FAILED_SUFFIX}"))
    found = {name: failure_of(folder, name) for name in names}
    return {name: problem for name, problem in found.items() if problem is not None} | _without_map(folder)


def _without_map(folder: Path) -> dict[str, Problem]:
    """Study -> what is missing, of those whose side file is there and whose label map is not."""
    alone = {
        path.stem: path.with_name(f"{path.stem}{LABELS_SUFFIX}")
        for path in sorted(folder.glob("*.json"))
        if not path.with_name(f"{path.stem}{LABELS_SUFFIX}").exists() and is_side_file(path)
    }
    remedy = "put it back, or run the same mrigmm predict with --resume"
    return {
        study: Problem("the label map is not there any more", study, str(file), remedy=remedy)
        for study, file in alone.items()
    }


def no_prediction(failed: Mapping[str, Problem]) -> list[Problem]:
    """A warning for each study that has no prediction, with the reason."""
    return [
        replace(problem, what=f"no prediction: {problem.what}", severity="warning")
        for problem in failed.values()
    ]


def _first_problem(study: str, content: Mapping[str, Any]) -> Problem:
    """The first problem of a record; the others follow from the same file as a rule."""
    first = content["problems"][0]
    texts = {name: None if first[name] is None else str(first[name]) for name in _TEXTS}
    return Problem(str(texts.pop("what")), study, **texts)  # type: ignore[arg-type]
