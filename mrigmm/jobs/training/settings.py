"""Settings of a training: configuration, prior, hardware, loading; contradictions are refused."""

from __future__ import annotations

import json
from pathlib import Path
from typing import get_args

from mrigmm.config import RunConfig, load_config, make_config
from mrigmm.data.manifest import Manifest
from mrigmm.data.priors.choice import no_prior, prior_for
from mrigmm.data.priors.prior_file import load_prior
from mrigmm.data.run_folder import RunFolder
from mrigmm.data.standardise import STANDARDISATIONS
from mrigmm.errors import InputError, near_misses
from mrigmm.jobs.common import select_device
from mrigmm.jobs.options import TrainOptions
from mrigmm.methods.settings import require_sequences
from mrigmm.mixture import PopulationPrior
from mrigmm.training.cache import Cache
from mrigmm.training.hardware import Hardware, several_devices, single_device


def run_config(run: RunFolder, options: TrainOptions) -> RunConfig:
    """Return the configuration asked for; when resuming, the run's own.

    Raises:
        InputError: the request contradicts the run's own, or cannot be read.
    """
    steps = {"registration": options.register, "bias_correction": options.bias_correct}
    changes = {**options.overrides, **{step: True for step, wanted in steps.items() if wanted}}
    asked = make_config(options.preset, changes, options.config)
    if not options.resume:
        return asked
    saved = load_config(run.config)
    if options.preset is None and not changes and options.config is None:
        return saved
    filled = ("sequences", "classes", "spacing_mm")  # resolved from the cohort when left open
    differing = [
        key
        for key, value in asked.model_dump().items()
        if value != getattr(saved, key) and not (key in filled and value is None)
    ]
    if differing:
        raise InputError(
            "the configuration differs from that of the training to resume",
            file=run.config,
            expected=", ".join(f"{key}={getattr(saved, key)}" for key in differing),
            got=", ".join(f"{key}={getattr(asked, key)}" for key in differing),
            remedy="resume with the same options (or none), or train into another folder",
        )
    return saved


def resolved(
    config: RunConfig, cohort: Manifest, prior_file: Path | None
) -> tuple[RunConfig, PopulationPrior | None]:
    """Fill in sequences and classes from the cohort, and find the population prior.

    Raises:
        InputError: the prior does not fit, or is needed and there is none.
    """
    sequences = config.sequences or cohort.sequences
    unknown = [name for name in sequences if name not in cohort.sequences]
    if unknown:
        raise InputError(
            f"unknown sequence name '{unknown[0]}'", remedy=near_misses(unknown[0], cohort.sequences)
        )
    units = STANDARDISATIONS[config.standardise]
    classes, prior = prior_for(sequences, cohort.classes, prior_file, units, asked=config.classes)
    if prior is None and (config.mean_regulariser > 0 or config.prior_strength > 0):
        remedy = "train without one: --preset deepsvg --set mean_regulariser=0"
        raise no_prior(f"the preset '{config.preset}'", classes, sequences, remedy, cohort.path)
    require_sequences(config.order_by, sequences)
    return config.model_copy(update={"sequences": sequences, "classes": classes}), prior


def check_same_prior(run: RunFolder, config: RunConfig, population: PopulationPrior | None) -> None:
    """Raise InputError where a training would go on with another prior than it began with."""
    units = STANDARDISATIONS[config.standardise]
    begun = load_prior(run.prior, units).to_dict() if run.prior.exists() else None
    if begun != (None if population is None else json.loads(json.dumps(population.to_dict()))):
        raise InputError(
            "the population prior differs from that of the training to resume",
            file=run.prior,
            remedy="resume with the same --prior (or none), or train into another folder",
        )


def chosen_hardware(options: TrainOptions) -> Hardware:
    """Return what to train on; raises InputError where one device is named beside several."""
    device, devices = options.device, options.devices
    if options.accelerator is None and devices is None and options.num_nodes is None:
        return single_device(select_device(device or "auto"), options.precision, asked_for=device is not None)
    if device is not None:
        raise InputError(
            "--device names one device, --accelerator, --devices and --num-nodes name several",
            got=f"--device {device} beside one of them",
            remedy="leave out --device",
        )
    devices = None if devices is None else str(devices)
    return several_devices(options.accelerator, devices, options.num_nodes, options.precision)


def check_loading(cache: str, num_workers: int) -> None:
    """Raise InputError where studies cannot be kept and loaded in this way."""
    if cache not in get_args(Cache):
        raise InputError(f"unknown cache '{cache}'", remedy=near_misses(cache, get_args(Cache)))
    if num_workers < 0:
        raise InputError("the number of workers is negative", got=f"--num-workers {num_workers}")
    if num_workers > 0 and cache == "memory":
        raise InputError(
            "worker processes load slices from the disk, and the studies are kept in memory",
            got=f"--num-workers {num_workers}",
            remedy="add --cache disk, or leave out --num-workers",
        )
