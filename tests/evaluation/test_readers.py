import math

import numpy as np
import pytest

from mrigmm.evaluation.agreement import quantity_agreement, segment_kappas, weighted_kappa

from .test_volume_agreement import SHROUT_FLEISS

NAN = math.nan


def test_the_published_judges():
    """Four judges of six targets; Shrout and Fleiss 1979, table 4: ICC(2,1) = .29."""
    found = quantity_agreement(SHROUT_FLEISS.astype(float))
    assert (found.n, len(found.pairs)) == (6, 6)
    assert found.icc.value == pytest.approx(0.29, abs=0.005)
    assert (found.icc.low, found.icc.high) == (pytest.approx(0.02, abs=0.005), pytest.approx(0.76, abs=0.005))
    # Judges 1 and 2: differences 7, 5, 4, 6, 5, 4; mean 31/6.
    assert found.pairs[0, 1].bias.value == pytest.approx(31 / 6)


def test_studies_that_a_reader_lacks():
    values = np.array([[1, 2, NAN], [2, 2, 2], [3, 5, 4], [4, 4, 5], [NAN, NAN, 1]])
    found = quantity_agreement(values)
    assert found.n == 3
    assert {pair: agreement.n for pair, agreement in found.pairs.items()} == {(0, 1): 4, (0, 2): 3, (1, 2): 3}
    assert found.pairs[0, 1].bias.value == pytest.approx(-3 / 4)
    np.testing.assert_array_equal(found.of_pair((0, 2)), [[2, 2], [3, 4], [4, 5]])


def test_kappa_by_hand():
    """Grades 0, 1, 2, 4 and 0, 2, 2, 3.

    Distances 0, 1, 0, 1: observed 2/4. Expected is the mean distance of all 16 pairs: (0, 2, 2, 3),
    (1, 1, 1, 2), (2, 0, 0, 1), (4, 2, 2, 1): 24/16. Kappa = 1 - (2/4) / (24/16) = 2/3.
    """
    first, second = np.array([0.0, 20, 40, 100]), np.array([0.0, 50, 26, 75])
    found = weighted_kappa(first, second)
    assert (found.value, found.n) == (pytest.approx(2 / 3), 4)


def test_kappa_at_the_ends_of_grades():
    assert weighted_kappa(np.array([0.0, 25, 50, 75]), np.array([0.0, 0.1, 25.1, 50.1])).value == 1
    assert weighted_kappa(np.array([0.0, 100]), np.array([100.0, 0])).value == -1


def test_kappa_of_nothing():
    for first, second in (([0.0, 0], [0.0, 0]), ([NAN, 1], [1, NAN]), ([], [])):
        assert math.isnan(weighted_kappa(np.array(first), np.array(second)).value)


def test_segments():
    """Two readers, two studies, three segments: they agree in the first, and once in the second."""
    transmurality = np.array([[[0, 0, NAN], [0, 0, 10]], [[80, 80, NAN], [80, 0, 10]]], float)
    ((pair, kappas),) = segment_kappas(transmurality).items()
    assert pair == (0, 1)
    assert [k.n for k in kappas] == [2, 2, 0, 4]
    assert kappas[0].value == 1
    assert kappas[1].value == 0
    # All: grades 0, 0, 4, 4 and 0, 0, 4, 0. Observed 4/4; expected 2 (4 + 4 + 4 + 4) / 16 = 2.
    assert kappas[3].value == pytest.approx(1 - 1 / 2)
