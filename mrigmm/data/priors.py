"""Population priors: the one that ships with the package, users' files, and which one fits a cohort."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from importlib.resources import files
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np

from mrigmm.data.files import write_text
from mrigmm.data.standardise import CROP_ZSCORE, REGION_ZSCORE, STANDARDISATIONS, UNITS
from mrigmm.errors import InputError, Problem, near_misses
from mrigmm.labels import wall_classes
from mrigmm.mixture import PopulationPrior

# Largest mean, and largest or inverse smallest SD, that a prior in z units can have.
_MAX_Z = 100.0
# Widths that smooth intensities inside the wall, as the shipped prior has them.
SIGMAS_MM = (0.75, 3.0)
# A wider Gaussian than a heart is a slip, and its kernel would fill the memory.
_MAX_SIGMA_MM = 100.0
# Where the part for smoothed intensities stands in a prior's file, and what it holds; units and
# provenance are the file's.
_MULTISCALE = "multiscale"
_MULTISCALE_KEYS = {"version", "sigmas_mm", "classes", "sequences", "means", "covariances", "weights"}

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

    Raises:
        InputError: other units, in which there are no figures.
    """
    figures = _population_figures()
    tables = {REGION_ZSCORE: "lv_z", CROP_ZSCORE: "crop_z"}
    if standardisation not in tables:
        raise InputError(
            f"the shipped prior is not stated in these units: {UNITS[standardisation]}",
            remedy="make one with mrigmm prior --standardise percentile, and give it with --prior",
        )
    units = figures[tables[standardisation]]
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
        """What `to_dict` wrote.

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


def default_multiscale_prior() -> MultiscalePrior:
    """The shipped prior of myocardium, edema and scar at 0.75 and 3 mm; same patients and units."""
    figures = _population_figures()
    scales = figures["lv_z_wall_multiscale"]
    prior = PopulationPrior(
        classes=tuple(figures["classes"][1:]),
        sequences=channel_names(figures["sequences"], SIGMAS_MM),
        means=np.array(scales["mean"]),
        covariances=np.array(scales["within_study_covariance"]),
        weights=np.array(scales["wall_volume_fraction"]) / sum(scales["wall_volume_fraction"]),
        standardisation=REGION_ZSCORE,
        provenance=_provenance(figures),
    )
    return MultiscalePrior(SIGMAS_MM, prior)


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
    prior = default_prior() if file is None else load_prior(file, standardisation)
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
    if file is None:
        prior = default_prior(standardisation)
    try:
        return wanted, prior.select(classes=wanted, sequences=tuple(sequences))
    except ValueError as error:
        raise InputError("the prior cannot be used", file=file, got=str(error)) from None


def multiscale_prior_for(prior: PopulationPrior | None, file: Path | None) -> MultiscalePrior | None:
    """The prior for smoothed intensities that belongs to what `prior_for` found.

    Args:
        prior: what `prior_for` returned.
        file: the user's prior; None where it was the shipped one.

    Returns:
        It knows all classes of the wall and sequences of its file; None when there is no prior, or when
        the user's has no such part.

    Raises:
        InputError: as `load_prior`.
    """
    if prior is None:
        return None
    return default_multiscale_prior() if file is None else _load(file, prior.standardisation)[1]


def sequence_remedy(name: str, known: Sequence[str]) -> str:
    """What to do about an unknown sequence name."""
    alias = SEQUENCE_ALIASES.get(name.lower())
    if alias in known:
        return f"name it {alias}"
    return near_misses(name, known) + " Other sequences need a prior of their own (--prior)."


def _text(path: Path | None) -> str | None:
    return None if path is None else str(path)
