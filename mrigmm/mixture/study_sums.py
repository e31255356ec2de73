"""Sums over the studies of a cohort that come out the same however the studies are shared out."""

from __future__ import annotations

from collections.abc import Callable
from functools import reduce

import numpy as np
import numpy.typing as npt

# Of a cohort's sum; more processes than these find nothing to do.
PARTIAL_SUMS = 1024

Array = npt.NDArray[np.float64]
# Adds up, element by element, what several processes hold, for each of them.
AddUp = Callable[[Array], Array]


class StudySums:
    """Elementwise sum of one vector per study, to the same bit on any number of processes.

    Floating-point sums depend on their order. So study i of the cohort goes into partial sum i mod 1024,
    each partial sum belongs to one process, which adds its studies in the cohort's order, and the partial
    sums are added in theirs. To gather them, they are added to the zeros that the other processes hold,
    which is exact. Memory does not grow with the cohort.

    Args:
        length: of the vectors.
    """

    def __init__(self, length: int) -> None:
        self._partial = np.zeros((PARTIAL_SUMS, length))

    def add(self, position: int, values: Array) -> None:
        """Add a study.

        Args:
            position: the study's place in the cohort; of those with the same `position % PARTIAL_SUMS`, all
                come from the same process, in their order.
            values: ``(length,)``.
        """
        self._partial[position % PARTIAL_SUMS] += values

    def collect(self, add_up: AddUp) -> None:
        """Take in what the other processes have; each of them has to make the call, once, at the end."""
        self._partial = add_up(self._partial)

    def total(self) -> Array:
        """Return the sum ``(length,)``."""
        return reduce(np.add, self._partial)
