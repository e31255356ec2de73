"""`mrigmm agreement`: how far several readers agree: programs, seeds or people, by their label maps."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mrigmm.data.files import atomic, remove, require_new_folder, require_not_input, write_text
from mrigmm.data.points import read_points
from mrigmm.data.study_tensors import OutputGrid
from mrigmm.errors import InputError
from mrigmm.evaluation.agreement import (
    ClassAgreement,
    StudyAgreement,
    study_agreement,
    summarise_agreement,
)
from mrigmm.evaluation.readers import Kappa, Pair, QuantityAgreement, quantity_agreement, segment_kappas
from mrigmm.evaluation.volume_agreement import MIN_STUDIES, Value
from mrigmm.export.nifti import write_map
from mrigmm.export.side_files import write_json
from mrigmm.jobs.common import DISCLAIMER, Outcome, Track, no_progress, versions
from mrigmm.jobs.quantifying.inputs import measured
from mrigmm.jobs.quantifying.insertions import Points, check_studies, landmarks, require_base
from mrigmm.jobs.reading.masks import Mask, open_readers, turned
from mrigmm.jobs.reading.prediction_folder import Prediction, folder_names
from mrigmm.jobs.scored_study import class_indices
from mrigmm.jobs.shown import ShownTable, figure
from mrigmm.labels import compared_classes, in_words
from mrigmm.methods.base import AGREEMENT
from mrigmm.quantification.segments import N_SEGMENTS, Orientation, automatic_orientation
from mrigmm.quantification.study import Maps, quantify_maps
from mrigmm.reporting.bland_altman import VolumePairs, bland_altman_figure
from mrigmm.reporting.comparison import markdown_table

AGREEMENT_FILE = "agreement.json"
AGREEMENT_SUFFIX = f"_{AGREEMENT}.nii.gz"
ICC_FORM = (
    "ICC(A,1) of McGraw and Wong 1996, the ICC(2,1) of Shrout and Fleiss 1979: two-way random, absolute "
    "agreement, single measurements; 95 % interval by F"
)
# In tables and picture; the files have all.
_SHOWN = ("lv_mass_g", "infarct_mass_g", "infarct_percent_of_lv_mass", "edema_mass_g")


@dataclass(frozen=True, repr=False)
class Agreement(Outcome):
    """Readers that were compared with each other.

    Attributes:
        names: of the J readers.
        studies: study id -> agreement of its J label maps.
        summary: class or nested region -> agreement over the studies.
        quantities: name of a quantity -> agreement over the studies.
        kappas: two readers -> kappa of each AHA segment, then of all; empty where none are numbered.
    """

    names: tuple[str, ...] = ()
    studies: dict[str, StudyAgreement] = field(default_factory=dict)
    summary: dict[str, ClassAgreement] = field(default_factory=dict)
    quantities: dict[str, QuantityAgreement] = field(default_factory=dict)
    kappas: dict[Pair, list[Kappa]] = field(default_factory=dict)

    def tables(self) -> tuple[ShownTable, ...]:
        """Dice by class, then bias, limits of agreement and ICC by quantity, then kappa of the segments."""
        columns = ("class", "Dice of pairs", "95 % interval", "ICC of volumes", "studies")
        rows = tuple(
            (
                name,
                figure(found.dice.mean),
                f"{figure(found.dice.low)} to {figure(found.dice.high)}",
                figure(found.volume_icc.value),
                str(found.dice.n),
            )
            for name, found in self.summary.items()
        )
        tables = [ShownTable(columns, rows, "Overlap")]
        shown = {name: self.quantities[name] for name in _SHOWN if name in self.quantities}
        shown = shown or self.quantities
        measured = []
        for name, quantity in shown.items():
            for pair, found in quantity.pairs.items():
                bias = figure(found.bias.value, 1)
                limits = f"{figure(found.lower_limit.value, 1)} to {figure(found.upper_limit.value, 1)}"
                icc, n = _in_words(found.icc), str(found.n)
                measured.append((in_words(name), self.of_pair(pair), bias, limits, icc, n))
            if len(self.names) > 2:
                measured.append((in_words(name), "all", "", "", _in_words(quantity.icc), str(quantity.n)))
        if measured:
            of_quantities = ("quantity", "readers", "bias", "limits of agreement", "ICC(A,1)", "studies")
            tables.append(ShownTable(of_quantities, tuple(measured), "Quantities: first minus second"))
        segments = tuple(
            (self.of_pair(pair), figure(kappas[-1].value, 2), str(kappas[-1].n))
            for pair, kappas in self.kappas.items()
        )
        if segments:
            tables.append(
                ShownTable(
                    ("readers", "weighted kappa", "segments"), segments, "Transmurality of the AHA segments"
                )
            )
        return tuple(tables)

    def segment_table(self) -> ShownTable:
        """Kappa of each AHA segment over the studies, a column per two readers."""
        rows = (
            (str(number + 1), *(figure(kappas[number].value, 2) for kappas in self.kappas.values()))
            for number in range(N_SEGMENTS)
        )
        return ShownTable(
            ("segment", *map(self.of_pair, self.kappas)), tuple(rows), "Weighted kappa of each AHA segment"
        )

    def of_pair(self, pair: Pair) -> str:
        """Two readers in words."""
        return " – ".join(self.names[reader] for reader in pair)


@dataclass(frozen=True)
class _Compared:
    """One study by J readers: overlap, quantities by name (J,), transmurality (J, 16)."""

    overlap: StudyAgreement
    volumes: Mapping[str, Sequence[float]]
    transmurality: NDArray[np.float64]


def agreement(
    folders: Sequence[Path | str],
    out: Path | str,
    *,
    labels: Sequence[str] = (),
    rv_insertion: Path | str | None = None,
    base: str | None = None,
    overwrite: bool = False,
    track: Track = no_progress,
) -> Agreement:
    """Compare the label maps of several readers, programs or people; no reference is needed.

    Writes `<id>_agreement.nii.gz`, the share of the readers that have the most frequent label of a voxel;
    `agreement.json`, and as tables `agreement.md`, `agreement.csv` (Dice of every pair),
    `agreement_quantities.csv` and `agreement_segments.csv`; and as a picture `agreement.png`.

    Examples:
        >>> mrigmm.agreement(["reader_a", "reader_b"], "agreement", labels=["emidec"])  # doctest: +SKIP

    Args:
        folders: two or more, that `predict` or `measure` wrote, or of masks of anybody; or files.
        out: folder to write to.
        labels: what the ids of masks mean, as in `measure`; one for all, or one for each folder of masks.
        rv_insertion: as in `quantify`; default the right ventricle of the first reader that has it.
        base: as in `quantify`.
        overwrite: allow to replace results in `out`.
        track: progress bar.

    Returns:
        The agreement; `output` is the JSON file, with maps and tables beside it.

    Raises:
        InputError: when no study at all can be compared.
    """
    sources, out = [Path(folder) for folder in folders], Path(out)
    if len(sources) < 2:
        raise InputError("agreement needs two folders at least", got=str(len(sources)))
    require_base(base)
    readers = open_readers(sources, [labels] if isinstance(labels, str) else labels)
    # Beside the predictions, a map of agreement is that of a consensus's members.
    require_not_input(out, inputs=sources)
    require_new_folder(
        out,
        holds=f"*{AGREEMENT_SUFFIX}",
        overwrite=overwrite,
        instead="allow to replace them with --overwrite",
    )
    ids = sorted({study for reader in readers for study in reader.studies})
    alone = [reader.studies[0] for reader in readers if len(reader.studies) == 1]
    if len(alone) == len(readers):  # a single study, whatever its files are called
        ids = alone[:1]
    points: Points = {} if rv_insertion is None else read_points(Path(rv_insertion))
    problems = [problem for reader in readers for problem in reader.problems]
    if rv_insertion is not None:
        problems += check_studies(points, ids, Path(rv_insertion))
    found: dict[str, _Compared] = {}
    edited: dict[Path, list[str]] = {source: [] for source in sources}
    for study in track(ids, "Comparing"):
        try:
            predictions = [
                reader.read(reader.studies[0] if len(alone) == len(readers) else study) for reader in readers
            ]
            first = None if base is None else base == "first"
            found[study] = _compare_study(study, predictions, out, points.get(study), first)
        except InputError as error:
            problems += error.problems
            continue
        for source, prediction in zip(sources, predictions, strict=True):
            edited[source] += [study] * prediction.edited
            problems += prediction.notes()
    if not found:
        raise InputError.from_problems(problems)
    names = folder_names(sources)
    overlaps = {study: one.overlap for study, one in found.items()}
    result = Agreement(
        out / AGREEMENT_FILE,
        tuple(found),
        tuple(problems),
        names=names,
        studies=overlaps,
        summary=summarise_agreement(overlaps),
        quantities=_quantities(list(found.values())),
        kappas=_kappas(list(found.values())),
    )
    _write_numbers(result, dict(zip(names, sources, strict=True)), edited)
    return result


def _compare_study(
    study: str,
    predictions: Sequence[Prediction],
    out: Path,
    point: NDArray[np.float64] | None,
    base_first: bool | None,
) -> _Compared:
    """Compare the label maps of a study, and write where they agree."""
    first = predictions[0]
    names = [[*prediction.classes] for prediction in predictions]
    shared = [compared_classes(names[0], other, *names) for other in names[1:]]
    classes = [*shared[0]]
    if not classes:
        raise InputError(
            "the folders have other classes",
            study=study,
            file=predictions[1].folder,
            expected=f"one of {', '.join(names[0])}, as in {first.folder}",
            got=", ".join(names[1]),
            remedy="predict with the same manifest, or name the classes alike with --labels",
        )
    members = (
        [shared[0][name].predicted for name in classes],
        *([compared[name].reference for name in classes] for compared in shared),
    )
    grid = first.labels.grid
    masks = [turned(prediction, grid, "predicted label") for prediction in predictions]
    overlap = study_agreement(
        [
            class_indices(mask.labels.data, [[mask.classes[name] for name in parts] for parts in own])
            for mask, own in zip(masks, members, strict=True)
        ],
        classes,
        voxel_volume_ml=grid.voxel_volume_ml,
    )
    volumes, transmurality = _measured(masks, point, base_first)
    header = first.labels.header.copy()
    header.set_intent("none")  # a label map's, so far
    write_map(
        out / f"{study}{AGREEMENT_SUFFIX}",
        overlap.share,
        OutputGrid(grid, header, first.labels.stored_shape, first.labels.path),
    )
    return _Compared(overlap, volumes, transmurality)


def _measured(
    masks: Sequence[Mask], point: NDArray[np.float64] | None, base_first: bool | None
) -> tuple[dict[str, list[float]], NDArray[np.float64]]:
    """Quantities by name (J,), and transmurality (J, 16) of the segments, NaN where they are not numbered.

    All readers have the base and the insertion of the first who shows them.
    """
    maps = [measured(mask).maps for mask in masks]
    shared: Orientation | None = None
    if point is None:
        found = (
            automatic_orientation(one.rv, one.cavity, one.wall, one.grid.affine, base_first=base_first)
            for one in maps
            if one.rv is not None
        )
        shared = next((orientation for orientation in found if not isinstance(orientation, str)), None)
    volumes: dict[str, list[float]] = {}
    transmurality = np.full((len(maps), N_SEGMENTS), np.nan)
    for reader, one in enumerate(maps):
        numbers = quantify_maps(one, shared or _at_point(one, point, base_first))
        for name, value in numbers.volumes.items():
            volumes.setdefault(name, [math.nan] * len(maps))[reader] = value
        for row in numbers.segments:
            transmurality[reader, int(row["segment"]) - 1] = row["transmurality_percent"]
    return volumes, transmurality


def _at_point(maps: Maps, point: NDArray[np.float64] | None, base_first: bool | None) -> Orientation | None:
    """Base and insertion by a user's point."""
    base_first, degrees = landmarks(maps, None, point, base_first)
    return None if base_first is None or degrees is None else Orientation(base_first, degrees)


def _quantities(found: Sequence[_Compared]) -> dict[str, QuantityAgreement]:
    """Agreement about each quantity that two readers have in some study."""
    names = dict.fromkeys(name for one in found for name in one.volumes)
    n_readers = len(found[0].transmurality)
    quantities = {}
    for name in names:
        values = np.array([one.volumes.get(name, [math.nan] * n_readers) for one in found])
        if (np.isfinite(values).sum(axis=1) > 1).any():
            quantities[name] = quantity_agreement(values)
    return quantities


def _kappas(found: Sequence[_Compared]) -> dict[Pair, list[Kappa]]:
    transmurality = np.stack([one.transmurality for one in found])  # (N, J, 16)
    return segment_kappas(transmurality) if np.isfinite(transmurality).any() else {}


def _write_numbers(
    result: Agreement, sources: Mapping[str, Path], edited: Mapping[Path, Sequence[str]]
) -> None:
    """Write JSON, tables and picture; `edited` are the studies whose label maps were changed by hand."""
    path = result.output
    pairs = [*combinations(range(len(result.names)), 2)]
    write_json(
        path,
        {
            "folders": {name: str(source.resolve()) for name, source in sources.items()},
            "summary": {name: asdict(found) for name, found in result.summary.items()},
            "icc": ICC_FORM,
            "quantities": {
                name: {
                    "n": found.n,
                    "icc": asdict(found.icc),
                    "values": {
                        study: dict(zip(result.names, row, strict=True))
                        for study, row in zip(result.done, found.values.tolist(), strict=True)
                    },
                }
                for name, found in result.quantities.items()
            },
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
            "edited": {name: edited[source] for name, source in sources.items()},
            "versions": versions(),
        },
    )
    names = result.names
    dice = (
        (study, name, names[a], names[b], found.dice[name][a, b])
        for study, found in result.studies.items()
        for name in found.dice
        for a, b in pairs
    )
    _csv(path.with_suffix(".csv"), ("study", "class", "first", "second", "dice"), dice)
    ends = ("low", "high")
    columns = (
        *("quantity", "first", "second", "n", "bias", *(f"bias_{end}" for end in ends), "sd"),
        *("lower_limit", *(f"lower_limit_{end}" for end in ends)),
        *("upper_limit", *(f"upper_limit_{end}" for end in ends)),
        *("icc", *(f"icc_{end}" for end in ends), "mean_absolute_difference"),
    )
    quantities = (
        (
            *(name, names[a], names[b], found.n, *_ends(found.bias), found.sd),
            *(*_ends(found.lower_limit), *_ends(found.upper_limit), *_ends(found.icc)),
            found.absolute_error.mean,
        )
        for name, quantity in result.quantities.items()
        for (a, b), found in quantity.pairs.items()
    )
    _csv(path.with_name("agreement_quantities.csv"), columns, quantities)
    segments = (
        (segment, names[a], names[b], kappa.n, kappa.value)
        for (a, b), kappas in result.kappas.items()
        for segment, kappa in zip((*range(1, N_SEGMENTS + 1), "all"), kappas, strict=True)
    )
    _csv(path.with_name("agreement_segments.csv"), ("segment", "first", "second", "n", "kappa"), segments)
    write_text(path.with_suffix(".md"), _markdown(result))
    panels = _panels(result)
    if not panels:
        remove(path.with_suffix(".png"))
        return
    with atomic(path.with_suffix(".png")) as temporary:
        temporary.write_bytes(bland_altman_figure(panels))


def _in_words(icc: Value) -> str:
    """An ICC with its interval."""
    return f"{figure(icc.value, 2)} ({figure(icc.low, 2)} to {figure(icc.high, 2)})"


def _ends(value: Value) -> tuple[float, float, float]:
    return value.value, value.low, value.high


def _csv(path: Path, columns: Sequence[str], rows: Iterable[Sequence[Any]]) -> None:
    """Write a table; what is not defined is empty."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(columns)
    for row in rows:
        writer.writerow([_cell(value) for value in row])
    write_text(path, text.getvalue())


def _cell(value: Any) -> Any:
    if not isinstance(value, float):
        return value
    return "" if math.isnan(value) else f"{value:.6g}"


def _markdown(result: Agreement) -> str:
    text = [
        f"# {' and '.join(' '.join(name.split()) for name in result.names)}",
        f"{len(result.done)} studies. Bias: mean of first minus second; limits of agreement: bias ± 1.96 SD. "
        f"ICC: {ICC_FORM}. Fewer than three studies say nothing (–).",
        "Kappa: Cohen's with linear weights, of a segment's transmurality in the grades 0, up to 25, 50, 75 "
        "and 100 %."
        if result.kappas
        else "AHA segments could not be numbered, so there is no kappa: it takes rv_blood in a mask, or base "
        "and insertion.",
    ]
    for table in (*result.tables(), *([result.segment_table()] if result.kappas else [])):
        text += [f"## {table.title}", markdown_table(table.columns, table.rows)]
    return "\n\n".join([*text, DISCLAIMER]) + "\n"


def _panels(result: Agreement) -> dict[tuple[str, str], VolumePairs]:
    """Quantity and readers -> what is drawn, of those that enough studies have."""
    panels = {}
    for pair in combinations(range(len(result.names)), 2):
        for name in _SHOWN:
            quantity = result.quantities.get(name)
            if quantity is None or quantity.pairs[pair].n < MIN_STUDIES:
                continue
            found, (first, second) = quantity.pairs[pair], quantity.of_pair(pair).T.tolist()
            limits = (found.lower_limit.value, found.upper_limit.value)
            panels[in_words(name), result.of_pair(pair)] = VolumePairs(
                tuple(first), tuple(second), found.bias.value, limits
            )
    return panels
