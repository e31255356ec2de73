"""Estimation of a population prior from labelled studies, which may lie on several processes."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from functools import reduce
from typing import Any

import numpy as np
import numpy.typing as npt

from mrigmm.mixture.population import PopulationPrior

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


class PopulationSums:
    """The sums of a population prior, added study by study; no voxel is kept. Each study counts the same.

    Class means: mean over studies of the study's class mean. Covariances: mean over studies of the
    covariance within the study and class (divisor n). Weights: mean class fraction; a study without a class
    adds 0 to its weight and nothing to its mean and covariance.

    Args:
        classes: K names.
        sequences: C names.
    """

    def __init__(self, classes: Sequence[str], sequences: Sequence[str]) -> None:
        self.classes, self.sequences = tuple(classes), tuple(sequences)
        K, C = len(classes), len(sequences)
        # Means and covariances, the studies that have them, class fractions, studies.
        self._shapes = ((K, C), (K, C, C), (K, C), (K, C, C), (K,), (1,))
        self._sums = StudySums(sum(map(math.prod, self._shapes)))

    def add(self, position: int, values: npt.ArrayLike, labels: npt.ArrayLike) -> None:
        """Add a study; without voxels it does not count.

        Args:
            position: in the cohort, as `StudySums.add` takes it.
            values: ``(N, C)`` intensities inside the region. A sequence that the study lacks is NaN in its
                whole column; covariances of two sequences come from the studies that have both.
            labels: ``(N,)`` class index in 0..K-1.

        Raises:
            ValueError: shapes, labels or values that do not fit.
        """
        K, C = self._shapes[0]
        x, label = np.asarray(values, dtype=np.float64), np.asarray(labels)
        if x.ndim != 2 or x.shape[1] != C or label.shape != (len(x),):
            raise ValueError(
                f"study {position}: expected x (N, {C}) and label (N,), got {x.shape} and {label.shape}"
            )
        if len(x) == 0:
            return
        if label.min() < 0 or label.max() >= K:
            raise ValueError(
                f"study {position}: expected labels in 0..{K - 1}, got {label.min()}..{label.max()}"
            )
        has = ~np.isnan(x).all(axis=0)
        if not np.isfinite(x[:, has]).all():
            raise ValueError(f"study {position}: some values of a present sequence are not finite")
        means, covariances, mean_count, cov_count, fractions, count = (
            np.zeros(shape) for shape in self._shapes
        )
        pair = np.outer(has, has)
        for k in range(K):
            own = x[label == k][:, has]
            if len(own) == 0:
                continue
            centre = own.mean(axis=0)
            means[k, has], mean_count[k, has] = centre, 1
            covariances[k][pair] = ((own - centre).T @ (own - centre) / len(own)).ravel()
            cov_count[k][pair] = 1
        fractions[:] = np.bincount(label, minlength=K) / len(label)
        count[:] = 1
        figures = (means, covariances, mean_count, cov_count, fractions, count)
        self._sums.add(position, np.concatenate([figure.ravel() for figure in figures]))

    def collect(self, add_up: AddUp) -> None:
        """Take in the studies of the other processes; the prior is then theirs too, to the same bit.

        Args:
            add_up: as `StudySums.collect` takes it; every process has to make the call.
        """
        self._sums.collect(add_up)

    def prior(self, *, standardisation: str, provenance: Mapping[str, Any] | None = None) -> PopulationPrior:
        """Return the prior of the studies so far.

        Args:
            standardisation: name of the standardisation that the intensities went through.
            provenance: source and study ids, saved with the prior.

        Raises:
            ValueError: a class without voxels in every study that has a pair of sequences.
        """
        total = self._sums.total()
        ends = np.cumsum([math.prod(shape) for shape in self._shapes])[:-1]
        means, covariances, mean_count, cov_count, fractions, count = (
            part.reshape(shape) for part, shape in zip(np.split(total, ends), self._shapes, strict=True)
        )
        unseen = [name for name, counts in zip(self.classes, cov_count, strict=True) if (counts == 0).any()]
        if unseen:
            raise ValueError(f"no study has voxels of {', '.join(unseen)} in every pair of sequences")
        return PopulationPrior(
            self.classes,
            self.sequences,
            means / mean_count,
            _positive_definite(covariances / cov_count),
            fractions / count,
            standardisation,
            {} if provenance is None else dict(provenance),
        )


def _positive_definite(covariances: Array) -> Array:
    """Return the nearest covariances with eigenvalues above a millionth of the largest.

    Averages of blocks from different studies, or of few voxels, can be singular.
    """
    values, vectors = np.linalg.eigh(covariances)
    floor = 1e-6 * np.maximum(values[:, -1:], np.finfo(np.float64).tiny)
    if (values >= floor).all():
        return covariances
    values = np.maximum(values, floor)
    repaired: Array = (vectors * values[:, None, :]) @ vectors.swapaxes(-1, -2)
    return (repaired + repaired.swapaxes(-1, -2)) / 2
