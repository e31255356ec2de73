import pytest

from mrigmm.reporting.pictures import nice_ticks


@pytest.mark.parametrize(
    ("low", "high", "ticks"),
    [
        (0, 38, [0, 10, 20, 30, 40]),
        (-1.3, 2.2, [-2, -1, 0, 1, 2, 3]),
        (0, 60, [0, 10, 20, 30, 40, 50, 60]),
        (0.99, 1.01, [0.99, 0.995, 1.0, 1.005, 1.01]),
        (0, 0.95e6, [0, 200_000, 400_000, 600_000, 800_000, 1_000_000]),
    ],
)
def test_ticks_are_round_few_and_enclose_what_is_shown(low, high, ticks):
    assert nice_ticks(low, high, 6) == pytest.approx(ticks)


def test_ticks_of_one_value_end():
    assert len(nice_ticks(3.0, 3.0, 6)) >= 1
