"""`mrigmm segment`: from a folder, a data set or files to the numbers, in one call."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Unpack

from mrigmm.data.files import require_new_folder
from mrigmm.data.sources.base import Ask, nobody
from mrigmm.errors import InputError, Problem
from mrigmm.jobs.check import check_cohort
from mrigmm.jobs.common import Outcome, Track, no_progress
from mrigmm.jobs.options import PredictKeywords, PredictOptions, read_options, takes
from mrigmm.jobs.predict import label_maps, predict
from mrigmm.jobs.report import report
from mrigmm.jobs.segmenting.answer import StudyAnswer, answer_table, answers
from mrigmm.jobs.segmenting.answer import as_json as answer_as_json
from mrigmm.jobs.segmenting.understand import Reading, Source, Understood, understand
from mrigmm.jobs.segmenting.understand import as_json as understood_as_json
from mrigmm.jobs.shown import ShownTable


@dataclass(frozen=True, repr=False)
class Segmented(Outcome):
    """Segmented studies with their numbers.

    Attributes:
        understood: what the source was taken for; `understood.manifest` is the manifest.
        answers: study -> its numbers; empty after a dry run.
        report: the page; None where nothing was segmented.
    """

    understood: Understood = field(kw_only=True)
    answers: dict[str, StudyAnswer] = field(default_factory=dict)
    report: Path | None = None

    def tables(self) -> tuple[ShownTable, ...]:
        """The numbers; after a dry run the files by study."""
        return (answer_table(self.answers) if self.answers else self.understood.table(),)


@takes(PredictOptions, PredictKeywords)
def segment_folder(
    source: Source,
    out: Path | str,
    *,
    kind: str | None = None,
    images: Mapping[str, str | Sequence[str]] | None = None,
    labels: str | None = None,
    data_root: Path | str | None = None,
    dry_run: bool = False,
    resume: bool = False,
    ask: Ask | None = None,
    tell: Callable[[Understood], None] = lambda understood: None,
    track: Track = no_progress,
    **options: Unpack[PredictKeywords],
) -> Segmented:
    """Recognise studies, check them, segment them, measure them and write the report.

    The steps are `manifest` (`manifest_dicom`), `check`, `predict` and `report`; what the source was taken
    for stands in `out/manifest.json`.

    Examples:
        >>> mrigmm.segment_folder("patients", "results")  # doctest: +SKIP

    Args:
        source: folder of NIfTI or DICOM files, downloaded data set, manifest, several files or folders, or
            the files of one study by sequence name ("region" and "label", too).
        out: folder for manifest, label maps, tables and report.
        kind: layout of the folder, as of `manifest`; default what its marks say.
        images: sequence, "region", "label" or "ignore" -> pattern of files, or several, where the names are
            not understood.
        labels: scheme of the ids of label maps, as `manifest`.
        data_root: folder that the paths of a given manifest resolve against.
        dry_run: write the manifest and stop.
        resume: keep the finished studies in `out`.
        ask: whom to ask where two readings are possible; default nobody: then it is an error.
        tell: is told what the source was taken for, before the work begins.
        track: progress bar.
        **options: the fields of `PredictOptions`, by name: `run` or `method`, and others.

    Returns:
        The numbers in `answers`; studies that failed are among its problems and do not stop the others.

    Raises:
        InputError: when nothing can be done at all.
    """
    folder = Path(out)
    chosen = read_options(PredictOptions, options)
    contradictions = chosen.contradictions()
    if contradictions:
        raise InputError.from_problems(contradictions)
    require_new_folder(folder, holds="*", overwrite=True)  # whether the results in it may stay is asked later
    patterns = {name: (p,) if isinstance(p, str) else tuple(p) for name, p in (images or {}).items()}
    root = None if data_root is None else Path(data_root)
    reading = Reading(kind, patterns, labels, root, ask or nobody)
    found = understand(source, folder, reading, replaces=resume or chosen.overwrite, track=track)
    tell(found)
    problems: list[Problem] = [*found.problems]
    if dry_run:
        ids = tuple(study.id for study in found.cohort.split("all"))
        return Segmented(found.manifest, ids, tuple(problems), understood=found)
    problems += check_cohort(found.cohort, None, prior=chosen.prior, track=track)
    predicted = predict(
        found.manifest, folder, split="all", data_root=found.data_root, resume=resume, track=track, **options
    )
    problems += predicted.problems
    page = None
    if predicted.done and predicted.speaks:
        try:
            written = report(folder, track=track)
            page = written.output
            problems += written.problems
        except InputError as error:  # the numbers are there
            problems += error.problems
    problems = list(dict.fromkeys(problems))
    numbers, damaged = answers(folder, predicted.done, problems)
    return Segmented(
        folder,
        predicted.done,
        (*problems, *damaged),
        speaks=predicted.speaks,
        understood=found,
        answers=numbers,
        report=page,
    )


def as_json(result: Segmented) -> dict[str, Any]:
    """Return what was done as plain JSON: that of `predict`, with the numbers and how the source was read."""
    page = None if result.report is None else str(result.report)
    return {
        **label_maps(result),
        **understood_as_json(result.understood),
        "answers": answer_as_json(result.answers),
        "report": page,
    }
