import io

import matplotlib.image
import numpy as np
import pytest
from matplotlib import colormaps

from mrigmm.reporting.bulls_eye import bulls_eye_figure


def picture(values, unit="%"):
    png = bulls_eye_figure(values, title="transmurality", unit=unit)
    return matplotlib.image.imread(io.BytesIO(png))[..., :3]


def where(image, colour):
    """Middle (row, column) of the pixels of a colour, in units of the picture's height; None without any."""
    found = np.argwhere(np.abs(image - np.asarray(colour)[:3]).max(axis=-1) < 0.01)
    return None if len(found) < 50 else found.mean(axis=0) / image.shape[0]


def shade(share):
    return colormaps["cividis"](share)


def test_the_segments_lie_where_the_aha_draws_them():
    """Anterior (1) on top, inferior (4) below, septum (2, 3) at the left, apical septal (14) left inside."""
    middle = where(picture(dict.fromkeys(range(1, 17), 30.0)), shade(0.3))
    places = {
        number: where(picture({n: 100.0 if n == number else 0.0 for n in range(1, 17)}), shade(1.0))
        for number in (1, 2, 3, 4, 5, 6, 14)
    }
    up = {number: middle[0] - place[0] for number, place in places.items()}
    right = {number: place[1] - middle[1] for number, place in places.items()}
    assert up[1] > 0.25 > abs(right[1])
    assert up[4] < -0.25
    assert right[2] < -0.2 < 0.1 < up[2]
    assert right[3] < -0.2
    assert up[3] < -0.1
    assert right[5] > 0.1 > 0 > up[5]
    assert right[6] > 0.1
    assert up[6] > 0.1
    assert -0.25 < right[14] < -0.1


def test_missing_segments_are_hatched():
    full = picture(dict.fromkeys(range(1, 17), 50.0))
    for missing in ({}, {1: None}, {1: float("nan")}):
        image = picture(dict.fromkeys(range(2, 17), 50.0) | missing)
        changed = np.argwhere(np.abs(image - full).max(axis=-1) > 0.1)
        assert len(changed) > 500
        assert len(np.unique(image[tuple(changed.T)].round(2), axis=0)) > 2  # no flat colour
    assert (picture({}) != full).any()


def test_other_units_span_what_there_is():
    image = picture({1: 2.0, 4: 4.0}, unit="g")
    assert where(image, shade(0.5)) is not None
    assert where(image, shade(1.0)) is not None
    assert picture({1: 0.0}, unit="g").shape == image.shape  # nothing above 0


def test_a_segment_that_is_none():
    with pytest.raises(ValueError, match="1 to 16"):
        bulls_eye_figure({17: 1.0}, title="", unit="%")
