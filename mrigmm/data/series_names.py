"""Meaning of the names of series and files: the tables of `resources/dicom_sequences.yaml`."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Mapping
from functools import cache
from importlib.resources import files
from typing import Any

import yaml

# Values of Image Type and Complex Image Component; imaginary parts are no magnitudes either.
PHASE_TYPES = frozenset(
    {
        *("P", "PHASE", "PHASE MAP", "P_FFE", "P_IR", "P_SE", "VELOCITY", "VELOCITY MAP"),
        *("I", "IMAGINARY", "I_FFE", "I_IR", "I_SE", "MIXED"),
    }
)


@cache
def rules() -> Mapping[str, Any]:
    """The table of rules."""
    text = (files("mrigmm.resources") / "dicom_sequences.yaml").read_text(encoding="utf-8")
    return yaml.safe_load(text)


def plain(text: str) -> str:
    """A name in lower case, without accents and umlauts, with _ - . / as spaces."""
    letters = unicodedata.normalize("NFKD", text.casefold())
    return re.sub(r"[\s_\-./]+", " ", "".join(c for c in letters if not unicodedata.combining(c)))


def words(name: str, kind: str) -> dict[str, str]:
    """Return what a name says, and by which word: sequences or reasons to ignore it, of one table."""
    return {
        sequence: f"the name has '{word[0].strip()}'"
        for sequence, pattern in rules()[kind].items()
        if (word := re.search(pattern, name))
    }
