"""One number of all studies of a cohort, a dot per study."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from mrigmm.reporting.pictures import nice_ticks

WIDTH, HEIGHT = 420.0, 110.0  # of the part with the dots
_COLUMNS = 42  # that dots are stacked in
_LARGEST = 5.0  # radius


@dataclass(frozen=True)
class Distribution:
    """Dots of a cohort; lengths in pixels, y downwards.

    Attributes:
        dots: (across, down, study and its number in words).
        radius: of a dot.
        ticks: (across, number).
        median: (across, number).
        title: of what, with the unit.
    """

    dots: tuple[tuple[float, float, str], ...]
    radius: float
    ticks: tuple[tuple[float, str], ...]
    median: tuple[float, str]
    title: str


def distribution(values: Mapping[str, float], title: str) -> Distribution:
    """Return the dots of numbers from 0 upwards, stacked where they are alike.

    Args:
        values: study -> number; at least one.
        title: of what, with the unit.
    """
    highest = max(max(values.values()), 1.0)
    ticks = nice_ticks(0, highest, 6)
    across = WIDTH / ticks[-1]
    column = WIDTH / _COLUMNS
    placed: Counter[int] = Counter()
    stacks = []
    for study, value in sorted(values.items(), key=lambda item: item[1]):
        index = min(int(value * across / column), _COLUMNS - 1)
        stacks.append((index, placed[index], study, value))
        placed[index] += 1
    radius = min(_LARGEST, column / 2, HEIGHT / (2 * max(placed.values())))
    middle = float(np.median([*values.values()]))
    return Distribution(
        dots=tuple(
            ((index + 0.5) * column, HEIGHT - (2 * level + 1) * radius, f"{study}: {value:.1f}")
            for index, level, study, value in stacks
        ),
        radius=radius,
        ticks=tuple((t * across, f"{t:g}") for t in ticks),
        median=(middle * across, f"{middle:.1f}"),
        title=title,
    )
