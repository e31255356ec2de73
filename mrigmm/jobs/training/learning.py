"""`mrigmm train` from the pretrained networks on: what all such trainings share, and the run they leave."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from mrigmm.data.files import atomic, require_new_folder, sole_writer, write_text
from mrigmm.data.manifest import Manifest
from mrigmm.data.manifest_file import read_manifest
from mrigmm.data.run_folder import write_tensors
from mrigmm.errors import InputError, Problem
from mrigmm.jobs.common import Outcome, Tell, Track, select_device, versions
from mrigmm.jobs.options import TrainOptions, fields_of, shown
from mrigmm.jobs.pretrain import half_precision
from mrigmm.jobs.training.model_card import write_networks_card
from mrigmm.jobs.training.recalibration import recalibrate
from mrigmm.jobs.training.studies import Entry, training_entries
from mrigmm.methods.study_verdict import of_other_networks
from mrigmm.networks.segmenter import Segmenter
from mrigmm.pretrained.folder import NetworkFile, PretrainedFolder, describe_file
from mrigmm.pretrained.learning import LearningRecord, LearntCohort, read_learning, write_learning
from mrigmm.pretrained.networks import PretrainedNetworks, read_networks
from mrigmm.training.hardware import Hardware, single_device

# Options of `train` that only a deep GMM has.
_OF_DEEP_GMM = (
    *("preset", "config", "prior", "anatomy", "register", "bias_correct", "accelerator", "devices"),
    *("num_nodes", "precision", "cache", "num_workers", "tensorboard"),
)


@dataclass(frozen=True)
class Start:
    """Start of a training: networks and record.

    Attributes:
        networks: those that ship, or of `--from`.
        learning: what they have learnt before.
    """

    networks: PretrainedNetworks
    learning: LearningRecord


@dataclass(frozen=True)
class LearningJob:
    """A training of pretrained networks.

    Attributes:
        cohort: the manifest; others of `--also` have no other sequences.
        entries: studies to learn from.
        folder: the run; working files may stand in it.
        asked: the options.
        start: what it goes on from.
        hardware: where it computes.
        track: progress bar.
        tell: is told the problems of studies as they are found.
    """

    cohort: Manifest
    entries: Sequence[Entry]
    folder: PretrainedFolder
    asked: TrainOptions
    start: Start
    hardware: Hardware
    track: Track
    tell: Tell


@dataclass(frozen=True)
class Learnt:
    """Result of a training.

    Attributes:
        segmenters: the networks of the run; those of the start, where they were kept.
        finder: that finds cavity and wall; None: the segmenters do.
        cohort: what was done, for record and card.
        calibrated_on: simulated studies of each kind that the run's verdicts are calibrated on.
        problems: of the studies.
    """

    segmenters: Sequence[Segmenter]
    finder: Segmenter | None
    cohort: LearntCohort
    calibrated_on: int
    problems: tuple[Problem, ...] = ()


Learner = Callable[[LearningJob], Learnt]


def learn_networks(
    manifest: Path, out: Path, asked: TrainOptions, track: Track, tell: Tell, learner: Learner
) -> Outcome:
    """Let pretrained networks learn from a cohort and write them as a run.

    Args:
        manifest: the cohort.
        out: run folder to write.
        asked: the options.
        track: progress bar.
        tell: is given the problems of studies before the training.
        learner: how they learn.

    Raises:
        InputError: when training is not possible.
    """
    _refuse_other_options(asked)
    cohort = read_manifest(manifest, asked.data_root)
    entries = training_entries(cohort, asked.also)
    start = read_start(asked.from_run, asked.device or "auto")
    precision = start.networks.config.precision
    hardware = single_device(start.networks.device, precision, asked_for=asked.device is not None)
    folder = PretrainedFolder(out)
    with sole_writer(out):
        if asked.resume and folder.record.exists():
            last = read_learning(folder).cohorts[-1]
            return Outcome(out, last.studies)
        if not asked.resume:
            require_new_folder(out, holds="config.yaml", instead="keep a finished run with --resume")
        job = LearningJob(cohort, entries, folder, asked, start, hardware, track, tell)
        learnt = learner(job)
        write_run(folder, job, learnt)
    return Outcome(out, learnt.cohort.studies, learnt.problems)


def read_start(run: Path | None, device: str) -> Start:
    """The networks of a run, or those that ship; raises InputError where they cannot be read."""
    if run is not None and not PretrainedFolder(run).begun:
        raise InputError(
            "this is no run of pretrained networks",
            file=run,
            expected="a folder that mrigmm pretrain, or train without --preset, wrote",
            remedy="leave out --from to start from the networks that ship",
        )
    networks = read_networks(None if run is None else PretrainedFolder(run), select_device(device))
    return Start(networks, read_learning(networks.source))


def write_run(folder: PretrainedFolder, job: LearningJob, learnt: Learnt) -> None:
    """Write networks, record and card, and calibrate verdicts; `networks.json` says that the run is whole."""
    start, before = job.start, job.start.networks
    write_text(folder.config, before.source.config.read_text(encoding="utf-8"))
    with atomic(folder.locator) as temporary:
        temporary.write_bytes(before.source.locator.read_bytes())
    files = tuple(
        _written(folder.segmenter(number), segmenter) for number, segmenter in enumerate(learnt.segmenters)
    )
    finder = None if learnt.finder is None else _written(folder.finder, learnt.finder)
    record = before.record.model_copy(update={"segmenters": files, "finder": finder})
    same = [f.sha256 for f in record.files] == [f.sha256 for f in before.record.files]
    if before.calibration is not None:
        calibration = before.calibration if same else of_other_networks(before.calibration)
        write_text(folder.calibration, json.dumps(calibration, indent=1) + "\n")
    cohorts = (*start.learning.cohorts, learnt.cohort.model_copy(update={"versions": versions()}))
    write_learning(folder, LearningRecord(start=start.learning.start, cohorts=cohorts))
    folder.write_record(record)
    write_networks_card(folder)
    if before.calibration is not None and learnt.calibrated_on and not same:
        device = str(before.device)
        recalibrate(folder, before.calibration, learnt.calibrated_on, device=device, track=job.track)
        write_networks_card(folder)


def _written(file: Path, network: Segmenter) -> NetworkFile:
    write_tensors(file, half_precision(network.cpu()))
    return describe_file(file, sum(p.numel() for p in network.parameters()))


def cohort_name(entries: Iterable[Entry]) -> str:
    """Names of the manifests that studies stand in."""
    return ", ".join(dict.fromkeys(entry.cohort or "not named" for entry in entries))


def _refuse_other_options(asked: TrainOptions) -> None:
    """Raise InputError for options that only the training of a deep GMM has."""
    fields = fields_of(TrainOptions)
    given = [name for name in _OF_DEEP_GMM if getattr(asked, name) != fields[name].default]
    if given:
        flags = [shown(fields[name]).flag or f"--{name.replace('_', '-')}" for name in given]
        raise InputError(
            "a training from the pretrained networks on does not have these options",
            got=", ".join(flags),
            remedy="leave them out, or train a deep GMM: --preset, without --labels and --from",
        )
    if asked.seeds is not None and asked.seeds < 1:
        raise InputError(
            "no network would be trained", expected="--seeds of 1 or more", got=f"--seeds {asked.seeds}"
        )
    if not asked.labels and asked.folds is not None:
        raise InputError("folds are scored on labels", got="--folds without --labels", remedy="add --labels")
