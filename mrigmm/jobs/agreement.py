"""`mrigmm agreement`: how far several folders of predictions agree with each other."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from itertools import combinations
from pathlib import Path

from mrigmm.data.files import require_new_folder, require_not_input, write_text
from mrigmm.data.maps import on_grid
from mrigmm.data.study_tensors import OutputGrid
from mrigmm.data.volumes import Volume
from mrigmm.errors import InputError, Problem
from mrigmm.evaluation.agreement import (
    ClassAgreement,
    StudyAgreement,
    study_agreement,
    summarise_agreement,
)
from mrigmm.export.nifti import write_map
from mrigmm.export.side_files import write_json
from mrigmm.jobs.common import LABELS_SUFFIX, Outcome, Track, no_progress, versions
from mrigmm.jobs.reading.prediction_folder import (
    Prediction,
    folder_names,
    read_prediction,
    require_different,
    require_predictions,
)
from mrigmm.jobs.scored_study import class_indices
from mrigmm.jobs.shown import ShownTable, figure
from mrigmm.methods.base import AGREEMENT

AGREEMENT_FILE = "agreement.json"
AGREEMENT_SUFFIX = f"_{AGREEMENT}.nii.gz"


@dataclass(frozen=True, repr=False)
class Agreement(Outcome):
    """Folders that were compared with each other.

    Attributes:
        names: of the J folders.
        studies: study id -> agreement of its J label maps.
        summary: class or nested region -> agreement over the studies.
    """

    names: tuple[str, ...] = ()
    studies: dict[str, StudyAgreement] = field(default_factory=dict)
    summary: dict[str, ClassAgreement] = field(default_factory=dict)

    def tables(self) -> tuple[ShownTable, ...]:
        """A row per class: mean Dice of the pairs, and how well the volumes agree."""
        columns = ("class", "Dice of pairs", "95 % interval", "ICC of volumes", "studies")
        rows = (
            (
                name,
                figure(found.dice.mean),
                f"{figure(found.dice.low)} to {figure(found.dice.high)}",
                figure(found.volume_icc.value),
                str(found.dice.n),
            )
            for name, found in self.summary.items()
        )
        return (ShownTable(columns, tuple(rows)),)


def agreement(
    folders: Sequence[Path | str],
    out: Path | str,
    *,
    overwrite: bool = False,
    track: Track = no_progress,
) -> Agreement:
    """Compare predictions of several methods, or seeds, with each other; no reference is needed.

    Writes `<id>_agreement.nii.gz`, the share of the folders that have the most frequent label of a voxel, and
    `agreement.json` and `agreement.csv`, with the Dice of every pair.

    Examples:
        >>> mrigmm.agreement(["predictions/run", "predictions/map-em"], "agreement")  # doctest: +SKIP

    Args:
        folders: two or more that `predict` wrote.
        out: folder to write to.
        overwrite: allow to replace results in `out`.
        track: progress bar.

    Returns:
        `studies` and `summary` hold the agreement; `output` is the JSON file, with maps and tables beside it.

    Raises:
        InputError: when no study at all can be compared.
    """
    sources, out = [Path(folder) for folder in folders], Path(out)
    if len(sources) < 2:
        raise InputError("agreement needs two folders at least", got=str(len(sources)))
    for folder in sources:
        require_predictions(folder)
    require_different(sources)
    # Beside the predictions, a map of agreement is that of a consensus's members.
    require_not_input(out, inputs=sources)
    require_new_folder(
        out,
        holds=f"*{AGREEMENT_SUFFIX}",
        overwrite=overwrite,
        instead="allow to replace them with --overwrite",
    )
    ids = sorted({_study(file) for folder in sources for file in folder.glob(f"*{LABELS_SUFFIX}")})
    studies: dict[str, StudyAgreement] = {}
    edited: dict[Path, list[str]] = {folder: [] for folder in sources}
    problems: list[Problem] = []
    for study in track(ids, "Comparing"):
        try:
            predictions = [read_prediction(folder, study) for folder in sources]
            studies[study] = _compare_study(predictions, out)
        except InputError as error:
            problems += error.problems
            continue
        for folder, prediction in zip(sources, predictions, strict=True):
            edited[folder] += [study] * prediction.edited
            problems += prediction.notes()
    if not studies:
        raise InputError.from_problems(problems)
    result = Agreement(
        out / AGREEMENT_FILE,
        tuple(studies),
        tuple(problems),
        names=folder_names(sources),
        studies=studies,
        summary=summarise_agreement(studies),
    )
    _write_numbers(result, edited)
    return result


def _study(file: Path) -> str:
    return file.name.removesuffix(LABELS_SUFFIX)


def _compare_study(predictions: Sequence[Prediction], out: Path) -> StudyAgreement:
    """Compare the label maps of a study, and write where they agree."""
    study, first = predictions[0].study, predictions[0].folder
    classes: list[str] = []
    maps: list[Volume] = []
    indices = []
    for found in predictions:
        ids = found.classes
        classes = classes or [*ids]
        if set(ids) != set(classes):
            raise InputError(
                "the folders have other classes",
                study=study,
                file=found.folder,
                expected=f"{', '.join(classes)}, as in {first}",
                got=", ".join(ids),
                remedy="predict with the same manifest",
            )
        maps.append(on_grid(found.labels, predictions[0].labels.grid, study, "predicted label"))
        indices.append(class_indices(maps[-1].data, [[ids[name]] for name in classes]))
    grid = maps[0].grid
    agreement = study_agreement(indices, classes, voxel_volume_ml=grid.voxel_volume_ml)
    header = maps[0].header.copy()
    header.set_intent("none")  # a label map's, so far
    write_map(
        out / f"{study}{AGREEMENT_SUFFIX}",
        agreement.share,
        OutputGrid(grid, header, maps[0].stored_shape, maps[0].path),
    )
    return agreement


def _write_numbers(result: Agreement, edited: Mapping[Path, Sequence[str]]) -> None:
    """Write the tables; `edited` are the studies whose label maps were changed by hand, folder by folder."""
    folders = dict(zip(result.names, edited, strict=True))
    write_json(
        result.output,
        {
            "folders": {name: str(path.resolve()) for name, path in folders.items()},
            "summary": {name: asdict(found) for name, found in result.summary.items()},
            "studies": {
                study: {
                    "mean": found.mean,
                    "unanimous": found.unanimous,
                    "dice": {name: found.mean_dice(name) for name in found.dice},
                    "volume_ml": {
                        name: dict(zip(result.names, ml.tolist(), strict=True))
                        for name, ml in found.volume_ml.items()
                    },
                }
                for study, found in result.studies.items()
            },
            "not_compared": [p.study for p in result.problems if p.severity == "error"],
            "edited": {name: edited[path] for name, path in folders.items()},
            "versions": versions(),
        },
    )
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["study", "class", "first", "second", "dice"])
    for study, found in result.studies.items():
        for name, dice in found.dice.items():
            for a, b in combinations(range(len(result.names)), 2):
                value = "" if math.isnan(dice[a, b]) else f"{dice[a, b]:.6g}"
                writer.writerow([study, name, result.names[a], result.names[b], value])
    write_text(result.output.with_suffix(".csv"), text.getvalue())
