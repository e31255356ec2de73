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
    from mrigmm.jobs.manifest import manifest
    from mrigmm.jobs.manifest_dicom import manifest_dicom
    from mrigmm.jobs.measure import measure
    from mrigmm.jobs.predict import predict, predict_study
    from mrigmm.jobs.predicting.in_memory import SegmentedStudy
    from mrigmm.jobs.pretrain import pretrain
    from mrigmm.jobs.prior import prior
    from mrigmm.jobs.quantify import quantify
    from mrigmm.jobs.report import report
    from mrigmm.jobs.segment_image import segment_image
    from mrigmm.jobs.segment_study import segment
    from mrigmm.jobs.simulate import simulate
    from mrigmm.jobs.train import train
    from mrigmm.jobs.train_anatomy import train_anatomy

__version__ = _version("mrigmm")

# Loaded on first use, so that `import mrigmm` and `mrigmm info` need no torch.
_LOCATIONS = {
    "InputError": "mrigmm.errors",
    "Problem": "mrigmm.errors",
    "SegmentedStudy": "mrigmm.jobs.predicting.in_memory",
    "agreement": "mrigmm.jobs.agreement",
    "check": "mrigmm.jobs.check",
    "compare": "mrigmm.jobs.compare",
    "demo": "mrigmm.jobs.demo",
    "evaluate": "mrigmm.jobs.evaluate",
    "export_predictions": "mrigmm.jobs.export_predictions",
    "export_run": "mrigmm.jobs.export",
    "info": "mrigmm.jobs.info",
    "manifest": "mrigmm.jobs.manifest",
    "manifest_dicom": "mrigmm.jobs.manifest_dicom",
    "measure": "mrigmm.jobs.measure",
    "predict": "mrigmm.jobs.predict",
    "predict_study": "mrigmm.jobs.predict",
    "pretrain": "mrigmm.jobs.pretrain",
    "prior": "mrigmm.jobs.prior",
    "quantify": "mrigmm.jobs.quantify",
    "report": "mrigmm.jobs.report",
    "segment": "mrigmm.jobs.segment_study",
    "segment_image": "mrigmm.jobs.segment_image",
    "simulate": "mrigmm.jobs.simulate",
    "train": "mrigmm.jobs.train",
    "train_anatomy": "mrigmm.jobs.train_anatomy",
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
    "segment",
    "segment_image",
    "simulate",
    "train",
    "train_anatomy",
]


if not TYPE_CHECKING:  # to a type checker every name would be there

    def __getattr__(name: str) -> Any:
        if name in _LOCATIONS:
            # Looked up once.
            value = getattr(import_module(_LOCATIONS[name]), name)
            globals()[name] = value
            return value
        raise AttributeError(f"module 'mrigmm' has no attribute '{name}'")


def __dir__() -> list[str]:
    return __all__
