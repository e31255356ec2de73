"""The anatomy stage from few labelled studies: Dice of cavity and wall for every term of its objective.

    python scripts/benchmark_anatomy.py -o anatomy --labelled 2
    python scripts/benchmark_anatomy.py -o anatomy --sunnybrook sunnybrook_hfi_cc0 --labelled 1

Simulated: 24 training studies (seed 3000) of which a few are labelled, tested on other studies (report seed;
`--tuning`: seed 1000). Sunnybrook: patients in turn are labelled, the others are tested, and their images are
among the unlabelled. All arms have the same network, steps and augmentation. Finished runs are kept.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from benchmarking import command_line, markdown_table, publish, script_parser
from quality.cohorts import SEEDS, Cohort, simulated_cohort
from rich.progress import track

import mrigmm
from mrigmm.data.manifest import Manifest, Study
from mrigmm.data.manifest_file import read_manifest
from mrigmm.data.study import read_sequences
from mrigmm.data.whole import known_anatomy, load_whole
from mrigmm.errors import InputError
from mrigmm.evaluation.intervals import estimate_mean, paired_difference
from mrigmm.evaluation.overlap import overlap
from mrigmm.export.side_files import write_json
from mrigmm.jobs.common import no_progress, versions
from mrigmm.labels import Region
from mrigmm.methods.anatomy import AnatomyFinder, read_anatomy_finder

SUPERVISED: Mapping[str, float] = {}  # the default
ARMS: Mapping[str, Mapping[str, float]] = {
    "supervised": SUPERVISED,
    "consistency": {"consistency": 5.0},
    "global MI": {"global_mi": 0.1},
    "local MI": {"local_mi": 0.1},
    "all three": {"consistency": 5.0, "global_mi": 0.1, "local_mi": 0.1},
    "mean teacher": {"mean_teacher": 5.0},
    "entropy": {"entropy": 0.1},
}
ALL_LABELLED = "supervised, all labelled"
OWN_MIXTURE = " + own mixture"
STRUCTURES = {"cavity": Region.CAVITY, "wall": Region.WALL}


@dataclass(frozen=True)
class Case:
    """One training of an arm and the studies that it is tested on."""

    arm: str
    seed: int
    manifest: Path
    data_root: Path | None
    labelled: int | None
    settings: Mapping[str, float]
    tested: tuple[Study, ...]
    cohort: Manifest


def simulated(options: argparse.Namespace) -> Iterator[Case]:
    """All arms and seeds on simulated studies."""
    folder, shown = options.out / "cohorts", "tuning" if options.tuning else "report"
    training = cohort_of(folder, "training", options.train_studies)
    tested = cohort_of(folder, shown, options.studies)
    manifest = unmapped(training.manifest.path, options.out / "training.json")
    for seed in options.seeds:
        for arm in options.arms:
            settings = SUPERVISED if arm == ALL_LABELLED else ARMS[arm]
            labelled = None if arm == ALL_LABELLED else options.labelled
            root = training.manifest.path.parent
            yield Case(arm, seed, manifest, root, labelled, settings, tested.studies, tested.manifest)


def cohort_of(folder: Path, which: str, n_studies: int) -> Cohort:
    """Simulated studies of a seed by name."""
    return simulated_cohort(
        folder, preset="myops-like", seed=SEEDS[which], n_studies=n_studies, track=no_progress
    )


def unmapped(manifest: Path, out: Path) -> Path:
    """A manifest with all studies under "training" and no region map."""
    content = json.loads(manifest.read_text())
    studies = [study for split in ("training", "validation", "test") for study in content.pop(split, [])]
    for study in studies:
        study.pop("region", None)
    write_json(out, {**content, "training": studies})
    return out


def sunnybrook(options: argparse.Namespace) -> Iterator[Case]:
    """Each patient once the first of those that are labelled; the others are tested."""
    root = options.sunnybrook.resolve()
    manifest = options.out / "sunnybrook.json"
    mrigmm.manifest("sunnybrook", root, manifest, overwrite=True)
    whole = read_manifest(unmapped(manifest, manifest), root)
    studies = whole.split("training")
    for first in range(len(studies)):
        chosen = [studies[(first + i) % len(studies)].id for i in range(options.labelled)]
        content = json.loads(manifest.read_text())
        for study in content["training"]:
            if study["id"] not in chosen:
                study.pop("label")
        path = options.out / f"sunnybrook_{'_'.join(chosen)}.json"
        write_json(path, content)
        tested = tuple(study for study in studies if study.id not in chosen)
        for arm in options.arms:
            if arm != ALL_LABELLED:
                yield Case(arm, first, path, root, None, ARMS[arm], tested, whole)


def scores(case: Case, run: Path, options: argparse.Namespace) -> dict[str, dict[str, dict[str, float]]]:
    """Train if need be; `dice` as the network says it, and after the study's own mixture."""
    overrides = [f"{name}={value}" for name, value in case.settings.items()]
    mrigmm.train_anatomy(
        case.manifest,
        run,
        labelled=case.labelled,
        overrides=[*overrides, f"seed={case.seed}", *options.set],
        data_root=case.data_root,
        device="cpu",
        resume=(run / "config.yaml").exists(),
    )
    trained, _ = read_anatomy_finder(run, torch.device("cpu"))
    return {
        name: dice(case, AnatomyFinder(trained.network, config, -np.inf, trained.device))
        for name, config in {
            case.arm: trained.config.model_copy(update={"own_mixture": False}),
            case.arm + OWN_MIXTURE: trained.config,
        }.items()
    }


def dice(case: Case, finder: AnatomyFinder) -> dict[str, dict[str, float]]:
    """Dice of cavity and wall of every tested study, 0 where no ventricle is found."""
    found: dict[str, dict[str, float]] = {}
    for study in case.tested:
        images = read_sequences(study, finder.sequences, case.cohort.labels)
        truth = known_anatomy(study, case.cohort.labels, images)
        assert truth is not None
        whole = load_whole(study, finder.sequences, case.cohort.labels, images=images)
        try:
            codes = whole.to_input_grid(torch.from_numpy(finder.find(whole).codes)[None])[0]
        except InputError:
            codes = np.zeros_like(truth)
        found[study.id] = {
            name: overlap(codes == code, truth == code, 1.0).dice for name, code in STRUCTURES.items()
        }
    return found


def main(arguments: Sequence[str] | None = None) -> int:
    given = sys.argv[1:] if arguments is None else list(arguments)
    parser = script_parser(__doc__)
    add = parser.add_argument
    add("-o", "--out", type=Path, required=True)
    add("--labelled", type=int, default=2, help="labelled patients (default: %(default)s)")
    add("--arms", nargs="*", choices=[ALL_LABELLED, *ARMS], default=[ALL_LABELLED, *ARMS])
    add("--seeds", type=int, nargs="*", default=[1, 2, 3], help="of the training")
    add("--tuning", action="store_true", help="test on seed 1000 instead of the report's 2026")
    add("--studies", type=int, default=20, help="simulated studies to test on (default: %(default)s)")
    add("--train-studies", type=int, default=24)
    add("--sunnybrook", type=Path, help="folder of the Sunnybrook studies instead")
    add("--set", action="append", default=[], metavar="KEY=VALUE", help="change a setting of all arms")
    options = parser.parse_args(given)
    options.out.mkdir(parents=True, exist_ok=True)

    kind = "simulated" if options.sunnybrook is None else "sunnybrook"
    cases = list(simulated(options) if options.sunnybrook is None else sunnybrook(options))
    rows: dict[str, dict[str, list[dict[str, float]]]] = {}
    for case in track(cases, "Training"):
        count = "all" if case.arm == ALL_LABELLED else str(options.labelled)
        run = options.out / "runs" / f"{kind}_{count}_{_plain(case.arm)}_{case.seed}"
        for name, found in scores(case, run, options).items():
            for study, row in found.items():
                rows.setdefault(name, {}).setdefault(study, []).append(row)
    means = {
        arm: {
            study: {name: float(np.mean([r[name] for r in seeds])) for name in STRUCTURES}
            for study, seeds in studies.items()
        }
        for arm, studies in rows.items()
    }
    command = command_line(__file__, given)
    numbers = {"command": command, "versions": versions(), "studies": rows}
    publish(options.out, f"{kind}_{options.labelled}", f"```\n{command}\n```\n\n{markdown(means)}", numbers)
    return 0


def markdown(means: Mapping[str, Mapping[str, Mapping[str, float]]]) -> str:
    """Dice per arm, and the paired difference to supervised training on the same labels."""
    lines = []
    base = means.get("supervised")
    for arm, studies in means.items():
        cells = []
        for name in STRUCTURES:
            values = {study: row[name] for study, row in studies.items()}
            text = f"{estimate_mean(list(values.values())).mean:.3f}"
            if base is not None and arm != "supervised":
                pair = paired_difference(values, {study: row[name] for study, row in base.items()})
                text += f" ({pair.mean:+.3f} [{pair.low:+.3f}, {pair.high:+.3f}])"
            cells.append(text)
        lines.append([arm, *cells])
    return markdown_table(["objective", *STRUCTURES], lines) + "\n"


def _plain(name: str) -> str:
    return "".join(c if c.isalnum() else "_" for c in name)


if __name__ == "__main__":
    sys.exit(main())
