"""Findings about names: what is not known here, and means something that is."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from mrigmm.data.priors.choice import SEQUENCE_ALIASES
from mrigmm.errors import Problem
from mrigmm.labels import TISSUES, meant_class


def unknown_classes(names: Sequence[str]) -> Iterator[Problem]:
    """Classes under another name than the one that has a prior, an anatomy and quantities here.

    Args:
        names: all under "labels".
    """
    for name in names:
        meant = meant_class(name)
        if meant is not None and meant not in names:
            yield Problem(
                f"the class '{name}' counts as one of another organ: did you mean {meant}?",
                expected=f"{', '.join(TISSUES)}, whose anatomy, prior and quantities are known here",
                got=name,
                remedy=f"name it {meant} under 'labels' in the manifest; ignore this for another organ",
                severity="warning",
            )


def unknown_sequences(names: Sequence[str]) -> Iterator[Problem]:
    """Sequences under another name than the one that the shipped prior and the methods know.

    Args:
        names: all under "modality".
    """
    for name in names:
        meant = SEQUENCE_ALIASES.get(name.lower())
        if meant is not None and meant not in names:
            yield Problem(
                f"the sequence '{name}' is not known by this name: did you mean {meant}?",
                expected=", ".join(dict.fromkeys(SEQUENCE_ALIASES.values())),
                got=name,
                remedy=f"name it {meant}; under '{name}' it needs a prior of its own (--prior)",
                severity="warning",
            )
