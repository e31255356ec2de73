"""Sequence, mask and study, as the name of a NIfTI file and its folders tell them."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from typing import Any

from mrigmm.data.series_names import plain, rules
from mrigmm.data.sources.base import stem

_SEPARATORS = re.compile(r"[\s_\-./()\[\],;+&=#]+")
# Where words are glued together: LgeSax, LGEsax, P01LGE, LGE2.
_WORD = r"(?:lge|psir|cine|t2w?|stir|tirm|b?ssfp|c0|mask|seg|label|mag)"
_GLUED = re.compile(
    rf"(?<=[a-z])(?=[A-Z])|(?<=[A-Z][A-Z])(?=[a-z]{{2}})|(?<=\d)(?=(?i:{_WORD})(?![a-z]))"
    r"|(?<=(?i:lge|tir|sir))(?=\d)|(?<=(?i:ine|sfp|ask|seg|bel|mag))(?=\d)"
)


@dataclass(frozen=True)
class _Part:
    """A folder's or file's name, cut into words."""

    text: str

    @cached_property
    def spans(self) -> list[tuple[int, int]]:
        """Where the words stand in the text."""
        cuts = {0, len(self.text), *(m.start() for m in _GLUED.finditer(self.text))}
        for found in _SEPARATORS.finditer(self.text):
            cuts |= {found.start(), found.end()}
        ends = sorted(cuts)
        return [(a, b) for a, b in pairwise(ends) if not _SEPARATORS.fullmatch(self.text[a:b])]

    @cached_property
    def plain(self) -> str:
        """The words in lower case, without accents, with a space between them."""
        return " ".join(plain(self.text[a:b]).strip() for a, b in self.spans)

    def covered(self, pattern: str) -> set[int]:
        """Which words a pattern of the plain text covers."""
        ends = []
        place = 0
        for a, b in self.spans:
            length = len(plain(self.text[a:b]).strip())
            ends.append((place, place + length))
            place += length + 1
        return {
            number
            for found in re.finditer(pattern, self.plain)
            for number, (a, b) in enumerate(ends)
            if a < found.end() and b > found.start()
        }

    def without(self, words: set[int]) -> str:
        """The text without some of its words, with the separators between the others and whole brackets."""
        kept = [number for number in range(len(self.spans)) if number not in words]
        text = ""
        for before, number in zip([None, *kept], kept, strict=False):
            if before is not None:
                between = self.text[self.spans[before][1] : self.spans[number][0]]
                text += between if number == before + 1 else "_"
            text += self.text[slice(*self.spans[number])]
        for opening, closing in ("()", "[]"):
            missing = text.count(opening) - text.count(closing)
            text = opening * -missing + text + closing * missing
        return text


@dataclass(frozen=True)
class NamedFile:
    """A NIfTI file, and what its name and folders say.

    Attributes:
        file: path from the folder on.
        sequences: that it may be; several where the name contradicts itself.
        weak: they are said by words that mean little.
        mask: whether it is called a mask.
        part: what a mask is of, a key of `parts` in the table.
        psir: phase-sensitive.
        short_axis: whether it says so.
        systole: whether it says that it is end-systole.
        left_out: why it is no image of interest.
        whole: what is left of folders and name beside such words.
        start: the same, of the name only what stands before the first such word.
        place: of the user's pattern that it fits; later ones count less.
    """

    file: str
    sequences: tuple[str, ...] = ()
    weak: bool = False
    mask: bool = False
    part: str | None = None
    psir: bool = False
    short_axis: bool = False
    systole: bool = False
    left_out: str | None = None
    whole: tuple[str, ...] = ()
    start: tuple[str, ...] = ()
    place: int | None = None

    @property
    def sequence(self) -> str | None:
        """The one sequence that it is; None where that is not clear."""
        return self.sequences[0] if len(self.sequences) == 1 else None


def read_name(file: str) -> NamedFile:
    """Read the name of a NIfTI file, from the folder on."""
    *folders, _ = unicodedata.normalize("NFC", file).split("/")
    parts = [_Part(name) for name in (*folders, stem(unicodedata.normalize("NFC", file)))]
    table = rules()["file_names"]
    whole_name = " / ".join(part.plain for part in parts)
    sequences, weak = _sequences(parts)
    kept = [_left(part, sequences if weak else ()) for part in parts]
    cut = [start for _, start in kept]
    named_part = next((n for n, pattern in table["parts"].items() if re.search(pattern, whole_name)), None)
    return NamedFile(
        file,
        sequences,
        weak,
        bool(re.search(table["mask"], whole_name)),
        named_part,
        bool(re.search(r"\b[sw]?psir", whole_name)),
        bool(re.search(rules()["short_axis"], whole_name)),
        bool(re.search(table["systole"], whole_name)),
        next((kind for kind, pattern in _ignored() if re.search(pattern, whole_name)), None),
        tuple(text for text, _ in kept if text),
        tuple(text for text in (*(text for text, _ in kept[:-1]), cut[-1] or kept[-1][0]) if text),
    )


def sequences_in(name: str) -> tuple[str, ...]:
    """The sequences that one name says for sure."""
    return _said(_Part(name).plain, rules()["contrast"], rules()["file_names"]["contrast"])


def _ignored() -> Iterator[tuple[str, str]]:
    yield from rules()["ignore"].items()
    yield from rules()["file_names"]["ignore"].items()


def _sequences(parts: Sequence[_Part]) -> tuple[tuple[str, ...], bool]:
    """The sequences of a file, and whether weak words say them: its own name first, then its folders'."""
    table = rules()["file_names"]
    sure = (rules()["contrast"], table["contrast"])
    weak = (rules()["contrast_by_a_word"], table["contrast_by_a_word"])
    unsure: tuple[str, ...] = ()
    for tables in (sure, weak):
        for part in reversed(parts):
            found = _said(part.plain, *tables)
            if len(found) == 1 and (not unsure or found[0] in unsure):
                return found, tables is weak
            unsure = unsure or found
        if unsure:
            return unsure, tables is weak
    return (), False


def _said(text: str, *tables: Mapping[str, str]) -> tuple[str, ...]:
    return tuple(
        dict.fromkeys(name for table in tables for name, pattern in table.items() if re.search(pattern, text))
    )


def _left(part: _Part, weak: Sequence[str]) -> tuple[str, str]:
    """Return a name without the words that say what it is, and its start before them."""
    table: Mapping[str, Any] = rules()["file_names"]
    telling = [*rules()["contrast"].values(), *table["contrast"].values(), table["mask"]]
    for words in (rules()["contrast_by_a_word"], table["contrast_by_a_word"]):
        telling += [words[name] for name in weak if name in words]
    role = set().union(*(part.covered(pattern) for pattern in telling))
    if role or re.fullmatch("|".join(table["parts"].values()), part.plain):
        role |= set().union(*(part.covered(pattern) for pattern in table["parts"].values()))
    fillers = part.covered(table["fillers"]) | role
    first = min(role, default=len(part.spans))
    return part.without(fillers), part.without(fillers | set(range(first, len(part.spans))))
