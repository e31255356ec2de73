"""Choice of the population prior of a cohort: the shipped one, or the user's."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from mrigmm.data.priors.prior_file import MultiscalePrior, load_multiscale_part, load_prior
from mrigmm.data.priors.shipped import default_multiscale_prior, default_prior
from mrigmm.data.standardise import REGION_ZSCORE
from mrigmm.errors import InputError, Problem, near_misses
from mrigmm.labels import KEY_SEQUENCES, TISSUES, of_the_ventricle
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
    declared: Sequence[str],
    file: Path | None,
    standardisation: str = REGION_ZSCORE,
    *,
    asked: Sequence[str] | None = None,
) -> tuple[tuple[str, ...], PopulationPrior | None]:
    """Classes of a cohort and the prior that knows them.

    The classes are all that the prior knows, whichever of them the reference labels tell apart: a mixture
    without one of the tissues that are there gives it to the others, edema to the infarct, with LGE alone,
    too. Only where no sequence shows scar or edema (`labels.KEY_SEQUENCES`) they are left out. A cohort whose
    labels name other things than the shipped prior has the classes that they name, and no prior.

    Args:
        sequences: the cohort's sequences.
        declared: classes of the cohort's reference labels.
        file: the user's prior; None takes the shipped one.
        standardisation: the units that the prior has to be in.
        asked: the classes that the user wants, out of those; None: all of them.

    Returns:
        The classes, and the prior restricted to classes and sequences in this order; None when the
        shipped prior knows none of the declared classes.

    Raises:
        InputError: when the user's prior does not fit, when a sequence or class name is unknown although
            others are those of the prior, or when too few classes are asked for.
    """
    prior = default_prior() if file is None else load_prior(file, standardisation)
    unknown = [name for name in declared if name not in prior.classes]
    if file is None and len(unknown) == len(declared) > 1:  # another organ
        return _chosen(tuple(declared), asked), None
    if len(declared) < 2:  # of labels with one name nothing follows
        unknown = []
    # What a prior of the ventricle does not tell apart is part of its myocardium.
    tissues = [*TISSUES] if of_the_ventricle(prior.classes) else []
    unknown = [name for name in unknown if name not in tissues]
    problems = [
        # Most likely a slip; and a mixture of which the prior knows half has no names.
        Problem(
            f"unknown class '{name}' among known ones",
            file=_text(file),
            expected=f"only {', '.join(prior.classes)}, or only classes of another organ",
            got=", ".join(declared),
            remedy=near_misses(name, prior.classes) + ". Other structures go under 'background'; "
            "other tissues need a prior of their own (--prior).",
        )
        for name in unknown
    ]
    problems += [
        Problem(
            f"unknown sequence name '{name}'",
            file=_text(file),
            expected=f"one of {', '.join(prior.sequences)}, which the population prior knows",
            remedy=sequence_remedy(name, prior.sequences),
        )
        for name in sequences
        if name not in prior.sequences
    ]
    if problems:
        raise InputError.from_problems(problems)
    wanted = shown_classes(prior.classes, sequences) if asked is None else _chosen(prior.classes, asked)
    if file is None:
        prior = default_prior(standardisation)
    try:
        return wanted, prior.select(classes=wanted, sequences=tuple(sequences))
    except ValueError as error:
        raise InputError("the prior cannot be used", file=file, got=str(error)) from None


def no_prior(
    who: str, classes: Sequence[str], sequences: Sequence[str], remedy: str, file: Path | None = None
) -> InputError:
    """Return the refusal of what cannot do without a population prior, in its own name."""
    return InputError(
        f"{who} needs a population prior for these classes and sequences",
        file=file,
        expected="classes and sequences of the shipped prior, or --prior FILE",
        got=f"{', '.join(classes)} in {', '.join(sequences)}",
        remedy=remedy,
    )


def shown_classes(classes: Sequence[str], sequences: Sequence[str]) -> tuple[str, ...]:
    """The classes without scar and edema where there is no sequence that shows one of them."""
    if any(key in sequences for name, key in KEY_SEQUENCES.items() if name in classes):
        return tuple(classes)
    rest = tuple(name for name in classes if name not in KEY_SEQUENCES)
    return rest if len(rest) > 1 else tuple(classes)


def _chosen(known: tuple[str, ...], asked: Sequence[str] | None) -> tuple[str, ...]:
    """The classes asked for, out of the known ones; raises InputError for unknown or too few."""
    if asked is None:
        return known
    unknown = [name for name in asked if name not in known]
    if unknown:
        raise InputError.from_problems(
            Problem(f"unknown class '{name}'", expected=", ".join(known), remedy=near_misses(name, known))
            for name in unknown
        )
    if len({*asked}) < max(2, len(asked)):
        raise InputError(
            "a mixture needs at least two different classes",
            expected=f"two or more of {', '.join(known)}, each once",
            got=", ".join(asked) or "none",
        )
    return tuple(asked)


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
    """Return what to do about an unknown sequence name."""
    alias = SEQUENCE_ALIASES.get(name.lower())
    if alias in known:
        return f"name it {alias}"
    return near_misses(name, known) + ". Other sequences need a prior of their own (--prior)."


def _text(path: Path | None) -> str | None:
    return None if path is None else str(path)
