"""Every knob of a training run, typed and validated; presets.

Imports no torch, so that `mrigmm info` stays instant.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any, Literal

from pydantic import Field, field_validator, model_validator

from mrigmm.errors import InputError, near_misses
from mrigmm.settings_yaml import Knobs, Overrides, parse_overrides, read_config_file, validated, wrong_version

CONFIG_VERSION: Literal[2] = 2
DEFAULT_PRESET = "default"


class RunConfig(Knobs):
    """Configuration of one training run. Lengths in mm, intensities in z-score units.

    The defaults are the preset `default`; the others are what `PRESETS` changes of it.
    """

    version: Literal[2] = CONFIG_VERSION
    preset: str = DEFAULT_PRESET
    seed: int = Field(0, ge=0, lt=2**32, description="Seeds weights, shuffling and augmentation.")

    # What is segmented
    sequences: tuple[str, ...] | None = Field(None, description="Channel order. None: the manifest's.")
    classes: tuple[str, ...] | None = Field(None, description="Classes. None: manifest, else prior.")
    order_by: tuple[str, ...] | None = Field(
        None, description="Without a population prior: order components by rising mean of these sequences."
    )

    # How a study is read
    bias_correction: bool = Field(False, description="Divide every sequence by its bias field.")
    registration: bool = Field(False, description="Register every sequence to the reference sequence.")

    # What the network sees
    spacing_mm: float | None = Field(
        None, ge=0.05, le=20, description="In-plane pixel. None: the cohort's median."
    )
    crop_mm: float = Field(96.0, gt=0, le=1000, description="Side of the square crop around the region.")
    standardise: Literal["region", "crop", "percentile"] = Field(
        "region",
        description="z-score inside the region per study; nll, nll_v: also crop (per slice), percentile.",
    )
    flip_probability: float = Field(
        0.0, ge=0, le=1, description="Augmentation by in-plane flips, beside the random affine map of gem."
    )
    published_augmentation: bool = Field(
        False, description="nll, nll_v: elastic, rotation, scale, noise as published. gem has its own."
    )

    # The network
    filters: int = Field(8, ge=1, le=1024, description="Filters at full resolution; doubled per level.")
    levels: int = Field(4, ge=1, le=6, description="Number of poolings.")
    spatial_dims: Literal[2, 3] = Field(
        2, description="nll, nll_v: network on slices, or on whole studies with poolings in plane."
    )

    # The mixture
    scope: Literal["study", "slice"] = Field("study", description="What shares one mixture.")
    covariance: Literal["full", "diag"] = "full"
    parameters: Literal["mstep", "head"] = Field(
        "mstep", description="nll, nll_v: means and covariances by an M-step, or by a head of the network."
    )
    variance_floor: float = Field(1e-3, gt=0, description="Added to every variance, in z units squared.")
    prior_strength: float = Field(
        0.05, ge=0, description="MAP M-step: prior counts as a share of the region's voxels. 0: ML."
    )

    # The objective
    objective: Literal["nll", "nll_v", "gem"] = Field(
        "gem", description="nll: deepG; nll_v: deepSVG; gem: nll_v fitted by deep generalised EM (deep-gem)."
    )
    network_share: float = Field(
        0.5,
        ge=0,
        le=1,
        description="gem: the network's share in the label beside the study's own fit; 1: the network alone.",
    )
    sequence_dropout: float = Field(
        0.1, ge=0, lt=1, description="gem: chance that a training slice lacks a sequence."
    )
    mean_regulariser: float = Field(
        0.0, ge=0, description="Weight of the squared distance of class means from the prior's."
    )

    # The optimiser (AdamW, polynomial decay of the learning rate)
    epochs: int = Field(30, ge=1)
    batch_slices: int = Field(8, ge=1, description="Slices per step; study scope keeps studies whole.")
    learning_rate: float = Field(2e-3, gt=0)
    weight_decay: float = Field(1e-3, ge=0)
    clip_norm: float = Field(12.0, gt=0, description="Gradient norm limit.")
    min_epochs: int = Field(10, ge=0, description="The stop rule applies after these.")
    # 0: augmentation makes epochs differ, so that training goes on to the end of the schedule.
    stop_tolerance: float = Field(
        0.0, ge=0, description="Stop when the epoch's mean objective changes by less."
    )
    held_out_share: float = Field(
        0.0, ge=0, le=0.5, description="Share of the patients that are only watched; 0: all are learnt from."
    )
    patience: int = Field(
        10, ge=1, description="With held_out_share: epochs to wait for a better held-out objective."
    )

    @field_validator("sequences", "classes", "order_by")
    @classmethod
    def _distinct(cls, names: tuple[str, ...] | None) -> tuple[str, ...] | None:
        if names is not None and len(set(names)) < len(names):
            raise ValueError("each name may stand once")
        return names

    @model_validator(mode="after")
    def _fits_together(self) -> RunConfig:
        only_without_gem = ("standardise", "published_augmentation", "spatial_dims", "parameters")
        fields = type(self).model_fields
        changed = [name for name in only_without_gem if getattr(self, name) != fields[name].default]
        if self.objective == "gem" and changed:
            values = ", ".join(f"{name}={getattr(self, name)}" for name in changed)
            raise ValueError(f"{values}: only with objective=nll or objective=nll_v")
        if self.spatial_dims == 3 and self.scope == "slice":
            raise ValueError("spatial_dims=3: the network sees whole studies, set scope=study too")
        if self.parameters == "head" and self.prior_strength > 0:
            raise ValueError("parameters=head: there is no MAP M-step, set prior_strength=0 too")
        return self


_PUBLISHED: dict[str, Any] = {
    # Schwab, Mayr, Haltmeier 2024, "multiple images" setting.
    "crop_mm": 120.0,
    "standardise": "crop",
    "flip_probability": 2 / 3,
    "published_augmentation": True,
    "filters": 32,
    "scope": "slice",
    "covariance": "diag",
    "mean_regulariser": 1.0,
    "prior_strength": 0.0,
    "epochs": 100,
    "batch_slices": 4,
    "learning_rate": 1e-3,
    "stop_tolerance": 0.005,
}

# Values that differ from the fields' defaults, which are those of "default".
PRESETS: Mapping[str, Mapping[str, Any]] = MappingProxyType(
    {
        "default": {},
        "deepg": {**_PUBLISHED, "objective": "nll"},
        "deepsvg": {**_PUBLISHED, "objective": "nll_v"},
        "tiny": {"filters": 4, "levels": 3},
    }
)
PRESET_DESCRIPTIONS: Mapping[str, str] = MappingProxyType(
    {
        "default": "deep-gem, deep generalised EM: spatial prior by an 8-filter U-Net, MAP mixture per study",
        "deepg": "published deepG: NLL of the mixture, one diagonal mixture per slice, 32 filters",
        "deepsvg": "published deepSVG: NLL of the spatially variant mixture, otherwise as deepg",
        "tiny": "the default with 4 filters, for trying out",
    }
)


def make_config(preset: str | None = None, overrides: Overrides = (), file: Path | None = None) -> RunConfig:
    """Configuration of a preset, changed by a file of settings and that by `key=value` overrides.

    Args:
        preset: its name; None: the one that the file names, else "default".
        overrides: `key=value`, with values in YAML.
        file: settings in YAML, such as the `config.yaml` of a run.

    Raises:
        InputError: unknown preset or key (with near misses), a value that is not allowed, or a file that
            cannot be read, names another preset, or is of another version.
    """
    settings = {} if file is None else _read_settings(file, of_run=False)
    named = settings.pop("preset", None)
    if preset is not None and named not in (None, preset):
        raise InputError(
            "the file of settings names another preset",
            file=file,
            expected=f"preset: {preset}, as --preset says",
            got=f"preset: {named}",
            remedy="leave out --preset, or the line of the file",
        )
    preset = str(named or preset or DEFAULT_PRESET)
    if preset not in PRESETS:
        raise InputError(f"unknown preset '{preset}'", file=file, remedy=near_misses(preset, list(PRESETS)))
    changes = parse_overrides(overrides)
    if "preset" in changes:
        raise InputError(
            "the preset is no setting", got=f"preset={changes['preset']}", remedy="choose it with --preset"
        )
    values = {"preset": preset, **PRESETS[preset], **settings, **changes}
    said = dict.fromkeys(set(settings) - set(changes), str(file))
    return validated(RunConfig, values, source="--set", said=said)


def _read_settings(path: Path, *, of_run: bool) -> dict[str, Any]:
    """Values of a run's configuration, or of a user's file, which need not say the version."""
    if not of_run and not path.is_file():
        raise InputError(
            "there is no such file of settings",
            file=path,
            remedy="give a YAML file such as a run's config.yaml",
        )
    values = read_config_file(path)
    if values.get("kind") == "anatomy":
        raise InputError(
            "this run finds the ventricle, and segments no tissue", file=path, remedy="give it with --anatomy"
        )
    if values.get("kind") == "pretrained":
        raise InputError(
            "these are pretrained networks, and no deep GMM",
            file=path,
            remedy="segment with predict --run, or train on with --from; they cannot be exported",
        )
    version = values.get("version", None if of_run else CONFIG_VERSION)
    if version != CONFIG_VERSION:
        raise wrong_version(path, CONFIG_VERSION, version)
    return values


def load_config(path: Path) -> RunConfig:
    """Read the configuration that a run was trained with.

    Raises:
        InputError: missing, damaged, from a newer version, or with unknown keys.
    """
    return validated(RunConfig, _read_settings(path, of_run=True), source=str(path))
