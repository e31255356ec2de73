"""Population priors in files, and priors of the wall at several scales."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np

from mrigmm.data.files import write_text
from mrigmm.data.standardise import REGION_ZSCORE, STANDARDISATIONS
from mrigmm.errors import InputError
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


# Largest mean, and largest or inverse smallest SD, that a prior in z units can have.
_MAX_Z = 100.0
# Where the part for smoothed intensities stands in a file.
_MULTISCALE = "multiscale"


def load_prior(path: Path, standardisation: str = REGION_ZSCORE) -> PopulationPrior:
    """Read a prior that `mrigmm prior` or a training wrote.

    Args:
        path: JSON file.
        standardisation: the units it has to be in.

    Raises:
        InputError: missing, damaged, of another version or in other units.
    """
    return _load(path, standardisation)[0]


def _load(path: Path, standardisation: str) -> tuple[PopulationPrior, MultiscalePrior | None]:
    """A prior and its part for smoothed intensities, if the file has one; see `load_prior`."""
    remedy = "make it again with mrigmm prior"
    try:
        content = dict(json.loads(path.read_text(encoding="utf-8")))
        part = {_MULTISCALE: content.pop(_MULTISCALE)} if _MULTISCALE in content else {}
        prior = PopulationPrior.from_dict(content)
        asked = {units: name for name, units in STANDARDISATIONS.items()}.get(prior.standardisation)
        if prior.standardisation != standardisation and asked is not None:
            remedy = f"train in the prior's units: --set standardise={asked}; or use the shipped prior"
        prior.require_standardisation(standardisation)
        require_plausible(prior)
        if not all(isinstance(name, str) for name in (*prior.classes, *prior.sequences)):
            raise ValueError("classes and sequences: expected texts")
        multiscale = _multiscale_part(part[_MULTISCALE], prior) if part else None
    except FileNotFoundError:
        raise InputError("the prior file does not exist", file=path, remedy=remedy) from None
    except (OSError, UnicodeDecodeError, json.JSONDecodeError, RecursionError) as error:
        raise InputError("the prior cannot be read", file=path, got=str(error), remedy=remedy) from None
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise InputError("the prior cannot be used", file=path, got=str(error), remedy=remedy) from None
    return prior, multiscale


def _multiscale_part(values: Any, whole: PopulationPrior) -> MultiscalePrior:
    """The part for smoothed intensities; what is wrong with it is told by its name."""
    try:
        multiscale = MultiscalePrior.from_dict(values, whole)
        require_plausible(multiscale.prior)
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"its part '{_MULTISCALE}' for smoothed intensities: {error}") from None
    return multiscale


def load_multiscale_part(path: Path, standardisation: str) -> MultiscalePrior | None:
    """The part for smoothed intensities of a prior's file, if it has one; see `load_prior`."""
    return _load(path, standardisation)[1]


def load_multiscale_prior(path: Path) -> MultiscalePrior:
    """Read a prior that `save_multiscale_prior` wrote.

    Raises:
        InputError: as `load_prior`.
    """
    prior = load_prior(path)
    try:
        return MultiscalePrior(tuple(float(s) for s in prior.provenance["sigmas_mm"]), prior)
    except (KeyError, TypeError, ValueError) as error:
        raise InputError("the prior's scales cannot be used", file=path, got=str(error)) from None


def save_multiscale_prior(prior: MultiscalePrior, path: Path) -> None:
    """Write a prior for smoothed intensities; its scales stand in the provenance."""
    provenance = {**prior.prior.provenance, "sigmas_mm": list(prior.sigmas_mm)}
    save_prior(replace(prior.prior, provenance=provenance), path)


def require_plausible(prior: PopulationPrior) -> None:
    """Refuse figures that no z-scores have; they would swamp every study's own.

    Raises:
        ValueError: means or standard deviations out of range.
    """
    variances = np.diagonal(prior.covariances, axis1=1, axis2=2)
    if np.abs(prior.means).max() > _MAX_Z or variances.min() < _MAX_Z**-2 or variances.max() > _MAX_Z**2:
        raise ValueError(
            f"expected means within {_MAX_Z:g} and standard deviations from {1 / _MAX_Z:g} to {_MAX_Z:g} "
            f"(z units), got means up to {np.abs(prior.means).max():g} and standard deviations from "
            f"{variances.min() ** 0.5:g} to {variances.max() ** 0.5:g}"
        )


def save_prior(prior: PopulationPrior, path: Path, multiscale: MultiscalePrior | None = None) -> None:
    """Write a prior as JSON, with a part for smoothed intensities where there is one."""
    part = {} if multiscale is None else {_MULTISCALE: multiscale.to_dict()}
    write_text(path, json.dumps(prior.to_dict() | part, indent=1) + "\n")
