"""`mrigmm train`: go on from the pretrained networks, or learn a deep GMM from a cohort without labels."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Unpack

import torch
from torch import nn

from mrigmm.config import RunConfig
from mrigmm.config_learning import AdaptConfig, LabelsConfig
from mrigmm.data.crops import median_spacing_mm
from mrigmm.data.files import atomic, require_new_folder, sole_writer
from mrigmm.data.manifest_file import read_manifest
from mrigmm.data.priors.choice import multiscale_prior_for
from mrigmm.data.run_folder import RunFolder, RunRecord, read_log
from mrigmm.data.study_tensors import StudyTensors
from mrigmm.errors import InputError, Problem, told
from mrigmm.jobs.common import Outcome, Tell, Track, no_progress, region_finder, tell_nothing, versions
from mrigmm.jobs.options import TrainKeywords, TrainOptions, read_options, takes
from mrigmm.jobs.training.adapt import adapt
from mrigmm.jobs.training.labels import learn_labels
from mrigmm.jobs.training.learning import learn_networks
from mrigmm.jobs.training.model_card import write_model_card
from mrigmm.jobs.training.settings import (
    check_loading,
    check_same_prior,
    chosen_hardware,
    resolved,
    run_config,
)
from mrigmm.jobs.training.studies import Entry, StudyReader, draw_held_out, read_all, training_entries
from mrigmm.methods.deep_gem import build_spatial_prior, starting_method, wall_view
from mrigmm.methods.deep_gmm import DeepGMMMethod, build_network, component_order, run_input
from mrigmm.methods.map_em_2step import MapEM2Step
from mrigmm.methods.needs import intensity_doubts
from mrigmm.mixture import PopulationPrior
from mrigmm.mixture.threads import one_thread
from mrigmm.networks.deep_gmm import DeepGMM
from mrigmm.pretrained.folder import PretrainedFolder
from mrigmm.reporting.figures import loss_figure
from mrigmm.settings_yaml import validated
from mrigmm.training.batches import TrainingStudy
from mrigmm.training.cache import StudyStore, study_store
from mrigmm.training.fit import fit, make_trainer, training_study
from mrigmm.training.gem_module import DeepGEMModule
from mrigmm.training.hardware import Hardware
from mrigmm.training.module import DeepGMMModule, EpochModule

# What a network sees of a study, and notes about how it was made.
Prepare = Callable[[StudyTensors], tuple[TrainingStudy, Sequence[str]]]


@takes(TrainOptions, TrainKeywords)
def train(
    manifest: Path | str,
    out: Path | str,
    *,
    track: Track = no_progress,
    tell: Tell = tell_nothing,
    **options: Unpack[TrainKeywords],
) -> Outcome:
    """Train on the "training" split of a manifest; reference labels are only read with `labels`.

    Without labels, and without a preset or settings, the networks that ship are adapted to the cohort.

    Examples:
        >>> mrigmm.train("cohort/manifest.json", "runs/first", preset="tiny")  # doctest: +SKIP

    Args:
        manifest: the cohort.
        out: run folder to write.
        track: progress bar of studies and epochs.
        tell: is given the problems of studies before the first epoch.
        **options: the fields of `TrainOptions`, by name.

    Returns:
        What was done; studies that could not be read are among its problems.

    Raises:
        InputError: when training is not possible.
    """
    asked = read_options(TrainOptions, options)
    if asked.labels or asked.from_run is not None or _adapts(Path(out), asked):
        # Before anything is written.
        validated(LabelsConfig if asked.labels else AdaptConfig, asked.overrides, source="--set")
        learner = learn_labels if asked.labels else adapt
        return learn_networks(Path(manifest), Path(out), asked, track, tell, learner)
    return _learn_deep_gmm(Path(manifest), Path(out), asked, track, tell)


def _adapts(out: Path, asked: TrainOptions) -> bool:
    """Whether nothing asks for a deep GMM: no preset, none of its settings, no run of one to go on with."""
    if asked.preset is not None or asked.config is not None:
        return False
    if asked.overrides:
        return not set(asked.overrides) <= set(RunConfig.model_fields) and set(asked.overrides) <= set(
            AdaptConfig.model_fields
        )
    # An interrupted adaptation left nothing but its logs.
    interrupted = any(out.glob("logs/segmenter_*.csv"))
    return not asked.resume or PretrainedFolder(out).begun or interrupted


def _learn_deep_gmm(manifest: Path, out: Path, asked: TrainOptions, track: Track, tell: Tell) -> Outcome:
    """Learn a deep GMM of a preset or configuration."""
    cohort = read_manifest(manifest, asked.data_root)
    entries = training_entries(cohort, asked.also)
    run = RunFolder(out)
    settings = run_config(run, asked)
    check_loading(asked.cache, asked.num_workers)
    hardware = chosen_hardware(asked)
    trainer = make_trainer(settings, run, hardware, track=track, tensorboard=asked.tensorboard)
    first: bool = trainer.is_global_zero  # of the processes: the one that writes and speaks
    with ExitStack() as held:
        if first:
            held.enter_context(sole_writer(run.path))
        if asked.resume and run.record.exists():
            if first and not run.model_card.exists():  # it is written after the record
                write_model_card(run)
            return Outcome(run.path, run.read()[1].training_studies, speaks=first)
        if first and not asked.resume:
            require_new_folder(
                run.path, holds="config.yaml", instead="continue an interrupted training with --resume"
            )
        settings, population = resolved(settings, cohort, asked.prior)
        if asked.resume:
            check_same_prior(run, settings, population)
        track = track if first else no_progress

        finder = region_finder(asked.anatomy, "cpu")
        read = StudyReader(settings, keep=asked.cache == "memory", finder=finder)
        readable = read_all(entries, read, track)
        tell = tell if first else tell_nothing
        tell(readable.problems)
        settings = settings.model_copy(
            update={"spacing_mm": settings.spacing_mm or median_spacing_mm(readable.spacings_mm)}
        )
        chosen, held_out = draw_held_out(readable.entries, settings)
        multiscale = multiscale_prior_for(population, asked.prior) if settings.objective == "gem" else None
        if first:
            run.write_settings(settings, population, multiscale)

        torch.manual_seed(settings.seed)
        if settings.objective == "gem":
            module, prepare = _gem(settings, starting_method(settings, population, multiscale))
        else:
            module, prepare = _gmm(settings, population)
        folder = run.cache / str(trainer.global_rank)
        with (
            study_store(asked.cache, folder / "training") as samples,
            study_store(asked.cache, folder / "held_out") as watched,
        ):
            chosen, problems = _fill(samples, chosen, read, prepare, track)
            held_out, more = _fill(watched, held_out, read, prepare, track)
            tell([*problems, *more])
            complete = [
                entry for entry, study in zip(chosen, samples, strict=True) if bool(study.present.all())
            ]
            try:
                fit(
                    trainer,
                    module,
                    samples,
                    watched,
                    settings,
                    run,
                    resume=asked.resume,
                    num_workers=asked.num_workers,
                )
            finally:
                if first and run.log.exists():
                    with atomic(run.loss_figure) as temporary:
                        temporary.write_bytes(loss_figure(read_log(run.log)))
        used = tuple(entry.study.id for entry in chosen)
        if not first:
            return Outcome(run.path, used, speaks=False)
        run.load_weights(module.network)
        record = _record(run, settings, chosen, held_out, hardware)
        run.write_record(
            _with_order(record, settings, module.network, map(read, complete or chosen), population)
        )
        write_model_card(run)
        return Outcome(run.path, used, (*readable.problems, *problems, *more))


def _gmm(config: RunConfig, prior: PopulationPrior | None) -> tuple[EpochModule, Prepare]:
    """Network and objective of `nll` or `nll_v`, and how studies are prepared for it."""
    network = build_network(config, prior)
    means = None if prior is None else torch.tensor(prior.means, dtype=torch.float32)

    def prepare(study: StudyTensors) -> tuple[TrainingStudy, Sequence[str]]:
        view = run_input(study, config, network.unet.divisor)[1]
        return training_study(study.id, view, study.present), intensity_doubts(study, config.classes or ())

    return DeepGMMModule(network, config, means), prepare


def _gem(config: RunConfig, start: MapEM2Step) -> tuple[EpochModule, Prepare]:
    """Network and objective of `gem`, and the first E-step, whose posteriors it is trained on."""
    network = build_spatial_prior(config)

    def prepare(study: StudyTensors) -> tuple[TrainingStudy, Sequence[str]]:
        wall = start.solve(study)
        view = wall_view(study, wall, config, divisor=network.unet.divisor)
        notes = (*intensity_doubts(study, config.classes or ()), *wall.notes)
        return training_study(study.id, view, study.present), notes

    return DeepGEMModule(network, config), prepare


@one_thread()
def _fill(
    store: StudyStore, entries: Sequence[Entry], read: StudyReader, prepare: Prepare, track: Track
) -> tuple[list[Entry], list[Problem]]:
    """Prepare studies into a store; those for which it fails are left out and reported.

    Raises:
        InputError: when none of several is left.
    """
    used: list[Entry] = []
    problems: list[Problem] = []
    for entry in track(entries, "Preparing"):
        try:
            study, notes = prepare(read(entry))
        except InputError as error:
            problems += error.problems
            continue
        store.append(study)
        used.append(entry)
        problems += told(notes, "warning", entry.study.id)
    if entries and not used:
        raise InputError.from_problems(problems)
    return used, problems


def _record(
    run: RunFolder, config: RunConfig, chosen: Sequence[Entry], held_out: Sequence[Entry], hardware: Hardware
) -> RunRecord:
    """Return what the run's weights were trained on, in the order of the network's components."""
    return RunRecord(
        classes=config.classes or (),
        sequences=config.sequences or (),
        component_order=tuple(range(len(config.classes or ()))),
        training_studies=tuple(entry.study.id for entry in chosen),
        held_out_studies=tuple(entry.study.id for entry in held_out),
        cohorts=tuple(dict.fromkeys(entry.cohort for entry in (*chosen, *held_out))),
        hardware=hardware.describe(),
        versions=versions(),
        weights_sha256=run.weights_sha256(),
    )


def _with_order(
    record: RunRecord,
    config: RunConfig,
    network: nn.Module,
    studies: Iterable[StudyTensors],
    prior: PopulationPrior | None,
) -> RunRecord:
    """The record with the network's components in the order of the classes."""
    if prior is not None and (config.mean_regulariser > 0 or config.prior_strength > 0):
        return record  # the prior has tied each component to its class
    assert isinstance(network, DeepGMM)
    method = DeepGMMMethod(network, config, record, prior, torch.device("cpu"))
    order = component_order(method, studies, prior)
    return record.model_copy(update={"component_order": tuple(order)})
