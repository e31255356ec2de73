import pytest

from mrigmm.reporting.figures import HEIGHT, WIDTH, distribution


def test_a_dot_per_study_at_its_number():
    """Ticks to 40: 10 % lie at a quarter of the width."""
    found = distribution({"a": 10.0, "b": 38.0, "c": 10.0}, "infarct, %")
    assert found.ticks[-1] == (WIDTH, "40")
    assert found.median == (pytest.approx(WIDTH / 4), "10.0")
    (x, first, _), (same, second, _), (far, _, title) = found.dots
    assert x == same == pytest.approx(WIDTH / 4, abs=WIDTH / 42)
    assert first - second == 2 * found.radius  # stacked
    assert far == pytest.approx(0.95 * WIDTH, abs=WIDTH / 42)
    assert title == "b: 38.0"


@pytest.mark.parametrize("n", [2, 500])
def test_however_many_alike_stay_inside(n):
    found = distribution({str(i): 0.0 for i in range(n)}, "")
    assert min(y for _, y, _ in found.dots) >= found.radius * 0.99
    assert max(y for _, y, _ in found.dots) <= HEIGHT - found.radius
