"""Every knob of `mrigmm pretrain`, typed and validated.

Imports no torch, so that `mrigmm info` stays instant.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal, Self

from pydantic import Field, model_validator

from mrigmm.settings_yaml import Knobs, Overrides, parse_overrides, read_config_file, validated

Range = tuple[float, float]
ClassTable = tuple[tuple[float, float, float], ...]


class GeneratorRanges(Knobs):
    """Ranges of the generator. A pair is the lower and upper bound of a uniform draw.

    Chances lie in 0 to 1; "z" is the SD of a sequence inside the left ventricle of the study. The
    defaults enclose the population figures of two centres (`population_statistics.json`,
    `population_lge_second_centre.json`) with room around them.
    """

    # Grid
    spacing_mm: float = Field(1.0, gt=0, description="In-plane pixel of the slices that the network sees.")
    matrix: int = Field(128, ge=32, description="Pixels along each side.")
    slices: tuple[int, int] = Field((3, 5), description="Fewest and most slices of a study.")
    slice_distance_mm: Range = Field((5.0, 20.0), description="Distance between slice centres.")
    slice_thickness_mm: Range = Field((4.0, 10.0), description="Slab that one slice averages over.")

    # Hearts
    epi_radius_mm: Range = Field((25.0, 48.0), description="Epicardial radius at the base.")
    wall_share: Range = Field((0.17, 0.5), description="Wall thickness relative to the epicardial radius.")
    usual_chance: float = Field(
        0.67, ge=0, le=1, description="Hearts about the usual size; the others lie anywhere in the ranges."
    )
    height_share: Range = Field(
        (-0.14, 1.08), description="Slice heights relative to base (0) and apex (1): beyond both too."
    )
    outflow_chance: float = Field(0.5, ge=0, le=1, description="Basal slices whose wall is open.")
    centre_sd_mm: float = Field(5.0, ge=0, description="SD of the ventricle's centre about the crop's.")
    deformation_mm: float = Field(1.3, ge=0, description="SD of a smooth deformation of a slice.")

    # Borders of the ventricle
    borders_chance: float = Field(0.0, ge=0, le=1, description="Hearts whose borders are hard to see.")
    epicardial_fat_mm: Range = Field((-4.0, 4.0), description="Over the free walls; below 0: none.")
    apical_fat_mm: Range = Field((0.0, 6.0), description="How much more of it there is at the apex.")
    pericardium_mm: Range = Field((0.0, 2.5), description="Dark layer around the fat.")
    closing: Range = Field(
        (0.0, 1.0), description="How far chest and diaphragm follow the narrowing ventricle."
    )
    trabeculae_mm: Range = Field((0.0, 3.0), description="Greatest height of the ridges of the endocardium.")
    rv_strands: Range = Field(
        (0.0, 0.6), description="Share of the right ventricle's apex that looks like wall."
    )

    # Infarcts
    healthy_chance: float = Field(0.42, ge=0, le=1, description="Studies without infarct.")
    chronic_chance: float = Field(0.3, ge=0, le=1, description="Infarcts without edema, in a thinned wall.")
    mvo_chance: float = Field(0.5, ge=0, le=1, description="Acute infarcts with a dark core.")
    scar_share: Range = Field((0.01, 0.5), description="Scar's share of the wall (log-uniform part).")
    edema_share: Range = Field((0.02, 0.4), description="Edema's share of the wall.")

    # Contrast
    centre_mix: Range = Field((-0.3, 1.3), description="LGE figures between centre one (0) and two (1).")
    between_study: Range = Field((0.8, 1.6), description="Factor on the tabulated spread of class means.")
    class_mean: ClassTable | None = Field(
        None, description="A study's class means (blood, myocardium, edema, scar; LGE, T2, bSSFP), z."
    )
    class_width: ClassTable | None = Field(None, description="The SDs to these means.")
    width_log_sd: float = Field(0.2, ge=0, description="Log-SD of the within-class SD over studies.")
    low_contrast_chance: float = Field(0.25, ge=0, le=1)
    low_contrast: Range = Field((0.5, 1.0), description="Factor on the distances of the class means.")
    early_or_late_chance: float = Field(0.2, ge=0, le=1, description="LGE blood as bright as scar, or more.")
    poor_nulling_chance: float = Field(0.2, ge=0, le=1, description="LGE normal wall raised towards blood.")
    psir_chance: float = Field(0.3, ge=0, le=1, description="Phase-sensitive LGE.")
    least_scar_contrast: float = Field(0.45, ge=0, description="LGE scar above normal wall at least, z.")
    strong_chance: float = Field(0.5, ge=0, le=1, description="Slices with strong changes of appearance.")
    mean_shift_sd: float = Field(0.2, ge=0, description="SD of a class mean of a slice about the study's, z.")
    strong_mean_shift_sd: float = Field(0.5, ge=0, description="The same in slices with strong changes, z.")

    # Scanner
    pixel_mm: Range = Field((0.6, 2.2), description="Acquired in-plane pixel.")
    noise: Range = Field((0.02, 0.35), description="SD of thermal noise, z.")
    point_spread_mm: Range = Field((0.3, 1.1), description="SD of the point spread.")
    ringing_chance: float = Field(0.3, ge=0, le=1, description="Truncated k-space (Gibbs) or a sharp kernel.")
    inhomogeneity: Range = Field((0.0, 0.5), description="SD of smooth differences over heart and chest, z.")
    inhomogeneity_mm: Range = Field((8.0, 22.0), description="SD of the kernel that they look smoothed by.")
    coil_shading: Range = Field((0.0, 0.25), description="Relative SD of the coil's sensitivity over 40 mm.")
    motion_mm: Range = Field((0.0, 3.0), description="Displacement of T2 and bSSFP against LGE.")
    motion_chance: float = Field(0.3, ge=0, le=1)
    ghost_chance: float = Field(0.08, ge=0, le=1, description="Copies along the phase direction.")

    # Each slice and sequence on its own, after standardisation
    slice_contrast_chance: float = Field(0.6, ge=0, le=1)
    slice_log_gain: Range = Field((-0.15, 0.35), description="Mean and SD of the log of a slice's gain.")
    slice_offset_sd: float = Field(0.45, ge=0, description="z.")
    slice_shading_sd: float = Field(1.1, ge=0, description="Amplitude of a linear gradient over the crop, z.")
    warp_chance: float = Field(0.3, ge=0, le=1, description="Monotone intensity warps.")

    # What is there of a study
    lge_alone_chance: float = Field(0.28, ge=0, le=1, description="Studies of LGE alone.")
    nothing_given_chance: float = Field(0.36, ge=0, le=1, description="Simulated studies without a region.")
    wall_given_chance: float = Field(
        0.578125, ge=0, le=1, description="Of the others, those with cavity and wall given."
    )
    found_chance: float = Field(
        0.35, ge=0, le=1, description="Given regions that some program found: their borders are displaced."
    )

    # Real backgrounds
    background_chance: float = Field(0.5, ge=0, le=1, description="Studies set into a real slice.")
    fitting_backgrounds: bool = Field(
        False,
        description="Real slices are chosen and scaled so that their ventricle fits into the simulated one.",
    )
    background_from_mm: Range = Field((1.5, 28.0), description="Beyond this distance from the ventricle.")
    real_chance: float = Field(0.12, ge=0, le=1, description="Studies that are real slices, cavity known.")


# One scanner and protocol, with all sequences of a study alike: what the widest ranges blur. The mean of
# a network of each kind keeps what either is good at.
_PLAIN_RANGES: dict[str, Any] = {
    "healthy_chance": 0.35,
    "centre_mix": [-0.3, 0.7],
    "between_study": [0.8, 1.25],
    "low_contrast_chance": 0.1,
    "early_or_late_chance": 0.06,
    "poor_nulling_chance": 0.1,
    "psir_chance": 0.15,
    "strong_chance": 0.0,
    "inhomogeneity": [0.0, 0.35],
    "slice_contrast_chance": 0.2,
    "warp_chance": 0.1,
}


# The finder is never given the wall, sees LGE alone more often than the segmenters, thinner walls and larger
# hearts; the ventricle that it is given is one that it found.
_FINDER_RANGES: dict[str, Any] = {
    "usual_chance": 0.5,
    "epi_radius_mm": [24.0, 52.0],
    "wall_share": [0.12, 0.5],
    "lge_alone_chance": 0.5,
    "nothing_given_chance": 0.7,
    "wall_given_chance": 0.0,
    "found_chance": 0.8,
    "real_chance": 0.18,
}

# Once more, with surroundings as in real images, and noise.
_REAL_BORDERS: dict[str, Any] = {
    **_FINDER_RANGES,
    "noise": [0.02, 0.5],
    "borders_chance": 0.5,
    "fitting_backgrounds": True,
    "background_chance": 0.6,
    "background_from_mm": [0.5, 16.0],
}


class PretrainConfig(Knobs):
    """Configuration of the networks that learn from simulated slices alone."""

    kind: Literal["pretrained"] = "pretrained"
    version: Literal[1] = 1
    seeds: tuple[int, ...] = Field(
        (0, 1), description="One segmenter each; their probabilities are averaged."
    )
    ranges: GeneratorRanges = Field(
        GeneratorRanges.model_validate({}), description="What training slices are drawn from."
    )

    changed_ranges: dict[int, dict[str, Any]] = Field(
        {1: _PLAIN_RANGES}, description="Changes of `ranges` for the segmenter of a seed."
    )

    # Segmenter
    filters: int = Field(12, ge=1, le=128, description="Filters at full resolution; doubled per level.")
    levels: int = Field(4, ge=1, le=6, description="Number of poolings.")
    norm: Literal["instance", "batch"] = Field(
        "instance", description="The segmenters normalise every slice by itself, or over the batch."
    )
    precision: Literal["32-true", "bf16-mixed"] = Field(
        "bf16-mixed", description="Of the convolutions in training; losses and weights are single."
    )
    steps: int = Field(8000, ge=1, description="Steps of a segmenter's first cycle.")
    second_steps: int = Field(
        7000, ge=0, description="Steps of its second cycle, on slices of their own; 0: there is none."
    )
    batch: int = Field(8, ge=1, description="Slices per step.")
    learning_rate: float = Field(2e-3, gt=0, description="Highest of the one-cycle schedule.")
    second_learning_rate: float = Field(1e-3, gt=0, description="Highest of the second cycle.")
    weight_decay: float = Field(1e-4, ge=0)
    clip_norm: float = Field(12.0, gt=0, description="Gradient norm limit.")
    outside_weight: float = Field(0.15, ge=0, description="Weight of pixels beyond the ventricle.")
    average_decay: float = Field(0.998, ge=0, lt=1, description="Of the moving average of the weights.")

    # Finder: goes on from the first segmenter's first cycle and only tells where cavity and wall are
    finder_ranges: tuple[dict[str, Any], ...] = Field(
        (_FINDER_RANGES, _REAL_BORDERS),
        min_length=1,
        description="Changes of `ranges` for the finder: the mean of the weights that learn from each.",
    )
    finder_steps: int = Field(
        4000, ge=0, description="Steps on each of them; 0: the segmenters find the wall."
    )
    finder_learning_rate: float = Field(1e-3, gt=0, description="Highest of its one-cycle schedule.")

    # Locator
    locator_filters: int = Field(8, ge=1, le=128)
    locator_steps: int = Field(6000, ge=1)
    locator_batch: int = Field(8, ge=1, description="Slices per step.")

    @model_validator(mode="after")
    def _known_ranges(self) -> Self:
        for seed in self.changed_ranges:
            self.ranges_of(seed)
        self.ranges_of_finder()
        return self

    def ranges_of(self, seed: int) -> GeneratorRanges:
        """Return what the slices of a seed's segmenter are drawn from."""
        return self._changed(self.changed_ranges.get(seed, {}))

    def ranges_of_finder(self) -> tuple[GeneratorRanges, ...]:
        """Return what the slices of each training of the finder are drawn from."""
        return tuple(self._changed(changes) for changes in self.finder_ranges)

    def second_cycle(self) -> PretrainConfig:
        """Return the configuration of a segmenter's second cycle."""
        return self._cycle(self.second_steps, self.second_learning_rate)

    def finder_cycle(self) -> PretrainConfig:
        """Return the configuration of a training of the finder."""
        return self._cycle(self.finder_steps, self.finder_learning_rate)

    def _cycle(self, steps: int, learning_rate: float) -> PretrainConfig:
        return self.model_copy(update={"steps": steps, "learning_rate": learning_rate})

    def _changed(self, changes: dict[str, Any]) -> GeneratorRanges:
        return GeneratorRanges.model_validate({**self.ranges.model_dump(), **changes})


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
