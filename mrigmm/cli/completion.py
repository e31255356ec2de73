"""Completions of the shell for options. Nothing here may import torch: it runs at every TAB."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

import typer

from mrigmm.labels import SCHEMES
from mrigmm.plugins import LAYOUTS_GROUP, added_names

# Names that live in modules which import torch or numpy; tests/cli/test_completion.py compares.
SPLITS = ("training", "validation", "test", "all")
KINDS = (
    *("myops", "emidec", "mscmr", "myosaiq", "acdc", "sunnybrook", "nnunet", "bids", "files", "any", "dicom"),
)
COHORTS = (
    *("myops-like", "healthy", "cohort", "hard-acquisition", "small", "thin-slices"),
    *("second-centre", "low-contrast", "noisy", "coarse", "fine", "thin-wall", "thick-wall", "bright-blood"),
    *("psir", "motion", "ghosts", "smooth-kernel", "sharp-kernel", "heavy-tails"),
)
DEVICES = ("auto", "cpu", "cuda", "cuda:0")
ACCELERATORS = ("auto", "cpu", "gpu")
PRECISIONS = ("32-true", "bf16-mixed", "16-mixed")
CACHES = ("memory", "disk")
UNITS = ("region", "percentile")
BASES = ("first", "last")

Offer = tuple[str, str]  # a value and what it is


def _one_of(names: Iterable[str]) -> Callable[[str], list[str]]:
    known = tuple(names)

    def complete(incomplete: str) -> list[str]:
        return [name for name in known if name.startswith(incomplete)]

    return complete


complete_splits = _one_of(SPLITS)
complete_cohorts = _one_of(COHORTS)
complete_devices = _one_of(DEVICES)
complete_accelerators = _one_of(ACCELERATORS)
complete_precisions = _one_of(PRECISIONS)
complete_caches = _one_of(CACHES)
complete_units = _one_of(UNITS)
complete_bases = _one_of(BASES)
complete_schemes = _one_of(SCHEMES)


def complete_kinds(incomplete: str) -> list[str]:
    """Layouts of `manifest`, those of other packages included."""
    return _one_of((*KINDS, *added_names(LAYOUTS_GROUP)))(incomplete)


def complete_methods(incomplete: str) -> list[Offer]:
    """Methods of `predict` and `segment-image`."""
    return _described("methods", incomplete)


def complete_presets(incomplete: str) -> list[Offer]:
    """Presets of `train`."""
    return _described("presets", incomplete)


def complete_settings(ctx: typer.Context, incomplete: str) -> list[str]:
    """`KEY=` of the command's settings; of `predict`, those of the method that was named before."""
    from mrigmm.jobs.info import info

    known = info()
    if ctx.info_name == "train":
        labels = ctx.params.get("labels")
        kinds = ("train_labels_settings",) if labels else ("train_cohort_settings", "train_settings")
        keys = list(dict.fromkeys(key for kind in kinds for key in known[kind]))
    elif ctx.info_name == "train-anatomy":
        keys = [*known["train_anatomy_settings"]]
    elif ctx.info_name == "pretrain":
        keys = [*known["pretrain_settings"]]
    else:
        of_method = known["method_settings"].get(ctx.params.get("method"), ())
        keys = [text.partition(" ")[0] for text in of_method]
    return [f"{key}=" for key in keys if key.startswith(incomplete)]


def _described(what: str, incomplete: str) -> list[Offer]:
    from mrigmm.jobs.info import info

    return [(name, text) for name, text in info()[what].items() if name.startswith(incomplete)]


# Of options that stand in a model (`mrigmm.jobs.options`), by their name there.
COMPLETE: Mapping[str, Callable[..., Any]] = {
    "method": complete_methods,
    "overrides": complete_settings,
    "device": complete_devices,
    "preset": complete_presets,
    "accelerator": complete_accelerators,
    "precision": complete_precisions,
    "cache": complete_caches,
}
