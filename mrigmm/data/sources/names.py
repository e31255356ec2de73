"""Names that other formats give to sequences and classes, in our words."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import yaml

from mrigmm.data.priors.choice import SEQUENCE_ALIASES
from mrigmm.errors import InputError, near_misses
from mrigmm.labels import CLASS_SYNONYMS, SCHEMES, plain_name


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


def label_ids(text: str) -> Mapping[str, Sequence[int]]:
    """A scheme by name, class=id pairs, or a mapping; a class without ids is one that the files do not have.

    Examples:
        >>> label_ids("blood=1,scar=3+4") == label_ids("{blood: 1, scar: [3, 4]}")
        True

    Raises:
        InputError: none of them.
    """
    if text in SCHEMES:
        return SCHEMES[text]
    try:
        return _mapping(text) if text.lstrip().startswith("{") else _pairs(text)
    except (ValueError, TypeError, yaml.YAMLError):
        raise InputError(
            "the label ids cannot be read",
            expected=f"one of {', '.join(SCHEMES)}, pairs such as blood=1,myocardium=2,scar=3+4, or a "
            "mapping such as '{blood: 1, scar: [3, 4]}'",
            got=text,
        ) from None


def labels_as_json(labels: Mapping[str, Sequence[int]]) -> dict[str, Any]:
    """Class name -> id, or list of ids, as a manifest has them."""
    return {name: ids[0] if len(ids) == 1 else list(ids) for name, ids in labels.items()}


def _pairs(text: str) -> dict[str, list[int]]:
    """Label ids of pairs; raises ValueError."""
    result: dict[str, list[int]] = {}
    for pair in text.split(","):
        name, separator, ids = pair.partition("=")
        if not separator or name.strip() in result:
            raise ValueError(pair)
        result[name.strip()] = [int(i) for i in ids.split("+") if i.strip()]
    return result


def _mapping(text: str) -> dict[str, list[int]]:
    """Label ids of a YAML or JSON mapping; raises ValueError, TypeError or YAMLError."""
    content: Any = yaml.safe_load(text)
    result = {str(name): ids if isinstance(ids, list) else [ids] for name, ids in content.items()}
    if not result or not all(type(i) is int for ids in result.values() for i in ids):
        raise ValueError(text)
    return result
