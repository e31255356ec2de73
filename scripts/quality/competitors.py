"""The rows of the table: methods by name, trained runs, ceilings."""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file

import mrigmm
from mrigmm.config import make_config
from mrigmm.data.crops import median_spacing_mm
from mrigmm.data.files import atomic
from mrigmm.data.run_folder import RunFolder
from mrigmm.errors import InputError
from mrigmm.jobs.common import Track, select_device
from mrigmm.methods.base import Method, Task
from mrigmm.methods.registry import make_method, method_of_run
from mrigmm.networks.unet import UNet
from quality.ceilings import Oracle, Supervised, SupervisedSettings, labelled_slices, train_unet
from quality.cohorts import Cohort, Protocol, RegionKind, read_cases, region_manifest
from quality.scoring import Competitor

LABEL_COUNTS = (1, 2, 5, 10)  # and all
SUPERVISED = "supervised"


def methods(names: Sequence[str], task: Task, seeds: Sequence[int] = ()) -> Iterator[Competitor]:
    """Methods of `mrigmm info` with their default settings; one with a seed runs with each of `seeds`."""
    for name in names:
        try:
            settings = make_method(name, task, {}).describe()
        except InputError:  # the reason is told when the method is built
            settings = {}
        for seed in (seeds or (None,)) if "seed" in settings else (None,):
            changed = {} if seed is None else {"seed": seed}
            build = partial(_method, name, task, changed)
            yield Competitor(name, build, settings | changed, seed)


def _method(name: str, task: Task, overrides: Mapping[str, int], _protocol: Protocol) -> Method:
    return make_method(name, task, overrides)


def oracle(task: Task) -> Competitor:
    """The ceiling of intensities, from the label itself."""
    method = Oracle(task.classes)
    return Competitor(
        method.name, lambda _protocol: method, method.describe(), sees_labels=True, needs_infarct=True
    )


def existing_run(text: str, task: Task, device: str) -> Competitor:
    """A run folder given as NAME=FOLDER."""
    name, separator, folder = text.partition("=")
    run = RunFolder(Path(folder))
    if not separator or not name:
        raise InputError(
            "a run is given as NAME=FOLDER", got=text, remedy="for example --run first=runs/first"
        )
    _, record, _ = run.read()  # says now what is wrong with it
    if record.sequences != task.sequences:
        raise InputError(
            "the run was trained on other sequences",
            file=run.path,
            expected=", ".join(task.sequences),
            got=", ".join(record.sequences),
        )
    digest = hashlib.sha256(run.weights.read_bytes()).hexdigest()[:16]
    return Competitor(name, lambda _protocol: _run_method(run, device), {"weights_sha256": digest})


def _run_method(run: RunFolder, device: str) -> Method:
    return method_of_run(run, select_device(device)).method


@dataclass(frozen=True)
class Trainer:
    """Trains what has to be trained, once per region map and seed, into folders of its own.

    Attributes:
        folder: for the runs.
        cohort: training studies.
        prior: file of the population prior, or None for the shipped one.
        device: where to train and predict.
        track: progress bar of loops.
    """

    folder: Path
    cohort: Cohort
    prior: Path | None
    device: str
    track: Track

    def manifest(self, region: RegionKind) -> Path:
        """The training cohort with this region map."""
        return region_manifest(self.cohort, region, self.folder / f"training_{region}.json")

    def competitors(self, text: str, seeds: Sequence[int]) -> Iterator[Competitor]:
        """A run per seed of [NAME=]PRESET[:key=value,...]; trained when the first protocol needs it."""
        name, preset, overrides = parse_training(text)
        settings = {
            "config": make_config(preset, overrides).model_dump(mode="json", exclude={"seed"}),
            "training": self.cohort.identity,
        }
        for seed in seeds:
            build = partial(self._trained, name, preset, overrides, seed)
            yield Competitor(name, build, settings, seed)

    def _trained(
        self, name: str, preset: str, overrides: Sequence[str], seed: int, protocol: Protocol
    ) -> Method:
        """The run of a seed for a protocol's region map; an interrupted training goes on."""
        run = RunFolder(self.folder / f"{name}_{protocol.region}_seed{seed}")
        begun = run.checkpoint.exists() or run.record.exists()
        if not begun:  # killed before its first epoch
            shutil.rmtree(run.path, ignore_errors=True)
        mrigmm.train(
            self.manifest(protocol.region),
            run.path,
            preset=preset,
            overrides=(*overrides, f"seed={seed}"),
            data_root=self.cohort.data_root,
            prior=self.prior,
            device=self.device,
            resume=begun,
            track=self.track,
        )
        return _run_method(run, self.device)

    def supervised(
        self, classes: Sequence[str], seeds: Sequence[int], *, epochs: int, filters: int
    ) -> Iterator[Competitor]:
        """U-Nets that are trained with the labels of 1, 2, 5, 10 and all training studies."""
        n_all = len(self.cohort.studies)
        for count in [*(n for n in LABEL_COUNTS if n < n_all), n_all]:
            settings = {
                "labelled": count,
                "epochs": epochs,
                "filters": filters,
                "training": self.cohort.identity,
            }
            for seed in seeds:
                build = partial(self._supervised, tuple(classes), count, seed, epochs, filters)
                yield Competitor(f"{SUPERVISED}, {count} labelled", build, settings, seed)

    def _supervised(
        self, classes: tuple[str, ...], count: int, seed: int, epochs: int, filters: int, protocol: Protocol
    ) -> Method:
        """The U-Net of a seed for a protocol's region map; finished weights are kept."""
        cases, _ = read_cases(self.cohort, Protocol("", protocol.region), classes, self.track)
        studies = [case.tensors for case in cases]
        spacing_mm = median_spacing_mm(study.spacing_mm for study in studies)
        settings = SupervisedSettings(filters=filters, epochs=epochs, spacing_mm=spacing_mm)
        digest = _digest(asdict(settings), self.cohort.identity)
        weights = self.folder / f"supervised{count}_{protocol.region}_{digest}_seed{seed}.safetensors"
        if weights.exists():
            network = UNet(len(studies[0].sequences), len(classes), filters=filters, levels=settings.levels)
            network.load_state_dict(load_file(weights))
            return Supervised(network.eval(), classes, settings)
        slices = [labelled_slices(study, settings) for study in studies]
        n_slices = sum(len(study.image) for study in slices)
        # Nested: the two studies of seed 1 are among its five.
        order = torch.randperm(len(slices), generator=torch.Generator().manual_seed(seed)).tolist()
        network = train_unet(
            [slices[i] for i in order[:count]],
            classes,
            settings,
            steps=max(1, round(epochs * n_slices / settings.batch_slices)),
            seed=seed,
            device=select_device(self.device),
            track=self.track,
        )
        with atomic(weights) as temporary:
            save_file(network.state_dict(), temporary)
        return Supervised(network, classes, settings)


def parse_training(text: str) -> tuple[str, str, tuple[str, ...]]:
    """[NAME=]PRESET[:key=value,...] -> name of the row, preset, overrides."""
    head, _, rest = text.partition(":")
    name, separator, preset = head.partition("=")
    overrides = tuple(part.strip() for part in rest.split(",") if part.strip())
    if separator:
        return name, preset, overrides
    return (f"{head} ({', '.join(overrides)})" if overrides else head), head, overrides


def _digest(*parts: Any) -> str:
    return hashlib.sha256(repr(parts).encode()).hexdigest()[:8]
