"""Every knob of the anatomy stage's training, typed and validated.

Imports no torch, so that `mrigmm info` stays instant.
"""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from pydantic import Field

from mrigmm.errors import InputError
from mrigmm.settings_yaml import Knobs, Overrides, parse_overrides, read_config_file, validated, wrong_version

ANATOMY_CONFIG_VERSION: Literal[1] = 1


class AnatomyConfig(Knobs):
    """Configuration of a training of the anatomy stage. Lengths in mm.

    The terms for unlabelled slices are off: none has helped yet (docs/results/anatomy.md). Weights of Peng,
    Pedersoli and Desrosiers (2021): consistency 5 or 10, mutual information 0.1.
    """

    kind: Literal["anatomy"] = "anatomy"
    version: Literal[1] = ANATOMY_CONFIG_VERSION
    seed: int = Field(0, ge=0, lt=2**32, description="Seeds weights, the choice of slices and augmentation.")
    sequences: tuple[str, ...] | None = Field(None, description="Channel order. None: the manifest's.")

    # What the network sees
    spacing_mm: float = Field(2.0, ge=0.05, le=20, description="In-plane pixel.")
    view_mm: float = Field(224.0, gt=0, le=1000, description="Side of the square in the middle of the image.")

    # The network
    filters: int = Field(8, ge=1, le=1024, description="Filters at full resolution; doubled per level.")
    levels: int = Field(4, ge=1, le=6, description="Number of poolings.")
    head: Literal["softmax", "gmm"] = Field(
        "softmax", description="gmm: a mixture per class in feature space, which also tells what is unusual."
    )

    own_mixture: bool = Field(
        True, description="Sharpen what is found by a mixture of the study's own intensities."
    )

    # The terms of the objective
    consistency: float = Field(0.0, ge=0, description="Same label after rotation, mirroring, scaling.")
    global_mi: float = Field(0.0, ge=0, description="Mutual information of the encoder's clusters.")
    local_mi: float = Field(0.0, ge=0, description="Mutual information of neighbouring decoder clusters.")
    mean_teacher: float = Field(0.0, ge=0, description="Consistency with a moving average of the network.")
    entropy: float = Field(0.0, ge=0, description="Certainty on unlabelled slices.")

    # The optimiser (AdamW, linear warm-up and cosine decay)
    epochs: int = Field(12, ge=1)
    steps_per_epoch: int = Field(50, ge=1)
    batch_labelled: int = Field(4, ge=1, description="Labelled slices per step.")
    batch_unlabelled: int = Field(4, ge=1, description="Unlabelled slices per step, each seen twice.")
    learning_rate: float = Field(2e-3, gt=0)
    weight_decay: float = Field(1e-4, ge=0)
    clip_norm: float = Field(12.0, gt=0, description="Gradient norm limit.")
    sequence_dropout: float = Field(0.1, ge=0, lt=1, description="Chance that a slice lacks a sequence.")

    @property
    def uses_unlabelled(self) -> bool:
        """Whether any term needs unlabelled slices."""
        return any((self.consistency, self.global_mi, self.local_mi, self.mean_teacher, self.entropy))


def make_anatomy_config(overrides: Overrides = ()) -> AnatomyConfig:
    """The defaults with `key=value` overrides (values in YAML).

    Raises:
        InputError: unknown key (with near misses), or a value that is not allowed.
    """
    return validated(AnatomyConfig, parse_overrides(overrides), source="--set")


def load_anatomy_config(path: Path) -> AnatomyConfig:
    """Read the configuration that an anatomy run was trained with.

    Raises:
        InputError: missing, damaged, of another kind or version, or with unknown keys.
    """
    values = read_config_file(path)
    if values.get("kind") != "anatomy":
        raise InputError(
            "this is no anatomy run",
            file=path,
            expected="a folder that mrigmm train-anatomy wrote",
            remedy="a run of mrigmm train is given with --run",
        )
    if values.get("version") != ANATOMY_CONFIG_VERSION:
        raise wrong_version(path, ANATOMY_CONFIG_VERSION, values.get("version"))
    return validated(AnatomyConfig, values, source=str(path))
