"""Whose probabilities are measured: of which methods expected values and intervals are shown."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

EXPECTED = "expected_"
# Not calibrated as volumes: an interval of 3 to 92 g for an infarct of 42 g says nothing.
_NOT_SHOWN = ("pretrained",)


def is_shown(method: str) -> bool:
    """Whether volumes by a method's probabilities say anything of the true ones."""
    return method not in _NOT_SHOWN


def shown(row: Mapping[str, Any], method: str) -> dict[str, Any]:
    """Return a study's numbers (`Quantities.as_dict`) without what its method's probabilities do not tell."""
    if is_shown(method):
        return dict(row)
    volumes = {name: value for name, value in row["volumes"].items() if not name.startswith(EXPECTED)}
    return {**row, "volumes": volumes, "intervals": {}}
