"""Population priors in files."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from mrigmm.data.files import write_text
from mrigmm.data.priors.multiscale import MultiscalePrior
from mrigmm.data.standardise import REGION_ZSCORE, STANDARDISATIONS
from mrigmm.errors import InputError
from mrigmm.mixture import PopulationPrior

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
