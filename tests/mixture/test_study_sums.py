"""Sums over studies that are shared out."""

import numpy as np
import pytest

from mrigmm.mixture import PARTIAL_SUMS, PopulationSums, StudySums


def shared_out(vectors, count, order=None):
    """The sum when `count` processes share the vectors, as each of them gets it."""
    sums = [StudySums(vectors.shape[1]) for _ in range(count)]
    for position, vector in enumerate(vectors):
        sums[position % PARTIAL_SUMS % count].add(position, vector)
    held = [one._partial.copy() for one in sums]
    for one in sums:
        one.collect(lambda mine: np.add.reduce([held[i] for i in order or range(count)]))
    return [one.total() for one in sums]


@pytest.fixture(scope="module")
def vectors():
    """Of very different size, so that another order gives other bits."""
    random = np.random.default_rng(1)
    return random.normal(size=(2500, 3)) * 10.0 ** random.integers(-8, 8, (2500, 1))


@pytest.mark.parametrize("count", [2, 3, 4, 7])
def test_the_same_bits_on_any_number_of_processes(vectors, count):
    (alone,) = shared_out(vectors, 1)
    assert not np.array_equal(alone, vectors[::-1].cumsum(axis=0)[-1])  # the order does matter
    for total in (*shared_out(vectors, count), *shared_out(vectors, count, [*range(count)][::-1])):
        np.testing.assert_array_equal(total, alone)
    np.testing.assert_allclose(alone, vectors.sum(axis=0), rtol=1e-12)


def test_up_to_1024_studies_are_added_one_after_the_other(vectors):
    few = vectors[:PARTIAL_SUMS]
    np.testing.assert_array_equal(shared_out(few, 1)[0], few.cumsum(axis=0)[-1])


def test_by_hand():
    sums = StudySums(2)
    for position, value in ((0, 1.0), (3, 2.0), (PARTIAL_SUMS, 4.0)):
        sums.add(position, np.array([value, -value]))
    np.testing.assert_array_equal(sums.total(), [7.0, -7.0])


def test_a_prior_of_studies_that_are_shared_out():
    """One sequence is missing in one study, and one class in another; the third process has no study."""
    random = np.random.default_rng(2)
    studies = [(random.normal(size=(30, 2)), np.repeat([0, 1, 2], 10)) for _ in range(4)]
    studies[1][0][:, 1] = np.nan
    studies[2][1][:] = np.repeat([0, 1], 15)
    names = {"classes": ("a", "b", "c"), "sequences": ("LGE", "T2")}
    one, first, second, third = (PopulationSums(**names) for _ in range(4))
    for position, study in enumerate(studies):
        (first if position % 2 else second).add(position, *study)
        one.add(position, *study)
    held = [part._sums._partial.copy() for part in (first, second, third)]
    third.collect(lambda mine: sum(held))
    prior = third.prior(standardisation="lv_z")
    assert prior.to_dict() == one.prior(standardisation="lv_z").to_dict()
