"""Result of `mrigmm agreement`: its tables, JSON, CSV, Markdown and picture."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from itertools import combinations
from pathlib import Path

from mrigmm.data.files import atomic, remove, write_text
from mrigmm.evaluation.agreement import ClassAgreement, Kappa, Pair, QuantityAgreement, StudyAgreement
from mrigmm.evaluation.intervals import Value
from mrigmm.evaluation.volume_agreement import MIN_STUDIES
from mrigmm.export.side_files import write_csv, write_json
from mrigmm.jobs.common import DISCLAIMER, Outcome, versions
from mrigmm.jobs.shown import ShownTable, figure
from mrigmm.labels import in_words
from mrigmm.quantification.segments import N_SEGMENTS
from mrigmm.reporting.bland_altman import VolumePairs, bland_altman_figure
from mrigmm.reporting.comparison import markdown_table

AGREEMENT_FILE = "agreement.json"
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


def write_agreement(
    result: Agreement, sources: Mapping[str, Path], edited: Mapping[Path, Sequence[str]]
) -> None:
    """Write JSON, tables and picture beside `result.output`.

    Args:
        result: the agreement.
        sources: name of each reader -> its folder.
        edited: folder -> studies whose label maps were changed by hand.
    """
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
    write_csv(path.with_suffix(".csv"), ("study", "class", "first", "second", "dice"), dice)
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
    write_csv(path.with_name("agreement_quantities.csv"), columns, quantities)
    segments = (
        (segment, names[a], names[b], kappa.n, kappa.value)
        for (a, b), kappas in result.kappas.items()
        for segment, kappa in zip((*range(1, N_SEGMENTS + 1), "all"), kappas, strict=True)
    )
    write_csv(
        path.with_name("agreement_segments.csv"), ("segment", "first", "second", "n", "kappa"), segments
    )
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
