"""`mrigmm info`: what this installation can do. Imports no torch."""

from __future__ import annotations

from collections.abc import Collection
from importlib.metadata import version
from typing import Any

from pydantic import BaseModel

from mrigmm.config import DEFAULT_PRESET, PRESET_DESCRIPTIONS, RunConfig
from mrigmm.config_anatomy import AnatomyConfig
from mrigmm.config_learning import AdaptConfig, LabelsConfig
from mrigmm.config_pretrain import PretrainConfig
from mrigmm.labels import NESTED_REGIONS, TISSUES
from mrigmm.methods.registry import METHODS
from mrigmm.pretrained.folder import shipped_folder

_PACKAGES = ("mrigmm", "torch", "monai", "lightning", "scikit-learn", "nibabel", "SimpleITK", "numpy")


def info() -> dict[str, Any]:
    """Methods, presets, classes and versions.

    Examples:
        >>> mrigmm.info()["method_settings"]["map-em"][-1]
        'prior_strength [0.1]'

    Returns:
        Names and texts as plain values: what `mrigmm info --json` prints.
    """
    return {
        "methods": {name: entry.summary for name, entry in METHODS.items()},
        "method_settings": {
            name: [f"{key} [{_shown(field.default)}]" for key, field in entry.fields.items()]
            for name, entry in METHODS.items()
            if entry.settings is not None
        },
        "presets": dict(PRESET_DESCRIPTIONS),
        "default_preset": DEFAULT_PRESET,
        "train_settings": _settings(RunConfig, without=("version", "preset")),
        "train_cohort_settings": _settings(AdaptConfig),
        "train_labels_settings": _settings(LabelsConfig),
        "train_anatomy_settings": _settings(AnatomyConfig, without=("version", "kind")),
        "pretrain_settings": _settings(PretrainConfig, without=("version", "kind")),
        "networks": _networks(),
        "classes": {name: tissue.id for name, tissue in TISSUES.items()},
        "nested_regions": {name: list(members) for name, members in NESTED_REGIONS.items()},
        "added_by": METHODS.owners,
        "warnings": [problem.line for problem in METHODS.problems.values()],
        "versions": {name: version(name) for name in _PACKAGES},
    }


def _networks() -> dict[str, Any]:
    """Size and hash of the networks that ship, and where their model card is."""
    folder = shipped_folder()
    record = folder.read()[1]
    files = {
        file.file: {"parameters": file.parameters, "bytes": file.bytes, "sha256": file.sha256}
        for file in record.files
    }
    return {**files, "model_card": str(folder.card)}


def _settings(config: type[BaseModel], *, without: Collection[str] = ()) -> dict[str, str]:
    """Return what `--set` can change, with the defaults."""
    return {
        name: f"{field.description or ''} [{field.default}]".strip()
        for name, field in config.model_fields.items()
        if name not in without
    }


def _shown(default: object) -> str:
    """A default as it is given on the command line."""
    return ",".join(default) if isinstance(default, tuple) else str(default)
