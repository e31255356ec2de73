"""Every knob of `mrigmm pretrain`, typed and validated. Imports no torch, so that `mrigmm info` stays instant."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from mrigmm.phantom.generator.ranges import GeneratorRanges
from mrigmm.settings_yaml import Overrides, parse_overrides, read_config_file, validated


class PretrainConfig(BaseModel):
    """Configuration of the networks that learn from simulated slices alone."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    kind: Literal["pretrained"] = "pretrained"
    version: Literal[1] = 1
    seeds: tuple[int, ...] = Field((0, 1), description="One segmenter each; their probabilities are averaged.")
    ranges: GeneratorRanges = Field(GeneratorRanges(), description="What training slices are drawn from.")

    # Segmenter
    filters: int = Field(12, ge=1, le=128, description="Filters at full resolution; doubled per level.")
    levels: int = Field(4, ge=1, le=6, description="Number of poolings.")
    precision: Literal["32-true", "bf16-mixed"] = Field(
        "bf16-mixed", description="Of the convolutions in training; losses and weights are single."
    )
    steps: int = Field(8000, ge=1, description="Steps of a segmenter.")
    batch: int = Field(8, ge=1, description="Slices per step.")
    learning_rate: float = Field(2e-3, gt=0, description="Highest of the one-cycle schedule.")
    weight_decay: float = Field(1e-4, ge=0)
    clip_norm: float = Field(12.0, gt=0, description="Gradient norm limit.")
    outside_weight: float = Field(0.15, ge=0, description="Weight of pixels beyond the ventricle.")
    average_decay: float = Field(0.998, ge=0, lt=1, description="Of the moving average of the weights.")

    # Locator
    locator_filters: int = Field(8, ge=1, le=128)
    locator_steps: int = Field(1200, ge=1)
    locator_batch: int = Field(16, ge=1, description="Slices per step.")


def make_pretrain_config(overrides: Overrides = ()) -> PretrainConfig:
    """The defaults with `key=value` overrides; those of the generator are given as `ranges`.

    Raises:
        InputError: unknown key (with near misses), or a value that is not allowed.
    """
    return validated(PretrainConfig, parse_overrides(overrides), source="--set")


def load_pretrain_config(path: Path) -> PretrainConfig:
    """Read a committed or saved configuration.

    Raises:
        InputError: missing, damaged, or with unknown keys.
    """
    return validated(PretrainConfig, read_config_file(path), source=str(path))
