"""What labels are worth: Dice over the number of labelled studies, from the pretrained start and from others.

    python scripts/few_labels.py -o few_labels

For each cohort (presets of the phantom whose scanner the pretraining has not met) 24 studies to learn
from and 12 others to score are simulated. Three ways learn from the labels of the first N of them:
`train --labels` from the networks that ship, with one network; the same network from random weights, on
the same loss and changes of slices; and `train-anatomy`, which has the images of all 24, too, and knows
cavity and wall alone. `--skip` begins with another study, for other draws of few. The networks are scored
by themselves (each slice seen once, no mixture), in a square about the true centre, and the runs from the
pretrained start also as `predict --run` uses them. What is finished is kept, by networks and settings. The
random start learns longer, from small batches of labelled slices alone.
"""

from __future__ import annotations

import argparse
import json
import math
import sys
from collections.abc import Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np
import torch
from benchmark_anatomy import Case, dice, unmapped
from benchmarking import command_line, markdown_table, publish, script_parser, short_digest
from quality.cohorts import simulated_cohort
from quality.shifted import DICE, SEEDS, predict_and_score
from quality.tables import NO_VALUE
from rich.console import Console
from rich.progress import track

import mrigmm
from mrigmm.config_pretrain import PretrainConfig
from mrigmm.data.manifest import Manifest
from mrigmm.data.manifest_file import read_manifest
from mrigmm.evaluation.intervals import estimate_mean, paired_difference
from mrigmm.export.side_files import write_json
from mrigmm.jobs.common import no_progress, versions
from mrigmm.jobs.training.labelled_studies import labelled_study
from mrigmm.jobs.training.learning import read_start
from mrigmm.jobs.training.studies import Entry
from mrigmm.methods.anatomy import read_anatomy_finder
from mrigmm.methods.network_finder import NetworkFinder
from mrigmm.mixture.threads import one_thread
from mrigmm.networks.segmenter import Segmenter
from mrigmm.phantom.generator import read_backgrounds
from mrigmm.pretrained.folder import PretrainedFolder
from mrigmm.pretrained.networks import read_networks
from mrigmm.training.hardware import single_device
from mrigmm.training.label_tuning import HeldOut, LabelModule, label_batch, log_files
from mrigmm.training.labelled import LabelledStudy
from mrigmm.training.pretraining import fit_steps

TRAINING_SEED = 10  # more than the seed of the scored studies
COUNTS = (0, 1, 2, 5, 10, 24)
START = "pretrained"
ARMS = (START, "random", "anatomy")
COLUMNS = (
    "blood, nothing given",
    "wall, nothing given",
    "infarct, nothing given",
    "infarct, wall given",
    "pathology, wall given",
)
# What `predict --run` makes of the runs, by what is given.
PROGRAM = {"nothing": "nothing given", "cavity-wall": "wall given"}
WALL, INFARCT, HEALTHY = "wall", "infarct", "infarct in healthy hearts"
PROGRAM_PREFIX = "program: "
PROGRAM_COLUMNS = (
    f"{WALL}, nothing given",
    *(f"{name}, {given}" for name in (INFARCT, HEALTHY) for given in PROGRAM.values()),
)
_OF_ANATOMY = {"cavity": COLUMNS[0], "wall": COLUMNS[1]}

# Part -> Dice of each scored study.
Scores = dict[str, list[float]]


@dataclass(frozen=True)
class Simulated:
    """Studies to learn from, and studies to score."""

    training: Manifest
    tested: Manifest


def simulated(folder: Path, preset: str, seed: int, n_training: int, n_tested: int) -> Simulated:
    """The two cohorts of a preset, simulated if need be."""
    found = []
    for n, of in ((n_training, seed + TRAINING_SEED), (n_tested, seed)):
        out = folder / f"{preset}_{of}_{n}"
        if not (out / "manifest.json").exists():
            mrigmm.simulate(out, studies=n, seed=of, preset=preset, region="cavity-wall")
        manifest = read_manifest(out / "manifest.json")
        studies = tuple(sorted(manifest.split("all"), key=lambda study: study.id))
        found.append(replace(manifest, splits={"training": studies}))
    return Simulated(*found)


@one_thread()
def slices_of(cohort: Manifest) -> list[LabelledStudy]:
    """Labelled slices of the studies to learn from."""
    finder = NetworkFinder("cpu")  # not needed: every study has a label
    return [
        labelled_study(Entry(study, cohort.labels, cohort.name), cohort.sequences, finder)
        for study in cohort.split("all")
    ]


def part_of(cohort: Manifest, some: slice) -> Manifest:
    """The cohort with some of the studies to learn from."""
    return replace(cohort, splits={"training": cohort.split("all")[some]})


def pretrained(labelled: Manifest, seed: int, run: Path, settings: Sequence[str]) -> Segmenter:
    """The network of `train --labels` on the studies; of none, the one that ships."""
    chosen = {study.id for study in labelled.split("all")}
    if not chosen:
        return read_start(None, "cpu").networks.segmenters[0]
    if not PretrainedFolder(run).record.exists():
        content = json.loads(labelled.path.read_text())
        studies = [s for split in ("training", "validation", "test") for s in content.pop(split, [])]
        write_json(
            run.with_suffix(".json"), {**content, "training": [s for s in studies if s["id"] in chosen]}
        )
        mrigmm.train(
            run.with_suffix(".json"),
            run,
            labels=True,
            seeds=1,
            data_root=labelled.path.parent,
            overrides=[f"seed={seed}", *settings],
            device="cpu",
        )
    return read_networks(PretrainedFolder(run), torch.device("cpu")).segmenters[0]


def program(preset: str, seed: int, n: int, run: Path | None, folder: Path) -> Scores:
    """Dice of every scored study by the whole program, and whether a healthy heart has an infarct (0 or 1).

    Args:
        preset: of the phantom.
        seed: of the scored studies.
        n: number of them.
        run: the networks; None: those that ship.
        folder: for cohort and predictions.
    """
    cohort = simulated_cohort(folder / "cohorts", preset=preset, seed=seed, n_studies=n, track=no_progress)
    networks = {"method": "pretrained"} if run is None else {"run": run}
    found: Scores = {}
    for protocol, given in PROGRAM.items():
        name = "shipped" if run is None else run.name
        place = folder / "predictions" / f"{preset}_{seed}_{n}" / protocol / name
        rows = predict_and_score(cohort, protocol, {**networks, "device": "cpu"}, place).studies.values()
        found[f"{WALL}, {given}"] = [row[DICE["wall"]] for row in rows]
        found[f"{INFARCT}, {given}"] = [row[DICE["scar"]] for row in rows]
        found[f"{HEALTHY}, {given}"] = [
            math.nan if row["has_infarct"] else float(row["volume_ml/scar"] > 0) for row in rows
        ]
    return found


def from_random(
    start: Segmenter,
    studies: Sequence[LabelledStudy],
    seed: int,
    config: PretrainConfig,
    steps: int,
    folder: Path,
) -> Segmenter:
    """The same network from random weights, on labelled slices, by the schedule of the pretraining."""
    torch.manual_seed(seed)
    network = deepcopy(start).requires_grad_(True)
    for layer in network.modules():
        if hasattr(layer, "reset_parameters"):
            layer.reset_parameters()
    if not studies:
        return network.eval()
    # No moving average of the weights: of so few steps it would still hold the random ones.
    config = config.model_copy(
        update={"ranges": config.ranges_of(config.seeds[0]), "changed_ranges": {}, "average_decay": 0.0}
    )
    module = LabelModule(network, config, steps, None)
    files = log_files(folder, f"random_{len(studies)}")
    files.checkpoint.unlink(missing_ok=True)
    files.log.parent.mkdir(parents=True, exist_ok=True)
    network.train()
    draw = partial(label_batch, config, studies, read_backgrounds(), 0, seed)
    hardware = single_device(torch.device("cpu"), config.precision, asked_for=True)
    fit_steps(module, draw, files, hardware, workers=0, track=no_progress)
    return network.eval()


def anatomy(cohort: Simulated, count: int, seed: int, run: Path, settings: Sequence[str]) -> Scores:
    """Dice of cavity and wall by `train-anatomy` with a few labelled studies and the images of all."""
    manifest = unmapped(cohort.training.path, run.with_suffix(".json"))
    root = cohort.training.path.parent
    mrigmm.train_anatomy(
        manifest,
        run,
        labelled=count,
        overrides=[f"seed={seed}", *settings],
        data_root=root,
        device="cpu",
        resume=(run / "config.yaml").exists(),
    )
    finder, _ = read_anatomy_finder(run, torch.device("cpu"))
    tested = cohort.tested.split("training")
    case = Case("few labels", seed, manifest, root, count, {}, tested, cohort.tested)
    found = dice(case, finder)
    return {column: [row[name] for row in found.values()] for name, column in _OF_ANATOMY.items()}


def scored_seed(options: argparse.Namespace) -> int:
    """Seed of the studies that are scored."""
    return SEEDS["tuning" if options.tuning else "report"]


def scores(
    options: argparse.Namespace, preset: str, cohort: Simulated, tested: HeldOut, arm: str, count: int
) -> Scores:
    """Dice of every scored study by an arm with so many labels, computed or kept."""
    start = read_start(None, "cpu").networks
    made_with: dict[str, object] = {
        "seeds": [options.tuning, options.train_seed],
        "studies": [options.studies, options.train_studies, options.skip],
        "networks": [file.sha256 for file in start.record.segmenters],
        "versions": versions()["mrigmm"],
        "settings": {
            "pretrained": options.set,
            "random": [options.random_steps, options.random_batch],
            "anatomy": options.anatomy_set,
        }[arm],
    }
    name = f"{preset}_{arm}_{count}_{short_digest(made_with)}"
    file = options.out / "results" / f"{name}.json"
    if file.exists():
        kept: Scores = json.loads(file.read_text())
        return {name: [math.nan if v is None else v for v in values] for name, values in kept.items()}
    run = options.out / "runs" / name
    run.parent.mkdir(parents=True, exist_ok=True)
    if arm == "anatomy":
        found = anatomy(cohort, count, options.train_seed, run, options.anatomy_set)
    else:
        labelled = part_of(cohort.training, slice(options.skip, options.skip + count))
        if arm == START:
            network = pretrained(labelled, options.train_seed, run, options.set)
            used = run if count else None
            of_program = program(preset, scored_seed(options), options.studies, used, options.out)
        else:
            config = start.config.model_copy(update={"batch": options.random_batch})
            studies = slices_of(labelled)
            network = from_random(
                start.segmenters[0], studies, options.train_seed, config, options.random_steps, run
            )
        found = dict(tested.score([network]).dice)
        if arm == START:
            found |= {f"{PROGRAM_PREFIX}{name}": values for name, values in of_program.items()}
    file.parent.mkdir(parents=True, exist_ok=True)
    plain = {name: [None if math.isnan(v) else v for v in values] for name, values in found.items()}
    write_json(file, plain)
    return found


def main(arguments: Sequence[str] | None = None) -> int:
    given = sys.argv[1:] if arguments is None else list(arguments)
    parser = script_parser(__doc__)
    add = parser.add_argument
    add("-o", "--out", type=Path, required=True)
    add("--cohorts", nargs="*", default=["second-centre", "low-contrast"], help="presets of the phantom")
    add("--counts", type=int, nargs="*", default=list(COUNTS), help="labelled studies")
    add("--arms", nargs="*", choices=ARMS, default=list(ARMS))
    add("--tuning", action="store_true", help="score seed 900 instead of the report's 901")
    add("--studies", type=int, default=12, help="scored studies (default: %(default)s)")
    add("--train-studies", type=int, default=24, help="to learn from (default: %(default)s)")
    add("--skip", type=int, default=0, help="studies before the first labelled one (default: %(default)s)")
    add("--train-seed", type=int, default=1, help="of the trainings (default: %(default)s)")
    add("--random-steps", type=int, default=1500, help="steps from random weights (default: %(default)s)")
    add("--random-batch", type=int, default=4, help="slices in each of them (default: %(default)s)")
    add("--set", action="append", default=[], metavar="KEY=VALUE", help="of train --labels")
    add("--anatomy-set", action="append", default=[], metavar="KEY=VALUE", help="of train-anatomy")
    options = parser.parse_args(given)
    options.out.mkdir(parents=True, exist_ok=True)
    seed = scored_seed(options)
    config = read_start(None, "cpu").networks.config
    command = command_line(__file__, given)
    content: dict[str, dict[str, dict[int, Scores]]] = {}
    for preset in options.cohorts:
        cohort = simulated(options.out / "cohorts", preset, seed, options.train_studies, options.studies)
        tested = HeldOut(slices_of(cohort.tested), config)
        trials = [(arm, n) for n in options.counts for arm in options.arms if n or arm != "anatomy"]
        for arm, n in track(trials, preset, console=Console(stderr=True)):
            found = scores(options, preset, cohort, tested, arm, n)
            content.setdefault(preset, {}).setdefault(arm, {})[n] = found
    text = f"```\n{command}\n```\n" + "".join(markdown(preset, rows) for preset, rows in content.items())
    header = {"command": command, "seed": seed, "versions": versions()}
    publish(options.out, "few_labels", text, {**header, "cohorts": content})
    return 0


def markdown(preset: str, arms: Mapping[str, Mapping[int, Scores]]) -> str:
    """Mean Dice by arm and number of labels, then how far the pretrained start is ahead with as many.

    In brackets the paired difference to the pretrained start without any label.
    """
    columns = [c for c in COLUMNS if any(c in found for rows in arms.values() for found in rows.values())]
    header = ["labelled", "start", *columns]
    start = arms.get(START, {})
    trials = [(n, arm) for n in sorted({n for rows in arms.values() for n in rows}) for arm in arms]
    means, ahead = [], []
    for n, arm in trials:
        found = arms[arm].get(n)
        if found is None:
            continue
        zero = {} if found is start.get(0) else start.get(0, {})
        cells = [f"{_mean(found.get(c))}{_bracket(found.get(c), zero.get(c))}" for c in columns]
        means.append([str(n), arm, *cells])
        if arm != START and n in start:
            ahead.append([str(n), arm, *(_difference(start[n].get(c), found.get(c)) for c in columns)])
    text = f"\n{preset}:\n\n{markdown_table(header, means)}\n"
    text += _program_table(start)
    if not ahead:
        return text
    return f"{text}\nPretrained start minus the others, as many labels:\n\n{markdown_table(header, ahead)}\n"


def _program_table(start: Mapping[int, Scores]) -> str:
    """Mean Dice of the whole program by number of labels, and the share of healthy hearts with an infarct.

    In brackets the paired difference to the networks that ship.
    """
    keys = [f"{PROGRAM_PREFIX}{name}" for name in PROGRAM_COLUMNS]
    rows = {n: found for n, found in start.items() if keys[0] in found}
    if not rows:
        return ""
    body = []
    for n, found in rows.items():
        zero = rows[0] if n and 0 in rows else {}
        body.append([str(n), *(f"{_mean(found[k])}{_bracket(found[k], zero.get(k))}" for k in keys)])
    header = [
        "labelled",
        *(name.replace(HEALTHY, "share of healthy hearts with an infarct") for name in PROGRAM_COLUMNS),
    ]
    return f"\nThe whole program:\n\n{markdown_table(header, body)}\n"


def _mean(values: Sequence[float] | None) -> str:
    if values is None or np.isnan(values).all():
        return NO_VALUE
    return f"{estimate_mean(values).mean:.2f}"


def _bracket(values: Sequence[float] | None, base: Sequence[float] | None) -> str:
    text = _difference(values, base)
    return "" if text == NO_VALUE else f" ({text})"


def _difference(values: Sequence[float] | None, base: Sequence[float] | None) -> str:
    if values is None or base is None:
        return NO_VALUE
    pair = paired_difference(*({str(i): v for i, v in enumerate(x)} for x in (values, base)))
    if math.isnan(pair.mean):
        return NO_VALUE
    return f"{pair.mean:+.2f} [{pair.low:+.2f}, {pair.high:+.2f}]"


if __name__ == "__main__":
    sys.exit(main())
