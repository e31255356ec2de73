"""`mrigmm report`: a predicted cohort as one HTML file."""

from __future__ import annotations

import json
import math
import re
import shutil
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from mrigmm.data.files import atomic, require_own, write_text
from mrigmm.data.side_file import SideFile
from mrigmm.errors import InputError, Problem, missing_extra, some_of
from mrigmm.jobs.common import (
    DISCLAIMER,
    METRICS_FILE,
    QUANTITIES_FILE,
    REPORT_FILE,
    Outcome,
    Track,
    command_line,
    no_progress,
    versions,
    versions_text,
)
from mrigmm.jobs.reading.evaluated import (
    ReadEvaluation,
    StudyQuantities,
    read_evaluation,
    read_quantities,
    without_stale,
)
from mrigmm.jobs.reading.failures import failures, no_prediction
from mrigmm.jobs.reading.prediction_folder import is_of, predicted_studies, require_predictions
from mrigmm.jobs.reporting.cohort import loss_picture, number_pairs
from mrigmm.jobs.reporting.study import read_study, study_page
from mrigmm.reporting.bland_altman import bland_altman_picture
from mrigmm.reporting.page import QUALITY, REPORT_MARK, Report, StudyPage, render_report

PDF_MARK = "(mrigmm report)"  # its title, near the beginning of the file
# Programs that a system may have; without one, the browser that playwright installs.
_BROWSERS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "msedge")
MOST_DETAILED = 300  # studies with pictures: browsers do not open pages of many more
_PATIENCE_MS = 600_000  # of hundreds of studies


def write_pdf(html: Path, path: Path) -> None:
    """Print a report: a study to a page, nothing that only works on a screen.

    Args:
        html: the page that `render_report` made.
        path: file to write.

    Raises:
        InputError: there is no such package or no browser, or it cannot print.
    """
    try:
        from playwright.sync_api import Error, sync_playwright
    except ImportError as error:
        raise missing_extra("pdf", error) from None

    def printed() -> None:
        with atomic(path) as temporary, sync_playwright() as engine:
            browser = engine.chromium.launch(
                executable_path=next(filter(None, map(shutil.which, _BROWSERS)), None)
            )
            page = browser.new_page(offline=True)
            page.set_default_timeout(_PATIENCE_MS)
            page.goto(html.resolve().as_uri())
            page.evaluate(
                "() => { document.title = 'mrigmm report'; dispatchEvent(new Event('beforeprint')); }"
            )
            page.evaluate("() => Promise.all([...document.images].map((image) => image.decode()))")
            page.pdf(path=temporary, prefer_css_page_size=True)
            browser.close()

    with ThreadPoolExecutor(1) as thread:  # notebooks have a loop of their own, in which it refuses to work
        try:
            thread.submit(printed).result()
        except Error as error:
            raise InputError(
                "the report cannot be printed",
                file=path,
                expected="Chromium, Chrome or Edge on the PATH, or the browser that playwright installs",
                got=error.message.splitlines()[0],
                remedy="install Chromium, or: playwright install chromium",
            ) from None


def report(
    predictions: Path | str,
    *,
    out: Path | str | None = None,
    beside: Sequence[Path | str] = (),
    interactive: bool = False,
    pdf: bool = False,
    track: Track = no_progress,
) -> Outcome:
    """Write a report of a folder of predictions (docs/report.md).

    Examples:
        >>> mrigmm.report("predictions")  # doctest: +SKIP

    Args:
        predictions: folder that `predict` wrote.
        out: HTML file; default `report.html` in `predictions`.
        beside: other evaluated folders whose agreement is shown for comparison.
        interactive: put the volumes and a viewer into the page.
        pdf: print it, too, into a PDF file of the same name beside it (extra `pdf`).
        track: progress bar.

    Returns:
        The HTML file; studies that could not be read are among its problems.

    Raises:
        InputError: when there is nothing to report, or the file to write is there and no report.
    """
    folder = Path(predictions)
    path = folder / REPORT_FILE if out is None else Path(out)
    require_own(path, mark=REPORT_MARK)
    paper = path.with_suffix(".pdf")
    if pdf:
        if paper == path:
            raise InputError(
                "the report is a page, and its print stands beside it",
                file=path,
                expected="a name that ends in .html",
                remedy=f"-o {path.with_suffix('.html')}",
            )
        require_own(paper, mark=PDF_MARK)
    others, problems = _evaluations(folder, beside)
    found = sorted(predicted_studies(folder), key=_natural)
    own = None
    if (folder / METRICS_FILE).exists():
        own, stale = without_stale(read_evaluation(folder), folder)
        problems += stale
    quantities = read_quantities(folder)
    detailed = _to_look_at(found, quantities)
    pages: list[StudyPage] = []
    sides: list[SideFile] = []
    classes: dict[str, None] = {}
    unmeasured: list[str] = []
    for name in track(found, "Reporting"):
        try:
            study = read_study(folder, name, own)
            numbers = quantities.get(name, StudyQuantities())
            if not is_of(numbers.label_map, study.prediction):
                unmeasured += [name] if name in quantities else []
                numbers = StudyQuantities()
            pages.append(study_page(study, own, numbers, interactive=interactive, detailed=name in detailed))
        except InputError as error:
            problems += error.problems
            continue
        sides.append(study.side)
        classes |= dict.fromkeys(study.volume_ml)
        problems += study.prediction.notes()
    problems += _not_measured(unmeasured, folder)
    if not pages:
        raise InputError.from_problems(problems)
    failed = failures(folder)
    pairs = {} if own is None else number_pairs(own.studies)
    html = render_report(
        Report(
            folder=folder.resolve().name,
            methods=sorted({side.method for side in sides}),
            classes=[*classes],
            disclaimer=DISCLAIMER,
            studies=pages,
            metrics=[found.table for found in (own, *others) if found and found.table],
            pairs=pairs,
            class_ids=sides[0].classes,
            bland_altman=bland_altman_picture(pairs) if pairs else None,
            loss=loss_picture(sides),
            problems=[
                f"{p.study}: {p.brief}" if p.study else p.brief for p in problems if p.severity != "note"
            ],
            no_prediction={name: failed[name].brief for name in sorted(failed, key=_natural)},
            facts={"command line": command_line(), "versions": versions_text(versions())},
            settings={
                side.method: json.dumps(side.settings, indent=1, ensure_ascii=False)
                for side in reversed(sides)  # of each method those of its first study
            },
        )
    )
    write_text(path, html)
    if pdf:
        write_pdf(path, paper)
    return Outcome(path, tuple(page.id for page in pages), (*problems, *no_prediction(failed)))


def _to_look_at(studies: Sequence[str], quantities: Mapping[str, StudyQuantities]) -> set[str]:
    """Return the studies that get pictures: of many those whose infarct has the lowest estimated Dice.

    Before them those without an estimate: the method expects nothing of maps that something speaks against.
    """

    def estimated(study: str) -> float:
        value = quantities.get(study, StudyQuantities()).values.get(QUALITY[0])
        return -math.inf if value is None else value

    return set(sorted(studies, key=estimated)[:MOST_DETAILED])


def _not_measured(studies: Sequence[str], folder: Path) -> list[Problem]:
    """A warning that names studies whose quantities are of another label map."""
    if not studies:
        return []
    what = (
        f"the quantities are of label maps that have changed since ({some_of(studies)}), and are left out; "
        "run mrigmm quantify again"
    )
    return [Problem(what, file=str(folder / QUANTITIES_FILE), severity="warning")]


def _evaluations(
    predictions: Path, beside: Sequence[Path | str]
) -> tuple[list[ReadEvaluation], list[Problem]]:
    """The evaluations of other folders, and warnings of what in them does not hold any more.

    Raises:
        InputError: what is wrong with them or the first folder, all at once.
    """
    found: list[ReadEvaluation] = []
    stale: list[Problem] = []
    problems: list[Problem] = []
    try:
        require_predictions(predictions)
    except InputError as error:
        problems += error.problems
    for folder in beside:
        try:
            evaluation, told = without_stale(read_evaluation(Path(folder)), Path(folder))
            found.append(evaluation)
            stale += told
        except InputError as error:
            problems += error.problems
    if problems:
        raise InputError.from_problems(problems)
    return found, stale


def _natural(study: str) -> list[tuple[int, str]]:
    """Order of ids as a reader expects it: p2 before p10."""
    return [(int(part), "") if part.isdecimal() else (-1, part) for part in re.split(r"(\d+)", study)]
