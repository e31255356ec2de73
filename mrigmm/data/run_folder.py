"""The folder that `mrigmm train` writes and `mrigmm predict --run` reads.

config.yaml            resolved configuration
weights.safetensors    best weights of the network
run.json               classes, sequences, component order, training studies, versions
prior.json             population prior that was used (absent without one)
multiscale_prior.json  the same for smoothed intensities (absent without one)
log.csv                one row per epoch
loss.png               the same as a figure
checkpoints/last.ckpt  state to resume from
model_card.md          what it was trained on, with what, and its limits (absent in older runs)
network.onnx           the network for ONNX Runtime (absent until `mrigmm export` wrote it)
tensorboard/           event files (with --tensorboard)
cache/                 prepared studies while a training with --cache disk runs
"""

from __future__ import annotations

import csv
import hashlib
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel, ConfigDict, model_validator
from safetensors import SafetensorError
from safetensors.torch import load_file, save
from torch import Tensor, nn

from mrigmm.config import RunConfig, load_config
from mrigmm.config_anatomy import AnatomyConfig, load_anatomy_config
from mrigmm.data.files import atomic, write_text
from mrigmm.data.priors.prior_file import (
    MultiscalePrior,
    load_multiscale_prior,
    load_prior,
    save_multiscale_prior,
    save_prior,
)
from mrigmm.data.standardise import STANDARDISATIONS
from mrigmm.errors import InputError
from mrigmm.mixture import PopulationPrior
from mrigmm.settings_yaml import dump_config

Config = TypeVar("Config", bound=BaseModel)
Record = TypeVar("Record", bound=BaseModel)


def write_tensors(path: Path, tensors: Mapping[str, Tensor]) -> None:
    """Write tensors, each in one piece of memory, as safetensors.

    Raises:
        InputError: the folder cannot be written to, or the disk is full.
    """
    with atomic(path) as temporary:
        # `save_file` makes files that nobody else may read, and has words of its own for a full disk.
        temporary.write_bytes(save(dict(tensors)))


class RunRecord(BaseModel):
    """Record of a trained run beside configuration and weights.

    Attributes:
        classes: K class names, in output order.
        sequences: C sequence names, the network's input channels.
        component_order: entry k is the network output that is class k.
        training_studies: ids of the studies it was trained on.
        held_out_studies: ids of the studies that the objective was only watched on.
        cohorts: names of the manifests they stand in; empty in runs of before.
        hardware: accelerator, devices, nodes, precision and number of processes of the last session.
        versions: package versions that trained it.
        weights_sha256: digest of the weights; None in runs of older versions.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    classes: tuple[str, ...]
    sequences: tuple[str, ...]
    component_order: tuple[int, ...]
    training_studies: tuple[str, ...]
    held_out_studies: tuple[str, ...] = ()
    cohorts: tuple[str, ...] = ()
    hardware: dict[str, Any] = {}
    versions: dict[str, str]
    weights_sha256: str | None = None

    @model_validator(mode="after")
    def _fits_together(self) -> RunRecord:
        if sorted(self.component_order) != list(range(len(self.classes))):
            raise ValueError("component_order: expected each class once")
        return self


class _Named:
    """A file or folder in a run's folder, by its name there."""

    def __init__(self, name: str) -> None:
        self.name = name

    def __get__(self, run: RunFolder, _: type) -> Path:
        return run.path / self.name


@dataclass(frozen=True)
class RunFolder:
    """Paths of a run."""

    path: Path

    config = _Named("config.yaml")  # resolved configuration
    weights = _Named("weights.safetensors")  # best weights
    record = _Named("run.json")  # classes, sequences, provenance
    prior = _Named("prior.json")  # population prior
    log = _Named("log.csv")  # one row per epoch
    loss_figure = _Named("loss.png")  # the log as a figure
    model_card = _Named("model_card.md")  # data, prior, protocol, numbers and limits for a reader
    tensorboard = _Named("tensorboard")  # event files
    cache = _Named("cache")  # prepared studies, while training runs
    checkpoint = _Named("checkpoints/last.ckpt")  # state to resume from
    multiscale_prior = _Named("multiscale_prior.json")  # population prior for smoothed intensities
    onnx = _Named("network.onnx")  # the network for ONNX Runtime

    def read_multiscale_prior(self) -> MultiscalePrior | None:
        """Prior for smoothed intensities, when the run used one."""
        return load_multiscale_prior(self.multiscale_prior) if self.multiscale_prior.exists() else None

    def read(self) -> tuple[RunConfig, RunRecord, PopulationPrior | None]:
        """Configuration, record and prior of a finished run.

        Raises:
            InputError: no run folder, not finished, damaged.
        """
        config, record = self.read_as(load_config, RunRecord, "train")
        units = STANDARDISATIONS[config.standardise]
        prior = load_prior(self.prior, units) if self.prior.exists() else None
        return config, record, prior

    def read_as(
        self, load: Callable[[Path], Config], kind: type[Record], command: str
    ) -> tuple[Config, Record]:
        """Configuration and record of a finished run of a command.

        Raises:
            InputError: no run folder, not finished, damaged.
        """
        if not self.path.is_dir():
            raise InputError(
                "the run folder does not exist", file=self.path, remedy=f"train one: mrigmm {command}"
            )
        config = load(self.config)
        try:
            return config, kind.model_validate(json.loads(self.record.read_text(encoding="utf-8")))
        except FileNotFoundError:
            raise InputError(
                "the run is not finished",
                file=self.record,
                remedy=f"continue it: mrigmm {command} ... --resume",
            ) from None
        except (OSError, ValueError, RecursionError) as error:
            raise InputError(
                "the run's record is damaged",
                file=self.record,
                got=" ".join(str(error).split()),
                remedy="copy the run folder again",
            ) from None

    def write_settings(
        self, config: RunConfig, prior: PopulationPrior | None, multiscale: MultiscalePrior | None
    ) -> None:
        """Write priors and, last, the configuration: its presence says that there is a run to resume."""
        if multiscale is not None:
            save_multiscale_prior(multiscale, self.multiscale_prior)
        if prior is not None:
            save_prior(prior, self.prior)
        write_text(self.config, dump_config(config))

    def write_record(self, record: RunRecord | AnatomyRecord) -> None:
        """Write the record; its presence says that the run is finished."""
        write_text(self.record, json.dumps(record.model_dump(mode="json"), indent=1) + "\n")

    def write_weights(self, network: nn.Module) -> None:
        """Write the weights as safetensors."""
        write_tensors(self.weights, {name: t.contiguous() for name, t in network.state_dict().items()})

    def weights_sha256(self) -> str:
        """Digest of the weights' file, by which an exported network is known to belong to the run."""
        try:
            return hashlib.sha256(self.weights.read_bytes()).hexdigest()
        except FileNotFoundError:
            raise self._no_weights() from None

    def require_own_weights(self, record: RunRecord) -> None:
        """Refuse weights that this run's training did not write.

        Raises:
            InputError: their digest is not that of the record.
        """
        if record.weights_sha256 not in (None, self.weights_sha256()):
            raise InputError(
                "the weights are not those that this training wrote",
                file=self.weights,
                expected=f"sha256 {record.weights_sha256}, as in run.json",
                got=f"sha256 {self.weights_sha256()}",
                remedy="copy the whole run folder again; files of two runs are not mixed",
            )

    def _no_weights(self) -> InputError:
        return InputError("the run has no weights", file=self.weights, remedy="train it again")

    def load_weights(self, network: nn.Module) -> None:
        """Load the weights into a network of the run's configuration.

        Raises:
            InputError: missing or damaged file, or tensors that do not fit, named one by one.
        """
        try:
            found = load_file(self.weights)
        except FileNotFoundError:
            raise self._no_weights() from None
        except (SafetensorError, OSError) as error:
            raise InputError(
                "the weights are damaged",
                file=self.weights,
                got=str(error),
                remedy="copy the run folder again",
            ) from None
        misfits = _misfits(network.state_dict(), found)
        if misfits:
            raise InputError(
                "the weights do not fit the run's configuration",
                file=self.weights,
                got="; ".join(misfits[:5]),
                remedy="weights and config.yaml must come from the same training",
            )
        network.load_state_dict(found)


def read_log(path: Path) -> dict[str, list[float]]:
    """Columns of a run's log."""
    with path.open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    return {name: [float(row[name]) for row in rows] for name in rows[0]}


def _misfits(expected: dict[str, Tensor], found: dict[str, Tensor]) -> list[str]:
    problems = [f"{name} is missing" for name in expected.keys() - found.keys()]
    problems += [f"{name} is not part of the network" for name in found.keys() - expected.keys()]
    problems += [
        f"{name}: expected {tuple(expected[name].shape)}, got {tuple(found[name].shape)}"
        for name in expected.keys() & found.keys()
        if expected[name].shape != found[name].shape
    ]
    problems += [f"{name} has NaN or infinite values" for name in found if not found[name].isfinite().all()]
    return sorted(problems)


class AnatomyRecord(BaseModel):
    """Record of an anatomy run beside configuration and weights.

    Attributes:
        sequences: C sequence names, the network's input channels.
        labelled_studies: ids of the studies whose anatomy it learnt from.
        unlabelled_studies: ids of the studies of which it saw the images only.
        lowest_quality: quality that 95 of 100 training slices exceed; below it a slice is flagged.
        versions: package versions that trained it.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    sequences: tuple[str, ...]
    labelled_studies: tuple[str, ...]
    unlabelled_studies: tuple[str, ...]
    lowest_quality: float
    versions: dict[str, str]


def read_anatomy_run(run: RunFolder) -> tuple[AnatomyConfig, AnatomyRecord]:
    """Configuration and record of a finished run of `mrigmm train-anatomy`, which has no prior.

    Raises:
        InputError: no run folder, not finished, damaged, or a run of `mrigmm train`.
    """
    return run.read_as(load_anatomy_config, AnatomyRecord, "train-anatomy")
