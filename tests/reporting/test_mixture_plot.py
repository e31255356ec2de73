from xml.etree import ElementTree

import numpy as np
import pytest

from mrigmm.reporting.mixture_plot import MAX_POINTS, mixture_picture

IDS = {"blood": 1, "scar": 4}
MEANS = np.array([[0.0, 0.0, 0.0, 0.0], [4.0, 4.0, 4.0, 0.0]])
NAMES = ("LGE", "T2", "bSSFP", "T1")


def draw(channels, n=2000, means=MEANS, **changes):
    rng = np.random.default_rng(1)
    labels = np.repeat([1, 4], n // 2)
    means = means[:, :channels]
    values = means[(labels == 4).astype(int)] + rng.normal(size=(n, channels))
    options = {
        "sequences": NAMES[:channels],
        "units": "z-score",
        "weights": np.array([0.5, 0.5]),
        "means": means,
        "covariances": np.repeat(np.eye(channels)[None], 2, axis=0),
    }
    return mixture_picture(values, labels, IDS, **{**options, **changes})


def parts(picture, tag):
    """All elements of a kind in the picture."""
    return [e.attrib for e in ElementTree.fromstring(picture.data).iter("{http://www.w3.org/2000/svg}" + tag)]


def texts(picture):
    return [e.text for e in ElementTree.fromstring(picture.data).iter() if e.tag.endswith("text")]


@pytest.mark.parametrize(
    ("channels", "named"),
    [
        (1, "Histogram of LGE"),
        (2, f"{MAX_POINTS} voxels, LGE against T2, with"),
        (3, "LGE against T2, LGE against bSSFP, T2 against bSSFP, with"),
        (4, "LGE against T2, LGE against bSSFP, T2 against bSSFP, with"),  # T1 tells no class apart
    ],
)
def test_which_sequences_are_drawn(channels, named):
    picture = draw(channels)
    assert named in picture.alt
    assert picture.title == "Mixture, z-score"


def test_the_ellipses_have_the_colours_of_their_classes():
    """Three panels, two classes, two ellipses each, a dark one below each coloured one."""
    colours = [ellipse["stroke"] for ellipse in parts(draw(3), "ellipse")]
    assert colours.count("#56b4e9") == colours.count("#d55e00") == 6
    assert colours.count("#333333") == len(colours) / 2 == 12


def test_the_same_study_gives_the_same_picture():
    assert draw(2).data == draw(2).data


def test_an_ellipse_stands_where_its_class_is_and_is_as_wide():
    """Voxels from 0 to 10 and 0 to 100: the frame shows 8 % more on either side, so a unit of LGE is
    224 / 11.6 pixels and one of T2 232 / 116; the slanted class has variances 2 and 8 in pixels' axes."""
    values = np.array([[0.0, 0.0], [10.0, 100.0]] * 600)
    across, up = 224 / 11.6, 232 / 116
    slanted = np.array([[5.0, -3.0], [-3.0, 5.0]]) / np.outer([across, up], [across, up])
    picture = mixture_picture(
        values,
        np.full(1200, 1),
        IDS,
        sequences=NAMES[:2],
        units="",
        weights=np.ones(2) / 2,
        means=np.array([[0.0, 0.0], [10.0, 100.0]]),
        covariances=np.array([np.diag([1.0, 1.0]), slanted]),
    )
    straight, _, _, _, turned, *_ = parts(picture, "ellipse")
    assert {float(straight["rx"]), float(straight["ry"])} == {round(across, 1), round(up, 1)}
    x, y = 46 + 0.8 * across, 8 + 232 - 8 * up
    assert straight["transform"].startswith(f"translate({x:.1f} {y:.1f})")
    assert (turned["rx"], turned["ry"]) == ("1.4", "2.8")
    # The narrow axis, which rises to the right: y is downwards in the picture.
    assert turned["transform"].endswith(("rotate(135.0)", "rotate(-45.0)"))


@pytest.mark.parametrize("name", ["$\\frac{", "a\nb", "<b>&amp;" * 50])
def test_any_name_of_a_sequence_is_written(name):
    assert " ".join(name.split())[:40] in texts(draw(2, sequences=(name, "T2")))


def test_points_do_not_make_the_file_large():
    assert len(draw(3, n=50_000).data) < 30_000
