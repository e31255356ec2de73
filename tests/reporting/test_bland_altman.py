import io

import numpy as np
import pytest
from PIL import Image

from mrigmm.reporting.bland_altman import VolumePairs, bland_altman_picture, paired_volumes


def test_bias_and_limits_by_hand():
    """Differences 1, 0, 2 ml: mean 1 ml, SD 1 ml, limits 1 -/+ 1.96 ml."""
    pairs = VolumePairs((11.0, 20.0, 32.0), (10.0, 20.0, 30.0))
    assert pairs.n == 3
    assert pairs.bias == pytest.approx(1.0)
    assert pairs.limits == pytest.approx((-0.96, 2.96))


def test_only_classes_of_three_studies_or_more():
    studies = {
        "a": {"scar": (1.0, 2.0), "edema": (1.0, 1.0)},
        "b": {"scar": (3.0, 3.0), "edema": (1.0, 1.0)},
        "c": {"scar": (5.0, 4.0)},
    }
    assert paired_volumes(studies) == {"scar": VolumePairs((1.0, 3.0, 5.0), (2.0, 3.0, 4.0))}


@pytest.mark.parametrize(("classes", "across", "down"), [(1, 1, 1), (3, 3, 1), (4, 3, 2)])
def test_a_panel_per_class(classes, across, down):
    pairs = VolumePairs((1.0, 2.0, 3.0), (1.5, 2.0, 2.0))
    picture = bland_altman_picture({f"class {i}": pairs for i in range(classes)})
    assert (picture.width, picture.height) == pytest.approx((3.2 * 96 * across, 2.6 * 96 * down), abs=2)


def test_the_dots_have_the_colour_of_their_class():
    picture = bland_altman_picture({"scar": VolumePairs((1.0, 2.0, 3.0), (1.5, 2.0, 2.0))})
    rgb = np.asarray(Image.open(io.BytesIO(picture.data)).convert("RGB")).astype(int)
    assert (np.abs(rgb - (213, 94, 0)).max(axis=-1) < 20).sum() > 100
