"""Additions of other installed packages by entry points, as docs/extending.md shows."""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterator, Mapping
from functools import cached_property
from importlib.metadata import EntryPoint, entry_points
from traceback import walk_tb
from typing import Generic, NamedTuple, TypeVar

from mrigmm.errors import Problem

METHODS_GROUP, LAYOUTS_GROUP = "mrigmm.methods", "mrigmm.layouts"
# Names are typed on command lines, and name files.
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")

Value = TypeVar("Value")


class Found(NamedTuple, Generic[Value]):
    """An entry point's value, and the package that it is from.

    Attributes:
        value: what the entry point names.
        owner: the package and its version.
    """

    value: Value
    owner: str


class Extensible(Mapping[str, Value]):
    """Entries of this package by name, then those of other packages, which are looked for when first needed.

    Args:
        group: of the entry points.
        kind: what each of them has to be.
        built_in: the entries of this package, which no other can replace.
        reserved: further names that no package can use.
        adopt: makes of another package's entry, its name and its package the one that is used; what it raises
            makes the entry unusable. None: as it is.
    """

    def __init__(
        self,
        group: str,
        kind: type[Value],
        built_in: Mapping[str, Value],
        *,
        reserved: Collection[str] = (),
        adopt: Callable[[Value, str, str], Value] | None = None,
    ) -> None:
        self.group, self.kind, self.built_in = group, kind, built_in
        self.reserved, self.adopt = reserved, adopt

    def __getitem__(self, name: str) -> Value:
        return self.built_in[name] if name in self.built_in else self._added[0][name].value

    def __iter__(self) -> Iterator[str]:
        return iter((*self.built_in, *self._added[0]))

    def __len__(self) -> int:
        return len(self.built_in) + len(self._added[0])

    @property
    def owners(self) -> dict[str, str]:
        """Name -> package, of what other packages add."""
        return {name: found.owner for name, found in self._added[0].items()}

    @property
    def problems(self) -> Mapping[str, Problem]:
        """Warnings that name the package of what cannot be used, by the name of the entry point."""
        return self._added[1]

    @cached_property
    def _added(self) -> tuple[dict[str, Found[Value]], dict[str, Problem]]:
        added: dict[str, Found[Value]] = {}
        problems: dict[str, Problem] = {}
        for point in _points(self.group):
            owner = owner_of(point)
            taken = {name: found.owner for name, found in added.items()}
            taken |= dict.fromkeys((*self.built_in, *self.reserved), "mrigmm itself")
            try:
                value = self._load(point, taken)
                value = value if self.adopt is None else self.adopt(value, point.name, owner)
            except Exception as error:  # whatever the code of another package raises
                problems[point.name] = Problem(
                    f"'{point.name}' of the package {owner} cannot be used",
                    expected=f"{self.kind.__name__} at {point.value} (entry point of {self.group})",
                    got=said_by(error),
                    remedy="update or uninstall that package; all else works without it",
                    severity="warning",
                )
                continue
            added[point.name] = Found(value, owner)
        return added, problems

    def _load(self, point: EntryPoint, taken: Mapping[str, str]) -> Value:
        """Load an entry point.

        Raises:
            ValueError or TypeError: its name cannot be used, or it is something else.
            Exception: it cannot be loaded.
        """
        if point.name in taken:
            raise ValueError(f"the name is that of {taken[point.name]}")
        if not _NAME.fullmatch(point.name):
            raise ValueError("a name has letters, digits, '.', '_' and '-' only")
        value = point.load()
        if not isinstance(value, self.kind):
            raise TypeError(f"it is {type(value).__name__}")
        return value


def said_by(error: Exception) -> str:
    """Return what the code of another package raised, in a line, and the last line of that code it passed."""
    own = ("mrigmm", "importlib", "contextlib", "torch")
    packages = [
        (str(frame.f_globals.get("__name__")).partition(".")[0], f"{frame.f_code.co_filename}, line {line}")
        for frame, line in walk_tb(error.__traceback__)
    ]
    theirs = next((name for name, _ in packages if name not in own), None)
    places = [f" ({place})" for name, place in packages if name == theirs]
    return f"{type(error).__name__}: {error}".splitlines()[0] + "".join(places[-1:])


def added_names(group: str) -> tuple[str, ...]:
    """Return the names that other packages add to a group, without loading anything."""
    return tuple(dict.fromkeys(point.name for point in _points(group)))


def owner_of(point: EntryPoint) -> str:
    """Return the package of an entry point, with its version where it has one."""
    try:
        assert point.dist is not None
        return f"{point.dist.name} {point.dist.version}"
    except Exception:  # metadata that a broken installation left
        return point.module


def _points(group: str) -> tuple[EntryPoint, ...]:
    try:
        return tuple(entry_points(group=group))
    except Exception:  # a file of a broken installation that cannot be read: nobody's entry points are known
        return ()
