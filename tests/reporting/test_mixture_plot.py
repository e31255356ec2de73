import io

import numpy as np
import pytest
from PIL import Image

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


def pixels(picture):
    return np.asarray(Image.open(io.BytesIO(picture.data)).convert("RGB")).astype(int)


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


@pytest.mark.parametrize("colour", [(86, 180, 233), (213, 94, 0)])
def test_the_ellipses_have_the_colours_of_their_classes(colour):
    rgb = pixels(draw(3))
    assert (np.abs(rgb - colour).max(axis=-1) < 8).sum() > 100


def test_the_same_study_gives_the_same_picture():
    assert draw(2).data == draw(2).data


def test_an_ellipse_stands_where_its_class_is():
    """Scar's contour moves to the right with its mean in the first sequence, on the same voxels."""
    rng = np.random.default_rng(0)
    values, labels = rng.normal(size=(500, 2)), np.full(500, 1)
    places = []
    for mean in (-1.0, 1.0):
        options = {"units": "", "weights": np.ones(2) / 2, "covariances": np.array([np.eye(2)] * 2) * 0.04}
        means = np.array([[0.0, 0.0], [mean, 0.0]])
        rgb = pixels(mixture_picture(values, labels, IDS, sequences=NAMES[:2], means=means, **options))
        scar = (np.abs(rgb - (213, 94, 0)).max(axis=-1) < 40).nonzero()
        places.append(scar[1].mean() / rgb.shape[1])
    assert places[1] - places[0] > 0.15


@pytest.mark.parametrize("name", ["$\\frac{", "a\nb", "<b>" * 50])
def test_any_name_of_a_sequence_is_written(name):
    assert pixels(draw(2, sequences=(name, "T2"))).size


def test_points_do_not_make_the_file_large():
    assert len(draw(3, n=50_000).data) < 70_000
