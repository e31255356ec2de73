import io

import numpy as np
import pytest
from PIL import Image

from mrigmm.labels import segment_colours
from mrigmm.reporting.bland_altman import VolumePairs, bland_altman_picture

PAIRS = VolumePairs((1.0, 2.0, 3.0), (1.5, 2.0, 2.0), 1 / 6, (-1.3, 1.7))


@pytest.mark.parametrize(("classes", "across", "down"), [(1, 1, 1), (3, 3, 1), (4, 3, 2)])
def test_a_panel_per_class(classes, across, down):
    picture = bland_altman_picture({f"class {i}": PAIRS for i in range(classes)})
    assert (picture.width, picture.height) == pytest.approx((3.2 * 96 * across, 2.6 * 96 * down), abs=2)


def test_the_dots_are_coloured():
    picture = bland_altman_picture({"infarct (g)": PAIRS})
    rgb = np.asarray(Image.open(io.BytesIO(picture.data)).convert("RGB")).astype(int)
    assert (np.abs(rgb - segment_colours(1)[0]).max(axis=-1) < 20).sum() > 100
