"""`mrigmm compare`: two folders of the same studies by paired tests, or several as readers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

import numpy as np

from mrigmm.data.files import atomic, require_not_input, write_text
from mrigmm.data.manifest_file import read_manifest
from mrigmm.errors import InputError
from mrigmm.evaluation.scores import Comparison, Scores, compare_scores
from mrigmm.export.side_files import write_json
from mrigmm.jobs.agreement import agreement
from mrigmm.jobs.agreement_files import Agreement
from mrigmm.jobs.common import COMPARISON_FILE, DISCLAIMER, Outcome, Track, no_progress, versions
from mrigmm.jobs.reading.masks import open_readers
from mrigmm.jobs.reading.prediction_folder import folder_names
from mrigmm.jobs.scored_study import score_study, with_reference
from mrigmm.jobs.shown import ShownTable
from mrigmm.labels import in_words
from mrigmm.reporting.comparison import comparison_figure, markdown_table

# Metric -> its decimals.
_SHOWN = {"dice": 3, "hd95_mm": 2, "volume_error_ml": 2}


@dataclass(frozen=True, repr=False)
class Compared(Outcome):
    """Two compared folders.

    Attributes:
        names: of the first and the second folder.
        metrics: metric -> class or nested region -> first beside second.
    """

    names: tuple[str, ...] = ()
    metrics: dict[str, dict[str, Comparison]] = field(default_factory=dict)

    def tables(self) -> tuple[ShownTable, ...]:
        """A table per metric, as in `comparison.md`."""
        tested = ("difference", "95 % interval", "p", "p (Holm)", "studies", "left out")
        rows = {
            in_words(metric): tuple(_row(name, c, decimals) for name, c in self.metrics[metric].items())
            for metric, decimals in _SHOWN.items()
            if metric in self.metrics
        }
        return tuple(
            ShownTable(("class", *self.names, *tested), found, label) for label, found in rows.items()
        )


def compare(
    first: Path | str,
    second: Path | str,
    manifest: Path | str | None = None,
    *,
    others: Sequence[Path | str] = (),
    split: str = "test",
    data_root: Path | str | None = None,
    labels: Sequence[str] = (),
    out: Path | str | None = None,
    track: Track = no_progress,
) -> Compared | Agreement:
    """Compare folders of predictions or masks: by what two score against references, or with each other.

    Without a manifest they are readers of the same studies, and this is `agreement`. With one: per class and
    metric, over the studies that both have, mean difference with its bootstrap interval and a Wilcoxon
    signed-rank test, corrected for the number of classes (Holm). Writes `comparison.json`, `comparison.md`
    and `comparison.png`.

    Examples:
        >>> mrigmm.compare("predictions/run", "predictions/map-em", "manifest.json")  # doctest: +SKIP

    Args:
        first: folder that `predict` or `measure` wrote, or of anybody's masks.
        second: another one.
        manifest: the cohort, with `labels` and a `label` per study; None: there is no reference.
        others: further folders; only without a manifest.
        split: the studies to compare.
        data_root: folder that the manifest's paths resolve against; default the manifest's.
        labels: what the ids of masks mean, as in `agreement`.
        out: folder to write to; default `first`, which must then be one of predictions.
        track: progress bar.

    Returns:
        `metrics` holds the paired differences with intervals and tests, `comparison.md` the same as tables;
        without a manifest an `Agreement`.

    Raises:
        InputError: when no study at all can be compared.
    """
    folders = (Path(first), Path(second))
    if manifest is None:
        if data_root is not None:
            raise InputError("a data root belongs to a manifest", remedy="give a manifest, too")
        if out is None:
            raise InputError(
                "readers are compared in a folder of their own",
                remedy="give one with -o, or a manifest whose reference labels both are to be scored by",
            )
        return agreement([first, second, *others], out, labels=labels, overwrite=True, track=track)
    if others:
        raise InputError(
            "with a manifest, two folders are compared",
            got=", ".join(map(str, (*folders, *others))),
            remedy="leave the manifest out to compare several as readers",
        )
    readers = open_readers(folders, [labels] if isinstance(labels, str) else labels)
    if out is None and readers[0].masks is not None:
        raise InputError("the first folder holds given masks", file=folders[0], remedy="write to another: -o")
    path = (folders[0] if out is None else Path(out)) / COMPARISON_FILE
    require_not_input(path, inputs=[Path(manifest)])
    cohort = read_manifest(manifest, data_root)
    names = folder_names(folders)
    edited: dict[str, list[str]] = {name: [] for name in names}
    scores: tuple[dict[str, dict[str, Scores]], ...] = ({}, {})
    asked_for = cohort.split(split)
    studies, problems = with_reference(asked_for)
    problems += [problem for reader in readers for problem in reader.problems]
    for study in track(studies, "Comparing"):
        try:
            predictions = [reader.read(study.id) for reader in readers]
            pair = [score_study(study, a, cohort, b) for a, b in (predictions, predictions[::-1])]
        except InputError as error:
            problems += error.problems
            continue
        problems += [*pair[0].doubts, *(note for prediction in predictions for note in prediction.notes())]
        for name, prediction in zip(names, predictions, strict=True):
            edited[name] += [study.id] * prediction.edited
        for found, scored in zip(scores, pair, strict=True):
            found[study.id] = scored.scores
    if not scores[0]:
        raise InputError.from_problems(problem for problem in problems if problem.severity == "error")
    metrics = compare_scores(*scores)
    if not metrics["dice"]:
        raise InputError("the two folders have no class in common", file=folders[1])
    result = Compared(path, tuple(scores[0]), tuple(problems), names=names, metrics=metrics)
    with atomic(path.with_suffix(".png")) as temporary:
        temporary.write_bytes(_figure(result))
    write_text(path.with_suffix(".md"), _markdown(result))
    write_json(
        path,
        {
            "folders": {name: str(folder.resolve()) for name, folder in zip(names, folders, strict=True)},
            "split": split,
            "difference": "first folder minus second",
            "metrics": {
                metric: {name: asdict(comparison) for name, comparison in by_class.items()}
                for metric, by_class in metrics.items()
            },
            "not_compared": [study.id for study in asked_for if study.id not in scores[0]],
            "edited": edited,
            "versions": versions(),
        },
    )
    return result


def _figure(result: Compared) -> bytes:
    values, notes = {}, {}
    for metric, decimals in _SHOWN.items():
        label, by_class = in_words(metric), result.metrics[metric]
        values[label] = {name: np.reshape([*c.pairs.values()], (-1, 2)) for name, c in by_class.items()}
        notes[label] = {name: _note(c, decimals) for name, c in by_class.items()}
    return comparison_figure(values, notes, (result.names[0], result.names[1]))


def _note(comparison: Comparison, decimals: int) -> str:
    if not comparison.pairs:
        return "no pair"
    p = _p(comparison.p_holm)
    p = p if p.startswith("<") else f"= {p}"
    return f"{comparison.difference.mean:+.{decimals}f}\np {p}\nn = {comparison.difference.n}"


def _p(p: float) -> str:
    return "< 0.001" if p < 0.001 else f"{p:.3f}"


def _markdown(result: Compared) -> str:
    first, second = result.names
    text = [
        f"# {' '.join(first.split())} beside {' '.join(second.split())}",
        f"{len(result.done)} studies. Difference: first minus second on the same studies, with its 95 % "
        "bootstrap interval over studies. p: Wilcoxon signed-rank test, two-sided; p (Holm): corrected for "
        f"the {len(result.metrics['dice'])} classes and regions of the table. A study is left out where a "
        "value is not defined in both. Dice: more is better; HD95 and volume error: less is better.",
    ]
    for table in result.tables():
        text += [f"## {table.title}", markdown_table(table.columns, table.rows)]
    return "\n\n".join([*text, DISCLAIMER]) + "\n"


def _row(name: str, comparison: Comparison, decimals: int) -> tuple[str, ...]:
    difference = comparison.difference
    means = (f"{value:.{decimals}f}" for value in (comparison.first_mean, comparison.second_mean))
    return (
        name,
        *means,
        f"{difference.mean:+.{decimals}f}",
        f"{difference.low:+.{decimals}f} to {difference.high:+.{decimals}f}",
        _p(difference.p_value),
        _p(comparison.p_holm),
        str(difference.n),
        str(difference.n_unpaired),
    )
