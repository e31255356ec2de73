"""Entries of the registry of methods. Imports no torch, so that listing them is instant."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from pydantic.fields import FieldInfo

from mrigmm.methods.settings import MethodSettings


@dataclass(frozen=True)
class Needs:
    """Input that a method cannot do without; `needs.py` refuses studies without it before any is segmented.

    Attributes:
        prior: a population prior for the classes and sequences.
        classes: that have to be among those of the task.
        wall: a region map that tells the wall from the cavity.
        sequences: that a study has to have.
        one_of: sequences of which a study has to have one; empty: any will do.
        only: the classes that the method can tell apart; empty: whatever they are.
        covered: every sequence of a study in every voxel of its region.
        wall_classes: so many classes of the wall.
        cavity: a region map with the cavity, or a class for blood to find it by.
    """

    prior: bool = False
    classes: tuple[str, ...] = ()
    wall: bool = False
    sequences: tuple[str, ...] = ()
    one_of: tuple[str, ...] = ()
    only: tuple[str, ...] = ()
    covered: bool = False
    wall_classes: int = 0
    cavity: bool = False


@dataclass(frozen=True)
class MethodEntry:
    """All that is known of a method without importing it.

    Attributes:
        location: "module:class".
        summary: what it does, in one line.
        settings: what `--set` can change; None: nothing.
        needs: what it cannot do without.
        uses_prior: whether a population prior is of use to it.
        uses_scribbles: whether it learns from a user's scribbles.
        by_intensity: whether it goes by intensities, without knowing what ventricles look like.
    """

    location: str
    summary: str
    settings: type[MethodSettings] | None = None
    needs: Needs = Needs()
    uses_prior: bool = True
    uses_scribbles: bool = False
    by_intensity: bool = True

    @property
    def fields(self) -> Mapping[str, FieldInfo]:
        """Its settings by name."""
        return {} if self.settings is None else self.settings.model_fields
