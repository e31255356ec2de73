"""Code that several jobs share: progress, device, versions, the cohort's task."""

from __future__ import annotations

import json
import shlex
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from functools import cache
from html import escape
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch

from mrigmm.config import RunConfig
from mrigmm.data.manifest import Manifest
from mrigmm.data.priors.choice import multiscale_prior_for, prior_for
from mrigmm.data.priors.shipped import default_prior
from mrigmm.data.standardise import CROP_ZSCORE
from mrigmm.data.study import Corrections
from mrigmm.errors import InputError, Problem, counted, grouped, printable
from mrigmm.jobs.shown import ShownTable
from mrigmm.methods.anatomy import Finder, read_anatomy_finder
from mrigmm.methods.base import Task
from mrigmm.methods.network_finder import NetworkFinder
from mrigmm.training.hardware import gpus_text

DISCLAIMER = "Research software. Not for clinical use."
LABELS_SUFFIX = "_labels.nii.gz"
PROBABILITIES_SUFFIX = "_probabilities.nii.gz"
MOTION_SUFFIX = "_motion.png"
REGION_SUFFIX = "_region.nii.gz"
MVO_SUFFIX = "_mvo.nii.gz"
RV_SUFFIX = "_rv.nii.gz"
METRICS_FILE = "metrics.json"
QUANTITIES_FILE = "quantities.json"  # with a CSV table of the same name beside it
INTERVALS_FILE = "quantities_intervals.csv"
DICTIONARY_FILE = "quantities_dictionary.csv"
LONGITUDINAL_FILE = "longitudinal.csv"
REDCAP_FILES = ("redcap_dictionary.csv", "redcap_import.csv")
SEGMENTS_FILE = "segments.csv"
REPORT_FILE = "report.html"
CORRECTED_FILE = "corrected.json"
ORIGINAL_SUFFIX = "_labels_original.nii.gz"
COMPARISON_FILE = "comparison.json"

# Wraps an iterable for a progress bar: (items, description) -> items.
Track = Callable[[Iterable[Any], str], Iterable[Any]]


def no_progress(items: Iterable[Any], description: str) -> Iterable[Any]:
    """A `Track` that shows nothing."""
    return items


# Told what is known of studies while a job goes on, before its outcome holds it.
Tell = Callable[[Iterable[Problem]], None]


def tell_nothing(problems: Iterable[Problem]) -> None:
    """A `Tell` that waits for the outcome."""


MAX_ERRORS = 5  # that are printed in full


@dataclass(frozen=True, repr=False)
class Outcome:
    """Outcome of a job over a cohort. Prints as a summary, in a notebook as a table.

    Attributes:
        output: folder or file that was written.
        done: ids of the studies that were processed.
        problems: what went wrong or should be known, study by study.
        speaks: whether this process tells the user; of several, the first does, for all of them.
    """

    output: Path
    done: tuple[str, ...]
    problems: tuple[Problem, ...] = ()
    speaks: bool = field(default=True, kw_only=True)

    @property
    def failed(self) -> bool:
        """Whether a study could not be processed."""
        return any(problem.severity == "error" for problem in self.problems)

    def tables(self) -> tuple[ShownTable, ...]:
        """The figures that are printed."""
        return ()

    def __repr__(self) -> str:
        return "\n".join([*self._head(), *(table.as_text() for table in self.tables()), *self._errors()])

    def _repr_html_(self) -> str:
        texts = [f"<p>{escape(line)}</p>" for line in self._head()]
        errors = [f"<pre>{escape(error)}</pre>" for error in self._errors()]
        return "".join([*texts, *(table.as_html() for table in self.tables()), *errors])

    def _head(self) -> list[str]:
        counts = [counted(len(self.done), "study", "studies")] if self.done else []
        for severity in ("error", "warning", "note"):
            number = sum(problem.severity == severity for problem in self.problems)
            counts += [f"{counted(number, severity)} (.problems)"] if number else []
        return [f"{type(self).__name__}: {printable(str(self.output))}", *filter(None, [", ".join(counts)])]

    def _errors(self) -> list[str]:
        errors = [f"error: {problem}" for problem in grouped(self.problems) if problem.severity == "error"]
        more = len(errors) - MAX_ERRORS
        return [*errors[:MAX_ERRORS], *([f"... and {counted(more, 'more error')}"] if more > 0 else [])]


@cache
def versions() -> dict[str, str]:
    """Versions of this package and of those that its numbers depend on."""
    names = ("mrigmm", "torch", "monai", "numpy", "scikit-learn", "nibabel")
    return {name: version(name) for name in names}


def written(result: Outcome) -> dict[str, Any]:
    """Return how a job ended, as plain JSON, with the content of the JSON file that it wrote."""
    return {**as_json(result), "result": json.loads(result.output.read_text(encoding="utf-8"))}


def as_json(result: Outcome) -> dict[str, Any]:
    """Return how a job ended, as plain JSON; the keys stay as they are between versions."""
    return {
        "output": str(result.output),
        "studies": list(result.done),
        "problems": [asdict(problem) for problem in result.problems],
    }


def command_line() -> str:
    """Return what started this process, as it would be typed; of a Python session, its script."""
    program = Path(sys.argv[0])
    name = "mrigmm" if program.name == "__main__.py" else program.name
    return shlex.join([name, *sys.argv[1:]])


def select_device(name: str) -> torch.device:
    """A torch device by name; "auto" takes CUDA where there is one.

    Raises:
        InputError: unknown name, or a device that this machine does not have (never a silent fallback).
    """
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
    except RuntimeError:
        raise InputError(f"unknown device '{name}'", remedy="auto, cpu, cuda or cuda:N") from None
    if device.type not in ("cpu", "cuda"):
        raise InputError(f"the device '{name}' is not supported", remedy="auto, cpu, cuda or cuda:N")
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        raise InputError(
            f"the device '{name}' is not there",
            expected="a GPU that torch can use",
            got=gpus_text(),
            remedy="use --device cpu",
        )
    return device


def cohort_task(
    manifest: Manifest, prior_file: Path | None, device: str, asked: Sequence[str] | None = None
) -> Task:
    """Classes, sequences and prior of a cohort; `data.priors.choice.prior_for` says which classes."""
    classes, prior = prior_for(manifest.sequences, manifest.classes, prior_file, asked=asked)
    shipped = prior is not None and prior_file is None
    return Task(
        classes,
        manifest.sequences,
        prior,
        multiscale=multiscale_prior_for(prior, prior_file),
        crop_prior=default_prior(CROP_ZSCORE).select(classes, manifest.sequences) if shipped else None,
        device=select_device(device),
    )


def run_corrections(config: RunConfig) -> Corrections:
    """Return how a run's studies are read."""
    return Corrections(bias_correction=config.bias_correction, registration=config.registration)


def region_finder(anatomy: Path | None, device: str, networks: Path | None = None) -> Finder:
    """Return what finds the ventricle of a study without a region map.

    Args:
        anatomy: folder of `mrigmm train-anatomy`; None: the pretrained networks.
        device: "auto", "cpu", "cuda" or "cuda:N".
        networks: folder of `mrigmm pretrain`; None: those that ship with the package.

    Raises:
        InputError: a device that is not there, or a run that cannot be read.
    """
    chosen = select_device(device)
    if anatomy is None:
        return NetworkFinder(str(chosen), networks)
    return read_anatomy_finder(anatomy, chosen)[0]


def versions_text(numbers: Mapping[str, str]) -> str:
    """Return versions (`versions`) in one line."""
    return ", ".join(f"{name} {number}" for name, number in numbers.items())
