"""Population priors: the one that ships with the package, users' files, and which one fits a cohort."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from importlib.resources import files
from pathlib import Path
from typing import Any

import numpy as np

from mrigmm.data.files import write_text
from mrigmm.data.standardise import CROP_ZSCORE, REGION_ZSCORE
from mrigmm.errors import InputError, Problem, near_misses
from mrigmm.mixture import PopulationPrior

# Largest mean, and largest or inverse smallest SD, that a prior in z units can have.
_MAX_Z = 100.0

# Names that people use for the sequences of the shipped prior.
SEQUENCE_ALIASES = {
    "de": "LGE",
    "lge": "LGE",
    "t2": "T2",
    "t2w": "T2",
    "c0": "bSSFP",
    "cine": "bSSFP",
    "bssfp": "bSSFP",
    "ssfp": "bSSFP",
}


def default_prior(standardisation: str = REGION_ZSCORE) -> PopulationPrior:
    """The shipped prior for LGE, T2, bSSFP and blood, myocardium, edema, scar.

    Population figures of the 25 training studies of MyoPS 2020, in region z-score units where the
    region is the left ventricle (cavity and wall), or in crop z-score units (120 mm around it).

    Args:
        standardisation: `REGION_ZSCORE` or `CROP_ZSCORE`.
    """
    figures = _population_figures()
    units = figures["crop_z" if standardisation == CROP_ZSCORE else "lv_z"]
    return PopulationPrior(
        classes=tuple(figures["classes"]),
        sequences=tuple(figures["sequences"]),
        means=np.array(units["mean"]),
        covariances=np.array(units["within_study_covariance"]),
        weights=np.array(figures["lv_volume_fraction"]["mean"]),
        standardisation=standardisation,
        provenance=_provenance(figures),
    )


@dataclass(frozen=True)
class MultiscalePrior:
    """Population prior of the wall's classes for intensities smoothed inside the wall.

    Attributes:
        sigmas_mm: in-plane Gaussian widths in mm.
        prior: its sequences are named by `channel_name`.
    """

    sigmas_mm: tuple[float, ...]
    prior: PopulationPrior

    def channels(self, sequences: Sequence[str]) -> tuple[str, ...]:
        """Channel names of these sequences in the order of `mixture.multiscale_features`."""
        return tuple(channel_name(name, sigma) for sigma in self.sigmas_mm for name in sequences)


def channel_name(sequence: str, sigma_mm: float) -> str:
    """Name of a smoothed sequence among a prior's channels."""
    return f"{sequence} smoothed {sigma_mm:g} mm"


def default_multiscale_prior() -> MultiscalePrior:
    """The shipped prior of myocardium, edema and scar at 0.75 and 3 mm; same patients and units."""
    figures = _population_figures()
    scales = figures["lv_z_wall_multiscale"]
    sigmas_mm = (0.75, 3.0)
    prior = PopulationPrior(
        classes=tuple(figures["classes"][1:]),
        sequences=tuple(channel_name(name, s) for s in sigmas_mm for name in figures["sequences"]),
        means=np.array(scales["mean"]),
        covariances=np.array(scales["within_study_covariance"]),
        weights=np.array(scales["wall_volume_fraction"]) / sum(scales["wall_volume_fraction"]),
        standardisation=REGION_ZSCORE,
        provenance=_provenance(figures),
    )
    return MultiscalePrior(sigmas_mm, prior)


def _population_figures() -> dict[str, Any]:
    text = (files("mrigmm.resources") / "population_statistics.json").read_text(encoding="utf-8")
    return dict(json.loads(text))


def _provenance(figures: dict[str, Any]) -> dict[str, Any]:
    return {
        "source": figures["source"],
        "dataset": "MyoPS 2020",
        "study_ids": [f"myops_training_{n}" for n in range(101, 126)],
    }


def load_prior(path: Path, standardisation: str = REGION_ZSCORE) -> PopulationPrior:
    """Read a prior that `mrigmm prior` or a training wrote.

    Args:
        path: JSON file.
        standardisation: the units it has to be in.

    Raises:
        InputError: missing, damaged, of another version or in other units.
    """
    remedy = "make it again with mrigmm prior"
    try:
        prior = PopulationPrior.from_dict(json.loads(path.read_text(encoding="utf-8")))
        if (prior.standardisation, standardisation) == (REGION_ZSCORE, CROP_ZSCORE):
            remedy = "train in the prior's units: --set standardise=region; or use the shipped prior"
        prior.require_standardisation(standardisation)
        _require_plausible(prior)
        if not all(isinstance(name, str) for name in (*prior.classes, *prior.sequences)):
            raise ValueError("classes and sequences: expected texts")
    except FileNotFoundError:
        raise InputError("the prior file does not exist", file=path, remedy=remedy) from None
    except (OSError, UnicodeDecodeError, json.JSONDecodeError, RecursionError) as error:
        raise InputError("the prior cannot be read", file=path, got=str(error), remedy=remedy) from None
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise InputError("the prior cannot be used", file=path, got=str(error), remedy=remedy) from None
    return prior


def load_multiscale_prior(path: Path) -> MultiscalePrior:
    """Read a prior that `save_multiscale_prior` wrote.

    Raises:
        InputError: as `load_prior`.
    """
    prior = load_prior(path)
    try:
        return MultiscalePrior(tuple(float(s) for s in prior.provenance["sigmas_mm"]), prior)
    except (KeyError, TypeError, ValueError):
        raise InputError("the prior says nothing about its scales", file=path) from None


def save_multiscale_prior(prior: MultiscalePrior, path: Path) -> None:
    """Write a prior for smoothed intensities; its scales stand in the provenance."""
    provenance = {**prior.prior.provenance, "sigmas_mm": list(prior.sigmas_mm)}
    save_prior(replace(prior.prior, provenance=provenance), path)


def _require_plausible(prior: PopulationPrior) -> None:
    """Refuse figures that no z-scores have; they would swamp every study's own."""
    variances = np.diagonal(prior.covariances, axis1=1, axis2=2)
    if np.abs(prior.means).max() > _MAX_Z or variances.min() < _MAX_Z**-2 or variances.max() > _MAX_Z**2:
        raise ValueError(
            f"expected means within {_MAX_Z:g} and standard deviations from {1 / _MAX_Z:g} to {_MAX_Z:g} "
            f"(z units), got means up to {np.abs(prior.means).max():g} and standard deviations from "
            f"{variances.min() ** 0.5:g} to {variances.max() ** 0.5:g}"
        )


def save_prior(prior: PopulationPrior, path: Path) -> None:
    """Write a prior as JSON."""
    write_text(path, json.dumps(prior.to_dict(), indent=1) + "\n")


def prior_for(
    sequences: Sequence[str],
    classes: Sequence[str] | None,
    file: Path | None,
    standardisation: str = REGION_ZSCORE,
) -> tuple[tuple[str, ...], PopulationPrior | None]:
    """Classes of a cohort and the prior that knows them.

    Args:
        sequences: the cohort's sequences.
        classes: the cohort's classes; None takes those of the prior.
        file: the user's prior; None takes the shipped one where it knows all the classes.
        standardisation: the units that the prior has to be in.

    Returns:
        The classes, and the prior restricted to classes and sequences in this order; None when the
        shipped prior knows neither.

    Raises:
        InputError: when the user's prior does not fit, when a sequence name is unknown although the
            classes are those of the shipped prior, or when nothing says what the classes are.
    """
    prior = default_prior(standardisation) if file is None else load_prior(file, standardisation)
    wanted = tuple(prior.classes if classes is None else classes)
    unknown_classes = [name for name in wanted if name not in prior.classes]
    unknown_sequences = [name for name in sequences if name not in prior.sequences]
    if len(wanted) < 2:
        raise InputError(
            "a mixture needs at least two classes",
            expected="two or more names under 'labels' (an empty list for one without reference)",
            got=", ".join(wanted) or "none",
        )
    if file is None and classes is not None and unknown_classes:
        if len(unknown_classes) < len(wanted):
            # Most likely a slip; and a mixture of which the prior knows half has no names.
            raise InputError.from_problems(
                Problem(
                    f"unknown class '{name}' among known ones",
                    expected=f"only {', '.join(prior.classes)}, or only classes of another organ",
                    got=", ".join(wanted),
                    remedy=near_misses(name, prior.classes) + " Other structures go under 'background'; "
                    "other tissues need a prior of their own (--prior).",
                )
                for name in unknown_classes
            )
        return wanted, None
    problems = [
        Problem(f"unknown class '{name}'", file=_text(file), remedy=near_misses(name, prior.classes))
        for name in unknown_classes
    ]
    problems += [
        Problem(
            f"unknown sequence name '{name}'",
            file=_text(file),
            expected=f"one of {', '.join(prior.sequences)}, which the population prior knows",
            remedy=sequence_remedy(name, prior.sequences),
        )
        for name in unknown_sequences
    ]
    if problems:
        raise InputError.from_problems(problems)
    try:
        return wanted, prior.select(classes=wanted, sequences=tuple(sequences))
    except ValueError as error:
        raise InputError("the prior cannot be used", file=file, got=str(error)) from None


def sequence_remedy(name: str, known: Sequence[str]) -> str:
    """What to do about an unknown sequence name."""
    alias = SEQUENCE_ALIASES.get(name.lower())
    if alias in known:
        return f"name it {alias}"
    return near_misses(name, known) + " Other sequences need a prior of their own (--prior)."


def _text(path: Path | None) -> str | None:
    return None if path is None else str(path)
