import math

import pytest

from mrigmm.evaluation.scores import COMPARED, Scores, compare_scores, holm


def scores(dice, hd95=1.0, predicted=1.0):
    """Of one class with a reference of 1 ml."""
    return Scores(dice, dice / 2, predicted, 1.0, hd95, math.nan, math.nan, math.nan, 0)


def test_holm_by_hand():
    """.01 x 4, .03 x 3, .04 x 2 (raised to .09), .5 x 1; what was not tested does not count."""
    found = holm({"a": 0.04, "b": 0.01, "c": math.nan, "d": 0.5, "e": 0.03})
    assert list(found) == ["a", "b", "c", "d", "e"]
    assert {name: p for name, p in found.items() if name != "c"} == {
        "a": pytest.approx(0.09),
        "b": pytest.approx(0.04),
        "d": 0.5,
        "e": pytest.approx(0.09),
    }
    assert math.isnan(found["c"])
    assert holm({"a": 0.6, "b": 0.7}) == {"a": 1.0, "b": 1.0}


def test_first_minus_second_on_the_studies_that_both_have():
    first = {"a": {"scar": scores(0.8, 2)}, "b": {"scar": scores(0.6, math.nan)}, "c": {"scar": scores(0.1)}}
    second = {"b": {"scar": scores(0.5, 3, predicted=3)}, "a": {"scar": scores(0.5, 3)}}
    found = compare_scores(first, second)
    assert tuple(found) == COMPARED
    dice = found["dice"]["scar"]
    assert dice.pairs == {"a": (0.8, 0.5), "b": (0.6, 0.5)}
    assert (dice.first_mean, dice.second_mean) == (pytest.approx(0.7), 0.5)
    assert dice.difference.mean == pytest.approx(0.2)
    assert (dice.difference.n, dice.difference.n_unpaired) == (2, 1)
    hd95 = found["hd95_mm"]["scar"]
    assert (hd95.pairs, hd95.difference.mean) == ({"a": (2, 3)}, -1)
    assert found["volume_error_ml"]["scar"].pairs == {"a": (0, 0), "b": (0, 2)}


def test_p_values_are_corrected_over_the_classes_of_a_metric():
    """Six studies of one sign in two of three classes: p = 2/64 each, times 3 for the smallest."""
    names = ("blood", "edema", "scar")
    first, second = (
        {
            str(i): {name: scores(0.5 + (better if name != "blood" else 0) * (i + 1) / 20) for name in names}
            for i in range(6)
        }
        for better in (1, 0)
    )
    found = compare_scores(first, second)["dice"]
    assert found["scar"].difference.p_value == pytest.approx(2 / 64)
    assert {name: c.p_holm for name, c in found.items()} == {
        "blood": 1.0,
        "edema": pytest.approx(6 / 64),
        "scar": pytest.approx(6 / 64),
    }


def test_classes_that_only_one_has_are_left_out():
    first, second = {"a": {"scar": scores(1), "edema": scores(1)}}, {"a": {"scar": scores(1)}}
    assert list(compare_scores(first, second)["dice"]) == ["scar"]


def test_nothing_in_pairs():
    nan = math.nan
    found = compare_scores({"a": {"scar": scores(nan)}}, {"a": {"scar": scores(0.5)}})["dice"]["scar"]
    assert found.pairs == {}
    assert all(math.isnan(v) for v in (found.first_mean, found.difference.mean, found.p_holm))
