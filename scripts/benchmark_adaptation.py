"""What a shift of scanner or patients costs, and what adaptation without labels regains of it.

    python scripts/benchmark_adaptation.py -o adaptation

simulates the cohort that the networks know best (`myops-like`) and shifted ones, lets `mrigmm train` adapt
the shipped networks to each from its images alone (no region map, no label), predicts the same studies with
the shipped and with the adapted networks, and scores both. The best that was tried is scored whether or not
the command takes it: the limits on what may be lost are lifted, and what they say stands beside the true
Dice. What is finished stays in the output folder and is not computed again. Writes adaptation.json and
adaptation.md.
"""

from __future__ import annotations

import argparse
import json
import math
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from benchmarking import command_line, digests_of, markdown_table, script_parser, short_digest
from quality.cohorts import Cohort, given_to_predict, simulated_cohort
from quality.scoring import Competitor, Result, Store
from quality.shifted import DICE, FALSE, GIVEN, SEEDS, STUDIES, predict_and_score, summarise_cohort

import mrigmm
from mrigmm.config_learning import AdaptConfig
from mrigmm.data.files import write_text
from mrigmm.evaluation.intervals import PairedDifference, paired_difference
from mrigmm.export.side_files import write_json
from mrigmm.jobs.common import no_progress, versions
from mrigmm.jobs.training.adapt import BEFORE, NLL, OWN
from mrigmm.phantom.config import SHIFTED
from mrigmm.pretrained.folder import PretrainedFolder, shipped_folder
from mrigmm.pretrained.learning import LearntCohort, read_learning

STANDARD = "myops-like"
COHORTS = (STANDARD, "thin-wall", "low-contrast", "second-centre", "smooth-kernel", "coarse")
PROTOCOLS = ("nothing", "cavity-wall")
ROWS = ("shipped", "adapted")
# What was tried is kept wherever simulated studies of the cohort's kind gain.
UNLIMITED = ("most_lost=1", "most_risen=1")
FIGURES = (OWN, BEFORE, NLL)  # of the record, before and after
LEAST_COST = 0.02  # Dice: of less it makes no sense to say what share is regained


@dataclass(frozen=True)
class Line:
    """One class of one cohort.

    Attributes:
        shipped, adapted: mean Dice.
        gain: adapted minus shipped, over the studies of the cohort.
        cost: mean Dice of the shipped networks on the standard cohort minus that on this one.
    """

    shipped: float
    adapted: float
    gain: PairedDifference
    cost: float

    @property
    def regained(self) -> float:
        """Share of the cost; NaN where the shift costs next to nothing."""
        return self.gain.mean / self.cost if self.cost >= LEAST_COST else math.nan


def parse_arguments(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    parser = script_parser(__doc__)
    add = parser.add_argument
    add("-o", "--out", type=Path, required=True, help="folder; finished results in it are kept")
    names = ",".join(COHORTS)
    add("--cohorts", default=names, metavar="NAME,...", help="default: %(default)s")
    add("--studies", type=int, default=STUDIES, help="of each cohort (default: %(default)s)")
    add("--tuning", action="store_true", help="seed 900 instead of the report's 901")
    add("--set", action="append", default=[], metavar="KEY=VALUE", help="settings of the adaptation")
    options = parser.parse_args(arguments)
    options.cohorts = options.cohorts.split(",")
    unknown = set(options.cohorts) - {STANDARD, *SHIFTED}
    if unknown:
        parser.error(f"unknown cohorts: {', '.join(sorted(unknown))}")
    return options


def main(arguments: Sequence[str] | None = None) -> int:
    given = sys.argv[1:] if arguments is None else list(arguments)
    options = parse_arguments(given)
    torch.set_num_threads(1)
    seed = SEEDS["tuning" if options.tuning else "report"]
    results: dict[str, dict[str, dict[str, Result]]] = {}
    learnt: dict[str, LearntCohort] = {}
    for name in options.cohorts:
        cohort = simulated_cohort(
            options.out / "cohorts", preset=name, seed=seed, n_studies=options.studies, track=no_progress
        )
        learnt[name] = adapted(cohort, run_folder(options, name), options.set)
        results[name] = {p: rows(cohort, name, p, options) for p in PROTOCOLS}
        command = command_line(__file__, given)
        text = tables(results, learnt, command, seed)
        write_json(options.out / "adaptation.json", as_json(results, learnt, command, seed))
        write_text(options.out / "adaptation.md", text)
    sys.stdout.write(text)
    return 0


def adapted(cohort: Cohort, run: Path, settings: Sequence[str]) -> LearntCohort:
    """Adapt the shipped networks to a cohort's images, if that has not been done, whatever is lost."""
    folder = PretrainedFolder(run)
    if not folder.record.exists():
        run.parent.mkdir(parents=True, exist_ok=True)
        manifest = given_to_predict(cohort, "nothing", run.with_suffix(".json"))
        content = json.loads(manifest.read_text(encoding="utf-8"))
        write_json(manifest, {**content, "training": content.pop("test"), "test": []})
        options: dict[str, Any] = {"overrides": (*settings, *UNLIMITED), "device": "cpu"}
        mrigmm.train(manifest, run, data_root=cohort.data_root, resume=run.exists(), **options)
    return read_learning(folder).cohorts[-1]


def run_folder(options: argparse.Namespace, name: str) -> Path:
    """Folder of a cohort's adaptation; other networks to start from, studies or settings have another one."""
    seed = "tuning" if options.tuning else "report"
    made_with = {"start": digests_of(shipped_folder()), "studies": options.studies, "seed": seed}
    key = short_digest({**made_with, "settings": [*options.set, *UNLIMITED], "mrigmm": versions()["mrigmm"]})
    return Path(options.out) / "runs" / f"{name}-{key}"


def rows(cohort: Cohort, name: str, protocol: str, options: argparse.Namespace) -> dict[str, Result]:
    """The cohort, predicted by the shipped and by the adapted networks."""
    found: dict[str, Result] = {}
    run, shipped = run_folder(options, name), digests_of(shipped_folder())
    for row, networks in zip(ROWS, (shipped_folder(), PretrainedFolder(run)), strict=True):
        digests = digests_of(networks)
        competitor = Competitor(row, lambda _: _never(), {"networks": digests})
        store = Store(options.out / "results" / name)
        circumstances = {"cohort": cohort.identity, "mrigmm": versions()["mrigmm"]}
        result = store.load(protocol, competitor, circumstances)
        if result is None and digests == shipped:  # the networks were kept as they were
            result = found.get(ROWS[0])
        if result is None:
            keywords = {"method": "pretrained"} if row == "shipped" else {"run": run}
            folder = options.out / "predictions" / name / f"{protocol}-{row}-{digests[0][:8]}"
            result = predict_and_score(cohort, protocol, {**keywords, "device": "cpu"}, folder)
            store.save(protocol, competitor, circumstances, result)
        found[row] = result
    return found


def _never() -> Any:
    raise AssertionError("predicted, not built")


def lines(
    results: Mapping[str, Mapping[str, Mapping[str, Result]]], protocol: str
) -> dict[str, dict[str, Line]]:
    """Cohort -> class -> line; the last ones are of all shifted cohorts together, a study counting once."""
    found: dict[str, dict[str, Line]] = {}
    values = {
        (name, row, metric): {
            f"{name}/{study}": figures[metric] for study, figures in by[protocol][row].studies.items()
        }
        for name, by in results.items()
        for row in ROWS
        for metric in DICE.values()
    }
    groups = {name: [name] for name in results}
    shifted = [name for name in results if name != STANDARD]
    if len(shifted) > 1:
        groups["all shifted"] = shifted
    for group, names in groups.items():
        for column, metric in DICE.items():
            shipped, own = (
                {k: v for name in names for k, v in values[name, row, metric].items()} for row in ROWS
            )
            standard = _mean(values.get((STANDARD, "shipped", metric), {}))
            gain = paired_difference(own, shipped)
            line = Line(_mean(shipped), _mean(own), gain, standard - _mean(shipped))
            found.setdefault(group, {})[column] = line
    return found


def _mean(values: Mapping[str, float]) -> float:
    known = [v for v in values.values() if not math.isnan(v)]
    return math.fsum(known) / len(known) if known else math.nan


def tables(
    results: Mapping[str, Mapping[str, Mapping[str, Result]]],
    learnt: Mapping[str, LearntCohort],
    command: str,
    seed: int,
) -> str:
    """Markdown: of each protocol cost and gain, then what each adaptation found."""
    parts = [
        f"```\n{command}\n```\n",
        f"Seed {seed}. Dice of the shipped networks, of the best that adaptation tried, and the difference "
        f"[95 % bootstrap interval over studies]; cost: Dice of the shipped networks on `{STANDARD}` minus "
        f"that here; regained: the difference as a share of a cost of {LEAST_COST:g} or more. Of simulated "
        "studies and NLL_V: before, after. False infarct: % of the LV mass, median over the studies without "
        "infarct.\n",
    ]
    for protocol in PROTOCOLS:
        body = []
        for name, by_class in lines(results, protocol).items():
            for column, line in by_class.items():
                if math.isnan(line.gain.mean) or (protocol == "cavity-wall" and column in ("wall", "blood")):
                    continue
                numbers = [f"{line.shipped:.3f}", f"{line.adapted:.3f}", _interval(line.gain)]
                cost, regained = (math.nan,) * 2 if name == STANDARD else (line.cost, line.regained)
                body.append([name, column, *numbers, _or_none(cost, ".3f"), _or_none(regained, ".0%")])
        header = ["cohort", "class", *ROWS, "gain", "cost of the shift", "regained"]
        parts += [f"### {GIVEN[protocol]}\n", markdown_table(header, body) + "\n"]
    body = []
    for name, record in learnt.items():
        false = [
            _or_none(summarise_cohort([*r.studies.values()], r.failures).figures[FALSE], ".2f")
            for r in (results[name][p][row] for p in PROTOCOLS for row in ROWS)
        ]
        figures = [f"{record.before[f]:.3f}, {record.after[f]:.3f}" for f in FIGURES]
        body.append([name, *figures, verdict(record), *false])
    header = ["cohort", *FIGURES, "networks"]
    header += [f"false infarct, {row}, {p}" for p in PROTOCOLS for row in ROWS]
    return "\n".join([*parts, "### What each adaptation found\n", markdown_table(header, body) + "\n"])


def verdict(record: LearntCohort) -> str:
    """Say what `mrigmm train` does with what was tried, under its limits."""
    limits = AdaptConfig()
    lost = record.before[BEFORE] - record.after[BEFORE] > limits.most_lost
    risen = record.after[NLL] - record.before[NLL] > limits.most_risen
    return "kept" if record.kept_start or lost or risen else "adapted"


def _interval(gain: PairedDifference) -> str:
    return f"{gain.mean:+.3f} [{gain.low:+.3f}, {gain.high:+.3f}]"


def _or_none(value: float, form: str) -> str:
    return "–" if math.isnan(value) else format(value, form)


def as_json(
    results: Mapping[str, Mapping[str, Mapping[str, Result]]],
    learnt: Mapping[str, LearntCohort],
    command: str,
    seed: int,
) -> dict[str, Any]:
    """Everything, by protocol and cohort."""
    return {
        "command": command,
        "seed": seed,
        "versions": versions(),
        "learnt": {name: record.model_dump(mode="json") for name, record in learnt.items()},
        "studies": {
            name: {p: {row: r.studies for row, r in by_row.items()} for p, by_row in by.items()}
            for name, by in results.items()
        },
        "lines": {
            p: {n: {c: asdict(line) for c, line in by.items()} for n, by in lines(results, p).items()}
            for p in PROTOCOLS
        },
    }


if __name__ == "__main__":
    sys.exit(main())
