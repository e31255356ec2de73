"""`mrigmm train-anatomy`: learn where cavity and wall are, from few labelled and many unlabelled studies."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from mrigmm.config_anatomy import AnatomyConfig, load_anatomy_config, make_anatomy_config
from mrigmm.data.files import atomic, require_new_folder, sole_writer, write_text
from mrigmm.data.manifest import Manifest
from mrigmm.data.manifest_file import read_manifest
from mrigmm.data.run_folder import AnatomyRecord, RunFolder, read_anatomy_run, read_log
from mrigmm.data.study import read_sequences
from mrigmm.data.whole import anatomy_channels, known_anatomy, load_whole, middle_view
from mrigmm.errors import InputError, Problem, near_misses
from mrigmm.jobs.common import Outcome, Tell, Track, no_progress, select_device, tell_nothing, versions
from mrigmm.jobs.training.model_card import write_anatomy_card
from mrigmm.methods.anatomy import AnatomyFinder, build_anatomy_net, slice_quality
from mrigmm.reporting.figures import loss_figure
from mrigmm.settings_yaml import Overrides, dump_config
from mrigmm.training.anatomy_module import AnatomyModule, AnatomySlices, fit_anatomy
from mrigmm.training.hardware import DEFAULT_PRECISION, single_device

# Of the training slices: what lies below their 5th percentile is flagged in new studies.
_FLAGGED_SHARE = 0.05


@dataclass(frozen=True)
class TrainedAnatomy(Outcome):
    """A trained anatomy stage.

    Attributes:
        labelled: ids of the studies, among `done`, whose anatomy was used.
    """

    labelled: tuple[str, ...] = ()


@dataclass(frozen=True)
class _Slices:
    """A study's slices (Z, C, A, A), and where its anatomy is known (Z, 3, A, A)."""

    id: str
    patient: str
    image: Tensor
    anatomy: Tensor | None


def train_anatomy(
    manifest: Path | str,
    out: Path | str,
    *,
    labelled: int | None = None,
    overrides: Overrides = (),
    data_root: Path | str | None = None,
    device: str = "auto",
    resume: bool = False,
    track: Track = no_progress,
    tell: Tell = tell_nothing,
) -> TrainedAnatomy:
    """Train on the "training" split of a manifest.

    The anatomy is taken from reference labels with blood, or from region maps of cavity and wall.

    Examples:
        >>> mrigmm.train_anatomy("cohort/manifest.json", "runs/anatomy", labelled=2)  # doctest: +SKIP

    Args:
        manifest: the cohort; region maps may be absent.
        out: run folder to write.
        labelled: number of patients whose anatomy is used, drawn by the seed; default all that have one.
            All others count as unlabelled.
        overrides: changes of the configuration: `key=value` texts, or values by key.
        data_root: folder that the manifest's paths resolve against; default the manifest's.
        device: "auto", "cpu", "cuda" or "cuda:N".
        resume: continue an interrupted training from its last completed epoch.
        track: progress bar of studies and epochs.
        tell: is given the problems of studies before the first epoch.

    Returns:
        What was done; studies that could not be read are among its problems.

    Raises:
        InputError: when training is not possible.
    """
    if labelled is not None and labelled < 1:
        raise InputError("training needs at least one labelled patient", got=f"--labelled {labelled}")
    cohort = read_manifest(manifest, data_root)
    run = RunFolder(Path(out))
    config = _config(run, overrides, cohort, resume=resume)
    with sole_writer(run.path):
        if resume and run.record.exists():
            if not run.model_card.exists():  # it is written after the record
                write_anatomy_card(run)
            before = read_anatomy_run(run)[1]
            return TrainedAnatomy(
                run.path,
                (*before.labelled_studies, *before.unlabelled_studies),
                labelled=before.labelled_studies,
            )
        if not resume:
            require_new_folder(
                run.path, holds="config.yaml", instead="continue an interrupted training with --resume"
            )
        torch.manual_seed(config.seed)
        network = build_anatomy_net(config)
        studies, problems = _read(cohort, config, network.unet.divisor, track)
        tell(problems)
        with_label, without = _drawn(studies, labelled, config.seed, cohort.path)
        write_text(run.config, dump_config(config))
        slices = AnatomySlices(
            torch.cat([s.image for s in with_label]),
            torch.cat([s.anatomy for s in with_label if s.anatomy is not None]),
            torch.cat([s.image for s in studies]),  # the images of the labelled too
        )
        module = AnatomyModule(network, config, slices)
        hardware = single_device(select_device(device), DEFAULT_PRECISION, asked_for=device != "auto")
        try:
            fit_anatomy(module, config, run, hardware, resume=resume, track=track)
        finally:
            if run.log.exists():
                with atomic(run.loss_figure) as temporary:
                    temporary.write_bytes(loss_figure(read_log(run.log)))
        run.load_weights(network)
        finder = AnatomyFinder(network, config, -np.inf, torch.device("cpu"))
        record = AnatomyRecord(
            sequences=config.sequences or (),
            labelled_studies=tuple(s.id for s in with_label),
            unlabelled_studies=tuple(s.id for s in without),
            lowest_quality=_lowest_quality(finder, slices.unlabelled),
            versions=versions(),
        )
        run.write_record(record)
        write_anatomy_card(run)
        return TrainedAnatomy(
            run.path, tuple(s.id for s in studies), tuple(problems), labelled=record.labelled_studies
        )


def _config(run: RunFolder, overrides: Overrides, cohort: Manifest, *, resume: bool) -> AnatomyConfig:
    """Return the configuration that is asked for; when resuming, the run's own, not contradicted."""
    asked = make_anatomy_config(overrides)
    sequences = asked.sequences or cohort.sequences
    for name in sequences:
        if name not in cohort.sequences:
            raise InputError(f"unknown sequence name '{name}'", remedy=near_misses(name, cohort.sequences))
    asked = asked.model_copy(update={"sequences": sequences})
    if not resume:
        return asked
    saved = load_anatomy_config(run.config)
    if overrides and saved != asked:
        raise InputError(
            "the configuration differs from that of the training to resume",
            file=run.config,
            remedy="resume with the same options (or none), or train into another folder",
        )
    return saved


def _read(
    cohort: Manifest, config: AnatomyConfig, divisor: int, track: Track
) -> tuple[list[_Slices], list[Problem]]:
    """All training studies that can be read, as the network sees them; raises when none can."""
    assert config.sequences is not None
    studies: list[_Slices] = []
    problems: list[Problem] = []
    for study in track(cohort.split("training"), "Reading"):
        try:
            images = read_sequences(study, config.sequences, cohort.labels)
            whole = load_whole(study, config.sequences, cohort.labels, images=images)
            codes = known_anatomy(study, cohort.labels, images)
        except InputError as error:
            problems += error.problems
            continue
        image = whole.image
        if codes is not None:
            image = torch.cat([image, anatomy_channels(whole, codes)])
        view = middle_view(
            replace(whole, image=image), spacing_mm=config.spacing_mm, view_mm=config.view_mm, divisor=divisor
        )
        slices = view.image.float().movedim(-1, 0).contiguous()  # (Z, C [+ 3], A, A)
        n = len(config.sequences)
        anatomy = None if codes is None else slices[:, n:]
        studies.append(_Slices(study.id, study.patient or study.id, slices[:, :n].contiguous(), anatomy))
    if not studies:
        raise InputError.from_problems(problems)
    return studies, problems


def _drawn(
    studies: Sequence[_Slices], n_patients: int | None, seed: int, manifest: Path
) -> tuple[list[_Slices], list[_Slices]]:
    """The studies whose anatomy is used, and the others; whole patients are drawn."""
    patients = list(dict.fromkeys(s.patient for s in studies if s.anatomy is not None))
    wanted = len(patients) if n_patients is None else n_patients
    if not patients or wanted > len(patients):
        raise InputError(
            "there are not enough labelled patients",
            file=manifest,
            expected=f"{max(wanted, 1)} with a reference label of blood and wall, "
            "or a region map of cavity and wall",
            got=str(len(patients)),
            remedy="name labels in the manifest, or ask for fewer with --labelled",
        )
    chosen = set(random.Random(seed).sample(patients, wanted))
    used = [s for s in studies if s.anatomy is not None and s.patient in chosen]
    ids = {s.id for s in used}
    return used, [s for s in studies if s.id not in ids]


@torch.inference_mode()
def _lowest_quality(finder: AnatomyFinder, image: Tensor) -> float:
    """The 5th percentile of the slices' quality over the training (M, C, A, A)."""
    spacing = finder.config.spacing_mm
    quality = [float(slice_quality(finder.network.features(x[None]), spacing)[0]) for x in image]
    known = np.array(quality)[~np.isnan(quality)]
    if not len(known):
        raise InputError(
            "the network finds no ventricle in its own training studies",
            remedy="train longer (--set epochs=40), or on more labelled studies",
        )
    return float(np.quantile(known, _FLAGGED_SHARE))
