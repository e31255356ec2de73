"""Segmenter of `mrigmm predict`: a method by name or a trained run, and how it reads its studies."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import torch

from mrigmm.data.manifest import Manifest, Study
from mrigmm.data.priors.choice import sequence_remedy
from mrigmm.data.priors.prior_file import load_prior
from mrigmm.data.priors.shipped import default_prior
from mrigmm.data.run_folder import RunFolder
from mrigmm.data.study import Corrections
from mrigmm.data.study_tensors import StudyTensors
from mrigmm.errors import InputError, Problem, memory_checked, near_misses, told
from mrigmm.jobs.common import Track, cohort_task, no_progress, region_finder, run_corrections, select_device
from mrigmm.jobs.options import SegmentOptions
from mrigmm.jobs.processes import ALONE, Processes
from mrigmm.methods.anatomy import Finder, load_found
from mrigmm.methods.base import CohortMethod, Method, Segmentation, SharedCohortMethod
from mrigmm.methods.mvo import with_mvo
from mrigmm.methods.registry import (
    DEFAULT_METHOD,
    METHODS,
    NETWORKS_METHOD,
    RUNTIMES,
    make_method,
    method_of_run,
)
from mrigmm.mixture import PopulationPrior
from mrigmm.mixture.threads import one_thread
from mrigmm.pretrained.folder import PretrainedFolder


@dataclass(frozen=True)
class Segmenter:
    """A method and how the studies are read for it.

    Attributes:
        method: what segments.
        classes: K class names.
        sequences: C sequence names, the channels of every study.
        prior: the population prior that the method uses, or None.
        labels: class name -> ids in the reference label files, for regions that are derived from them.
        corrections: optional steps of reading.
        finder: finds the ventricle of studies without a region map; None: they are refused.
        mvo: look for microvascular obstruction afterwards, where LGE and the wall are known.
        uses_scribbles: whether the method takes a user's scribbles.
        run: folder of the trained run of a deep GMM; None for a method by name, or for networks, which
            name themselves among its settings.
    """

    method: Method
    classes: tuple[str, ...]
    sequences: tuple[str, ...]
    prior: PopulationPrior | None
    labels: Mapping[str, Sequence[int]]
    corrections: Corrections
    finder: Finder | None = None
    mvo: bool = True
    uses_scribbles: bool = False
    run: Path | None = None

    def read(self, study: Study, *, registration: bool = True) -> StudyTensors:
        """A study's tensors, where asked for without its registration; raises InputError."""
        corrections = self.corrections
        if not registration:
            corrections = replace(corrections, registration=False)
        with _unforeseen("read", study.id, next(iter(study.images.values()), None)), one_thread():
            tensors = load_found(
                study,
                self.sequences,
                self.classes,
                self.finder,
                labels=self.labels,
                corrections=corrections,
                with_scribbles=self.uses_scribbles,
            )
        if study.scribbles is None or self.uses_scribbles:
            return tensors
        unused = f"{self.method.name} does not use scribbles: they were not read"
        return replace(tensors, findings=(*tensors.findings, *told([unused], "warning", study.id)))

    def fit_cohort(
        self, studies: Sequence[Study], track: Track = no_progress, processes: Processes = ALONE
    ) -> None:
        """Let a method that learns from the whole cohort see it; does nothing for all others.

        Args:
            studies: the whole cohort.
            track: progress bar.
            processes: those that share the job; a method that can learns from shares of the studies.

        Raises:
            InputError: no study can be read.
        """
        if not isinstance(self.method, CohortMethod) or not self.method.wants_cohort:
            return
        learning = "Learning from the cohort"

        def readable() -> Iterator[StudyTensors]:
            problems: list[Problem] = []
            some = False
            for study in track(studies, learning):
                try:
                    tensors = self.read(study)
                except InputError as error:  # told again when the study itself is due
                    problems += error.problems
                    continue
                some = True
                yield tensors
            if not some:
                raise InputError.from_problems(problems)

        def shared() -> Iterator[tuple[int, StudyTensors]]:
            for position, study in track(processes.summands(studies), learning):
                try:
                    tensors = self.read(study)
                except InputError:  # told when the study itself is due
                    continue
                yield position, tensors

        if isinstance(self.method, SharedCohortMethod):
            with one_thread():
                self.method.fit_shared(shared(), processes.add_up)
        else:
            self.method.fit_cohort(readable)

    def segment(self, study: StudyTensors) -> Segmentation:
        """Segment; raises InputError."""
        with _unforeseen("segmented", study.id, study.output.file), one_thread():
            found = self.method.segment(study)
            return with_mvo(study, found, self.classes) if self.mvo else replace(found, mvo=None)


@contextmanager
def _unforeseen(done: str, study: str, file: Path | None) -> Iterator[None]:
    """An error that nobody foresaw must not stop a cohort, and is named as what it is."""
    try:
        with memory_checked():
            yield
    except InputError as error:
        raise InputError.from_problems(replace(p, study=study) for p in error.problems) from None
    except OSError as error:
        raise InputError(
            f"the study could not be {done}: a file or folder cannot be used",
            study=study,
            file=error.filename or file,
            got=error.strerror or str(error),
            remedy="make room, or get the permission to use it",
        ) from None
    except Exception as error:
        raise InputError(
            f"the study could not be {done}: unexpected error",
            study=study,
            file=file,
            got=f"{type(error).__name__}: {error}",
            remedy="please report it, with the header of the file",
        ) from error


def choose_segmenter(cohort: Manifest, options: SegmentOptions) -> Segmenter:
    """Return the segmenter that the user asked for; a run's own corrections are always made.

    Raises:
        InputError: neither or both of run and method, or what they need is missing.
    """
    problems = options.contradictions()
    if problems:
        raise InputError.from_problems(problems)
    if options.run is not None and PretrainedFolder(options.run).begun:
        chosen = _by_name(cohort, NETWORKS_METHOD, _with_networks(options, options.run))
    elif options.run is not None:
        chosen = _trained(cohort, options.run, options)
    else:
        chosen = _by_name(cohort, options.method or DEFAULT_METHOD, options)
    return replace(chosen, mvo=options.mvo)


def _with_networks(options: SegmentOptions, run: Path) -> SegmentOptions:
    """The options for the method of the pretrained networks with those of a run."""
    if "networks" in options.overrides:
        raise InputError("the networks are those of the run", remedy="leave out --run or --set networks")
    return replace(options, overrides={**options.overrides, "networks": str(run)})


def class_notes(cohort: Manifest, classes: Sequence[str]) -> list[Problem]:
    """Return where the segmented classes are others than those that the reference labels tell apart."""
    declared = cohort.classes
    if not set(declared) & set(classes):
        return []
    notes = []
    more = [name for name in classes if name not in declared]
    fewer = [name for name in declared if name not in classes]
    if more:
        named = ", ".join(more)
        notes.append(
            f"segmented is {named}, too, which the labels of the manifest do not name: in evaluate it counts "
            "as what they have in its place; --classes restricts a method"
        )
    if fewer:
        notes.append(f"no {' and no '.join(fewer)} among the segmented classes: {', '.join(classes)}")
    return [Problem(text, file=str(cohort.path), severity="note") for text in notes]


def not_given(segmenter: Segmenter, prior: Path | None) -> list[str]:
    """Return notes on sequences of the prior that a single study was not given; a run knows its own."""
    if segmenter.run is not None or segmenter.prior is None:
        return []
    expected = default_prior() if prior is None else load_prior(prior)
    return [f"no {name}" for name in expected.sequences if name not in segmenter.sequences]


def _by_name(cohort: Manifest, method: str, options: SegmentOptions) -> Segmenter:
    if options.runtime != "torch":
        raise InputError("--runtime belongs to a trained run, not to a method", got=options.runtime)
    task = cohort_task(cohort, options.prior, options.device, options.classes)
    made = make_method(method, task, options.overrides)
    networks = options.overrides.get("networks")
    return Segmenter(
        made,
        task.classes,
        task.sequences,
        task.prior if METHODS[method].uses_prior else None,
        cohort.labels,
        Corrections(options.bias_correct, options.register),
        region_finder(options.anatomy, options.device, None if networks is None else Path(networks)),
        uses_scribbles=METHODS[method].uses_scribbles,
    )


def _trained(cohort: Manifest, run: Path, options: SegmentOptions) -> Segmenter:
    if options.prior is not None or options.overrides or options.classes is not None:
        raise InputError(
            "a trained run brings its own prior, classes and settings",
            remedy="leave out --prior, --classes and --set",
        )
    folder = RunFolder(run)
    runtime = options.runtime
    trained = method_of_run(folder, _run_device(options.device, runtime), runtime=runtime)
    unknown = [name for name in cohort.sequences if name not in trained.record.sequences]
    if unknown:
        raise InputError.from_problems(
            Problem(
                f"unknown sequence name '{name}'",
                file=str(cohort.path),
                expected=f"one of {', '.join(trained.record.sequences)}, which the run was trained on",
                remedy=sequence_remedy(name, trained.record.sequences),
            )
            for name in unknown
        )
    trained_with = run_corrections(trained.config)
    corrections = Corrections(
        bias_correction=trained_with.bias_correction or options.bias_correct,
        registration=trained_with.registration or options.register,
    )
    return Segmenter(
        trained.method,
        trained.record.classes,
        trained.record.sequences,
        trained.prior,
        cohort.labels,
        corrections,
        region_finder(options.anatomy, "cpu" if runtime == "onnx" else options.device),
        run=folder.path,
    )


def _run_device(device: str, runtime: str) -> torch.device:
    """Where a run's network is computed; ONNX Runtime is used on the CPU only."""
    if runtime not in RUNTIMES:
        raise InputError(f"unknown runtime '{runtime}'", remedy=near_misses(runtime, RUNTIMES))
    if runtime == "torch":
        return select_device(device)
    if device not in ("auto", "cpu"):
        raise InputError(
            "ONNX Runtime predicts on the CPU",
            got=f"device {device}",
            remedy="use --device cpu, or --runtime torch",
        )
    return torch.device("cpu")
