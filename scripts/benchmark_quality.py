"""The quality benchmark: every method of `mrigmm info` and any number of trained runs in one table.

    python scripts/benchmark_quality.py -o benchmark

simulates the cohort of the report's seed, segments it under every protocol, and writes benchmark.json (every
number of every study), benchmark.md (tables) and benchmark.png (dots with intervals). What is finished
stays in the output folder and is not computed again. docs/benchmark.md says what the numbers mean.

    python scripts/benchmark_quality.py -o shifted --shifted --methods em-gmm-sklearn,map-em-2step

runs `predict` on the shifted cohorts instead and writes shifted.json and shifted.md.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import torch
from benchmarking import command_line, script_parser
from quality import competitors as rows_of
from quality import shifted
from quality.cohorts import PROTOCOLS, SEEDS, Cohort, Protocol, given_cohort, read_cases, simulated_cohort
from quality.figure import draw
from quality.scoring import Competitor, Result, Store, run_competitor
from quality.summary import summarise
from quality.tables import markdown
from rich.console import Console
from rich.progress import track as rich_track

from mrigmm.data.files import write_text
from mrigmm.data.run_folder import RunFolder
from mrigmm.errors import InputError, near_misses
from mrigmm.export.side_files import write_json
from mrigmm.jobs.common import Track, cohort_task, no_progress, versions
from mrigmm.methods.anatomy import Finder, read_anatomy_finder
from mrigmm.methods.base import Task
from mrigmm.methods.network_finder import NetworkFinder
from mrigmm.methods.registry import METHODS
from mrigmm.phantom import PRESETS
from mrigmm.phantom.config import SHIFTED
from mrigmm.pretrained.folder import shipped_folder

ERRORS = Console(stderr=True, soft_wrap=True)


def parse_arguments(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    parser = script_parser(__doc__)
    add = parser.add_argument
    add(
        "-o", "--out", type=Path, required=True, help="folder for everything; finished results in it are kept"
    )
    add(
        "--protocols",
        type=_names(PROTOCOLS),
        help=f"of {', '.join(PROTOCOLS)}; default: all that need no --anatomy; "
        f"of --shifted {', '.join(shifted.GIVEN)}",
    )
    add("--anatomy", type=Path, metavar="RUN", help="run of train-anatomy, instead of the networks")
    add(
        "--methods",
        type=_names(METHODS),
        default=[name for name in METHODS if not name.endswith("-single")],
        help="comma-separated; default: all but the slow *-single; '' none",
    )
    add(
        "--method-seeds",
        type=_integers,
        default=[],
        metavar="N,N,...",
        help="run every method that has a seed with each of them (default: once, with its own default)",
    )
    add("--no-oracle", action="store_true", help="leave out the per-study Gaussians of the true labels")
    cohort = parser.add_argument_group("cohort")
    add = cohort.add_argument
    add(
        "--phantom",
        choices=sorted(PRESETS),
        default="myops-like",
        help="simulated patients (default: %(default)s); the healthy protocols take the preset healthy",
    )
    add(
        "--tuning",
        action="store_true",
        help=f"simulate seed {SEEDS['tuning']} instead of the report's {SEEDS['report']}",
    )
    add("--manifest", type=Path, help="a labelled cohort of your own instead")
    add("--split", default="test", help="of the manifest (default: %(default)s)")
    add("--data-root", type=Path, help="folder that the manifest's paths resolve against")
    add("--studies", type=int, help="how many (default: 40 simulated, all of a manifest)")
    add("--prior", type=Path, help="population prior for the methods and the training")
    add(
        "--shifted",
        type=_names(SHIFTED),
        nargs="?",
        const=list(SHIFTED),
        metavar="COHORT,...",
        help="predict these shifted cohorts instead, 12 studies each by default (default: all of them)",
    )
    add(
        "--seed",
        type=int,
        help=f"of the shifted cohorts (default: {shifted.SEEDS['report']}, "
        f"with --tuning {shifted.SEEDS['tuning']})",
    )
    training = parser.add_argument_group(
        "training (on another simulated cohort, or the manifest's training split)"
    )
    add = training.add_argument
    add("--run", action="append", default=[], metavar="NAME=FOLDER", help="an existing run")
    add(
        "--train",
        action="append",
        default=[],
        metavar="[NAME=]PRESET[:key=value,...]",
        help="train without labels",
    )
    add("--train-seeds", type=_integers, default=[1, 2, 3], help="default: 1,2,3")
    add("--train-studies", type=int, default=40, help="simulated training studies (default: %(default)s)")
    add("--supervised", action="store_true", help="U-Nets trained on 1, 2, 5, 10 and all labelled studies")
    add("--supervised-epochs", type=int, default=40, help="passes over all of them (default: %(default)s)")
    add("--supervised-filters", type=int, default=12, help="at full resolution (default: %(default)s)")
    add("--device", default="auto", help="auto, cpu, cuda or cuda:N")
    parser.add_argument("--quiet", action="store_true", help="no progress bars")
    options = parser.parse_args(arguments)
    if options.shifted is None and options.seed is not None:
        parser.error("--seed is of the shifted cohorts: give --shifted, too")
    if options.protocols is None:
        options.protocols = (
            [name for name, given in PROTOCOLS.items() if not given.found and not given.sequences]
            if options.shifted is None
            else list(shifted.GIVEN)
        )
    elif options.shifted is not None and not set(options.protocols) <= set(shifted.GIVEN):
        parser.error(f"protocols of --shifted: {', '.join(shifted.GIVEN)}")
    return options


def main(arguments: Sequence[str] | None = None) -> int:
    given = sys.argv[1:] if arguments is None else list(arguments)
    options = parse_arguments(given)
    try:
        command = command_line(__file__, given)
        if options.shifted is not None:
            track = no_progress if options.quiet else _bar
            sys.stdout.write(shifted.benchmark_shifted(options, command, track))
        else:
            benchmark(options, command)
    except InputError as error:
        ERRORS.print(str(error), style="red", markup=False)
        return 2
    return 0


def benchmark(options: argparse.Namespace, command: str) -> None:
    """Run every competitor on every protocol, then write tables and figure."""
    track = no_progress if options.quiet else _bar
    names = options.protocols
    cohorts = {name: _cohort(options, PROTOCOLS[name], track) for name in names}
    first = next(iter(cohorts.values()))
    task = cohort_task(first.manifest, options.prior, "cpu")
    competitors = _competitors(options, task, track)
    finder, anatomy = _finder(options)
    store = Store(options.out / "results")
    summaries, content = {}, {}
    for name, cohort in cohorts.items():
        stage = (finder, anatomy) if PROTOCOLS[name].found else (None, {})
        results, unreadable = _run_protocol(name, cohort, competitors, task, store, track, *stage)
        rows: dict[str, dict[int | None, Result]] = {}
        for competitor, result in results:
            rows.setdefault(competitor.name, {})[competitor.seed] = result
        ids = list(dict.fromkeys(s for _, result in results for s in (*result.studies, *result.failures)))
        summaries[name] = summarise(rows, ids)
        content[name] = {
            "cohort": cohort.identity,
            "unreadable": unreadable,
            "summary": {row: found.as_dict() for row, found in summaries[name].items()},
            "studies": {c.name + _seed(c): result.studies for c, result in results},
        }
    header = {"command": command, "seeds": SEEDS, "versions": versions(), "classes": task.classes}
    write_json(options.out / "benchmark.json", {**header, "protocols": content})
    text = markdown(summaries, _heading(command, cohorts))
    write_text(options.out / "benchmark.md", text)
    draw(summaries, options.out / "benchmark.png")
    sys.stdout.write(text)


def _run_protocol(
    name: str,
    cohort: Cohort,
    competitors: Sequence[Competitor],
    task: Task,
    store: Store,
    track: Track,
    finder: Finder | None = None,
    anatomy: dict[str, str] | None = None,
) -> tuple[list[tuple[Competitor, Result]], dict[str, str]]:
    """Results of one protocol: from the store, or computed; and the studies that could not be read."""
    protocol = PROTOCOLS[name]
    labels = cohort.manifest.labels
    known = [c for c in task.classes if labels.get(c)]
    circumstances = {"cohort": cohort.identity, "classes": task.classes, "mrigmm": versions()["mrigmm"]}
    circumstances |= anatomy or {}
    entered = [c for c in competitors if not (protocol.healthy and c.needs_infarct)]
    found = {id(c): store.load(name, c, circumstances) for c in entered}
    unreadable: dict[str, str] = {}
    if any(result is None for result in found.values()):
        cases, unreadable = read_cases(cohort, protocol, task.classes, track, finder)
        for competitor in entered:
            if found[id(competitor)] is not None:
                continue
            try:
                method = competitor.build(protocol)
            except InputError as error:  # not kept: what stands in the way may be mended
                reason = error.problems[0].what
                found[id(competitor)] = Result({}, {case.study: reason for case in cases} | unreadable)
                continue
            result = run_competitor(competitor, method, cases, task.classes, known, _titled(track, name))
            result.failures.update(unreadable)
            store.save(name, competitor, circumstances, result)
            found[id(competitor)] = result
    return [(c, result) for c in entered if (result := found[id(c)]) is not None], unreadable


def _finder(options: argparse.Namespace) -> tuple[Finder, dict[str, str]]:
    """What finds the ventricle where nothing is given, and the digest of its weights."""
    if options.anatomy is None:
        return NetworkFinder("cpu"), {"networks": shifted.networks_digest(shipped_folder())}
    finder, _ = read_anatomy_finder(options.anatomy, torch.device("cpu"))
    return finder, {"anatomy_sha256": RunFolder(options.anatomy).weights_sha256()[:16]}


def _cohort(options: argparse.Namespace, protocol: Protocol, track: Track) -> Cohort:
    if options.manifest is not None:
        return given_cohort(options.manifest, options.split, options.data_root, options.studies)
    return simulated_cohort(
        options.out / "cohorts",
        preset="healthy" if protocol.healthy else options.phantom,
        seed=SEEDS["tuning" if options.tuning else "report"],
        n_studies=options.studies or 40,
        track=track,
    )


def _competitors(options: argparse.Namespace, task: Task, track: Track) -> list[Competitor]:
    """Every row of the table, in its order."""
    rows = [*rows_of.methods(options.methods, task, options.method_seeds)]
    rows += [rows_of.existing_run(text, task, options.device) for text in options.run]
    if options.train or options.supervised:
        trainer = _trainer(options, track)
        for text in options.train:
            rows += trainer.competitors(text, options.train_seeds)
        if options.supervised:
            rows += trainer.supervised(
                task.classes,
                options.train_seeds,
                epochs=options.supervised_epochs,
                filters=options.supervised_filters,
            )
    if not options.no_oracle:
        rows.append(rows_of.oracle(task))
    names = [(row.name, row.seed) for row in rows]
    twice = [name for name, _ in names if names.count((name, _)) > 1]
    if twice:
        raise InputError(f"two rows are called '{twice[0]}'", remedy="name them: --train NAME=PRESET")
    return rows


def _trainer(options: argparse.Namespace, track: Track) -> rows_of.Trainer:
    if options.manifest is None:
        cohort = simulated_cohort(
            options.out / "cohorts",
            preset=options.phantom,
            seed=SEEDS["training"],
            n_studies=options.train_studies,
            track=track,
        )
    elif options.supervised and options.split in ("training", "all"):
        raise InputError(
            "the supervised network would be tested on studies whose labels it has seen",
            expected="another split than training for --split",
            got=options.split,
        )
    else:
        cohort = given_cohort(options.manifest, "training", options.data_root, None)
    return rows_of.Trainer(options.out / "runs", cohort, options.prior, options.device, track)


def _heading(command: str, cohorts: dict[str, Cohort]) -> list[str]:
    seen = {str(cohort.identity): cohort.identity for cohort in cohorts.values()}
    described = [", ".join(f"{key} {value}" for key, value in identity.items()) for identity in seen.values()]
    return [f"```\n{command}\n```", "\n".join(f"- {text}" for text in described)]


def _seed(competitor: Competitor) -> str:
    return "" if competitor.seed is None else f", seed {competitor.seed}"


def _bar(items: Iterable[Any], description: str) -> Iterable[Any]:
    return rich_track(list(items), description, console=ERRORS, transient=True)


def _titled(track: Track, title: str) -> Track:
    return lambda items, description: track(items, f"{title}: {description}")


def _integers(text: str) -> list[int]:
    return [int(part) for part in text.split(",")]


def _names(known: Iterable[str]) -> Any:
    """An argparse type: comma-separated names out of `known`."""
    return partial(_checked_names, list(known))


def _checked_names(known: list[str], text: str) -> list[str]:
    names = [part.strip() for part in text.split(",") if part.strip()]
    for name in names:
        if name not in known:
            raise argparse.ArgumentTypeError(f"unknown name '{name}': {near_misses(name, known)}")
    return names


if __name__ == "__main__":
    sys.exit(main())
