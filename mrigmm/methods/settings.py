"""Settings of the EM methods (`--set`). Imports no torch, so that `mrigmm info` lists them at once."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Literal, TypeVar

from pydantic import BeforeValidator, Field, ValidationError

from mrigmm.errors import InputError, near_misses
from mrigmm.settings_yaml import Knobs, not_allowed

Settings = TypeVar("Settings", bound="MethodSettings")


def _names(value: object) -> object:
    """Names separated by commas as the list that they are."""
    return [name.strip() for name in value.split(",")] if isinstance(value, str) else value


class MethodSettings(Knobs):
    """Settings of a method: unknown keys are errors."""


class FitSettings(MethodSettings):
    """Settings of every fit by EM."""

    covariance: Literal["full", "diag", "tied", "spherical"] = "full"
    max_iter: int = Field(100, ge=1)
    tolerance: float = Field(2e-4, gt=0)
    variance_floor: float = Field(1e-3, gt=0)


class PretrainedSettings(MethodSettings):
    """Settings of the pretrained networks."""

    network_share: float = Field(
        0.35, ge=0, le=1, description="Networks' share of the label; the rest is the study's own mixture."
    )
    networks: Path | None = Field(None, description="Folder of mrigmm pretrain. Default: those shipped.")


class MixtureSettings(FitSettings):
    """Settings of the EM methods on all of the region. Defaults are those of the published baseline."""

    covariance: Literal["full", "diag", "tied", "spherical"] = "diag"
    scope: Literal["study", "slice", "cohort"] = Field("slice", description="What one mixture serves.")


class EMSettings(MixtureSettings):
    """Settings of the EM methods; the last two serve where there is no population prior."""

    order_by: tuple[str, ...] | None = None
    seed: int = Field(0, ge=0, lt=2**32)


class StudyEMSettings(EMSettings):
    """Settings of the EM methods without a mixture of the whole cohort."""

    scope: Literal["study", "slice"] = "slice"


class MapEMSettings(MixtureSettings):
    """Settings of MAP-EM: one full mixture per study, prior counts as a share of its voxels.

    The prior gives start and names: there is neither a seed nor an order.
    """

    covariance: Literal["full", "diag", "tied", "spherical"] = "full"
    scope: Literal["study", "slice"] = "study"
    prior_strength: float = Field(0.1, gt=0)


class TwoStepSettings(FitSettings):
    """Settings of map-em-2step: the wall's by cross-validation on real patients, the cavity's by hand."""

    prior_strength: float = Field(0.05, gt=0, description="Of the wall's mixture.")
    cavity_prior_strength: float = Field(0.1, gt=0, description="Of the mixture that finds the cavity.")
    cavity_smoothing_mm: float = Field(1.5, ge=0, le=1000, description="Of the blood posterior.")
    smoothing_mm: float = Field(2.25, ge=0, le=1000, description="Of the wall's posterior.")


class SingleSettings(MethodSettings):
    """Settings of the single-image methods; the defaults are the published ones."""

    standardise: Literal["region", "crop"] = "crop"
    spacing_mm: float | None = Field(None, ge=0.05, le=20)
    crop_mm: float = Field(120.0, gt=0, le=1000)
    order_by: tuple[str, ...] | None = None
    filters: int = Field(32, ge=1, le=1024)
    levels: int = Field(4, ge=1, le=6)
    covariance: Literal["full", "diag"] = "diag"
    variance_floor: float = Field(1e-3, gt=0)
    mean_regulariser: float = Field(0.0, ge=0)
    epochs: int = Field(200, ge=1)
    learning_rate: float = Field(1e-4, gt=0)
    weight_decay: float = Field(1e-3, ge=0)
    clip_norm: float = Field(12.0, gt=0)
    min_epochs: int = Field(10, ge=0)
    stop_tolerance: float = Field(0.001, ge=0)
    seed: int = Field(0, ge=0, lt=2**32)


class NSDSettings(MethodSettings):
    """Settings of n-SD."""

    n: Literal[2, 3, 5, 6] = Field(5, description="Standard deviations above the mean of remote LGE.")


class FWHMSettings(MethodSettings):
    """Settings of the full width at half maximum."""

    definition: Literal["half-maximum", "midway"] = "half-maximum"


class EMThresholdSettings(MethodSettings):
    """Settings of the EM threshold."""

    min_region_ml: float = Field(1.0, ge=0, description="Smaller connected scars are removed.")


class KMeansSettings(MethodSettings):
    """Settings of k-means."""

    scope: Literal["study", "cohort"] = Field("study", description="What one clustering serves.")
    order_by: tuple[str, ...] | None = None
    seed: int = Field(0, ge=0, lt=2**32)


class ConsensusSettings(MethodSettings):
    """Settings of the consensus; members have their own defaults."""

    members: Annotated[tuple[str, ...], BeforeValidator(_names)] = (
        "em-gmm",
        "map-em",
        "map-em-2step",
        "kmeans",
    )
    rule: Literal["average", "staple"] = "average"
    seed: int = Field(0, ge=0, lt=2**32, description="Of every member that starts at random.")


class SLICKMeansSettings(MethodSettings):
    """Settings of k-means on superpixels."""

    superpixel_mm: float = Field(4.0, gt=0, le=1000, description="Side of the square of a superpixel's area.")
    compactness: float = Field(
        1.0, gt=0, description="z-scores that count as much as a superpixel's size in distance."
    )
    order_by: tuple[str, ...] | None = None
    seed: int = Field(0, ge=0, lt=2**32)


class MRFSettings(FitSettings):
    """Settings of the mixture with a Potts field; with a prior its counts are a share of the voxels."""

    beta: float = Field(3.0, ge=0, description="Coupling per neighbour; 0: none.")
    in_plane: bool = Field(True, description="Couple within slices only.")
    prior_strength: float = Field(0.1, gt=0)
    order_by: tuple[str, ...] | None = None
    seed: int = Field(0, ge=0, lt=2**32)


class CNNClusteringSettings(MethodSettings):
    """Settings of both CNN clustering methods."""

    scope: Literal["study", "cohort"] = "study"
    start: Literal["kmeans", "random"] = Field("kmeans", description="First targets; published: random.")
    channels: int = Field(32, ge=1, le=1024, description="Of the hidden layers; the published number is 100.")
    layers: int = Field(2, ge=1, le=100, description="3x3 convolutions.")
    iterations: int = Field(50, ge=1, description="Updates of the network; the published number is 1000.")
    learning_rate: float = Field(0.1, gt=0)
    momentum: float = Field(0.9, ge=0, lt=1)
    balance: float = Field(3.0, ge=0, description="Weight of the entropy that the mean response lacks.")
    entropy_share: float = Field(
        0.7, gt=0, le=1, description="Of the largest entropy; 1 asks for clusters of one size."
    )
    scribble_weight: float = Field(0.5, ge=0)
    order_by: tuple[str, ...] | None = None
    seed: int = Field(0, ge=0, lt=2**32)


class CNNSuperpixelSettings(CNNClusteringSettings):
    """Settings of cnn-superpixels."""

    superpixel_mm: float = Field(4.0, gt=0, le=1000, description="Side of the square of a superpixel's area.")
    compactness: float = Field(
        1.0, gt=0, description="z-scores that count as much as a superpixel's size in distance."
    )


class CNNContinuitySettings(CNNClusteringSettings):
    """Settings of cnn-continuity."""

    continuity: float = Field(1.0, ge=0, description="Weight of differences between neighbours.")
    edge_aware: bool = False
    edge_scale: float = Field(1.0, gt=0, description="Difference in z-scores that counts as an edge.")


class ReconstructionSettings(MethodSettings):
    """Settings of the deep segmentation prior; docs/method_cnn.md says which are the published ones."""

    filters: int = Field(8, ge=1, le=1024)
    levels: int = Field(3, ge=1, le=6)
    skip_channels: int = Field(8, ge=0, le=1024)
    runs: int = Field(3, ge=1)
    learning_rate: float = Field(0.01, gt=0)
    max_iter: int = Field(200, ge=1)
    window_iterations: int = Field(10, ge=1)
    stop_gain: float = Field(0.02, gt=0)
    seed: int = Field(0, ge=0, lt=2**32)


class DSPSettings(ReconstructionSettings):
    """Settings of the methods on the reconstruction."""

    order_by: tuple[str, ...] | None = None


class DSPKMeansSettings(DSPSettings):
    """Settings of dsp-kmeans."""

    window: Literal[1, 3, 5, 7] = Field(1, description="Pixels; 5 and 7 are the published ones.")


class DSPGMMSettings(DSPSettings):
    """Settings of dsp-gmm."""

    prior_strength: float = Field(0.1, gt=0)


class KMeansRefinedSettings(MethodSettings):
    """Settings of kmeans-refined."""

    start: str = Field("em-gmm", description="The method that is refined, with its default settings.")
    weight: float = Field(1.0, ge=0, description="Of a responsibility beside a z-score.")


def require_sequences(order_by: Sequence[str] | None, sequences: Sequence[str]) -> None:
    """Refuse to order components by a sequence that the cohort does not have.

    Raises:
        InputError: there is one, with its near misses.
    """
    for name in order_by or ():
        if name not in sequences:
            raise InputError(f"order_by: unknown sequence '{name}'", remedy=near_misses(name, sequences))


def validated_settings(method: str, settings: type[Settings], overrides: Mapping[str, object]) -> Settings:
    """A method's settings with overrides.

    Raises:
        InputError: unknown keys, with their near misses, and values that are not allowed.
    """
    try:
        return settings.model_validate(overrides)
    except ValidationError as error:
        known = list(settings.model_fields)
        raise not_allowed(error, known, "--set", unknown=f"{method} has no setting") from None
