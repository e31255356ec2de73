"""Manifests: the studies of a cohort, their files, sequences, classes and splits.

`manifest_file.py` reads one; format and rules stand in `docs/data.md`.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from mrigmm.errors import InputError, near_misses
from mrigmm.labels import AUXILIARY_NAMES

SPLITS = ("training", "validation", "test")
_MAX_ID_BYTES = 150  # leaves room for suffixes within the 255 bytes of common file systems
# File names that Windows keeps for itself, with any suffix.
_DEVICE_NAMES = {"CON", "PRN", "AUX", "NUL", *(f"{port}{n}" for port in ("COM", "LPT") for n in range(1, 10))}


@dataclass(frozen=True)
class RegionRule:
    """Rule for a region map that no file holds.

    Attributes:
        kind: "lv" (1 where the reference label is a class of the cohort), "cavity-wall" (1 where it
            is blood, 2 where it is another class) or "nonzero" (1 where every sequence is above 0,
            for skull-stripped and masked images).
    """

    kind: str

    KINDS = ("lv", "cavity-wall", "nonzero")


@dataclass(frozen=True)
class Study:
    """One patient examination as the manifest names it: files only, nothing is read yet."""

    id: str
    images: Mapping[str, Path]  # sequence name -> file; a missing sequence is absent
    region: Path | RegionRule | None = None
    label: Path | None = None
    patient: str | None = None  # None: the study is the patient's only one
    visit: str | None = None  # which of the patient's (`data.visits`)
    frames: Mapping[str, int] = field(default_factory=dict)  # which frame, from 0, of a file with several
    scribbles: Path | None = None  # classes that a user named in a few voxels


@dataclass(frozen=True)
class Manifest:
    """A cohort: sequences in channel order, label ids per class, studies per split."""

    path: Path
    sequences: tuple[str, ...]
    labels: Mapping[str, tuple[int, ...]]
    splits: Mapping[str, tuple[Study, ...]] = field(default_factory=dict)
    name: str = ""

    @property
    def classes(self) -> tuple[str, ...]:
        """Class names that the manifest declares, without background and auxiliary structures."""
        return tuple(name for name in self.labels if name not in AUXILIARY_NAMES)

    def split(self, name: str) -> tuple[Study, ...]:
        """Studies of one split, or of all splits for "all".

        Raises:
            InputError: for an unknown or empty split.
        """
        if name == "all":
            return tuple(study for studies in self.splits.values() for study in studies)
        if name not in SPLITS:
            raise InputError(
                f"unknown split '{name}'", file=self.path, remedy=near_misses(name, (*SPLITS, "all"))
            )
        studies = self.splits.get(name, ())
        if not studies:
            filled = [f"{split} ({len(found)})" for split, found in self.splits.items() if found]
            raise InputError(
                f"the split '{name}' has no studies",
                file=self.path,
                expected="at least one study",
                got=f"studies in: {', '.join(filled) or 'no split'}",
                remedy="put studies under 'training' in the manifest, by hand or with mrigmm manifest ... "
                "--split ratio=0.7/0.1/0.2 (prior: the same command with --split all)"
                if name == "training"
                else "the same command with --split all",
            )
        return studies


def check_study_id(study_id: object) -> str | None:
    """Reason why a study id cannot be used in file names, or None when it can."""
    if not isinstance(study_id, str) or not study_id.strip():
        return "a study id must be a non-empty text"
    # First: what cannot be printed cannot always be encoded.
    if study_id.startswith(".") or not study_id.isprintable() or re.search(r'[/\\:*?"<>|]', study_id):
        return 'a study id becomes a file name: no leading dot, no / \\ : * ? " < > |, no control characters'
    if study_id.split(".")[0].strip().upper() in _DEVICE_NAMES:
        return "a study id becomes a file name: Windows keeps CON, PRN, AUX, NUL, COM1 and LPT1 for itself"
    if len(study_id.encode()) > _MAX_ID_BYTES:
        return f"a study id may have at most {_MAX_ID_BYTES} bytes"
    return None
