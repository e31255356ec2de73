"""The population prior for intensities smoothed inside the wall."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

from mrigmm.labels import wall_classes
from mrigmm.mixture import PopulationPrior

# Widths that smooth intensities inside the wall, as the shipped prior has them.
SIGMAS_MM = (0.75, 3.0)
# A wider Gaussian than a heart is a slip, and its kernel would fill the memory.
_MAX_SIGMA_MM = 100.0
# What the part of a prior's file holds; units and provenance are the file's.
_MULTISCALE_KEYS = {"version", "sigmas_mm", "classes", "sequences", "means", "covariances", "weights"}


@dataclass(frozen=True)
class MultiscalePrior:
    """Population prior of the wall's classes for intensities smoothed inside the wall.

    Attributes:
        sigmas_mm: in-plane Gaussian widths in mm, rising.
        prior: its sequences are named by `channel_names`.

    Raises:
        ValueError: widths that cannot be used.
    """

    sigmas_mm: tuple[float, ...]
    prior: PopulationPrior

    def __post_init__(self) -> None:
        limits = (0.0, *self.sigmas_mm, _MAX_SIGMA_MM)
        numbers = all(isinstance(limit, int | float) for limit in limits)
        if not self.sigmas_mm or not numbers or not all(a < b for a, b in pairwise(limits)):
            raise ValueError(
                f"sigmas_mm: expected rising widths between 0 and {_MAX_SIGMA_MM:g} mm, "
                f"got {list(self.sigmas_mm)}"
            )

    def channels(self, sequences: Sequence[str]) -> tuple[str, ...]:
        """Channel names of these sequences in the order of `mixture.multiscale_features`."""
        return channel_names(sequences, self.sigmas_mm)

    def to_dict(self) -> dict[str, Any]:
        """The part of a prior's file that holds these figures."""
        content = {**self.prior.to_dict(), "sigmas_mm": list(self.sigmas_mm)}
        return {key: value for key, value in content.items() if key in _MULTISCALE_KEYS}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any], whole: PopulationPrior) -> MultiscalePrior:
        """Read what `to_dict` wrote.

        Args:
            values: the part of a prior's file.
            whole: the prior of that file, whose classes, sequences, units and provenance it shares.

        Raises:
            ValueError: missing or unknown keys, values that are no prior, or one of other classes or
                sequences than those of `whole`.
        """
        if set(values) != _MULTISCALE_KEYS:
            raise ValueError(f"expected the keys {sorted(_MULTISCALE_KEYS)}, got {sorted(values)}")
        figures = {key: value for key, value in values.items() if key != "sigmas_mm"}
        shared = {"standardisation": whole.standardisation, "provenance": whole.provenance}
        prior = PopulationPrior.from_dict(figures | shared)
        scales = cls(tuple(values["sigmas_mm"]), prior)
        for name, expected, got in (
            ("classes", wall_classes(whole.classes), prior.classes),
            ("sequences", scales.channels(whole.sequences), prior.sequences),
        ):
            if expected != got:
                raise ValueError(f"{name}: expected {list(expected)}, got {list(got)}")
        return scales


def channel_names(sequences: Sequence[str], sigmas_mm: Sequence[float]) -> tuple[str, ...]:
    """Names of smoothed sequences among a prior's channels: all of the first width, then of the next."""
    return tuple(f"{name} smoothed {sigma:g} mm" for sigma in sigmas_mm for name in sequences)
