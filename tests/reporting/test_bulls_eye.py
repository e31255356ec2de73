import numpy as np
import pytest
from matplotlib import colormaps

from mrigmm.reporting.bulls_eye import TERRITORIES, bulls_eye


def wedges(values):
    return {wedge.segment: wedge for wedge in bulls_eye(values, "").wedges}


def test_the_segments_lie_where_the_aha_draws_them():
    """Anterior (1) on top, inferior (4) below, septum (2, 3) at the left, apical septal (14) left inside."""
    place = {number: (wedge.x, -wedge.y) for number, wedge in wedges({}).items()}  # right, up
    assert sorted(place) == [*range(1, 17)]
    for top, bottom, septal, lateral in ((1, 4, 2, 6), (7, 10, 8, 12), (13, 15, 14, 16)):
        assert place[top][1] > 30 > abs(place[top][0])
        assert place[bottom][1] < -30 < place[bottom][0] < 30
        assert place[septal][0] < -30
        assert place[lateral][0] > 30
    assert place[3][0] < -70 < place[3][1] < 0 < place[2][1]
    radius = [np.hypot(*place[number]) for number in (1, 7, 13)]
    np.testing.assert_allclose(radius, [87.5, 62.5, 37.5])


def test_colours_span_0_to_100_percent_and_missing_segments_have_none():
    found = wedges({1: 0.0, 2: 50.0, 3: 100.0, 4: None, 5: float("nan")})
    for number, share in {1: 0.0, 2: 0.5, 3: 1.0}.items():
        np.testing.assert_allclose(
            found[number].colour, np.array(colormaps["cividis"](share)[:3]) * 255, atol=1
        )
    assert [found[n].dark for n in (1, 2, 3)] == [True, False, False]
    assert [found[n].colour for n in (4, 5, 6)] == [None, None, None]
    assert [found[n].value for n in (4, 5, 6)] == [None, None, None]


def test_territories_hold_every_segment_once_and_meet_at_three_lines_a_ring():
    assert sorted(n for segments in TERRITORIES.values() for n in segments) == [*range(1, 17)]
    assert bulls_eye({}, "").borders.count("M") == 9


def test_a_segment_that_is_none():
    with pytest.raises(ValueError, match="1 to 16"):
        bulls_eye({17: 1.0}, "")
