"""Infarct and edema maps from cardiac MR without pixel labels.

The commands of `mrigmm` as functions, with the same names and arguments:

    >>> import mrigmm
    >>> mrigmm.train("cohort/manifest.json", "runs/first")  # doctest: +SKIP
    >>> mrigmm.predict("cohort/manifest.json", "predictions", run="runs/first")  # doctest: +SKIP
    >>> mrigmm.evaluate("predictions", "cohort/manifest.json")  # doctest: +SKIP
"""

from __future__ import annotations

from importlib import import_module
from importlib.metadata import version as _version
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mrigmm.errors import InputError, Problem
    from mrigmm.jobs.agreement import agreement
    from mrigmm.jobs.check import check
    from mrigmm.jobs.compare import compare
    from mrigmm.jobs.demo import demo
    from mrigmm.jobs.evaluate import evaluate
    from mrigmm.jobs.export import export_run
    from mrigmm.jobs.export_predictions import export_predictions
    from mrigmm.jobs.info import info
    from mrigmm.jobs.manifest import manifest, manifest_dicom
    from mrigmm.jobs.measure import measure
    from mrigmm.jobs.predict import predict, predict_study
    from mrigmm.jobs.predicting.in_memory import SegmentedStudy
    from mrigmm.jobs.pretrain import pretrain
    from mrigmm.jobs.prior import prior
    from mrigmm.jobs.quantify import quantify
    from mrigmm.jobs.report import report
    from mrigmm.jobs.review import review
    from mrigmm.jobs.segment import segment_folder
    from mrigmm.jobs.segment_image import segment_image
    from mrigmm.jobs.segment_study import segment
    from mrigmm.jobs.simulate import simulate
    from mrigmm.jobs.train import train
    from mrigmm.jobs.train_anatomy import train_anatomy

__version__ = _version("mrigmm")

# Where names are found that have no file of their own in `jobs`.
_HOMES = {
    "InputError": "errors",
    "Problem": "errors",
    "SegmentedStudy": "jobs.predicting.in_memory",
    "export_run": "jobs.export",
    "manifest_dicom": "jobs.manifest",
    "predict_study": "jobs.predict",
    "segment": "jobs.segment_study",
    "segment_folder": "jobs.segment",
}

__all__ = [
    "InputError",
    "Problem",
    "SegmentedStudy",
    "__version__",
    "agreement",
    "check",
    "compare",
    "demo",
    "evaluate",
    "export_predictions",
    "export_run",
    "info",
    "manifest",
    "manifest_dicom",
    "measure",
    "predict",
    "predict_study",
    "pretrain",
    "prior",
    "quantify",
    "report",
    "review",
    "segment",
    "segment_folder",
    "segment_image",
    "simulate",
    "train",
    "train_anatomy",
]


if not TYPE_CHECKING:  # to a type checker every name would be there

    def __getattr__(name: str) -> Any:
        if name in __all__:
            # On first use, so that `import mrigmm` and `mrigmm info` need no torch.
            value = getattr(import_module(f"mrigmm.{_HOMES.get(name, f'jobs.{name}')}"), name)
            globals()[name] = value
            return value
        raise AttributeError(f"module 'mrigmm' has no attribute '{name}'")


def __dir__() -> list[str]:
    return __all__
