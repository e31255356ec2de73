"""Problems of a user's input, said so that the user can mend them."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from difflib import get_close_matches
from pathlib import Path
from typing import Literal

Severity = Literal["error", "warning", "note"]


@dataclass(frozen=True)
class Problem:
    """One problem of the input: where it is, what was expected, what was found, what to do."""

    what: str
    study: str | None = None
    file: str | None = None
    expected: str | None = None
    got: str | None = None
    remedy: str | None = None
    severity: Severity = "error"

    @property
    def brief(self) -> str:
        """Return what is wrong and with which file, in one line."""
        return self.what if self.file is None else f"{self.what} ({Path(self.file).name})"

    @property
    def line(self) -> str:
        """All but where it is, in one line."""
        found = "" if self.got is None else f": {self.got}"
        expected = "" if self.expected is None else f"; expected {self.expected}"
        remedy = "" if self.remedy is None else f" ({self.remedy})"
        return f"{self.what}{found}{expected}{remedy}"

    def __str__(self) -> str:
        fields = (
            ("study", self.study),
            ("file", self.file),
            ("expected", self.expected),
            ("got", self.got),
            ("remedy", self.remedy),
        )
        lines = [self.what, *(f"  {name}: {value}" for name, value in fields if value is not None)]
        return "\n".join(map(printable, lines))


def lines(problems: Iterable[Problem], severity: Severity) -> tuple[str, ...]:
    """The problems of one severity, in a line each."""
    return tuple(problem.line for problem in problems if problem.severity == severity)


def told(texts: Iterable[str], severity: Severity, study: str | None = None) -> list[Problem]:
    """Plain texts as problems of a severity."""
    return [Problem(text, study, severity=severity) for text in texts]


def printable(text: str) -> str:
    """A text whose line breaks and control characters are escapes: a name must not speak to the terminal."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


_MAX_NAMES = 5  # of a list in one line
# A number that is no part of a name such as T2.
_NUMBER = re.compile(r"(?<![^\W\d])\d+(?:[.,]\d+)*")


def some_of(names: Sequence[str], at_most: int = _MAX_NAMES) -> str:
    """The first few names of a list, and how many there are where not all are named."""
    first = ", ".join(names[:at_most])
    return first if len(names) <= at_most else f"{first}, ... ({len(names)} in all)"


def grouped(problems: Iterable[Problem]) -> list[Problem]:
    """Problems that differ by study, file and what was found only, as one that names the first of them.

    Where there are more than a few that differ in numbers, too, they are one with the numbers of the first.
    In the order of the first of each; what belongs to no study and no file stands for itself.
    """
    same = _alike(list(enumerate(problems)), lambda text: text)
    alike = _alike([group[0] for group in same], lambda text: text and _NUMBER.sub("#", text))
    by_first = {group[0][0]: group for group in same}
    told = []
    for firsts in alike:
        groups = [by_first[number] for number, _ in firsts]
        if len(groups) > _MAX_NAMES:
            first = groups[0][0][1]
            whose = first.study or Path(first.file or "").name
            own = replace(first, what=f"{first.what} (so for {whose}; the others have numbers of their own)")
            told.append((groups[0][0][0], _merged([own, *(p for group in groups for _, p in group)])))
        else:
            told += [(group[0][0], _merged([problem for _, problem in group])) for group in groups]
    return [problem for _, problem in sorted(told, key=lambda found: found[0])]


_Numbered = tuple[int, Problem]


def _alike(problems: Iterable[_Numbered], read: Callable[[str | None], str | None]) -> list[list[_Numbered]]:
    """Numbered problems that say the same of several studies or files, each text as it is read."""
    groups: dict[tuple[str | None, ...], list[_Numbered]] = {}
    for number, problem in problems:
        alone = str(number) if problem.study is None and problem.file is None else None
        about = "study" if problem.study is not None else None
        said = map(read, (problem.what, problem.expected, problem.remedy))
        groups.setdefault((alone, about, *said, problem.severity), []).append((number, problem))
    return list(groups.values())


def _merged(same: Sequence[Problem]) -> Problem:
    """One problem for several; of what was found, too, the first few."""
    if len(same) == 1:
        return same[0]
    studies, files, found = (
        some_of(list(dict.fromkeys(value for value in values if value is not None))) or None
        for values in zip(*((problem.study, problem.file, problem.got) for problem in same), strict=True)
    )
    return replace(same[0], study=studies, file=files, got=found)


class InputError(Exception):
    """Input that cannot be used. Carries every problem found, not only the first."""

    def __init__(
        self,
        what: str,
        *,
        study: str | None = None,
        file: object = None,
        expected: str | None = None,
        got: str | None = None,
        remedy: str | None = None,
    ) -> None:
        file_name = None if file is None else str(file)
        self.problems: tuple[Problem, ...] = (Problem(what, study, file_name, expected, got, remedy),)
        super().__init__(str(self.problems[0]))

    @classmethod
    def from_problems(cls, problems: Iterable[Problem]) -> InputError:
        """One error that carries several problems."""
        collected = tuple(problems)
        error = cls("")
        error.problems = collected
        error.args = ("\n".join(str(problem) for problem in grouped(collected)),)
        return error


@dataclass(frozen=True)
class StudyFile:
    """A file of a study, as errors name it.

    Attributes:
        study: study id.
        role: what it is in the study ("LGE", "region", ...).
        path: None: it is in memory.
    """

    study: str
    role: str
    path: Path | None = None

    def error(
        self, what: str, *, expected: str | None = None, got: str | None = None, remedy: str | None = None
    ) -> InputError:
        """Return what is wrong with it."""
        return InputError(what, study=self.study, file=self.path, expected=expected, got=got, remedy=remedy)


def counted(number: int, noun: str, plural: str | None = None) -> str:
    """A number with its noun: 1 study, 2 studies."""
    return f"{number} {noun if number == 1 else plural or f'{noun}s'}"


def missing_extra(extra: str, error: ImportError) -> InputError:
    """The error of a job whose optional packages are not installed."""
    return InputError(
        "this needs packages that are not installed",
        expected=f"the extra [{extra}]",
        got=str(error),
        remedy=f"pip install 'mrigmm[{extra}]'",
    )


# What torch, its oneDNN, ITK and the system's threads say where Python has `MemoryError`, in lower case.
_NO_MEMORY = (
    "can't allocate memory",
    "not enough memory",
    "out of memory",
    "failed to allocate",
    "bad_alloc",
    "could not create a primitive",
    "can't start new thread",
    "error return without exception set",
)


@contextmanager
def memory_checked() -> Iterator[None]:
    """Turn the system's refusal of memory into an error of the input.

    Raises:
        InputError: there was not enough memory.
    """
    try:
        yield
    except InputError:
        raise
    except Exception as error:  # MONAI makes a ValueError of it
        cause = _want_of_memory(error)
        if cause is None:
            raise
        raise InputError(
            "there is not enough memory",
            got=str(cause).split("\n")[0] or type(cause).__name__,
            remedy="end other programs, raise this one's limit, or use a computer with more memory",
        ) from None


def _want_of_memory(error: BaseException | None) -> BaseException | None:
    """The refusal of memory among an error and those that it came from."""
    while error is not None:
        if isinstance(error, MemoryError) or any(said in str(error).lower() for said in _NO_MEMORY):
            return error
        error = error.__cause__ or error.__context__
    return None


def near_misses(name: str, known: Sequence[str]) -> str:
    """A remedy for an unknown name: the closest known ones, or all of them when none is close."""
    lower = {candidate.lower(): candidate for candidate in known}
    close = [lower[match] for match in get_close_matches(name.lower(), list(lower), n=3, cutoff=0.5)]
    if close:
        return f"did you mean {' or '.join(close)}?"
    return f"known names: {', '.join(known)}"
