"""Screening of the default's objective: what a network of the wall is trained on, all else equal.

    python scripts/screen_objectives.py -o screening

Arms differ in the loss only: the same simulated training cohort (seed 3000), first E-step, inputs,
augmentation, 8-filter network and number of network steps. Scored on the tuning seed 1000 (24 studies, and 12
without infarct), cavity and wall given, never on the report's seed. Each arm is scored by the network alone
and by the label of the default, in which network and the study's own fit share. Finished arms are kept.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from benchmarking import command_line, publish, script_parser
from quality.cohorts import PROTOCOLS, SEEDS, Case, read_cases, simulated_cohort
from quality.scoring import score
from rich.progress import track
from torch import Tensor
from torch.nn.functional import pad

from mrigmm.config import RunConfig, make_config
from mrigmm.data.crops import network_view
from mrigmm.data.run_folder import RunRecord
from mrigmm.evaluation.calibration import reliability
from mrigmm.evaluation.intervals import paired_difference
from mrigmm.export.side_files import write_json
from mrigmm.jobs.common import cohort_task, no_progress, versions
from mrigmm.labels import Region
from mrigmm.methods.base import Task, unpack
from mrigmm.methods.deep_gem import DeepGEMMethod, build_spatial_prior, starting_method, wall_view
from mrigmm.methods.map_em_2step import MapEM2Step
from mrigmm.mixture import MapPrior, log_gaussian, m_step, statistics
from mrigmm.networks.spatial_prior import N_ANATOMY_CHANNELS, SpatialPrior
from mrigmm.training.augment import Chance, drop_sequences, random_affine, random_intensities
from mrigmm.training.gem_module import cross_entropy

CLASSES = ("myocardium", "edema", "scar", "pathology")
CONTINUITY_WEIGHT = 0.1
MUTUAL_INFORMATION_WEIGHT = 0.1


@dataclass(frozen=True)
class TrainingSlices:
    """One study's slices of the wall.

    Attributes:
        maps: (Z, C + 3 + K + F, A, A) sequences, anatomy, responsibilities of the first E-step, features.
        prior: of the study's MAP M-step.
    """

    maps: Tensor
    prior: MapPrior


@dataclass(frozen=True)
class Forward:
    """Input of a loss, for the B slices of a batch.

    Attributes:
        log_prior: (B, K, A, A) of the network.
        again: gives (B, K, A, A) of the network for other intensities and missing sequences, same places.
        image: (B, C, A, A) before the intensities were changed.
        wall: (B, A, A) 1 in the wall, else 0.
        target: (B, K, A, A) responsibilities of the first E-step.
        features: (B, F, A, A) of the mixture.
        study: (B,) which of `priors` each slice belongs to.
        priors: of the batch's studies.
    """

    log_prior: Tensor
    again: Callable[[], Tensor]
    image: Tensor
    wall: Tensor
    target: Tensor
    features: Tensor
    study: Tensor
    priors: list[MapPrior]


Loss = Callable[[Forward], Tensor]


def gem(x: Forward) -> Tensor:
    """Cross-entropy to the posteriors of the first E-step."""
    return cross_entropy(x.log_prior, x.target)


def per_study(x: Forward, energy: Callable[[Tensor, Tensor, Tensor], Tensor]) -> Tensor:
    """Mean over the batch's studies of an energy of (log w, log weights, log density) of their voxels.

    The mixture is the MAP M-step of the network's `w`, differentiated through.
    """
    total = torch.zeros(())
    for index, prior in enumerate(x.priors):
        mine = x.study == index
        inside = x.wall[mine] > 0
        log_w = x.log_prior[mine].permute(0, 2, 3, 1)[inside].double()  # (N, K)
        voxels = x.features[mine].permute(0, 2, 3, 1)[inside].double()  # (N, F)
        mixture = m_step(statistics(voxels, log_w.exp()), covariance="full", variance_floor=1e-3, prior=prior)
        log_density = log_gaussian(voxels, mixture.means, mixture.covariances)
        total = total + energy(log_w, mixture.weights.log(), log_density).float()
    return total / len(x.priors)


def nll_v(x: Forward) -> Tensor:
    """`-mean log sum_k w_k N(x | k)`, the published loss of deepSVG."""
    return per_study(x, lambda log_w, _, log_n: -torch.logsumexp(log_w + log_n, dim=1).mean())


def free_energy(x: Forward) -> Tensor:
    """`mean sum_k w_k (log w_k - log pi_k - log N(x | k))`."""
    return per_study(
        x, lambda log_w, log_pi, log_n: (log_w.exp() * (log_w - log_pi - log_n)).sum(dim=1).mean()
    )


def continuity(x: Forward) -> Tensor:
    """Differences of neighbours' probabilities in the wall, less where the image has an edge."""
    prior, total = x.log_prior.exp(), torch.zeros(())
    for dim in (2, 3):
        n = prior.shape[dim] - 1
        here, there = (partial(torch.narrow, dim=dim, start=start, length=n) for start in (0, 1))
        wall = x.wall[:, None]
        both = here(wall) * there(wall)
        edge = (here(x.image) - there(x.image)).square().sum(dim=1, keepdim=True)
        jump = (here(prior) - there(prior)).abs().sum(dim=1, keepdim=True)
        weight = both * torch.exp(-edge / 2)
        total = total + (weight * jump).sum() / weight.sum().clamp_min(1)
    return total


def negative_mutual_information(x: Forward) -> Tensor:
    """Minus the mutual information between the classes of a voxel under two changes of intensities."""
    joint = torch.einsum("bkxy,bjxy,bxy->kj", x.log_prior.exp(), x.again().exp(), x.wall)
    joint = (joint + joint.T) / (2 * joint.sum())
    margin = joint.sum(dim=0)
    return -(joint * ((joint + 1e-8).log() - (margin[:, None] * margin + 1e-8).log())).sum()


@dataclass(frozen=True)
class Phase:
    """Some epochs on one loss."""

    loss: Loss
    epochs: int
    rate: float


def arms(epochs: int, rate: float) -> dict[str, list[Phase]]:
    """Every arm and its phases, which add up to the same number of epochs."""
    alone = {"gem": gem, "nll_v": nll_v, "free energy": free_energy}
    found = {name: [Phase(loss, epochs, rate)] for name, loss in alone.items()}
    warm = 2 * epochs // 3
    found["gem, then nll_v"] = [Phase(gem, warm, rate), Phase(nll_v, epochs - warm, rate / 4)]
    terms = {"continuity": (continuity, CONTINUITY_WEIGHT)}
    terms["mutual information"] = (negative_mutual_information, MUTUAL_INFORMATION_WEIGHT)
    for base in ("gem", "nll_v"):
        for name, (term, weight) in terms.items():
            loss = partial(_sum, alone[base], term, weight)
            found[f"{base} + {name}"] = [Phase(loss, epochs, rate)]
    return found


def _sum(loss: Loss, term: Loss, weight: float, x: Forward) -> Tensor:
    return loss(x) + weight * term(x)


def training_slices(case: Case, start: MapEM2Step, config: RunConfig, divisor: int) -> TrainingSlices:
    """First E-step of a study, and its slices as the network sees them."""
    study = case.tensors
    wall = start.solve(study)
    view = wall_view(study, wall, config, divisor=divisor)
    inside = wall.region == Region.WALL
    features = unpack(wall.features.float(), inside)
    assert config.spacing_mm is not None
    beside = network_view(
        replace(study, image=features, region=wall.region),
        spacing_mm=config.spacing_mm,
        crop_mm=config.crop_mm,
        divisor=divisor,
    )
    used = (view.region == Region.WALL).flatten(0, 1).any(dim=0)  # (Z,)
    maps = torch.cat([view.image, beside.image])[..., used].float()
    return TrainingSlices(maps.permute(3, 0, 1, 2), wall.prior)


def one_size(studies: Sequence[TrainingSlices]) -> list[TrainingSlices]:
    """All slices padded with zeros (no wall) to the side of the largest."""
    side = max(study.maps.shape[-1] for study in studies)
    return [replace(study, maps=pad(study.maps, (0, side - study.maps.shape[-1]) * 2)) for study in studies]


def train(
    network: SpatialPrior,
    studies: Sequence[TrainingSlices],
    phases: Sequence[Phase],
    config: RunConfig,
    report: Callable[[int, float], None],
) -> None:
    """Train on whole studies per batch; chance follows from (seed, step) and is the same for all arms."""
    assert config.sequences is not None
    n_sequences, n_inputs = len(config.sequences), len(config.sequences) + N_ANATOMY_CHANNELS
    n_classes = network.unet.head.out_channels
    step = 0
    for phase in phases:
        optimiser = torch.optim.AdamW(network.parameters(), lr=phase.rate, weight_decay=config.weight_decay)
        for epoch in range(phase.epochs):
            optimiser.param_groups[0]["lr"] = phase.rate * (1 - epoch / phase.epochs) ** 0.9
            total = 0.0
            for batch in _batches(studies, config, epoch):
                step += 1
                generator = torch.Generator().manual_seed(config.seed * 1_000_003 + step)
                maps = torch.cat([studies[i].maps for i in batch])
                chance = Chance(generator, len(maps), torch.arange(len(maps)))
                maps = random_affine(maps, chance)
                image, anatomy, target, features = maps.tensor_split(
                    [n_sequences, n_inputs, n_inputs + n_classes], dim=1
                )
                look = partial(_look, network, image, anatomy, config, chance)
                owner = torch.cat([torch.full((len(studies[i].maps),), n) for n, i in enumerate(batch)])
                wall = (anatomy[:, 1] > 0.99).float()
                priors = [studies[i].prior for i in batch]
                loss = phase.loss(Forward(look(), look, image, wall, target, features, owner, priors))
                optimiser.zero_grad()
                loss.backward()
                torch.nn.utils.clip_grad_norm_(network.parameters(), config.clip_norm)
                optimiser.step()
                total += float(loss.detach())
            report(epoch, total)


def _look(network: SpatialPrior, image: Tensor, anatomy: Tensor, config: RunConfig, chance: Chance) -> Tensor:
    """The network's log prior under a random change of intensities."""
    changed = drop_sequences(random_intensities(image, chance), config.sequence_dropout, chance)
    return network(torch.cat([changed, anatomy], dim=1))


def _batches(studies: Sequence[TrainingSlices], config: RunConfig, epoch: int) -> Iterator[list[int]]:
    generator = torch.Generator().manual_seed(config.seed * 1_000_003 + epoch)
    batch: list[int] = []
    for index in torch.randperm(len(studies), generator=generator).tolist():
        batch.append(index)
        if sum(len(studies[i].maps) for i in batch) >= config.batch_slices:
            yield batch
            batch = []
    if batch:
        yield batch


def scores(method: Any, cases: Sequence[Case], classes: tuple[str, ...]) -> dict[str, dict[str, float]]:
    """All metrics per study, and the calibration error of the wall's probabilities."""
    rows = {}
    for case in cases:
        found = method.segment(replace(case.tensors, label=None))
        row = score(case, found, classes, list(classes))
        rows[case.study] = {**row, "ece": _calibration_error(found.resp, case, classes)}
    return rows


def _calibration_error(resp: Tensor, case: Case, classes: tuple[str, ...]) -> float:
    """Expected calibration error over 15 bins of the wall's voxels, by the probability of the label."""
    label = case.tensors.label
    assert label is not None
    wall = torch.tensor([name in CLASSES for name in classes])
    inside = (case.tensors.region == Region.WALL) & (label >= 0) & (label < len(classes))
    probabilities = (resp * wall[:, None, None, None])[:, inside]
    return reliability(probabilities.numpy(), label[inside].numpy()).error()


def summary(
    rows: dict[str, dict[str, float]], base: dict[str, dict[str, float]], healthy: dict[str, dict[str, float]]
) -> dict[str, Any]:
    """Means, paired differences to the method that the network starts from, and false volumes."""
    result: dict[str, Any] = {"ece": float(np.mean([row["ece"] for row in rows.values()]))}
    for name in CLASSES:
        mine, its = ({study: row[f"dice/{name}"] for study, row in table.items()} for table in (rows, base))
        paired = paired_difference(mine, its)
        result[name] = {
            "dice": float(np.nanmean(list(mine.values()))),
            "difference": paired.mean,
            "interval": [paired.low, paired.high],
        }
    for name in ("edema", "scar"):
        result[f"false_{name}_ml"] = float(np.mean([row[f"volume_ml/{name}"] for row in healthy.values()]))
    return result


def markdown(table: dict[str, dict[str, Any]], command: str) -> str:
    """The table, one row per arm and way to label."""
    lines = [
        f"```\n{command}\n```\n",
        f"| arm | label | {' | '.join(CLASSES)} | ECE | false edema, ml | false scar, ml | min |",
        "|---" * (len(CLASSES) + 6) + "|",
    ]
    for arm, found in table.items():
        for label, row in found["labels"].items():
            cells = [_cell(row[name], first=arm == "map-em-2step") for name in CLASSES]
            cells += [f"{row['ece']:.3f}", f"{row['false_edema_ml']:.1f}", f"{row['false_scar_ml']:.1f}"]
            lines.append(f"| {arm} | {label} | {' | '.join(cells)} | {found['minutes']:.1f} |")
    return "\n".join(lines) + "\n"


def _cell(value: dict[str, Any], *, first: bool) -> str:
    if first:
        return f"{value['dice']:.3f}"
    low, high = value["interval"]
    return f"{value['dice']:.3f} ({value['difference']:+.3f} [{low:+.3f}, {high:+.3f}])"


def main(arguments: Sequence[str] | None = None) -> int:
    given = sys.argv[1:] if arguments is None else list(arguments)
    options = _parse(given)
    config, task, cases = _cohorts(options)
    start = starting_method(config, task.prior, task.multiscale)
    divisor = build_spatial_prior(config).unet.divisor
    studies = one_size(
        [training_slices(case, start, config, divisor) for case in track(cases["training"], "E-step")]
    )
    base = scores(start, cases["tuning"], task.classes)
    base_row = summary(base, base, scores(start, cases["healthy"], task.classes))
    table: dict[str, dict[str, Any]] = {"map-em-2step": {"labels": {"fit": base_row}, "minutes": 0.0}}
    known = arms(options.epochs, config.learning_rate)
    for name in options.arms or known:
        file = options.out / f"{name.replace(' ', '_')}.json"
        if not file.exists():
            write_json(file, _run_arm(name, known[name], config, task, start, studies, cases, base))
        table[name] = json.loads(file.read_text(encoding="utf-8"))
    command = command_line(__file__, given)
    text = markdown(table, command)
    publish(options.out, "screening", text, {"command": command, "seeds": SEEDS, "arms": table})
    return 0


def _run_arm(
    name: str,
    phases: Sequence[Phase],
    config: RunConfig,
    task: Task,
    start: MapEM2Step,
    studies: Sequence[TrainingSlices],
    cases: dict[str, list[Case]],
    base: dict[str, dict[str, float]],
) -> dict[str, Any]:
    torch.manual_seed(config.seed)
    network = build_spatial_prior(config)
    began = time.perf_counter()
    train(network, studies, phases, config, lambda epoch, loss: _say(f"{name}: epoch {epoch}, {loss:.3f}"))
    minutes = (time.perf_counter() - began) / 60
    record = RunRecord(
        classes=task.classes,
        sequences=task.sequences,
        component_order=tuple(range(len(task.classes))),
        training_studies=(),
        versions=versions(),
    )
    labels = {}
    for label, share in (("network", 1.0), ("shared", config.network_share)):
        settings = config.model_copy(update={"network_share": share})
        method = DeepGEMMethod(network, settings, record, start, torch.device("cpu"))
        rows = scores(method, cases["tuning"], task.classes)
        labels[label] = summary(rows, base, scores(method, cases["healthy"], task.classes))
    return {"labels": labels, "minutes": minutes}


def _cohorts(options: argparse.Namespace) -> tuple[RunConfig, Task, dict[str, list[Case]]]:
    wanted = {
        "training": (options.phantom, "training", options.studies),
        "tuning": (options.phantom, "tuning", options.studies),
        "healthy": ("healthy", "tuning", max(1, options.studies // 2)),
    }
    cases = {}
    for name, (preset, seed, n) in wanted.items():
        cohort = simulated_cohort(
            options.out / "cohorts", preset=preset, seed=SEEDS[seed], n_studies=n, track=no_progress
        )
        task = cohort_task(cohort.manifest, None, "cpu")
        protocol = PROTOCOLS["healthy" if name == "healthy" else "cavity-wall"]
        cases[name], _ = read_cases(cohort, protocol, task.classes, no_progress)
    config = make_config(overrides=[f"filters={options.filters}", f"seed={options.seed}", *options.set])
    resolved = {"sequences": task.sequences, "classes": task.classes}
    spacing = config.spacing_mm or float(np.median([c.tensors.spacing_mm[0] for c in cases["training"]]))
    return config.model_copy(update={**resolved, "spacing_mm": spacing}), task, cases


def _say(text: str) -> None:
    sys.stderr.write(text + "\n")


def _parse(arguments: Sequence[str]) -> argparse.Namespace:
    parser = script_parser(__doc__)
    add = parser.add_argument
    add("-o", "--out", type=Path, required=True)
    add("--arms", nargs="*", choices=list(arms(3, 1.0)), help="default: all")
    add("--epochs", type=int, default=30)
    add("--filters", type=int, default=8)
    add("--seed", type=int, default=11, help="of the network (default: %(default)s)")
    add("--studies", type=int, default=24, help="training and tuning studies (default: %(default)s)")
    add("--phantom", default="myops-like")
    add("--set", action="append", default=[], metavar="KEY=VALUE", help="change a setting of the default")
    return parser.parse_args(arguments)


if __name__ == "__main__":
    sys.exit(main())
