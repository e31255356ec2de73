"""Which population prior fits a cohort: the shipped one, or the user's."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from mrigmm.data.priors.files import load_multiscale_part, load_prior
from mrigmm.data.priors.multiscale import MultiscalePrior
from mrigmm.data.priors.shipped import default_multiscale_prior, default_prior
from mrigmm.data.standardise import REGION_ZSCORE
from mrigmm.errors import InputError, Problem, near_misses
from mrigmm.mixture import PopulationPrior

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
    return default_multiscale_prior() if file is None else load_multiscale_part(file, prior.standardisation)


def sequence_remedy(name: str, known: Sequence[str]) -> str:
    """What to do about an unknown sequence name."""
    alias = SEQUENCE_ALIASES.get(name.lower())
    if alias in known:
        return f"name it {alias}"
    return near_misses(name, known) + " Other sequences need a prior of their own (--prior)."


def _text(path: Path | None) -> str | None:
    return None if path is None else str(path)
