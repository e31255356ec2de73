"""Names that other formats give to sequences and classes, in our words."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from mrigmm.data.priors.choice import SEQUENCE_ALIASES
from mrigmm.errors import InputError, near_misses
from mrigmm.labels import CLASS_SYNONYMS, plain_name


def sequence_name(name: str, rename: Mapping[str, str]) -> str:
    """Our name of a sequence: the user's, a known alias, or the name itself."""
    return rename.get(name) or SEQUENCE_ALIASES.get(name.lower(), name)


def class_name(name: str, rename: Mapping[str, str]) -> str:
    """Our name of a class: the user's, a known alias, or the name itself in lower case."""
    return rename.get(name) or CLASS_SYNONYMS.get(plain_name(name), name.strip().lower())


def labels_of(pairs: Iterable[tuple[str, int]], rename: Mapping[str, str]) -> dict[str, list[int]]:
    """Class name -> ids, from (name in the folder, id); names of one class are put together."""
    labels: dict[str, list[int]] = {}
    for name, number in pairs:
        labels.setdefault(class_name(name, rename), []).append(number)
    return labels


def require_known(rename: Mapping[str, str], names: Iterable[str]) -> None:
    """Refuse to rename what is not there.

    Raises:
        InputError: an old name is not among `names`.
    """
    known = sorted(set(names))
    for old in rename:
        if old not in known:
            raise InputError(
                f"--rename: there is no '{old}' in the folder",
                expected=f"one of {', '.join(known)}",
                remedy=near_misses(old, known),
            )
