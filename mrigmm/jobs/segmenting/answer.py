"""The answer of `mrigmm segment`: what was measured of each study, how sure that is, and what to look at."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from mrigmm.errors import InputError, Problem, grouped
from mrigmm.jobs.reading.prediction_folder import read_prediction
from mrigmm.jobs.shown import ShownTable, figure
from mrigmm.methods.study_verdict import VERDICT


@dataclass(frozen=True)
class StudyAnswer:
    """The numbers of a study; None where they are not known.

    Attributes:
        infarct_g: infarct mass in g.
        infarct_percent: the same in % of the mass of the left ventricle.
        edema_g: edema beside the infarct, in g.
        lv_mass_g: mass of the left ventricle in g.
        infarct_probability: that there is an infarct, 0 to 1, by the pretrained networks.
        estimated_dice: that the infarct of such maps had on simulated studies, 0 to 1.
        look_at: warnings of the study.
    """

    infarct_g: float | None
    infarct_percent: float | None
    edema_g: float | None
    lv_mass_g: float | None
    infarct_probability: float | None
    estimated_dice: float | None
    look_at: tuple[str, ...] = ()


def answers(
    folder: Path, studies: Iterable[str], problems: Iterable[Problem]
) -> tuple[dict[str, StudyAnswer], list[Problem]]:
    """Read the numbers of predicted studies; returns those that cannot be read as problems.

    Args:
        folder: that `predict` wrote.
        studies: ids.
        problems: of the whole job, of which the warnings of each study are to be looked at.
    """
    warned = [problem for problem in problems if problem.severity == "warning"]
    found: dict[str, StudyAnswer] = {}
    damaged: list[Problem] = []
    for study in studies:
        try:
            side = read_prediction(folder, study).side
        except InputError as error:
            damaged += error.problems
            continue
        values: Mapping[str, Any] = {} if side.quantities is None else side.quantities["volumes"]
        probability, _, dice = VERDICT
        found[study] = StudyAnswer(
            values.get("infarct_mass_g"),
            values.get("infarct_percent_of_lv_mass"),
            values.get("edema_mass_g"),
            values.get("lv_mass_g"),
            values.get(probability),
            values.get(f"{dice}_infarct"),
            tuple(dict.fromkeys(problem.what for problem in warned if problem.study == study)),
        )
    return found, damaged


def answer_table(found: Mapping[str, StudyAnswer]) -> ShownTable:
    """The numbers of all studies as a table."""
    columns = ("study", "infarct (g)", "% of LV", "edema (g)", "LV (g)", "sure", "Dice")
    rows = [
        (
            study,
            *(figure(v, 1) for v in (a.infarct_g, a.infarct_percent, a.edema_g, a.lv_mass_g)),
            "–" if a.infarct_probability is None else f"{100 * a.infarct_probability:.0f} %",
            figure(a.estimated_dice if a.infarct_g else None, 2),  # of no infarct there is none
        )
        for study, a in found.items()
    ]
    return ShownTable(columns, tuple(rows))


def legend(found: Mapping[str, StudyAnswer]) -> list[str]:
    """Explain the columns of the table that are not measured; nothing where no method told them."""
    if all(answer.infarct_probability is None for answer in found.values()):
        return []
    return [
        "sure: probability of an infarct; Dice: expected overlap of the infarct with the true one; both "
        "calibrated on simulated hearts"
    ]


def to_look_at(problems: Iterable[Problem]) -> list[str]:
    """The warnings of studies in lines, those that are the same of several together."""
    warned = [p for p in problems if p.severity == "warning" and p.study is not None]
    return [
        f"{problem.study}: {problem.what}" + ("" if problem.got is None else f": {problem.got}")
        for problem in grouped(dict.fromkeys(warned))
    ]


def as_json(found: Mapping[str, StudyAnswer]) -> dict[str, Any]:
    """The numbers as plain JSON; the keys stay as they are between versions."""
    return {study: asdict(answer) for study, answer in found.items()}
