"""`mrigmm train`: learn a deep GMM from a cohort, without labels."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch
from torch import nn

from mrigmm.config import DEFAULT_PRESET, RunConfig, load_config, make_config
from mrigmm.data.crops import median_spacing_mm, network_view
from mrigmm.data.files import require_new_folder
from mrigmm.data.manifest import Manifest, read_manifest
from mrigmm.data.priors import default_multiscale_prior, prior_for
from mrigmm.data.run_folder import RunFolder, RunRecord
from mrigmm.data.study import StudyTensors, load_study
from mrigmm.errors import InputError, Problem, near_misses
from mrigmm.jobs.common import (
    Outcome,
    Track,
    no_progress,
    run_corrections,
    select_device,
    versions,
    warnings_of,
)
from mrigmm.methods.deep_gem import build_spatial_prior, starting_method, wall_view
from mrigmm.methods.deep_gmm import DeepGMMMethod, build_network, component_order
from mrigmm.methods.map_em_2step import MapEM2Step
from mrigmm.mixture import PopulationPrior
from mrigmm.networks.deep_gmm import DeepGMM
from mrigmm.training.batches import TrainingStudy
from mrigmm.training.fit import fit, training_study
from mrigmm.training.gem_module import DeepGEMModule
from mrigmm.training.module import DeepGMMModule, EpochModule


def train(
    manifest: Path | str,
    out: Path | str,
    *,
    preset: str | None = None,
    overrides: Sequence[str] = (),
    data_root: Path | str | None = None,
    prior: Path | str | None = None,
    device: str = "auto",
    register: bool = False,
    bias_correct: bool = False,
    resume: bool = False,
    progress: bool = False,
    track: Track = no_progress,
) -> Outcome:
    """Train on the "training" split of a manifest; reference labels are not read.

    Example:
        >>> mrigmm.train("cohort/manifest.json", "runs/first", preset="tiny")  # doctest: +SKIP

    Args:
        manifest: the cohort.
        out: run folder to write.
        preset: name of a preset (`mrigmm info`); default "default".
        overrides: `key=value` changes to it.
        data_root: folder that the manifest's paths resolve against; default the manifest's.
        prior: population prior; default the shipped one where it fits.
        device: "auto", "cpu", "cuda" or "cuda:N".
        register: register the sequences to the reference sequence; recorded as `registration=true`.
        bias_correct: remove the bias field first; recorded as `bias_correction=true`.
        resume: continue an interrupted training from its last epoch.
        progress: show the training's progress bar.
        track: progress bar for reading the studies.

    Returns:
        What was done; studies that could not be read are among its problems.

    Raises:
        InputError: when training is not possible.
    """
    cohort = read_manifest(Path(manifest), None if data_root is None else Path(data_root))
    run = RunFolder(Path(out))
    steps = {"registration=true": register, "bias_correction=true": bias_correct}
    config = _config(run, preset, [*overrides, *(step for step, asked in steps.items() if asked)], resume)
    if resume and run.record.exists():
        return Outcome(run.path, run.read()[1].training_studies)
    if not resume:
        require_new_folder(
            run.path, holds="config.yaml", instead="continue an interrupted training with --resume"
        )
    config, population = _resolve(config, cohort, None if prior is None else Path(prior))
    torch_device = select_device(device)

    studies, problems = _load(cohort, config, track)
    config = config.model_copy(update={"spacing_mm": config.spacing_mm or median_spacing_mm([*studies])})
    multiscale = None
    if config.objective == "gem" and population is not None and prior is None:
        multiscale = default_multiscale_prior()
    run.write_settings(config, population, multiscale)

    torch.manual_seed(config.seed)
    if config.objective == "gem":
        start = starting_method(config, population, multiscale)
        module, samples, studies, failed = _gem_samples(studies, config, start, track)
        problems += failed
    else:
        module, samples = _gmm_samples(studies, config, population)
    fit(module, samples, config, run, device=torch_device, resume=resume, progress=progress)
    run.load_weights(module.network)
    run.write_record(_record(config, module.network, studies, population))
    return Outcome(run.path, tuple(study.id for study in studies), tuple(problems))


def _gmm_samples(
    studies: Sequence[StudyTensors], config: RunConfig, prior: PopulationPrior | None
) -> tuple[EpochModule, list[TrainingStudy]]:
    """Network and objective of `nll` or `nll_v`, and what they are trained on."""
    assert config.spacing_mm is not None
    network = build_network(config, prior)
    means = None if prior is None else torch.tensor(prior.means, dtype=torch.float32)
    samples = [
        training_study(
            network_view(
                study,
                spacing_mm=config.spacing_mm,
                crop_mm=config.crop_mm,
                divisor=network.unet.divisor,
            ),
            study.present,
        )
        for study in studies
    ]
    return DeepGMMModule(network, config, means), samples


def _gem_samples(
    studies: Sequence[StudyTensors], config: RunConfig, start: MapEM2Step, track: Track
) -> tuple[EpochModule, list[TrainingStudy], list[StudyTensors], list[Problem]]:
    """Network and objective of `gem`, first E-steps to train on, the studies that have one, problems."""
    network = build_spatial_prior(config)
    samples: list[TrainingStudy] = []
    used: list[StudyTensors] = []
    problems: list[Problem] = []
    for study in track(studies, "First E-step"):
        try:
            wall = start.solve(study)
        except InputError as error:
            problems += error.problems
            continue
        used.append(study)
        view = wall_view(study, wall, config, divisor=network.unet.divisor)
        samples.append(training_study(view, study.present))
        problems += warnings_of(study.id, wall.notes)
    if not samples:
        raise InputError.from_problems(problems)
    return DeepGEMModule(network, config), samples, used, problems


def _config(run: RunFolder, preset: str | None, overrides: Sequence[str], resume: bool) -> RunConfig:
    """The configuration asked for; when resuming, the run's own, which the request may not contradict."""
    asked = make_config(preset or DEFAULT_PRESET, overrides)
    if not resume:
        return asked
    saved = load_config(run.config)
    if preset is None and not overrides:
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


def _resolve(
    config: RunConfig, cohort: Manifest, prior_file: Path | None
) -> tuple[RunConfig, PopulationPrior | None]:
    """Fill in sequences and classes from the cohort, and find the population prior."""
    sequences = config.sequences or cohort.sequences
    unknown = [name for name in sequences if name not in cohort.sequences]
    if unknown:
        raise InputError(
            f"unknown sequence name '{unknown[0]}'", remedy=near_misses(unknown[0], cohort.sequences)
        )
    declared = cohort.classes if len(cohort.classes) > 1 else None
    classes, prior = prior_for(sequences, config.classes or declared, prior_file)
    if prior is None and (config.mean_regulariser > 0 or config.prior_strength > 0):
        raise InputError(
            f"the preset '{config.preset}' needs a population prior for these classes and sequences",
            file=cohort.path,
            expected="classes and sequences of the shipped prior, or --prior FILE",
            got=f"{', '.join(classes)} in {', '.join(sequences)}",
            remedy="train without one: --preset deepsvg --set mean_regulariser=0",
        )
    for name in config.order_by or ():
        if name not in sequences:
            raise InputError(f"order_by: unknown sequence '{name}'", remedy=near_misses(name, sequences))
    return config.model_copy(update={"sequences": sequences, "classes": classes}), prior


def _load(cohort: Manifest, config: RunConfig, track: Track) -> tuple[list[StudyTensors], list[Problem]]:
    """Read the training studies; those that cannot be read are left out and reported."""
    assert config.sequences is not None
    assert config.classes is not None
    studies: list[StudyTensors] = []
    problems: list[Problem] = []
    for study in track(cohort.split("training"), "Reading"):
        try:
            tensors = load_study(
                study,
                config.sequences,
                config.classes,
                labels=cohort.labels,
                corrections=run_corrections(config),
            )
        except InputError as error:
            problems += error.problems
            continue
        studies.append(tensors)
        problems += warnings_of(study.id, tensors.warnings)
    if not studies:
        raise InputError.from_problems(problems)
    return studies, problems


def _record(
    config: RunConfig, network: nn.Module, studies: Sequence[StudyTensors], prior: PopulationPrior | None
) -> RunRecord:
    """What prediction needs to know, the order of the components included."""
    assert config.sequences is not None
    assert config.classes is not None
    record = RunRecord(
        classes=config.classes,
        sequences=config.sequences,
        component_order=tuple(range(len(config.classes))),
        training_studies=tuple(study.id for study in studies),
        versions=versions(),
    )
    if prior is not None and (config.mean_regulariser > 0 or config.prior_strength > 0):
        return record  # the prior has tied each component to its class
    assert isinstance(network, DeepGMM)
    complete = [study for study in studies if bool(study.present.all())] or list(studies)
    order = component_order(
        DeepGMMMethod(network, config, record, prior, torch.device("cpu")), complete, prior
    )
    return record.model_copy(update={"component_order": tuple(order)})
